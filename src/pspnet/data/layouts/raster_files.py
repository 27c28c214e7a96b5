"""Which files make a data set of rasters: images, their labels, their splits, their bands."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from pspnet.class_tables import csv_table, read_text
from pspnet.data.layouts.folder import existing, in_usual_order, no_split
from pspnet.data.layouts.raster_checks import tell_left_out
from pspnet.data.matching import UNREAD_PICTURES, refuse_half_divided
from pspnet.errors import ConfigError, DataError, RasterError
from pspnet.files import Listing, list_files
from pspnet.georaster.bands import BandInfo, alpha_doubt, find_bands
from pspnet.georaster.grids import open_raster
from pspnet.georaster.products import WAY_OUT, product_in
from pspnet.georaster.vectors import VECTOR_SUFFIXES, is_vector

RASTER_SUFFIXES = (".tif", ".tiff", ".vrt", ".jp2", ".img", ".mrf", ".png", ".jpg", ".jpeg")
Files = list[tuple[Path, Path]]  # an image, and the file with its labels


def raster_splits(root: Path) -> tuple[str, ...]:
    """The splits that a folder or a CSV of rasters has."""
    root = existing(root)
    if root.suffix.lower() == ".csv":
        splits = {row["split"] for row in _rows(root)}
        return in_usual_order(splits) if splits != {""} else ("train", "val")
    if root.is_dir():
        splits = {path.parent.name for path in root.glob("*/images") if path.is_dir()}
        if splits:
            return in_usual_order(splits)
    return "train", "val"


def find_files(root: Path, split: str, images: str, labels: str) -> tuple[Files, bool]:
    """(image, labels) of a split, and whether the files themselves are divided into splits."""
    if root.suffix.lower() == ".csv":
        rows = _rows(root)
        divided = any(row["split"] for row in rows)
        if divided and split != "all" and split not in {row["split"] for row in rows}:
            raise no_split(root, split, raster_splits(root))
        rasters = [
            (root.parent / row["image"], root.parent / row["labels"])
            for row in rows
            if not divided or split in (row["split"], "all")
        ]
        for path in (path for pair in rasters for path in pair):
            existing(path)
        return rasters, divided
    if root.is_file():
        return [(root, existing(root.parent / labels))], False
    splits = {path.parent.name for path in root.glob(f"*/{images}") if path.is_dir()}
    if splits and not (root / images).exists():
        if split == "all":
            return [pair for name in sorted(splits) for pair in _pairs(root / name, images, labels)], True
        if split not in splits:
            raise no_split(root, split, in_usual_order(splits))
        return _pairs(root / split, images, labels), True
    if split not in ("train", "val", "all"):
        raise no_split(root, split, ("train", "val", "all"))
    return _pairs(root, images, labels), False


def _pairs(base: Path, images: str, labels: str) -> Files:
    folder, target = existing(base / images), base / labels
    listing = Listing([folder]) if folder.is_file() else list_files(folder, RASTER_SUFFIXES)
    paths = listing.files
    if not paths:
        raise DataError(f"'{folder}' holds no raster ({', '.join(RASTER_SUFFIXES)})")
    parts = [path for path in paths if product_in(path.relative_to(base))]
    if parts:
        raise DataError(f"'{folder}' holds the product {product_in(parts[0])}, not an image. {WAY_OUT}")
    unread = {ending: files for ending, files in listing.left_out.items() if ending in UNREAD_PICTURES}
    if target.is_file() or is_vector(target):
        tell_left_out(unread, ())
        return [(image, target) for image in paths]
    existing(target)
    by_name: dict[str, list[Path]] = {}
    # a File Geodatabase is a folder; what lies in it has none of these endings
    geodatabases = [path for path in sorted(target.rglob("*.gdb")) if path.is_dir()]
    for path in [*list_files(target, (*RASTER_SUFFIXES, *VECTOR_SUFFIXES)).files, *geodatabases]:
        by_name.setdefault(path.stem, []).append(path)
    faults, label_of = [], dict[Path, Path]()
    for image in paths:
        labels_there = by_name.get(image.stem, [])
        if len(labels_there) > 1 and folder.is_dir():  # tiles of one name in sub-folders
            below = image.relative_to(folder).with_suffix("")
            labels_there = [
                path for path in labels_there if path.relative_to(target).with_suffix("") == below
            ] or labels_there
        label_of[image] = labels_there[0] if labels_there else target
        if len(labels_there) != 1:
            what = "has no labels" if not labels_there else f"has several: {', '.join(p.name for p in labels_there)}"
            faults.append(
                f"'{image}' {what}; in '{target}' there must be one file named {image.stem} with another ending"
            )
    if faults:
        raise DataError(
            f"{len(faults)} of {len(paths)} images lack their labels:\n  " + "\n  ".join(faults[:10]), tuple(faults)
        )
    used = set(label_of.values())
    tell_left_out(unread, [path for files in by_name.values() for path in files if path not in used])
    return list(label_of.items())


def _rows(table: Path) -> list[Mapping[str, str]]:
    columns, rows = csv_table(read_text(table), str(table), "image,labels[,split]")
    if not rows or not {"image", "labels"} <= set(columns):
        raise DataError(f"'{table}' must have the columns image,labels[,split] and a line for each raster")
    records: list[Mapping[str, str]] = [{"split": "", **dict(zip(columns, row, strict=False))} for _, row in rows]
    refuse_half_divided(table, [record["split"] for record in records])
    return records


def choose_bands(images: Sequence[Path], wanted: Sequence[int] | None) -> tuple[list[tuple[int, ...]], tuple[str, ...]]:
    """Band numbers of each image, and the bands' names: those of the first image, found by name in the others.

    wanted: numbers in the first image; None: all but alpha. Raises ConfigError for numbers that are not there, DataError
    where an image lacks a band or its values cannot be compared with the first one's; warns where names contradict.
    """
    infos, alpha = [], ""
    for image in images:
        with open_raster(str(image)) as dataset:
            infos.append(BandInfo.of(dataset))
            alpha = alpha_doubt(dataset) if image == images[0] and wanted is None else alpha
    first = infos[0]
    numbers = tuple(wanted) if wanted else first.plain
    names = first.chosen(numbers) if numbers and min(numbers) >= 1 and max(numbers) <= first.count else ()
    if not names:
        raise ConfigError(f"bands = {list(numbers)}: '{first.path}' has the bands 1 to {first.count}")
    if alpha:
        warnings.warn(f"'{first.path}' {alpha}", stacklevel=4)
    if first.palette:
        raise DataError(
            f"'{first.path}' has one band of indices into a palette, which are no brightness. Make it three bands: "
            "gdal_translate -expand rgb IN.tif OUT.tif"
        )
    if wanted is None:
        counts = {len(info.plain): info.path for info in reversed(infos)}
        if len(counts) > 1:
            listed = "; ".join(f"'{Path(path).name}' has {count}" for count, path in sorted(counts.items()))
            raise DataError(f"the images have different numbers of bands: {listed}. Name those to use in bands")
    numbers_of: list[tuple[int, ...]] = []
    for info in infos:
        differences = first.differences(info, numbers)
        if differences:
            raise DataError(
                f"'{info.path}' has {' and '.join(differences)}, which '{first.path}' has: their values cannot be compared. "
                "Convert one, or train on them in data sets of their own"
            )
        try:
            numbers_of.append(numbers if info.names == first.names else find_bands(info, names, numbers))
        except RasterError as error:
            raise DataError(f"{error}. '{first.path}', the first image, has {', '.join(names)}") from error
    return numbers_of, names
