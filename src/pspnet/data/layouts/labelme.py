"""LabelMe: a JSON file beside each picture (github.com/wkentaro/labelme, version 5).

    ROOT/{train,val}/NAME.jpg, ROOT/{train,val}/NAME.json     or all in ROOT, of which a part is held out

Later shapes lie on top of earlier ones, as LabelMe draws them. Polygons, rectangles, circles and masks are areas; points
and lines have none and are counted. "__ignore__" is ignored, "_background_" is background.
"""

from __future__ import annotations

import base64
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from pspnet.data.drawn_objects import DrawnObject, Ring, ellipse_ring, ring_of, undrawable
from pspnet.data.faults import Fault
from pspnet.data.layouts.drawn import Annotated, dataset_of, part_of, read_json, splits_of
from pspnet.data.layouts.folder import existing
from pspnet.data.matching import files_in
from pspnet.data.paired_files import PairedFiles
from pspnet.images import decode_image


def labelme(
    root: Path, split: str = "train", *, classes: str | Path | None = None, val_share: float = 0.2
) -> PairedFiles:
    """Opens a split. classes: a table; None: the labels that the files name, sorted, and background."""
    pictures, faults = _pictures(existing(root))
    return dataset_of(root, split, pictures, classes, val_share, faults)


def labelme_splits(root: Path) -> tuple[str, ...]:
    """The splits there are."""
    return splits_of(_pictures(existing(root))[0])


def _pictures(root: Path) -> tuple[list[Annotated], list[Fault]]:
    pictures: list[Annotated] = []
    faults: list[Fault] = []
    for file in files_in(root, (".json",)):
        content = read_json(file)
        if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
            continue  # another program's
        given = PureWindowsPath(str(content.get("imagePath") or "")).name
        candidates = [file.with_name(given)] if given else []
        candidates += [file.with_suffix(ending) for ending in (".jpg", ".jpeg", ".png", ".tif", ".bmp")]
        image = next((path for path in candidates if path.is_file()), candidates[0])
        sizes = content.get("imageHeight"), content.get("imageWidth")
        size = (int(sizes[0]), int(sizes[1])) if all(isinstance(v, int) and v > 0 for v in sizes) else None  # type: ignore[arg-type]
        objects, names = [], []
        for number, shape in enumerate(content["shapes"]):
            with undrawable(faults, file, f"shape {number}"):
                label = str(shape["label"]).strip()
                objects.append(_shape(shape, f"shape {number} ({label})", size))
                names.append(label)
        name = file.relative_to(root).with_suffix("").as_posix()
        pictures.append(Annotated(name, image, file, size, objects, names, part_of(file, root)))
    bare = sorted(set(files_in(root)) - {picture.image for picture in pictures}) if pictures else []
    if bare:
        message = f"'{root}': {len(bare)} pictures have no JSON beside them and are left out, such as '{bare[0]}'"
        faults.append(Fault("warning", "left_out", str(bare[0]), message, "Annotate them, if they are to count"))
    return pictures, faults


def _shape(shape: dict[str, Any], name: str, size: tuple[int, int] | None) -> DrawnObject:
    kind, points = shape.get("shape_type") or "polygon", ring_of(shape["points"])
    if kind == "mask":
        if size is None:
            raise ValueError("a mask needs imageHeight and imageWidth")
        part = decode_image(base64.b64decode(shape["mask"]), name, bands=1)[..., 0] > 0
        left, top = np.round(points[0]).astype(int).tolist()
        mask = np.zeros(size, np.bool_)
        inside = mask[top : top + part.shape[0], left : left + part.shape[1]]
        inside[:] = part[: inside.shape[0], : inside.shape[1]]
        return DrawnObject(name, 0, mask=mask)
    return DrawnObject(name, 0, rings=_rings(kind, points))


def _rings(kind: str, points: Ring) -> tuple[Ring, ...]:
    if kind == "polygon":
        return (points,)
    if kind == "rectangle":
        (x1, y1), (x2, y2) = points.min(0), points.max(0)
        return (np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)]),)
    if kind == "circle":  # the middle, and a point on the border
        radius = float(np.hypot(*(points[1] - points[0])))
        return (ellipse_ring((points[0][0], points[0][1]), (radius, radius)),)
    if kind in ("line", "linestrip", "point", "points"):
        return ()
    raise ValueError(f"shape_type {kind!r} is not known")
