"""YOLO's polygons (Ultralytics' segmentation format): a text file for each picture, fractions of width and height.

    ROOT/images/{train,val}/NAME.jpg, ROOT/labels/{train,val}/NAME.txt, ROOT/data.yaml        Ultralytics
    ROOT/{train,valid,test}/{images,labels}/...                                               Roboflow's export

A line is `class x1 y1 x2 y2 x3 y3 ...`; one of five numbers is a box (class, middle, size): it is ignored and counted. A
picture without a text file shows no object. Later lines lie on top.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pspnet.class_tables import read_text
from pspnet.config.base import parse_yaml
from pspnet.data.drawn_objects import DrawnObject
from pspnet.data.faults import Fault
from pspnet.data.layouts.drawn import Annotated, dataset_of, part_of, splits_of
from pspnet.data.layouts.folder import existing
from pspnet.data.matching import files_in
from pspnet.data.paired_files import PairedFiles
from pspnet.errors import DataError, PspnetError, parsing
from pspnet.images import image_size


def yolo_polygons(
    root: Path, split: str = "train", *, classes: str | Path | None = None, val_share: float = 0.2
) -> PairedFiles:
    """Opens a split. classes: a table of names; None: the names of data.yaml."""
    root = existing(root)
    names = _names(root)
    pictures, faults = _pictures(root, names)
    return dataset_of(root, split, pictures, classes, val_share, faults, names=list(names.values()))


def yolo_polygons_splits(root: Path) -> tuple[str, ...]:
    """The splits there are."""
    pictures = [Annotated("", path, path, None, (), (), part_of(path, root)) for path in _images(existing(root))]
    return splits_of(pictures)


def _names(root: Path) -> dict[int, str]:
    file = next((path for name in ("data.yaml", "dataset.yaml", "data.yml") if (path := root / name).is_file()), None)
    file = file or next(iter(sorted(root.glob("*.yaml"))), None)
    if file is None:
        raise DataError(f"'{root}' has no data.yaml with the names of the classes (names: [cat, dog])")
    with parsing(file, DataError, "cannot be read", "It holds names: a list, or numbers with names"):
        content = parse_yaml(read_text(file)) or {}
        names: Any = content.get("names")
        if isinstance(names, list):
            names = dict(enumerate(names))
        if not isinstance(names, dict) or not names:
            raise DataError(f"'{file}' has no names: a list, or numbers with names")
        if isinstance(content.get("nc"), int) and content["nc"] != len(names):
            raise DataError(f"'{file}' says nc: {content['nc']} classes and names {len(names)}; correct one of them")
        if "kpt_shape" in content:
            raise DataError(
                f"'{file}' has kpt_shape: its lines hold a box and key points, which are no outline. Export polygons (segmentation)"
            )
        return {int(key): str(value) for key, value in names.items()}


def _images(root: Path) -> list[Path]:
    return [path for path in files_in(root) if "images" in path.relative_to(root).parts[:-1]]


def _texts(root: Path) -> list[Path]:
    return [path for path in files_in(root, (".txt",)) if "labels" in path.relative_to(root).parts[:-1]]


def _pictures(root: Path, names: dict[int, str]) -> tuple[list[Annotated], list[Fault]]:
    pictures: list[Annotated] = []
    faults: list[Fault] = []
    bare = []
    for image in _images(root):
        parts = list(image.relative_to(root).parts)
        parts[parts.index("images")] = "labels"
        file = (root / Path(*parts)).with_suffix(".txt")
        objects: list[DrawnObject] = []
        classes: list[str] = []
        size = None
        if file.is_file():
            try:
                size = image_size(image)
                _read(file, size, names, objects, classes)
            except PspnetError as error:
                faults.append(Fault("error", "object", str(file), str(error), "Correct the line"))
        else:
            bare.append(image)
        name = image.relative_to(root).with_suffix("").as_posix()
        pictures.append(
            Annotated(name, image, file if file.is_file() else image, size, objects, classes, part_of(image, root))
        )
    without = sorted(set(_texts(root)) - {picture.source for picture in pictures})
    if without:
        message = f"'{root}': {len(without)} text files have no picture that is read, such as '{without[0]}': left out"
        faults.append(Fault("warning", "left_out", str(without[0]), message, "Add their pictures (JPEG, PNG ...)"))
    if bare:
        message = (
            f"'{root}': {len(bare)} of {len(pictures)} pictures have no text file, such as '{bare[0]}': all background"
        )
        faults.append(
            Fault("warning", "no_objects", str(bare[0]), message, "As YOLO reads them; annotate them or take them out")
        )
    return pictures, faults


def _read(
    file: Path, size: tuple[int, int], names: dict[int, str], objects: list[DrawnObject], classes: list[str]
) -> None:
    scale = np.array([size[1], size[0]], np.float64)
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        problem = f"line {number}: {line[:60]!r} holds something else than numbers"
        with parsing(file, DataError, problem, "Correct the line"):
            label, values = int(float(words[0])), np.array([float(word) for word in words[1:]])
            if not np.isfinite(values).all():
                raise ValueError("not a finite number")
        if label not in names:
            raise DataError(f"'{file}' line {number}: class {label}; data.yaml names {', '.join(map(str, names))}")
        if values.size and (values.min() < -0.01 or values.max() > 1.01):
            raise DataError(f"'{file}' line {number}: {values.max():g} is no fraction of the picture's size, 0 to 1")
        title = f"line {number} ({names[label]})"
        if len(values) == 4:
            (x, y), (w, h) = values[:2] * scale, values[2:] * scale
            objects.append(DrawnObject(title, 0, box=(x - w / 2, y - h / 2, w, h)))
        elif len(values) >= 6 and len(values) % 2 == 0:
            objects.append(DrawnObject(title, 0, rings=(values.reshape(-1, 2) * scale,)))
        else:
            raise DataError(
                f"'{file}' line {number}: {len(values)} numbers after the class are neither a box nor corners"
            )
        classes.append(names[label])
