"""Which chips an export holds, and which of them are trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pspnet.data.layouts.arcgis_metadata import find_folder
from pspnet.errors import DataError, parsing, require
from pspnet.files import list_files
from pspnet.georaster.grids import Grid
from pspnet.georaster.whole import read_grid

CHIP_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".mrf")
Box = tuple[float, float, float, float]
BLOCK_CHIPS = 4  # side of the ground, in chips, that belongs to one split as a whole


class Chip:
    """One exported tile: its image files (the second raster's bands follow the first's) and its labels."""

    __slots__ = ("folder", "images", "label", "name")

    def __init__(self, folder: Path, name: str, images: tuple[Path, ...], label: Path) -> None:
        self.folder, self.name, self.images, self.label = folder, name, images, label


def exports(root: Path) -> list[Path]:
    """The root itself, or the folders in it that are exports. Raises DataError where there is none."""
    if find_folder(root, "images"):
        return [root]
    inside = [path for path in sorted(root.iterdir()) if path.is_dir() and find_folder(path, "images")]
    if not inside:
        raise DataError(
            f"'{root}' is no Classified Tiles export: it has no folder 'images' (and 'labels'), nor has a folder in it"
        )
    return inside


def pair_up(folder: Path) -> list[Chip]:
    """Chips of an export: what map.txt pairs, then images and labels of one name. Raises DataError with all faults."""
    images, labels = find_folder(folder, "images"), find_folder(folder, "labels")
    if images is None or labels is None:
        raise DataError(
            f"'{folder}' has no folder '{'images' if images is None else 'labels'}'; is it a Classified Tiles "
            "export? Other formats (bounding boxes, RCNN masks) hold no label for each pixel"
        )
    there, by_name = _chips_in(images), _by_name(labels)
    mapped = _read_map(folder / "map.txt", images, labels)
    second = find_folder(folder, "images2")
    more = {path.stem: path for path in _chips_in(second)} if second else {}
    chips, faults = [], []
    for image in there:
        partners = [mapped[image.name.lower()]] if image.name.lower() in mapped else by_name.get(image.stem, [])
        if len(partners) != 1:
            what = "has no labels" if not partners else "has labels in several folders"
            faults.append(f"'{image}' {what}")
        elif second and image.stem not in more:
            faults.append(f"'{image}' has no second image in '{second}'")
        else:
            extra = (more[image.stem],) if second else ()
            chips.append(Chip(folder, f"{folder.name}/{image.stem}", (image, *extra), partners[0]))
    if faults or not chips:
        listed = "\n  ".join(faults[:10]) or "there is no image"
        raise DataError(
            f"'{folder}': {len(faults)} of {len(there)} chips cannot be used:\n  {listed}\nExport them again, or "
            "remove them",
            tuple(faults),
        )
    return chips


def divide(chips: Sequence[Chip], split: str, val_share: float, seed: int) -> list[Chip]:
    """Chips of "train" or "val", by ground: blocks of some 4 x 4 chips (or runs of chips, where they have no place)
    belong to one split, and training chips that overlap a held-out one are left out."""
    boxes = _boxes(chips)
    placed = all(box is not None for box in boxes)
    groups: dict[Any, list[int]] = {}
    run = max(1, round(len(chips) * val_share / 4))
    for index, (chip, box) in enumerate(zip(chips, boxes, strict=True)):
        key: Any = (str(chip.folder.name), index // run)
        if placed and box is not None:
            side = BLOCK_CHIPS * (box[2] - box[0])
            key = (str(chip.folder.name), int(box[0] // side), int(box[1] // side))
        groups.setdefault(key, []).append(index)
    if len(groups) < 2:
        groups = {(chip.folder.name, chip.name): [index] for index, chip in enumerate(chips)}
    ranked = sorted(groups, key=lambda key: hashlib.sha256(f"{seed} {key}".encode()).digest())
    held: set[int] = set()
    for key in ranked[:-1]:
        if held and len(held) + len(groups[key]) / 2 > val_share * len(chips):
            break
        held |= set(groups[key])
    if split == "val":
        return [chips[i] for i in sorted(held)]
    rest = [i for i in range(len(chips)) if i not in held]
    if placed and held:
        shapely = require("shapely", "raster")
        areas = shapely.box(*np.array(boxes, float).T)
        inner = shapely.buffer(areas, -1e-6 * np.sqrt(shapely.area(areas)).max(), join_style="mitre")
        tree = shapely.STRtree(inner[sorted(held)])
        rest = [i for i in rest if not len(tree.query(inner[i], predicate="intersects"))] or rest
    return [chips[i] for i in rest]


def _chips_in(folder: Path) -> list[Path]:
    return list_files(folder, CHIP_SUFFIXES).files


def _by_name(labels: Path) -> dict[str, list[Path]]:
    paths: dict[str, list[Path]] = {}
    for path in _chips_in(labels):
        paths.setdefault(path.stem, []).append(path)
    return paths


def _read_map(table: Path, images: Path, labels: Path) -> dict[str, Path]:
    """map.txt as image's file name -> label file; lines whose files are not there are passed over."""
    if not table.is_file():
        return {}
    label_of: dict[str, Path] = {}
    for line in table.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        parts = line.replace("\\", "/").split()
        if len(parts) < 2:
            continue
        inner = parts[1].split("/", 1)[-1]
        label = labels / inner
        if (images / parts[0].split("/", 1)[-1]).is_file() and label.is_file():
            label_of[parts[0].rsplit("/", 1)[-1].lower()] = label
    return label_of


def _boxes(chips: Sequence[Chip]) -> list[Box | None]:
    """Where chips lie; None where one has no place on the Earth.

    Told by the world files where there are any: opening a hundred thousand rasters would take minutes.
    """
    sizes: dict[Path, tuple[int, int]] = {}
    boxes: list[Box | None] = []
    for chip in chips:
        path = chip.images[0]
        world = next(
            (path.with_suffix(e) for e in (".tfw", ".pgw", ".jgw", ".wld") if path.with_suffix(e).is_file()), None
        )
        if world is None or chip.folder not in sizes:
            grid = read_grid(path)
            sizes[chip.folder] = (grid.height, grid.width)
            boxes.append(None if grid.transform.is_identity else grid.bounds)
            continue
        with parsing(world, DataError, "is no world file (six numbers)", "Export the chip again"):
            a, d, b, e, x, y = map(float, world.read_text().split()[:6])
        transform = require("rasterio", "raster").Affine(a, b, x - (a + b) / 2, d, e, y - (d + e) / 2)
        boxes.append(Grid(None, transform, *sizes[chip.folder]).bounds)
    return boxes
