"""FiftyOne: a segmentation as its Segmentation label, and the names of the pixels' values.

for sample in dataset:
    sample["pspnet"] = segmentation_label(seg.segment(sample.filepath))
    sample.save()
dataset.mask_targets["pspnet"] = mask_targets(seg.classes)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pspnet.errors import MissingExtraError
from pspnet.labels import IGNORE
from pspnet.predict.segmentation import Segmentation


def segmentation_label(segmentation: Segmentation) -> Any:
    """fiftyone.Segmentation whose mask holds class + 1: FiftyOne takes 0 for background and does not show it.

    Pixels of no class become 0. Raises MissingExtraError without fiftyone, ValueError for 255 classes, whose last would not fit.
    """
    try:
        import fiftyone
    except ImportError as error:
        raise MissingExtraError("Segmentation labels need the library: pip install fiftyone") from error
    return fiftyone.Segmentation(mask=mask_of(segmentation))


def mask_of(segmentation: Segmentation) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(H, W) uint8: class + 1, and 0 where nothing is known."""
    if len(segmentation.classes) > 254:
        raise ValueError(
            f"{len(segmentation.classes)} classes: a mask of 8 bits has room for 254 beside the background"
        )
    return np.where(segmentation.labels == IGNORE, np.uint8(0), segmentation.labels + np.uint8(1)).astype(np.uint8)


def mask_targets(classes: Sequence[str]) -> dict[int, str]:
    """What the values of `mask_of` mean, for `dataset.mask_targets` or `default_mask_targets`."""
    return dict(enumerate(classes, start=1))
