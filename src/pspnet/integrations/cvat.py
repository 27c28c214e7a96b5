"""CVAT: a model as a function of its auto-annotation (`cvat_sdk.auto_annotation`), one mask for each class of a frame.

    cvat-cli ... task auto-annotate 137 --function-module pspnet.integrations.cvat -p model=str:streets --conf-threshold 0.3

or in Python: cvat_sdk.auto_annotation.annotate_task(client, 137, create("streets")).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pspnet.errors import MissingExtraError
from pspnet.integrations.class_regions import ClassRegion, class_regions
from pspnet.predict.segmenter import Segmenter


def create(model: Segmenter | str | Path, device: str = "auto") -> DetectionFunction:
    """The function that cvat-cli looks for in a module.

    Args:
        model: A Segmenter, or what `Segmenter.load` takes.
        device: "auto", "cpu", "cuda" ...

    Raises MissingExtraError without cvat_sdk, and what `Segmenter.load` raises.
    """
    return DetectionFunction(model if isinstance(model, Segmenter) else Segmenter.load(model, device=device))


class DetectionFunction:
    """What CVAT calls: `spec` says the labels, `detect` finds them in a frame."""

    def __init__(self, segmenter: Segmenter) -> None:
        try:
            import cvat_sdk.auto_annotation as interface
        except ImportError as error:
            raise MissingExtraError("CVAT's functions need its library: pip install cvat-sdk") from error
        self.segmenter, self.interface = segmenter, interface
        # ids count from 1: some versions take 0 for none
        labels = [interface.label_spec(name, number) for number, name in enumerate(segmenter.classes, start=1)]
        self._spec = interface.DetectionFunctionSpec(labels=labels)

    @property
    def spec(self) -> Any:
        """CVAT's DetectionFunctionSpec: a label for each class."""
        return self._spec

    def detect(self, context: Any, image: Image.Image) -> list[Any]:
        """A mask for each class of the frame, or polygons where CVAT asks for them; classes below its threshold are left out."""
        least = getattr(context, "conf_threshold", None) or 0.0
        segmentation = self.segmenter.segment(image)
        shapes: list[Any] = []
        for one in class_regions(segmentation):
            if (one.confidence or 0.0) < least:
                continue
            if getattr(context, "conv_mask_to_poly", False):
                shapes += [self.interface.polygon(one.index + 1, corners) for corners in outlines(one.mask)]
            else:
                shapes.append(self.interface.mask(one.index + 1, encode_mask(one)))
        return shapes


def encode_mask(one: ClassRegion) -> list[float]:
    """CVAT's mask: run lengths within its box, the first of pixels outside, then left, top, right, bottom (inclusive)."""
    left, top, right, bottom = one.box
    flat = one.mask[top:bottom, left:right].ravel()
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, len(flat))
    runs = np.diff(ends, prepend=0).tolist()
    return [*([0, *runs] if flat[0] else runs), left, top, right - 1, bottom - 1]


def outlines(mask: NDArray[np.bool_]) -> list[list[float]]:
    """The outer outline of each region: x, y, x, y ... CVAT's polygons have no holes, so holes are filled."""
    import cv2

    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [contour.reshape(-1).astype(float).tolist() for contour in contours if len(contour) > 2]
