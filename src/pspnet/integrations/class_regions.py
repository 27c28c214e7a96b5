"""A segmentation class by class, as programs want it that know masks with a name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pspnet.labels import IGNORE
from pspnet.predict.segmentation import Segmentation


@dataclass(frozen=True)
class ClassRegion:
    """mask: (H, W) bool, where the class is. confidence: mean over the mask, 0..1; None where it was not asked for."""

    index: int
    name: str
    mask: NDArray[np.bool_]
    confidence: float | None

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) in pixels, right and bottom beyond the last."""
        rows, columns = np.flatnonzero(self.mask.any(axis=1)), np.flatnonzero(self.mask.any(axis=0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def class_regions(segmentation: Segmentation) -> Iterator[ClassRegion]:
    """Each class that occurs, in the order of the classes; one mask at a time. Pixels of no class are in none."""
    for index in np.unique(segmentation.labels[segmentation.labels != IGNORE]).tolist():
        mask = segmentation.labels == index
        confidence = None if segmentation.confidence is None else float(segmentation.confidence[mask].mean())
        yield ClassRegion(index, segmentation.classes[index], mask, confidence)
