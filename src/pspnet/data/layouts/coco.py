"""COCO: polygons of things (also any annotation tool's COCO export), and COCO-Stuff's masks.

    ROOT/{train,val}2017/*.jpg or ROOT/images/{train,val}2017, ROOT/annotations/instances_{train,val}2017.json
    ROOT/{train,valid,test}/_annotations.coco.json with the images beside it                    (Roboflow's export)
    ROOT/stuffthingmaps/{train,val}2017/*.png                              COCO-Stuff: id - 1, 255 unlabelled

A pixel that no polygon covers is background; where things overlap, the smaller one is on top; crowds are ignored.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.data.archives import PublishedArchive
from pspnet.data.faults import Fault
from pspnet.data.layouts.folder import existing, no_split
from pspnet.data.paired_files import Pair, PairedFiles, match
from pspnet.data.polygons import polygon_mask, rle_mask
from pspnet.errors import DataError, LabelError
from pspnet.labels import IGNORE, LabelSpace, distinct_colours, read_classes

_SPLITS = {"train": ("train2017", "train"), "val": ("val2017", "valid", "val"), "test": ("test2017", "test")}
_COUNTS = {"train": 118287, "val": 5000}
_IMAGES = {
    "train2017.zip": "sha1:10ad623668ab00c62c096f0ed636d6aff41faca5",
    "val2017.zip": "sha1:4950dc9d00dbe1c933ee0170f5797584351d2a41",
}
SOURCE = PublishedArchive(
    where="cocodataset.org: train2017.zip (18 GB), val2017.zip (0.8 GB), annotations_trainval2017.zip (0.2 GB). "
    "Annotations: CC BY 4.0; images: Flickr's terms",
    counts=_COUNTS,
    checksums=_IMAGES | {"annotations_trainval2017.zip": "sha1:8551ee4bb5860311e79dace7e79cb91e432e78b3"},
)
STUFF_SOURCE = PublishedArchive(
    where="cocodataset.org: train2017.zip, val2017.zip; github.com/nightrome/cocostuff: stuffthingmaps_trainval2017.zip "
    "(0.7 GB), whose masks end up in ROOT/stuffthingmaps. Annotations: CC BY 4.0; images: Flickr's terms",
    counts=_COUNTS,
    checksums=_IMAGES,
    finish=lambda root, progress: _gather_stuff(root),
)


def coco(
    root: Path,
    split: str = "train",
    *,
    images: str | None = None,
    annotations: str | None = None,
    classes: str | Path | None = None,
    exif: bool = True,
) -> PairedFiles:
    """Opens a split of polygons.

    images, annotations: folder and JSON file below the root, where they lie elsewhere. classes: a table whose codes are
    category ids, with 0 for background; None: the JSON's categories. Categories that the table lacks are background.
    exif: False where polygons were drawn on the pixels as stored.
    Raises DataError when there is no such split or the JSON cannot be read.
    """
    root = existing(root)
    folder, file = _places(root, split)
    folder, file = root / images if images else folder, root / annotations if annotations else file
    if file is None or folder is None:
        raise no_split(root, split, coco_splits(root))
    data = _read(file)
    space = read_classes(classes) if classes else _classes(data)
    objects = _Objects(file, data, {code: index for index, code in enumerate(space.codes)})
    pairs, faults = [], []
    for name, image in objects.images.items():
        path = folder / image["file_name"]
        if path.is_file():
            pairs.append(Pair(name, path, file))
        else:
            faults.append(
                Fault(
                    "error",
                    "missing",
                    str(path),
                    f"'{path}' does not exist, but '{file}' lists it",
                    "Add the image or take it out of the JSON",
                )
            )
    if not pairs and not faults:
        faults.append(Fault("error", "empty", str(file), f"'{file}' lists no images", "Export it again"))
    return PairedFiles(f"{root} ({split})", pairs, space, decode=objects.decode, exif=exif, faults=faults)


def coco_splits(root: Path) -> tuple[str, ...]:
    """The splits whose annotations are there."""
    return tuple(split for split in _SPLITS if None not in _places(existing(root), split))


def coco_stuff(root: Path, split: str = "train") -> PairedFiles:
    """Opens a split of COCO-Stuff (171 classes). Raises DataError when it is not there."""
    root = existing(root)
    name = f"{split}2017"
    labels = root / "stuffthingmaps" / name
    images = next((path for path in (root / "images" / name, root / name) if path.is_dir()), None)
    if images is None or not labels.is_dir():
        raise no_split(root, split, coco_stuff_splits(root))
    pairs, faults = match(images, labels)
    return PairedFiles(f"{root} ({split})", pairs, LabelSpace.named("coco_stuff"), faults=faults)


def coco_stuff_splits(root: Path) -> tuple[str, ...]:
    """The splits whose masks are there."""
    return tuple(split for split in ("train", "val") if (existing(root) / "stuffthingmaps" / f"{split}2017").is_dir())


class _Objects:
    """The objects of an annotation file, by image."""

    def __init__(self, file: Path, data: dict[str, Any], index_of: dict[int, int]) -> None:
        self.index_of, self.background = index_of, index_of.get(0, IGNORE)
        known = {category["id"] for category in data["categories"]}
        self.images = {Path(image["file_name"]).with_suffix("").as_posix(): image for image in data["images"]}
        self.objects: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for number, item in enumerate(data["annotations"]):
            if item["category_id"] not in known:
                raise DataError(
                    f"'{file}': annotation {item.get('id', number)} has the category {item['category_id']}, which "
                    f"is none of the file's {len(known)} categories"
                )
            self.objects[item["image_id"]].append(item)

    def decode(self, path: Path, name: str, label_space: LabelSpace) -> NDArray[np.uint8]:
        """(H, W) labels: the largest objects first, crowds last. Raises LabelError naming file, image and object."""
        image = self.images[name]
        height, width = int(image["height"]), int(image["width"])
        labels = np.full((height, width), self.background, np.uint8)
        objects = sorted(self.objects[image["id"]], key=lambda item: (item.get("iscrowd", 0), -item.get("area", 0)))
        for item in objects:
            label = IGNORE if item.get("iscrowd") else self.index_of.get(item["category_id"], self.background)
            try:
                for mask in _masks(item["segmentation"], height, width):
                    labels[mask] = label
            except (KeyError, TypeError, ValueError) as error:
                raise LabelError(
                    f"'{path}': object {item.get('id')} of '{image['file_name']}' cannot be drawn "
                    f"({type(error).__name__}: {error})"
                ) from error
        return labels


def _masks(segmentation: Any, height: int, width: int) -> list[NDArray[np.bool_]]:
    if isinstance(segmentation, dict):
        return [rle_mask(segmentation["counts"], *segmentation["size"])]
    return [polygon_mask(np.asarray(ring, np.float64).reshape(-1, 2), height, width) for ring in segmentation]


def _places(root: Path, split: str) -> tuple[Path | None, Path | None]:
    """(folder of the images, annotation file) of a split, each None where it is not there."""
    for name in _SPLITS.get(split, (split,)):
        beside = root / name / "_annotations.coco.json"
        if beside.is_file():
            return beside.parent, beside
        file = root / "annotations" / f"instances_{name}.json"
        for folder in (root / "images" / name, root / name):
            if file.is_file() and folder.is_dir():
                return folder, file
    return None, None


def _read(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        missing = [key for key in ("images", "annotations", "categories") if not isinstance(data[key], list)]
    except FileNotFoundError:
        raise DataError(f"'{file}' does not exist; give the COCO annotation file") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"'{file}' is no COCO annotation file: {type(error).__name__}: {error}. It holds images, annotations "
            "and categories"
        ) from error
    if missing:
        raise DataError(f"'{file}': {', '.join(missing)} is no list")
    return data


def _classes(data: dict[str, Any]) -> LabelSpace:
    """Background and the file's categories; COCO's own 80 as the table that comes along has them."""
    categories = {int(category["id"]): str(category["name"]) for category in data["categories"]}
    own = LabelSpace.named("coco")
    if categories == dict(zip(own.codes[1:], own.names[1:], strict=True)):
        return own
    used = {item["category_id"] for item in data["annotations"]}
    # Roboflow writes the project's name as category 0, which no object has
    codes = [code for code in sorted(categories) if code != 0 or code in used]
    if 0 in codes:
        raise DataError(
            "a category has the id 0, which stands for background here; give ids from 1 on, or a class table"
        )
    names = [categories[code] for code in codes]
    return LabelSpace(("background", *names), ((0, 0, 0), *distinct_colours(len(names))), (0, *codes))


def _gather_stuff(root: Path) -> list[str]:
    """The mask archive unpacks to train2017 and val2017, into the images' folders: moves the masks out."""
    moved = 0
    for name in ("train2017", "val2017"):
        for path in sorted((root / name).glob("*.png")):
            target = root / "stuffthingmaps" / name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
            moved += 1
    return [f"{moved} masks put into stuffthingmaps"] if moved else []
