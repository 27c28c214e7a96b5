"""CVAT's own XML, "CVAT for images 1.1" (docs.cvat.ai/docs/manual/advanced/formats/format-cvat).

    ROOT/annotations.xml, ROOT/images/NAME.jpg       or the pictures anywhere below ROOT, by their names

Polygons, ellipses and masks are areas, and lie on top of each other by their z_order, then as they stand in the file. Boxes are
known by their box alone: ignored and counted, as points and lines are. A picture's subset is its split; without subsets a
part is held out. "CVAT for video" (tracks) is refused: its pictures are frames of a film.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, parse

import numpy as np

from pspnet.data.drawn_objects import DrawnObject, ellipse_ring, ring_of, undrawable
from pspnet.data.faults import Fault
from pspnet.data.layouts.drawn import Annotated, dataset_of, splits_of
from pspnet.data.layouts.folder import existing
from pspnet.data.matching import files_in
from pspnet.data.paired_files import PairedFiles
from pspnet.errors import DataError, parsing

_SHAPES = ("polygon", "ellipse", "mask", "box", "polyline", "points", "skeleton", "cuboid")


def cvat_xml(
    root: Path,
    split: str = "train",
    *,
    annotations: str = "annotations.xml",
    classes: str | Path | None = None,
    val_share: float = 0.2,
) -> PairedFiles:
    """Opens a split. annotations: the XML below the root. classes: a table; None: the labels of the task, in its order."""
    root = existing(root)
    tree = _tree(root / annotations)
    pictures, faults = _pictures(root, root / annotations, tree)
    names = list(
        dict.fromkeys(element.text.strip() for element in tree.iterfind(".//labels/label/name") if element.text)
    )
    met = {name for picture in pictures for name in picture.names}
    return dataset_of(root, split, pictures, classes, val_share, faults, names=names if met <= set(names) else None)


def cvat_xml_splits(root: Path) -> tuple[str, ...]:
    """The subsets there are, or train and val."""
    file = existing(root) / "annotations.xml"
    return splits_of(_pictures(root, file, _tree(file))[0])


def _tree(file: Path) -> Element:
    if not file.is_file():
        raise DataError(f"'{file}' does not exist; name CVAT's XML in the option annotations")
    with parsing(file, DataError, "is no XML of CVAT's", "Export the task as 'CVAT for images 1.1'"):
        tree = parse(file).getroot()
        if tree.tag != "annotations":
            raise ValueError(f"its first element is {tree.tag}")
    if tree.find("track") is not None:
        raise DataError(
            f"'{file}' is 'CVAT for video' (it holds tracks); export the task as 'CVAT for images 1.1' with 'save images'"
        )
    return tree


def _pictures(root: Path, file: Path, tree: Element) -> tuple[list[Annotated], list[Fault]]:
    by_name: dict[str, list[Path]] = {}
    for path in files_in(root):
        by_name.setdefault(path.name, []).append(path)
    pictures: list[Annotated] = []
    faults: list[Fault] = []
    for element in tree.iterfind("image"):
        with undrawable(faults, file, f"picture {element.get('name')!r}"):
            name = str(element.attrib["name"]).replace("\\", "/")
            size = int(element.attrib["height"]), int(element.attrib["width"])
            objects, names = _objects(element, file, size, faults)
            image = _image(root, name, by_name.get(PurePosixPath(name).name, []))
            stem = PurePosixPath(name).with_suffix("").as_posix()
            pictures.append(Annotated(stem, image, file, size, objects, names, element.get("subset") or ""))
    return pictures, faults


def _image(root: Path, name: str, of_that_name: Sequence[Path]) -> Path:
    listed = [path for path in of_that_name if path.as_posix().endswith(f"/{name}")]
    return next(iter(listed or of_that_name), root / "images" / name)


def _objects(
    picture: Element, file: Path, size: tuple[int, int], faults: list[Fault]
) -> tuple[list[DrawnObject], list[str]]:
    shapes = [shape for shape in picture if shape.tag in _SHAPES]
    shapes.sort(key=lambda shape: int(float(shape.get("z_order") or 0)))
    objects, names = [], []
    for number, shape in enumerate(shapes):
        title = f"{shape.tag} {number} ({shape.get('label')}) of '{picture.get('name')}'"
        with undrawable(faults, file, title):
            label = shape.attrib["label"].strip()
            objects.append(_object(shape, title, size))
            names.append(label)
    return objects, names


def _object(shape: Element, title: str, size: tuple[int, int]) -> DrawnObject:
    def number(key: str) -> float:
        return float(shape.attrib[key])

    if shape.tag == "polygon":
        return DrawnObject(title, 0, rings=(ring_of(shape.attrib["points"].replace(";", ",").split(",")),))
    if shape.tag == "ellipse":
        turn = float(shape.get("rotation") or 0)
        return DrawnObject(
            title, 0, rings=(ellipse_ring((number("cx"), number("cy")), (number("rx"), number("ry")), turn),)
        )
    if shape.tag == "box":
        left, top = number("xtl"), number("ytl")
        return DrawnObject(title, 0, box=(left, top, number("xbr") - left, number("ybr") - top))
    if shape.tag == "mask":  # run lengths along the rows of its box, the first of what is outside
        left, top, wide, high = (int(number(key)) for key in ("left", "top", "width", "height"))
        runs = np.array([int(run) for run in shape.attrib["rle"].split(",")])
        if runs.sum() != wide * high or (runs < 0).any() or min(left, top) < 0:
            raise ValueError(f"its run lengths cover {int(runs.sum())} pixels, its box has {wide * high}")
        if left + wide > size[1] or top + high > size[0]:
            raise ValueError("its box reaches beyond the picture")
        mask = np.zeros(size, np.bool_)
        mask[top : top + high, left : left + wide] = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(high, wide)
        return DrawnObject(title, 0, mask=mask)
    return DrawnObject(title, 0)
