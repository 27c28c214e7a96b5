"""Finding the objects that belong to a sample's labels, for scores that weigh each object alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.data.dataset import Sample
from pspnet.errors import DataError
from pspnet.images import read_label
from pspnet.labels import IGNORE

Objects = Callable[[Sample], NDArray[Any]]  # a sample -> (H, W) numbers, one for each object, 0 for none


def objects_beside(sample: Sample) -> NDArray[np.int64]:
    """(H, W) object numbers from the file that lies beside a sample's label file; 0 where there is no single object.

    Cityscapes: ..._instanceIds.png beside ..._labelIds.png (below 1000: no single object). VOC: SegmentationObject/
    beside SegmentationClass/ (255: no object). Any folder: instances/NAME.png beside labels/NAME.png (0: no object).
    Raises DataError naming the file that was looked for.
    """
    label = sample.label_path
    if label is None:
        raise DataError(
            f"'{sample.name}' has no label file, so no file of objects can lie beside it; "
            "give assess(objects=...) a function, or set instances to false"
        )
    if "_labelIds" in label.name:
        path = label.with_name(label.name.replace("_labelIds", "_instanceIds"))
        objects = _read(path)
        return np.where(objects >= 1000, objects, 0)
    for part, other, nothing in (("SegmentationClass", "SegmentationObject", IGNORE), ("labels", "instances", 0)):
        if part in label.parts:
            position = len(label.parts) - 1 - label.parts[::-1].index(part)
            path = Path(*label.parts[:position], other, *label.parts[position + 1 :]).with_suffix(".png")
            objects = _read(path)
            return np.where(objects == nothing, 0, objects)
    raise DataError(
        f"no objects are known for '{label}': put NAME.png with a number for each object into a folder "
        "'instances' beside 'labels', or set instances to false"
    )


def _read(path: Path) -> NDArray[np.int64]:
    if not path.is_file():
        raise DataError(f"'{path}' does not exist: scores of instances need it; or set instances to false")
    values = read_label(path)
    if values.ndim != 2:
        raise DataError(f"'{path}' is a colour image; objects are numbers, one band")
    return values.astype(np.int64)
