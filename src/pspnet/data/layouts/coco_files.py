"""Where COCO's images and annotations lie, by the tool that wrote them, and the annotation file read and checked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pspnet.class_tables import read_text
from pspnet.data.layouts.folder import OTHER_NAMES
from pspnet.errors import DataError, parsing

SPLITS = {"train": ("train2017", "train"), "val": ("val2017", "valid", "val"), "test": ("test2017", "test")}


@dataclass(frozen=True)
class CocoFiles:
    """folder: of the images. undivided: one file for all, of which a part is held out."""

    folder: Path
    file: Path
    undivided: bool = False


def find_files(root: Path, split: str, images: str | None, annotations: str | None) -> CocoFiles | None:
    files = divided(root, split) or undivided(root)
    if annotations:
        folder = root / images if images else files.folder if files else root
        return CocoFiles(folder, root / annotations)
    return None if files is None else CocoFiles(root / images if images else files.folder, files.file, files.undivided)


def divided(root: Path, split: str) -> CocoFiles | None:
    for name in dict.fromkeys((*SPLITS.get(split, ()), split, *OTHER_NAMES.get(split, ()))):
        roboflow_file = root / name / "_annotations.coco.json"
        if roboflow_file.is_file():
            return CocoFiles(roboflow_file.parent, roboflow_file)
        for file in (root / "annotations" / f"instances_{name}.json", root / "annotations" / f"{name}.json"):
            for folder in (root / "images" / name, root / name):
                if file.is_file() and folder.is_dir():
                    return CocoFiles(folder, file)
        file = root / name / "labels.json"  # FiftyOne
        if file.is_file() and (root / name / "data").is_dir():
            return CocoFiles(root / name / "data", file)
    return None


def undivided(root: Path) -> CocoFiles | None:
    """One file for all: Label Studio (result.json), CVAT (instances_default.json), FiftyOne (labels.json), Roboflow."""
    for name, folders in (
        ("result.json", ("images", ".")),
        ("annotations/instances_default.json", ("images/default", "images")),
        ("labels.json", ("data",)),
        ("_annotations.coco.json", (".",)),
        ("annotations/instances.json", ("images",)),
        ("annotations.json", ("images", ".")),
    ):
        folder = next((root / folder for folder in folders if (root / folder).is_dir()), None)
        if folder is not None and (root / name).is_file():
            return CocoFiles(folder, root / name, undivided=True)
    return None


def read_annotations(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise DataError(f"'{file}' does not exist; give the COCO annotation file")
    with parsing(file, DataError, "is no COCO annotation file", "It holds images, annotations and categories"):
        data = json.loads(read_text(file))
        missing = [key for key in ("images", "annotations", "categories") if not isinstance(data[key], list)]
    if missing:
        raise DataError(f"'{file}': {', '.join(missing)} is no list")
    for key in ("images", "annotations", "categories"):
        if not all(isinstance(item, dict) for item in data[key]):
            raise DataError(f"'{file}': {key} holds something else than objects with names and values")
    if any("segments_info" in item for item in data["annotations"]):
        raise DataError(
            f"'{file}' is COCO's panoptic format: its segments lie in PNG files beside it. Give the instances file, or "
            "convert it to label PNGs (panopticapi) and use the format folder"
        )
    return data
