"""Which files make a data set of rasters: images, their labels, their splits, their bands."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from pspnet.data.layouts.folder import existing, no_split
from pspnet.errors import ConfigError, DataError
from pspnet.georaster.grids import open_raster

RASTER_SUFFIXES = (".tif", ".tiff", ".vrt", ".jp2", ".img", ".mrf", ".png", ".jpg", ".jpeg")
VECTOR_SUFFIXES = (".gpkg", ".geojson", ".json", ".shp", ".fgb", ".parquet", ".kml")
Files = list[tuple[Path, Path]]  # an image, and the file with its labels


def raster_splits(root: Path) -> tuple[str, ...]:
    """The splits that a folder or a CSV of rasters has."""
    root = existing(root)
    if root.suffix.lower() == ".csv":
        found = {row["split"] for row in _rows(root)}
        return _ordered(found) if found != {""} else ("train", "val")
    if root.is_dir():
        found = {path.parent.name for path in root.glob("*/images") if path.is_dir()}
        if found:
            return _ordered(found)
    return "train", "val"


def find_files(root: Path, split: str, images: str, labels: str) -> tuple[Files, bool]:
    """(image, labels) of a split, and whether the files themselves are divided into splits."""
    if root.suffix.lower() == ".csv":
        rows = _rows(root)
        divided = any(row["split"] for row in rows)
        if divided and split != "all" and split not in {row["split"] for row in rows}:
            raise no_split(root, split, raster_splits(root))
        found = [
            (root.parent / row["image"], root.parent / row["labels"])
            for row in rows
            if not divided or split in (row["split"], "all")
        ]
        for path in (path for pair in found for path in pair):
            existing(path)
        return found, divided
    if root.is_file():
        return [(root, existing(root.parent / labels))], False
    splits = {path.parent.name for path in root.glob(f"*/{images}") if path.is_dir()}
    if splits and not (root / images).exists():
        if split == "all":
            return [pair for name in sorted(splits) for pair in _pairs(root / name, images, labels)], True
        if split not in splits:
            raise no_split(root, split, _ordered(splits))
        return _pairs(root / split, images, labels), True
    if split not in ("train", "val", "all"):
        raise no_split(root, split, ("train", "val", "all"))
    return _pairs(root, images, labels), False


def _pairs(base: Path, images: str, labels: str) -> Files:
    folder, target = existing(base / images), base / labels
    found = (
        [folder]
        if folder.is_file()
        else sorted(
            p
            for p in folder.rglob("*")
            if p.suffix.lower() in RASTER_SUFFIXES and p.is_file() and not p.name.startswith(".")
        )
    )
    if not found:
        raise DataError(f"'{folder}' holds no raster ({', '.join(RASTER_SUFFIXES)})")
    if target.is_file():
        return [(image, target) for image in found]
    existing(target)
    by_name: dict[str, list[Path]] = {}
    for path in sorted(target.rglob("*")):
        if (
            path.suffix.lower() in (*RASTER_SUFFIXES, *VECTOR_SUFFIXES)
            and path.is_file()
            and not path.name.startswith(".")
        ):
            by_name.setdefault(path.stem, []).append(path)
    faults = []
    for image in found:
        labels_there = by_name.get(image.stem, [])
        if len(labels_there) != 1:
            what = "has no labels" if not labels_there else f"has several: {', '.join(p.name for p in labels_there)}"
            faults.append(
                f"'{image}' {what}; in '{target}' there must be one file named {image.stem} with another ending"
            )
    if faults:
        raise DataError(
            f"{len(faults)} of {len(found)} images lack their labels:\n  " + "\n  ".join(faults[:10]), tuple(faults)
        )
    return [(image, by_name[image.stem][0]) for image in found]


def _rows(table: Path) -> list[Mapping[str, str]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            rows = [
                {(key or "").strip().lower(): (value or "").strip() for key, value in row.items()}
                for row in csv.DictReader(stream)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"'{table}' cannot be read as CSV: {error}") from error
    if not rows or not {"image", "labels"} <= rows[0].keys():
        raise DataError(f"'{table}' must have the columns image,labels[,split] and a line for each raster")
    return [{"split": "", **row} for row in rows]


def choose_bands(images: Sequence[Path], wanted: Sequence[int] | None) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Band numbers and names, the same in every image. Raises DataError where they differ."""
    seen: dict[tuple[int, tuple[str, ...]], Path] = {}
    for image in images:
        with open_raster(str(image)) as dataset:
            colours = [kind.name for kind in dataset.colorinterp]
            plain = [i + 1 for i, colour in enumerate(colours) if colour != "alpha"]
            chosen = tuple(wanted) if wanted else tuple(plain)
            if not chosen or max(chosen) > dataset.count or min(chosen) < 1:
                raise ConfigError(f"bands = {list(chosen)}: '{image}' has the bands 1 to {dataset.count}")
            names = tuple(
                (dataset.descriptions[i - 1] or "").strip().lower()
                or (colours[i - 1] if colours[i - 1] in ("red", "green", "blue") else f"band_{i}")
                for i in chosen
            )
            seen.setdefault((len(chosen), names), image)
    counts = {count for count, _ in seen}
    if len(counts) > 1:
        told = "; ".join(f"'{path.name}' has {count}" for (count, _), path in seen.items())
        raise DataError(f"the images have different numbers of bands: {told}. Name those to use in bands")
    if len(seen) > 1:
        told = "; ".join(f"'{path.name}': {', '.join(names)}" for (_, names), path in seen.items())
        warnings.warn(
            f"the images name their bands differently ({told}); they are taken in the files' order", stacklevel=4
        )
    (_, names), image = next(iter(seen.items()))
    if len(set(names)) != len(names):
        names = tuple(f"band_{i + 1}" for i in range(len(names)))
    with open_raster(str(image)) as dataset:
        chosen = (
            tuple(wanted)
            if wanted
            else tuple(i + 1 for i, kind in enumerate(dataset.colorinterp) if kind.name != "alpha")
        )
    return chosen, names


def _ordered(names: set[str]) -> tuple[str, ...]:
    usual = [name for name in ("train", "val", "test") if name in names]
    return (*usual, *sorted(name for name in names if name and name not in usual))
