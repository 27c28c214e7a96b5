"""Data sets written out as chips: ArcGIS's Classified Tiles with all four text files, or a plain folder."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pspnet.data.chip_texts import ChipCounts, chip_texts
from pspnet.data.dataset import Dataset, GivenDataset, as_dataset
from pspnet.data.layouts.arcgis_chips import pair_up
from pspnet.data.layouts.arcgis_metadata import read_metadata
from pspnet.errors import ConfigError, DataError, require
from pspnet.files import new_folder, write_text
from pspnet.georaster.grids import Grid, grid_of, open_raster
from pspnet.images import write_label, write_png
from pspnet.labels import IGNORE, Colour, LabelSpace

Progress = Callable[[int, int], None]  # (chips done, chips in all)
SUFFIXES = {"TIFF": ".tif", "PNG": ".png", "JPEG": ".jpg"}


def write_tiles(
    dataset: GivenDataset,
    folder: str | Path,
    layout: Literal["classified_tiles", "folder"] = "classified_tiles",
    *,
    image_format: Literal["TIFF", "PNG", "JPEG"] = "TIFF",
    start_index: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Writes every sample of a data set as an image and a label chip, with its place on the Earth where it has one.

    classified_tiles: class values are the label space's codes; where one of them is 0, which means "no class" there, they
    are 1, 2, 3, ... instead. folder: images/, labels/, classes.csv, which `open_dataset("folder", ...)` and
    ("raster", ...) read. The folder appears whole or not at all. Raises OutputError when it exists, without overwrite.
    """
    folder, dataset = Path(folder), as_dataset(dataset)
    if layout not in ("classified_tiles", "folder"):
        raise ConfigError(f"layout = {layout!r}: classified_tiles or folder")
    if image_format not in SUFFIXES:
        raise ConfigError(f"image_format = {image_format!r}: {', '.join(SUFFIXES)}")
    with new_folder(folder, inputs=dataset.sources(), overwrite=overwrite) as unfinished:
        for name in ("images", "labels"):
            (unfinished / name).mkdir(parents=True)
        if layout == "classified_tiles":
            _write_classified(dataset, unfinished, image_format, start_index, progress)
        else:
            _write_folder(dataset, unfinished, image_format, progress)
    return folder


def repair_tiles(folder: str | Path) -> tuple[str, ...]:
    """Writes those of an export's four text files that are missing, from images and labels; returns their names.

    The export tool sometimes stops at 100 % without them. Files that are there are left as they are.
    """
    folder = Path(folder)
    metadata = read_metadata(folder)
    chips = pair_up(folder)
    counts = ChipCounts()
    for chip in chips:
        with open_raster(str(chip.label)) as dataset:
            counts.add_values(dataset.read(1))
        with open_raster(str(chip.images[0])) as dataset:
            counts.add_image(dataset.read().transpose(1, 2, 0))
            counts.place(grid_of(dataset))
    classes = dict(metadata.classes) or {value: (f"class_{value}", None) for value in sorted(counts.values) if value}
    pairs = [(chip.images[0].relative_to(folder), chip.label.relative_to(folder)) for chip in chips]
    texts = chip_texts(counts, pairs, classes, metadata.band_names)
    for name in metadata.missing:
        write_text(folder / name, texts[name])
    return metadata.missing


def pixel_values(space: LabelSpace) -> list[int]:
    """What a classified raster holds for each class: the training data's codes, or 1, 2, 3, ... where one of them is 0,
    which means "no class" in ArcGIS."""
    return list(space.codes) if 0 not in space.codes else list(range(1, space.num_classes + 1))


def _write_classified(dataset: Dataset, folder: Path, image_format: str, start: int, progress: Progress | None) -> None:
    space = dataset.label_space
    values = pixel_values(space)
    table = np.zeros(IGNORE + 1, np.uint16)
    table[: space.num_classes] = values
    counts, pairs = ChipCounts(), []
    for index in range(len(dataset)):
        sample, grid = dataset[index], _grid(dataset, index)
        if sample.labels is None:
            raise DataError(f"'{sample.name}' has no labels; chips for training need them")
        name = f"{start + index:09d}"
        image, label = Path("images") / (name + SUFFIXES[image_format]), Path("labels") / f"{name}.tif"
        _write_image(folder / image, sample.image, image_format, grid)
        chip = table[sample.labels]
        _write_tiff(folder / label, chip[None].astype(np.uint8 if max(values) < 256 else np.uint16), grid)
        counts.add_image(sample.image)
        counts.add_values(chip)
        if grid is not None:
            counts.place(grid)
        pairs.append((image, label))
        if progress is not None:
            progress(index + 1, len(dataset))
    classes = {value: (name, colour) for value, name, colour in zip(values, space.names, space.colours, strict=True)}
    for name, text in chip_texts(counts, pairs, classes, dataset.band_names).items():
        (folder / name).write_text(text, encoding="utf-8")


