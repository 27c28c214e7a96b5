"""Whether confidence means what it says, and the one number that mends it.

Of the pixels that a model is 80 % sure of, 80 % should be right. Expected calibration error (ECE) is the mean distance
between confidence and accuracy over bins of confidence, weighted by their pixels (Guo et al. 2017, arXiv:1706.04599).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import ConfigError
from pspnet.labels import IGNORE
from pspnet.metrics.class_counts import ratio


class CalibrationCounter:
    """Adds up pixels by bins of confidence, 0..1 in equal parts. `rows` keeps each image's sums, (3 * bins,)."""

    def __init__(self, bins: int = 15) -> None:
        self.bins = bins
        self.rows: list[NDArray[np.float64]] = []

    def update(self, labels: NDArray[Any], predictions: NDArray[Any], confidence: NDArray[np.float32]) -> None:
        """One image: (H, W) labels or IGNORE, predictions, and the predicted class's probability."""
        counted = labels != IGNORE
        certainty = confidence[counted].astype(np.float64)
        bin_of = np.minimum((certainty * self.bins).astype(np.int64), self.bins - 1)
        right = labels[counted] == predictions[counted]
        sums = [np.bincount(bin_of, weights, self.bins) for weights in (None, certainty, right)]
        self.rows.append(np.concatenate(sums).astype(np.float64))

    def totals(self) -> NDArray[np.float64]:
        """(3, bins): pixels, sum of their confidence, pixels that are right."""
        return np.sum(self.rows, axis=0).reshape(3, self.bins)

    def summary(self, totals: NDArray[np.float64] | None = None) -> dict[str, NDArray[np.float64]]:
        """Scores of all images, or of sums of `rows` (..., 3 * bins).

        calibration_error: ECE. overconfidence: mean confidence minus accuracy (below 0: too modest).
        """
        sums = np.sum(self.rows, axis=0) if totals is None else totals
        pixels, confidence, right = np.split(sums, 3, axis=-1)
        number = pixels.sum(-1)
        return {
            "calibration_error": ratio(np.abs(right - confidence).sum(-1), number),
            "overconfidence": ratio((confidence - right).sum(-1), number),
        }

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the scores and the reliability diagram's points (bins without pixels are left out)."""
        pixels, confidence, right = self.totals()
        filled = pixels > 0
        points = zip(confidence[filled] / pixels[filled], right[filled] / pixels[filled], pixels[filled], strict=True)
        return {
            **{name: float(value) for name, value in self.summary().items()},
            "reliability": [{"confidence": float(c), "accuracy": float(a), "pixels": int(n)} for c, a, n in points],
        }


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[Any]) -> float:
    """The T above 0 at which softmax(logits / T) gives the labels (N,) of logits (N, K) the greatest likelihood.

    T > 1 lowers confidence, T < 1 raises it; the predicted class never changes. Found by golden-section search over
    log T in 1/20..20: the likelihood has one maximum in 1/T. Raises ConfigError without labelled pixels.
    """
    counted = labels != IGNORE
    if not counted.any():
        raise ConfigError("the temperature needs labelled pixels; there are none")
    values, truth = logits[counted].astype(np.float64), labels[counted].astype(np.int64)
    values -= values.max(1, keepdims=True)
    true_logits = values[np.arange(len(truth)), truth]

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float((np.log(np.exp(values * scale).sum(1)) - true_logits * scale).mean())

    low, high = -np.log(20.0), np.log(20.0)
    golden = (np.sqrt(5) - 1) / 2
    left, right = high - golden * (high - low), low + golden * (high - low)
    loss_left, loss_right = loss(left), loss(right)
    while high - low > 1e-4:
        if loss_left < loss_right:
            high, right, loss_right = right, left, loss_left
            left = high - golden * (high - low)
            loss_left = loss(left)
        else:
            low, left, loss_left = left, right, loss_right
            right = low + golden * (high - low)
            loss_right = loss(right)
    return float(np.exp((low + high) / 2))
