"""How sure a score is: confidence intervals over images, and whether one model is better than another.

A validation set is a sample. Drawing its images again with replacement, many times, shows how far a score would move
with other images of the same kind (Efron 1979, percentile method). Comparing two models image by image cancels what
both find hard, so a paired difference is far surer than two intervals side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import ConfigError
from pspnet.metrics.class_counts import Absent, ClassCounts


@dataclass(frozen=True)
class Interval:
    """A score, and the range that holds the given share of its resamples."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """How much model B is above model A. `better`: share of resamples in which B is above A, ties counted half."""

    value: float
    low: float
    high: float
    better: float

    @property
    def p_value(self) -> float:
        """Two-sided: twice the share of resamples on the other side of no difference."""
        return min(1.0, 2 * min(self.better, 1 - self.better))


@dataclass
class PerImage:
    """Three counts a class for every image: all that intervals, comparisons and the list of worst images need.

    `counts` is (N, 3, K) int64: hits, labelled pixels, predicted pixels.
    """

    names: list[str] = field(default_factory=list)
    rows: list[NDArray[np.int64]] = field(default_factory=list)

    def add(self, name: str, confusion: NDArray[np.int64]) -> None:
        """Adds one image's (K, K) confusion matrix."""
        self.add_areas(name, np.stack([np.diagonal(confusion), confusion.sum(1), confusion.sum(0)]))

    def add_areas(self, name: str, areas: NDArray[np.int64]) -> None:
        """Adds one image's (3, K) counts."""
        self.names.append(name)
        self.rows.append(areas)

    def total(self, absent: Absent = "exclude") -> ClassCounts:
        """Areas (K,) of all images together."""
        hits, labels, predictions = self.counts.sum(0)
        return ClassCounts(hits, labels, predictions, absent)

    @property
    def counts(self) -> NDArray[np.int64]:
        return np.stack(self.rows) if self.rows else np.zeros((0, 3, 0), np.int64)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: names, and for each image the classes it shows with their three counts."""
        sparse = [{str(k): row[:, k].tolist() for k in np.flatnonzero(row.any(0)).tolist()} for row in self.rows]
        return {"num_classes": self.rows[0].shape[1] if self.rows else 0, "names": list(self.names), "counts": sparse}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PerImage:
        """The inverse of to_dict."""
        rows = []
        for image in data["counts"]:
            row = np.zeros((3, data["num_classes"]), np.int64)
            for index, values in image.items():
                row[:, int(index)] = values
            rows.append(row)
        return cls(list(data["names"]), rows)

    def areas(self, absent: Absent = "exclude") -> ClassCounts:
        """Areas (N, K): each image on its own."""
        counts = self.counts
        return ClassCounts(counts[:, 0], counts[:, 1], counts[:, 2], absent)


Summary = Callable[[NDArray[np.float64]], Mapping[str, NDArray[np.float64]]]  # sums (B, D) -> scores (B,) by name


def bootstrap(
    rows: Sequence[NDArray[np.generic]], summary: Summary, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Intervals of any scores that follow from sums over images: `rows` holds one vector (D,) for each image.

    Percentile method; the same seed draws the same images. Raises ConfigError for fewer than 2 images.
    """
    stacked = np.stack([row.ravel() for row in rows]).astype(np.float64) if rows else np.zeros((0, 1))
    draws = _draws(len(stacked), resamples, seed)
    whole, drawn = summary(stacked.sum(0, keepdims=True)), summary(draws @ stacked)
    return {name: Interval(float(whole[name][0]), *_range(values, level)) for name, values in drawn.items()}


def intervals(
    per_image: PerImage, absent: Absent = "exclude", resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[dict[str, Interval], list[Interval]]:
    """Intervals of every single-number score, and of each class's IoU."""

    def summary(sums: NDArray[np.float64]) -> Mapping[str, NDArray[np.float64]]:
        areas = _areas(sums, absent)
        return areas.summary() | {f"class {k}": areas.iou[:, k] for k in range(areas.hits.shape[1])}

    bounds = bootstrap(per_image.rows, summary, resamples, level, seed)
    classes = [interval for name, interval in bounds.items() if name.startswith("class ")]
    return {name: interval for name, interval in bounds.items() if not name.startswith("class ")}, classes


def compare(
    first: PerImage,
    second: PerImage,
    absent: Absent = "exclude",
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Difference]:
    """Paired bootstrap of second minus first, for every single-number score.

    Raises ConfigError when the two were not evaluated on the same images.
    """
    if sorted(first.names) != sorted(second.names):
        apart = sorted(set(first.names) ^ set(second.names))
        raise ConfigError(
            f"the two models saw different images ({len(apart)} differ, such as '{apart[0]}'); "
            "evaluate both on the same data set and split"
        )
    index_of = {name: index for index, name in enumerate(second.names)}
    one, two = first.counts, second.counts[[index_of[name] for name in first.names]]
    draws = _draws(len(one), resamples, seed)
    flat = [counts.reshape(len(counts), -1).astype(np.float64) for counts in (one, two)]
    values = [_areas(counts.sum(0, keepdims=True), absent).summary() for counts in flat]
    drawn = [_areas(draws @ counts, absent).summary() for counts in flat]
    intervals_of = {}
    for name, before in values[0].items():
        if name == "mean_f1_of_found":  # it may be higher for a model that finds fewer classes: no verdict hangs on it
            continue
        differences = drawn[1][name] - drawn[0][name]
        low, high = _range(differences, level)
        known = differences[~np.isnan(differences)]
        better = float(((known > 0) + 0.5 * (known == 0)).mean()) if len(known) else float("nan")
        intervals_of[name] = Difference(float(values[1][name][0] - before[0]), low, high, better)
    return intervals_of


def _draws(images: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """(resamples, N): how often each image is drawn."""
    if images < 2:
        raise ConfigError(f"intervals need at least 2 images; there are {images}")
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), resamples).astype(np.float64)


def _areas(sums: NDArray[np.float64], absent: Absent) -> ClassCounts:
    # exact: whole numbers below 2^53 in float64
    hits, labels, predictions = np.split(sums, 3, axis=-1)
    return ClassCounts(hits, labels, predictions, absent)


def _range(values: NDArray[np.float64], level: float) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def worst(per_image: PerImage, count: int) -> Sequence[tuple[str, float]]:
    """The images of lowest mean IoU over the classes they show, lowest first."""
    scores = per_image.areas().summary()["mean_iou"]
    order = np.argsort(np.where(np.isnan(scores), np.inf, scores), kind="stable")
    return [(per_image.names[i], float(scores[i])) for i in order[:count] if not np.isnan(scores[i])]
