"""Scores from three counts a class: hits, labelled pixels, predicted pixels.

Every score of this package but the confusion matrix itself needs no more than these. They add up over images, so a
thousand resamples of a data set are one matrix product, and one image's share of them is small enough to keep.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Absent = Literal["exclude", "zero"]
ABSENT_RULES: dict[Absent, str] = {
    "exclude": "classes without a value (0/0) are left out of the means (MMSegmentation)",
    "zero": "classes without a value count as 0 in the means (semseg; divisors carry its + 1e-10)",
}
_EPSILON = 1e-10  # semseg adds it to every divisor: a class seen nowhere scores 0, other ratios move by < 1e-10


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """Counts (..., K): leading axes are images or resamples. Per-class scores have the same shape, means lose the K.

    iou = hits / (labels + predictions - hits); accuracy = recall = hits / labels; precision = hits / predictions;
    f1 = 2 P R / (P + R), without a value as soon as P or R has none; dice = 2 hits / (labels + predictions).
    """

    hits: NDArray[Any]
    labels: NDArray[Any]
    predictions: NDArray[Any]
    absent: Absent = "exclude"

    @property
    def iou(self) -> NDArray[np.float64]:
        return self._ratio(self.hits, self.labels + self.predictions - self.hits)

    @property
    def accuracy(self) -> NDArray[np.float64]:
        return self._ratio(self.hits, self.labels)

    @property
    def precision(self) -> NDArray[np.float64]:
        return self._ratio(self.hits, self.predictions)

    @property
    def f1(self) -> NDArray[np.float64]:
        """2 hits / (labels + predictions), which is Dice: 0 for a class that is there and never found."""
        return self._ratio(2 * self.hits, self.labels + self.predictions)

    @property
    def f1_of_found(self) -> NDArray[np.float64]:
        """2 P R / (P + R) as MMSegmentation computes it: no value for a class that was never found, so that a model that
        answers fewer classes may have a higher mean."""
        precision, recall = self.precision, self.accuracy
        return self._ratio(2 * precision * recall, precision + recall)

    @property
    def pixel_accuracy(self) -> NDArray[np.float64]:
        return self._ratio(self.hits.sum(-1), self.labels.sum(-1))

    @property
    def frequency_weighted_iou(self) -> NDArray[np.float64]:
        """IoU weighted by the label's share of pixels (Long et al. 2015)."""
        return self._ratio(np.nansum(self.iou * self.labels, -1), self.labels.sum(-1))

    def summary(self) -> dict[str, NDArray[np.float64]]:
        """The scores that are single numbers (or one for each resample), by name."""
        return {
            "mean_iou": mean_of_known(self.iou),
            "mean_accuracy": mean_of_known(self.accuracy),
            "pixel_accuracy": self.pixel_accuracy,
            "mean_precision": mean_of_known(self.precision),
            "mean_f1": mean_of_known(self.f1),
            "mean_f1_of_found": mean_of_known(self.f1_of_found),
            "frequency_weighted_iou": self.frequency_weighted_iou,
        }

    def _ratio(self, top: Any, bottom: Any) -> NDArray[np.float64]:
        if self.absent == "zero":
            return np.asarray(top / (bottom + _EPSILON), np.float64)
        return ratio(top, bottom)


def ratio(top: Any, bottom: Any) -> NDArray[np.float64]:
    """top / bottom, NaN where bottom is not above 0."""
    top, bottom = np.asarray(top, np.float64), np.asarray(bottom, np.float64)
    with np.errstate(invalid="ignore"):
        return np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1), np.nan)


def mean_of_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over the last axis of what is not NaN; NaN where nothing is known."""
    known = ~np.isnan(values)
    count = known.sum(-1)
    total = np.where(known, values, 0.0).sum(-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
