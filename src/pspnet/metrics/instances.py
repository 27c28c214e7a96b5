"""Scores that weigh each object alike: Cityscapes' four numbers, for any data set with instances.

IoU counts pixels, so one lorry outweighs a crowd. iIoU = iTP / (iTP + FP + iFN) multiplies the pixels of every object
by (mean size of its class) / (its own size); FP stays a plain count, since predictions have no objects (Cordts et al.
2016, sec. 4.1, arXiv:1604.01685). Categories merge classes: any class of the category is a hit.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import ConfigError, LabelError
from pspnet.labels import LabelSpace
from pspnet.metrics.class_counts import mean_of_known, ratio
from pspnet.metrics.confusion import count_pairs, none_if_nan


@dataclass(frozen=True)
class InstanceRules:
    """What is scored, and how objects are weighed.

    names: K classes. evaluated: their indices that are scored; labels of the others count nowhere, predictions of them
    are misses. categories: the indices of each category's classes. average_size: mean object size in px of the classes
    that have objects; None: measured on the images that are scored.
    """

    names: tuple[str, ...]
    categories: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    evaluated: tuple[int, ...] | None = None
    average_size: Mapping[int, float] | None = None

    @classmethod
    def cityscapes_ids(cls) -> InstanceRules:
        """The official benchmark: labelIds 0..33, of which 19 are evaluated, and its mean object sizes."""
        rows = _table()
        categories: dict[str, list[int]] = {}
        for row in rows:
            categories.setdefault(row["category"], []).append(int(row["id"]))
        return cls(
            tuple(row["name"] for row in rows),
            {name: tuple(ids) for name, ids in categories.items()},
            tuple(int(row["id"]) for row in rows if row["evaluated"] == "1"),
            {int(row["id"]): float(row["average_size"]) for row in rows if row["average_size"]},
        )

    @classmethod
    def of(cls, label_space: LabelSpace) -> InstanceRules:
        """Cityscapes' categories and sizes where the classes are its 19; else no categories, sizes measured."""
        rows = {row["name"]: row for row in _table() if row["evaluated"] == "1"}
        if sorted(rows) != sorted(label_space.names):
            return cls(label_space.names)
        categories: dict[str, list[int]] = {}
        for index, name in enumerate(label_space.names):
            categories.setdefault(rows[name]["category"], []).append(index)
        sizes = {i: float(rows[n]["average_size"]) for i, n in enumerate(label_space.names) if rows[n]["average_size"]}
        return cls(label_space.names, {n: tuple(i) for n, i in categories.items()}, None, sizes)