def _write_folder(dataset: Dataset, folder: Path, image_format: str, progress: Progress | None) -> None:
    space = dataset.label_space
    plain = LabelSpace(space.names, space.colours)
    taken: set[str] = set()
    for index in range(len(dataset)):
        sample, grid = dataset[index], _grid(dataset, index)
        if sample.labels is None:
            raise DataError(f"'{sample.name}' has no labels; chips for training need them")
        name = _free_name(sample.name.replace("/", "_"), taken)
        _write_image(folder / "images" / (name + SUFFIXES[image_format]), sample.image, image_format, grid)
        if grid is None:
            write_label(folder / "labels" / f"{name}.png", sample.labels, plain)
        else:
            _write_tiff(folder / "labels" / f"{name}.tif", sample.labels[None], grid, plain.colours)
        if progress is not None:
            progress(index + 1, len(dataset))
    with (folder / "classes.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["code", "name", "red", "green", "blue"])
        table.writerows(
            [index, name, *colour] for index, (name, colour) in enumerate(zip(space.names, space.colours, strict=True))
        )


def _grid(dataset: Dataset, index: int) -> Grid | None:
    grid = dataset.grid(index)
    return None if grid is None or grid.transform.is_identity else grid


def _free_name(name: str, taken: set[str]) -> str:
    """The name, with a number where it is taken (a/b and a_b, or A and a, which are one on many systems); takes it."""
    free, number = name, 2
    while free.casefold() in taken:
        free, number = f"{name}_{number}", number + 1
    taken.add(free.casefold())
    return free


def _write_image(path: Path, image: NDArray[Any], image_format: str, grid: Grid | None) -> None:
    if image_format == "TIFF":
        _write_tiff(path, image.transpose(2, 0, 1), grid)
        return
    if image.dtype != np.uint8 or image.shape[2] not in (1, 3):
        raise ConfigError(
            f"image_format = {image_format}: it holds 1 or 3 bands of 8 bits, not {image.shape[2]} of "
            f"{image.dtype}. Use TIFF"
        )
    if image_format == "PNG":
        write_png(path, image)
    else:
        cv2 = require("cv2", "raster")
        shown = image[..., ::-1] if image.shape[2] == 3 else image
        path.write_bytes(cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
    if grid is not None:
        _write_world_file(path, grid)


def _write_tiff(path: Path, pixels: NDArray[Any], grid: Grid | None, colours: Sequence[Colour] = ()) -> None:
    """A GeoTIFF with the world file that ArcGIS writes beside it."""
    rasterio = require("rasterio", "raster")
    bands, height, width = pixels.shape
    georeference = {} if grid is None else {"crs": grid.crs, "transform": grid.transform}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.io.MemoryFile() as memory:  # to a full disk GDAL writes an empty file, without an error
            with memory.open(
                driver="GTiff",
                height=height,
                width=width,
                count=bands,
                dtype=pixels.dtype,
                compress="deflate",
                photometric="rgb" if bands == 3 else "minisblack",
                **georeference,
            ) as file:
                file.write(pixels)
                if colours:
                    file.write_colormap(1, dict(enumerate(colours)))
            path.write_bytes(memory.read())
    if grid is not None:
        _write_world_file(path, grid)


def _write_world_file(path: Path, grid: Grid) -> None:
    """Six numbers; the last two are the middle of the first pixel."""
    a, b, _, d, e, _ = grid.transform[:6]
    x, y = grid.to_map(0.5, 0.5)
    ending = {".tif": ".tfw", ".png": ".pgw", ".jpg": ".jgw"}[path.suffix]
    path.with_suffix(ending).write_text("\n".join(f"{value:.12f}" for value in (a, d, b, e, float(x), float(y))) + "\n")
