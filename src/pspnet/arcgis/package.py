"""Esri's model packages: .emd (a JSON that describes a model) and .dlpk (a zip of it and all its files).

Ours hold a pspnet checkpoint and a Python raster function that imports pspnet, so ArcGIS can run them where pspnet is
installed in its Python environment. Packages of others give their classes and bands: their weights are Python pickles of
Esri's own classes, which nothing else can read.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from pspnet import __version__
from pspnet.data.write_chips import pixel_values
from pspnet.errors import CheckpointError, parsing
from pspnet.files import check_output, new_file, write_bytes
from pspnet.labels import IGNORE, Colour, LabelSpace, distinct_colours
from pspnet.predict.segmenter import Segmenter
from pspnet.weights.checkpoint import ModelCard, read_header

FUNCTION = "PSPNetRasterFunction.py"  # ArcGIS wants a class of the file's name in it
LARGEST = 4 * 2**30  # bytes of a checkpoint inside a .dlpk; more is no model of ours


@dataclass(frozen=True)
class PackageInfo:
    """What a package says. ours: it holds a pspnet checkpoint. extract_bands: numbers from 0. content: the .emd."""

    path: Path
    ours: bool
    label_space: LabelSpace
    extract_bands: tuple[int, ...]
    model_name: str
    model_file: str
    content: Mapping[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.label_space.names


def write_package(
    folder: Path,
    segmenter: Segmenter,
    *,
    tile_px: int,
    padding_px: int = 0,
    facts: Mapping[str, Any] | None = None,
    files: Mapping[str, bytes] | None = None,
    with_function: bool = True,
    overwrite: bool = False,
) -> Path:
    """Writes FOLDER/NAME.safetensors, NAME.emd, NAME.dlpk and the raster function; returns the .emd's path.

    NAME is the folder's. tile_px: side of the windows that ArcGIS hands over, padding included. facts: more keys of the
    .emd, such as accuracy. files: more files (path in the folder -> content), also put into the .dlpk. with_function: the
    raster function, without which ArcGIS cannot run the model. Raises OutputError before the first of them where one exists,
    without overwrite.
    """
    name = folder.name
    for file in (f"{name}.safetensors", f"{name}.emd", f"{name}.dlpk", FUNCTION, *(files or {})):
        check_output(folder / file, overwrite=overwrite)
    segmenter.save(folder / f"{name}.safetensors", overwrite=overwrite)
    function = resources.files("pspnet.arcgis").joinpath("raster_function.py").read_bytes()
    if with_function:
        write_bytes(folder / FUNCTION, function)
    for inner, content in (files or {}).items():
        write_bytes(folder / inner, content)
    emd = folder / f"{name}.emd"
    write_bytes(
        emd,
        json.dumps(
            describe(segmenter, f"{name}.safetensors", tile_px, padding_px) | dict(facts or {}), indent=2
        ).encode(),
    )
    inside = [f"{name}.safetensors", emd.name, *([FUNCTION] if with_function else []), *(files or {})]
    with (
        new_file(folder / f"{name}.dlpk") as part,
        zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        for inner in inside:
            archive.write(folder / inner, inner)
    return emd


def describe(segmenter: Segmenter, model_file: str, tile_px: int, padding_px: int) -> dict[str, Any]:
    """The .emd of a model: Esri's documented keys."""
    space, card, config = segmenter.card.label_space, segmenter.card, segmenter.model.config
    return {
        "Framework": "pspnet",
        "ModelConfiguration": "PSPNet",
        "ModelName": "PSPNetClassifier",
        "ModelType": "ImageClassification",
        "InferenceFunction": FUNCTION,
        "ModelFile": model_file,
        "ExtractBands": [n - 1 for n in card.band_numbers] or list(range(config.in_bands)),
        "BandNames": list(card.band_names),
        "DataRange": list(card.value_range),
        "ImageHeight": tile_px,
        "ImageWidth": tile_px,
        "ModelPadding": padding_px,
        "BatchSize": 1,
        "SupportsVariableTileSize": True,
        "ImageSpaceUsed": "MAP_SPACE",
        "IsMultispectral": config.in_bands != 3,
        "Classes": [
            {"Value": value, "Name": name, "Color": list(colour)}
            for value, name, colour in zip(pixel_values(space), space.names, space.colours, strict=True)
        ],
        "ModelParameters": {
            "backbone": config.encoder,
            "backend": "pytorch",
            "pyramid_sizes": list(config.bins),
            "use_unet": config.decoder == "unet",
            "pointrend": config.pointrend,
        },
        "backend": "pytorch",
        "Version": "1.0",
        "pspnet": __version__,
    }


def with_pixel_values(segmenter: Segmenter) -> Segmenter:
    """The same model, whose maps hold the values that its .emd names."""
    space = segmenter.card.label_space
    card: ModelCard = replace(segmenter.card, label_space=replace(space, codes=tuple(pixel_values(space))))
    return Segmenter(segmenter.model, card, engine=segmenter.engine)