@dataclass(frozen=True, eq=False)
class InstanceScores:
    """Four scores, fractions 0..1, NaN where there is none. Per class (..., K), per category (..., C) in the rules'
    order; leading axes are resamples."""

    rules: InstanceRules
    iou: NDArray[np.float64]
    instance_iou: NDArray[np.float64]
    category_iou: NDArray[np.float64]
    category_instance_iou: NDArray[np.float64]

    def summary(self) -> dict[str, NDArray[np.float64]]:
        """Means over the values there are."""
        return {
            "class_iou": mean_of_known(self.iou),
            "class_iiou": mean_of_known(self.instance_iou),
            "category_iou": mean_of_known(self.category_iou),
            "category_iiou": mean_of_known(self.category_instance_iou),
        }

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; NaN is None."""
        return {
            **{name: none_if_nan(float(value)) for name, value in self.summary().items()},
            "classes": _pairs(self.rules.names, self.iou, self.instance_iou),
            "categories": _pairs(tuple(self.rules.categories), self.category_iou, self.category_instance_iou),
        }


class InstanceCounter:
    """Adds up images for InstanceScores. `rows` keeps each image's sums, (D,), for intervals over images."""

    def __init__(self, rules: InstanceRules) -> None:
        self.rules = rules
        number = len(rules.names)
        self.rows: list[NDArray[np.float64]] = []
        self.evaluated = np.zeros(number, bool)
        self.evaluated[list(range(number) if rules.evaluated is None else rules.evaluated)] = True
        self.members = np.zeros((len(rules.categories), number), bool)
        for index, members in enumerate(rules.categories.values()):
            self.members[index, list(members)] = True
        if (self.members.sum(0) > 1).any():
            raise ConfigError("a class belongs to two categories; give each class one")
        self.category_of = np.full(number, -1)
        for index, row in enumerate(self.members):
            self.category_of[row] = index

    def update(self, labels: NDArray[Any], predictions: NDArray[Any], instances: NDArray[Any]) -> None:
        """One image: (H, W) labels 0..K-1 or IGNORE, predictions 0..K-1, and objects: one number for each, 0 for none.

        An object's class is the label that most of its pixels have; objects of classes that are not evaluated, or of
        ignored pixels, are passed over.
        """
        if not labels.shape == predictions.shape == instances.shape:
            raise LabelError(
                f"labels {labels.shape}, predictions {predictions.shape} and instances {instances.shape} differ in shape"
            )
        counts = count_pairs(labels, predictions, len(self.rules.names))
        counts = counts * self.evaluated[:, None]  # labels that are not evaluated count nowhere
        scored = self.members & self.evaluated
        inside = np.einsum("ci,ij,cj->c", scored, counts, scored, optimize=True)
        # the official script counts as false for iIoU all classes of a category, evaluated or not
        false = np.einsum("ci,ij,cj->c", ~self.members, counts, scored, optimize=True)
        false_any = np.einsum("ci,ij,cj->c", ~self.members, counts, self.members, optimize=True)
        objects = self._objects(labels, predictions, instances)
        areas = [np.diagonal(counts), counts.sum(1), counts.sum(0)]
        self.rows.append(np.concatenate([*areas, *objects, inside, false, false_any]).astype(np.float64))

    def scores(self, totals: NDArray[np.float64] | None = None) -> InstanceScores:
        """The scores of all images, or of sums of `rows` (..., D)."""
        sums = np.sum(self.rows, axis=0) if totals is None else totals
        number = len(self.rules.names)
        hits, labelled, predicted, objects, _, hit, category_hit = np.split(sums[..., : 7 * number], 7, axis=-1)
        inside, false, false_any = np.split(sums[..., 7 * number :], 3, axis=-1)
        average = self._average_size()
        has_objects = self.evaluated & (average > 0)
        iou = np.where(self.evaluated, ratio(hits, labelled + predicted - hits), np.nan)
        instance_iou = ratio(average * hit, average * objects + predicted - hits)
        scored = (self.members & self.evaluated).astype(np.float64)
        category_iou = ratio(inside, labelled @ scored.T + false)
        category_instance_iou = ratio((average * category_hit) @ scored.T, (average * objects) @ scored.T + false_any)
        return InstanceScores(
            self.rules,
            iou,
            np.where(has_objects, instance_iou, np.nan),
            np.where(scored.any(1), category_iou, np.nan),
            np.where((scored @ has_objects) > 0, category_instance_iou, np.nan),
        )

    def _objects(
        self, labels: NDArray[Any], predictions: NDArray[Any], instances: NDArray[Any]
    ) -> tuple[NDArray[np.float64], ...]:
        """Per class: objects, their pixels, and sums over objects of the shares of pixels that hit class and category."""
        number = len(self.rules.names)
        marked = instances > 0
        _, which, size = np.unique(instances[marked], return_inverse=True, return_counts=True)
        if not len(size):
            return (np.zeros(number),) * 4
        votes = np.bincount(which * 256 + labels[marked].astype(np.int64), minlength=len(size) * 256).reshape(-1, 256)
        classes = votes.argmax(1)
        counted = (classes < number) & self.evaluated[np.minimum(classes, number - 1)]
        counted_classes = np.where(counted, classes, 0)
        predicted = predictions[marked].astype(np.int64)
        known = predicted < number
        category = np.where(known, self.category_of[np.where(known, predicted, 0)], -2)
        hits = np.bincount(which, predicted == counted_classes[which], len(size)) / size
        same = np.bincount(which, category == self.category_of[counted_classes][which], len(size)) / size
        weights = (np.ones(len(size)), size, hits, same)
        return tuple(np.bincount(counted_classes[counted], w[counted], number).astype(np.float64) for w in weights)

    def _average_size(self) -> NDArray[np.float64]:
        number = len(self.rules.names)
        if self.rules.average_size is None:
            sums = np.sum(self.rows, axis=0)
            objects, pixels = sums[3 * number : 4 * number], sums[4 * number : 5 * number]
            return pixels / np.maximum(objects, 1)
        return np.array([self.rules.average_size.get(index, 0.0) for index in range(number)])


def _pairs(
    names: tuple[str, ...], first: NDArray[np.float64], second: NDArray[np.float64]
) -> dict[str, dict[str, float | None]]:
    rows = zip(names, first, second, strict=True)
    return {name: {"iou": none_if_nan(one), "iiou": none_if_nan(two)} for name, one, two in rows}


def _table() -> list[dict[str, str]]:
    text = (resources.files("pspnet.metrics") / "cityscapes.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
