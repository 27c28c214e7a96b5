"""One integer confusion matrix, and every score that follows from it.

The field's mean IoU is a ratio of counts summed over all images, never a mean of per-image ratios. So the state is one
(K, K) table of pixel counts; scores are computed from it when asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import ConfigError, LabelError
from pspnet.labels import IGNORE
from pspnet.metrics.class_counts import ABSENT_RULES, Absent, ClassCounts, mean_of_known

if TYPE_CHECKING:
    import torch
    from rich.table import Table


class ConfusionMatrix:
    """Counts pixels by (label, prediction). `.counts` is (K, K) int64: rows are labels, columns predictions.

    Pixels whose label is IGNORE count nowhere. A label or a counted prediction outside 0..K-1 is a LabelError.
    """

    def __init__(self, num_classes: int) -> None:
        if not 1 <= num_classes <= IGNORE:
            raise ConfigError(f"num_classes = {num_classes}: 1 to {IGNORE} are possible ({IGNORE} means ignore)")
        self.num_classes = num_classes
        self.counts: NDArray[np.int64] = np.zeros((num_classes, num_classes), np.int64)

    def update(self, labels: NDArray[Any] | torch.Tensor, predictions: NDArray[Any] | torch.Tensor) -> None:
        """Adds one or more images: two integer arrays, or two tensors on any device, of one shape."""
        if tuple(labels.shape) != tuple(predictions.shape):
            raise LabelError(
                f"labels are {tuple(labels.shape)}, predictions {tuple(predictions.shape)}: they must have one shape"
            )
        self.counts += count_pairs(labels, predictions, self.num_classes)

    def scores(self, absent: Absent = "exclude", names: tuple[str, ...] = ()) -> Scores:
        """The scores so far."""
        return Scores(self.counts.copy(), absent, names or tuple(f"class_{i}" for i in range(self.num_classes)))


def areas_of(confusion: NDArray[np.int64], absent: Absent = "exclude") -> ClassCounts:
    """(..., K, K) confusion matrices -> Areas (..., K)."""
    return ClassCounts(np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(-1), confusion.sum(-2), absent)


def count_pairs(
    labels: NDArray[Any] | torch.Tensor, predictions: NDArray[Any] | torch.Tensor, num_classes: int
) -> NDArray[np.int64]:
    """(K, K) int64 pixel counts of one image or batch; see ConfusionMatrix."""
    if isinstance(labels, np.ndarray) and isinstance(predictions, np.ndarray):
        table = _count_array(labels, predictions)
    elif not isinstance(labels, np.ndarray) and not isinstance(predictions, np.ndarray):
        if labels.is_cpu and predictions.is_cpu:  # numpy counts bytes four times as fast as torch here
            table = _count_array(labels.numpy(), predictions.numpy())
        else:
            table = _count_tensor(labels, predictions)
    else:
        raise LabelError("labels and predictions must both be numpy arrays or both be tensors")
    counted = table[:IGNORE]  # the last row is the labels that are ignored
    if counted[num_classes:].any():
        code = num_classes + int(np.flatnonzero(counted[num_classes:].sum(1))[0])
        raise LabelError(f"labels hold {code}; allowed are 0..{num_classes - 1} and {IGNORE} for ignore")
    if counted[:, num_classes:].any():
        code = num_classes + int(np.flatnonzero(counted[:, num_classes:].sum(0))[0])
        raise LabelError(f"predictions hold {code} where labels count; allowed are 0..{num_classes - 1}")
    return table[:num_classes, :num_classes]


def _count_array(labels: NDArray[Any], predictions: NDArray[Any]) -> NDArray[np.int64]:
    # One 16-bit code per pixel, label * 256 + prediction, and one bincount over all 65,536 codes: no mask is needed
    # for ignored pixels, they land in row 255. Uint8 pairs are viewed as 16-bit numbers without any arithmetic.
    pairs = np.empty((labels.size, 2), np.uint8)
    pairs[:, 0] = _as_byte(predictions, "predictions").ravel()
    pairs[:, 1] = _as_byte(labels, "labels").ravel()
    codes = pairs.view("<u2")[:, 0]
    return np.bincount(codes, minlength=65536).reshape(256, 256).astype(np.int64)


def _count_tensor(labels: torch.Tensor, predictions: torch.Tensor) -> NDArray[np.int64]:
    import torch

    _check_range(int(labels.min()), int(labels.max()), "labels")
    _check_range(int(predictions.min()), int(predictions.max()), "predictions")
    codes = labels.reshape(-1).to(torch.int32) * 256 + predictions.reshape(-1).to(torch.int32)
    return torch.bincount(codes, minlength=65536).reshape(256, 256).cpu().numpy().astype(np.int64)


def _as_byte(values: NDArray[Any], what: str) -> NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind not in "iub":
        raise LabelError(f"{what} are {values.dtype}; class indices are whole numbers")
    _check_range(int(values.min(initial=0)), int(values.max(initial=0)), what)
    return values.astype(np.uint8)


def _check_range(low: int, high: int, what: str) -> None:
    if low < 0 or high > IGNORE:
        raise LabelError(f"{what} hold {low if low < 0 else high}; allowed are 0..{IGNORE}")


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of a confusion matrix, as fractions 0..1. Per-class values are (K,), NaN where a class has no value (0/0).

    The formulas stand in `Areas`. Means follow `absent` (see ABSENT_RULES); under "zero" the per-class values are 0
    instead of NaN too.
    """

    confusion: NDArray[np.int64]
    absent: Absent = "exclude"
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.absent not in ABSENT_RULES:
            raise ConfigError(f"absent = {self.absent!r}: allowed are {', '.join(ABSENT_RULES)}")
        if not self.names:
            object.__setattr__(self, "names", tuple(f"class_{i}" for i in range(len(self.confusion))))

    @property
    def areas(self) -> ClassCounts:
        """Hits, labelled and predicted pixels of each class, (K,)."""
        return areas_of(self.confusion, self.absent)

    @property
    def iou(self) -> NDArray[np.float64]:
        return self.areas.iou

    @property
    def accuracy(self) -> NDArray[np.float64]:
        return self.areas.accuracy

    @property
    def recall(self) -> NDArray[np.float64]:
        return self.areas.accuracy

    @property
    def precision(self) -> NDArray[np.float64]:
        return self.areas.precision

    @property
    def f1(self) -> NDArray[np.float64]:
        return self.areas.f1

    @property
    def dice(self) -> NDArray[np.float64]:
        return self.areas.f1

    @property
    def mean_iou(self) -> float:
        return float(mean_of_known(self.iou))

    @property
    def mean_accuracy(self) -> float:
        return float(mean_of_known(self.accuracy))

    @property
    def mean_precision(self) -> float:
        return float(mean_of_known(self.precision))

    @property
    def mean_f1(self) -> float:
        return float(mean_of_known(self.f1))

    @property
    def mean_f1_of_found(self) -> float:
        """MMSegmentation's mean F-score: classes that were never found are left out."""
        return float(mean_of_known(self.areas.f1_of_found))

    @property
    def mean_dice(self) -> float:
        return float(mean_of_known(self.dice))

    @property
    def pixel_accuracy(self) -> float:
        """Hits of all classes over all counted pixels; NaN (0 under "zero") when nothing was counted."""
        return float(self.areas.pixel_accuracy)

    @property
    def frequency_weighted_iou(self) -> float:
        return float(self.areas.frequency_weighted_iou)

    def summary(self) -> dict[str, float]:
        """The scores that are single numbers, by name."""
        return {name: float(value) for name, value in self.areas.summary().items()}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: NaN is None; `confusion` is a list of rows (labels)."""
        areas = self.areas
        columns = {"iou": self.iou, "accuracy": self.accuracy, "precision": self.precision, "f1": self.f1}
        classes = [
            {
                "name": name,
                **{key: none_if_nan(values[i]) for key, values in columns.items()},
                "label_pixels": int(areas.labels[i]),
                "predicted_pixels": int(areas.predictions[i]),
            }
            for i, name in enumerate(self.names)
        ]
        return {
            **{key: none_if_nan(value) for key, value in self.summary().items()},
            "absent": self.absent,
            "absent_rule": ABSENT_RULES[self.absent],
            "classes": classes,
            "confusion": self.confusion.tolist(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Scores:
        """The inverse of to_dict."""
        return cls(np.array(data["confusion"], np.int64), data["absent"], tuple(c["name"] for c in data["classes"]))

    def table(self, title: str = "") -> Table:
        """A rich table: one row a class, the means below."""
        from rich.table import Table

        table = Table(title=title or None, caption=f"Means: {ABSENT_RULES[self.absent]}.", title_justify="left")
        table.add_column("class")
        for name in ("IoU", "accuracy", "precision", "F1", "share of pixels"):
            table.add_column(name, justify="right")
        total = max(int(self.confusion.sum()), 1)
        rows = zip(self.iou, self.accuracy, self.precision, self.f1, self.areas.labels / total, strict=True)
        for name, values in zip(self.names, rows, strict=True):
            table.add_row(name, *(percent(float(v)) for v in values))
        table.add_section()
        means = (self.mean_iou, self.mean_accuracy, self.mean_precision, self.mean_f1)
        table.add_row("mean", *(percent(v) for v in means), "", style="bold")
        table.add_row("pixel accuracy", "", percent(self.pixel_accuracy), "", "", "", style="bold")
        return table


def percent(value: float) -> str:
    """0.41675 -> '41.7'; NaN -> '-'."""
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def none_if_nan(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else float(value)