def read_package(path: str | Path) -> PackageInfo:
    """An .emd, a .dlpk or a folder with one. Raises CheckpointError where it is damaged or no package."""
    path = _inside(Path(path))
    text = _emd_of_zip(path)[1] if path.suffix.lower() == ".dlpk" else _read_text(path)
    with parsing(path, CheckpointError, "is no model definition (.emd)"):
        content = json.loads(text)
        entries = [(int(e["Value"]), str(e["Name"]), e.get("Color")) for e in content.get("Classes") or []]
        bands = tuple(int(b) for b in content.get("ExtractBands") or () if not isinstance(b, str))
        file = str(content.get("ModelFile") or "")
        colours = _colours(entries)
    if not entries:
        raise CheckpointError(f"'{path}' names no classes; is it the template of exported training data?")
    names = [name for _, name, _ in entries]
    space = LabelSpace(
        tuple(name if names.count(name) == 1 else f"{name} ({value})" for value, name, _ in entries),
        colours,
        tuple(value for value, _, _ in entries),
        (0, IGNORE),
    )
    return PackageInfo(path, "pspnet" in content, space, bands, str(content.get("ModelName") or ""), file, content)


def load_package(path: str | Path, *, device: str = "auto") -> Segmenter:
    """The model of one of our packages. Raises CheckpointError for another's, with what could be read of it."""
    info = read_package(path)
    if not info.ours:
        kind = info.model_name or str(info.content.get("ModelConfiguration") or "model")
        raise CheckpointError(
            f"'{info.path}' was not made by pspnet. It is a {kind} with the classes {', '.join(info.classes)} on the bands "
            f"{list(info.extract_bands)}; its weights ({info.model_file or 'no file'}) are stored as Python objects of Esri's "
            "own code, which nothing else can read. Train a model on the same chips: prepare_data reads their export"
        )
    name = PurePosixPath(info.model_file.replace("\\", "/")).name
    if info.path.suffix.lower() == ".emd":
        return Segmenter.load(info.path.parent / name, device=device)
    with TemporaryDirectory() as folder, zipfile.ZipFile(info.path) as archive:
        entry = next((e for e in archive.infolist() if PurePosixPath(e.filename).name == name), None)
        if entry is None:
            raise CheckpointError(f"'{info.path}' lacks the model file {name!r} that its .emd names. Save it again")
        if entry.file_size > LARGEST:
            raise CheckpointError(
                f"'{info.path}': {name!r} would unpack to {entry.file_size:,} bytes; that is no checkpoint"
            )
        target = Path(folder) / name
        with (
            parsing(info.path, CheckpointError, "is damaged"),
            archive.open(entry) as source,
            target.open("wb") as file,
        ):
            shutil.copyfileobj(source, file)
        read_header(target)
        return Segmenter.load(target, device=device)


def _inside(path: Path) -> Path:
    """The package itself, where its folder was given."""
    if path.is_dir():
        packages = sorted(path.glob("*.emd")) or sorted(path.glob("*.dlpk"))
        if not packages:
            raise CheckpointError(f"'{path}' holds neither an .emd nor a .dlpk")
        return packages[0]
    if not path.is_file():
        raise CheckpointError(f"'{path}' does not exist; give an .emd, a .dlpk or the folder of a saved model")
    if path.suffix.lower() not in (".emd", ".dlpk"):
        raise CheckpointError(f"'{path}' is neither an .emd nor a .dlpk")
    return path


def _emd_of_zip(path: Path) -> tuple[str, str]:
    with (
        parsing(path, CheckpointError, "is no deep learning package (.dlpk, a zip)"),
        zipfile.ZipFile(path) as archive,
    ):
        names = [n for n in archive.namelist() if n.lower().endswith(".emd")]
        if not names:
            raise CheckpointError(f"'{path}' holds no .emd; it is no deep learning package")
        if archive.getinfo(names[0]).file_size > 64 * 2**20:
            raise CheckpointError(f"'{path}': its .emd is no text of a sensible size")
        return names[0], archive.read(names[0]).decode("utf-8-sig")


def _read_text(path: Path) -> str:
    with parsing(path, CheckpointError):
        return path.read_text(encoding="utf-8-sig")


def _colours(entries: list[tuple[int, str, Any]]) -> tuple[Colour, ...]:
    """The file's colours; distinct ones where it has none or an unset one."""
    spare = distinct_colours(len(entries))
    colours = []
    for (_, _, colour), other in zip(entries, spare, strict=True):
        given = colour if isinstance(colour, list) and len(colour) >= 3 and min(colour[:3]) >= 0 else other
        colours.append((int(given[0]), int(given[1]), int(given[2])))
    return tuple(colours)
