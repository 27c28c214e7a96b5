"""Connected regions of label maps, strip by strip: runs of equal pixels, joined where they touch (4 neighbours)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.labels import IGNORE

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class LabelRuns:
    """The runs of equal pixels in the rows of a label map.

    index: (h, w) the run that each pixel belongs to, counted in reading order. first: (runs,) its first pixel in the
    flattened map. links: pairs of runs of one class that touch from row to row.
    """

    index: NDArray[np.int32]
    first: Ids
    labels: NDArray[np.uint8]
    lengths: Ids
    links: tuple[Ids, Ids]

    @property
    def rows(self) -> Ids:
        """(runs,) the row of each run."""
        return self.first // self.index.shape[1]

    def sums(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """(runs,) the sum of each run's pixels in a map (h, w)."""
        return np.add.reduceat(values.ravel(), self.first, dtype=np.float64)


def find_runs(labels: NDArray[np.uint8]) -> LabelRuns:
    """Runs of a label map (h, w); those of IGNORE are runs too, but have no links.

        1 1 2 2        runs 0 0 1 1    run 0 touches run 2: one class, a column in common
        1 2 2 1             2 3 3 4    run 1 touches run 3
        1 1 1 1             5 5 5 5    runs 2 and 4 touch run 5
        2 2 1 .             6 6 7 8    run 5 touches run 7; 8 is nothing and touches none

    >>> labels = np.array([[1, 1, 2, 2], [1, 2, 2, 1], [1, 1, 1, 1], [2, 2, 1, 255]], np.uint8)
    >>> runs = find_runs(labels)
    >>> runs.index[1], runs.lengths
    (array([2, 3, 3, 4], dtype=int32), array([2, 2, 1, 2, 1, 4, 2, 1, 1]))
    >>> list(zip(*(part.tolist() for part in runs.links)))
    [(0, 2), (1, 3), (2, 5), (4, 5), (5, 7)]
    >>> connected(9, *runs.links)[runs.index]      # each region by its first run
    array([[0, 0, 1, 1],
           [0, 1, 1, 0],
           [0, 0, 0, 0],
           [6, 6, 0, 8]])
    """
    width = labels.shape[1]
    starts = np.ones(labels.shape, bool)
    np.not_equal(labels[:, 1:], labels[:, :-1], out=starts[:, 1:])
    index = np.cumsum(starts.ravel(), dtype=np.int32).reshape(labels.shape)
    index -= 1
    first = np.flatnonzero(starts)
    label_of_run = labels.ravel()[first]
    # two runs that touch begin to do so where one of them begins
    touching = starts[1:] | starts[:-1]
    touching &= labels[1:] == labels[:-1]
    touching &= labels[1:] != IGNORE
    at = np.flatnonzero(touching)
    flat = index.ravel()
    links = (flat[at].astype(np.int64), flat[at + width].astype(np.int64))  # + width: the pixel below
    return LabelRuns(index, first, label_of_run, np.diff(first, append=labels.size), links)


def connected(count: int, a: Ids, b: Ids) -> Ids:
    """(count,) the smallest member of each member's group, when a[i] and b[i] belong together.

    Roots are hung below smaller roots that they touch, and paths are shortened, until no pair is left apart: a few
    rounds of whole-array operations (after Shiloach and Vishkin 1982, "An O(log n) parallel connectivity algorithm").
    """
    parent = np.arange(count, dtype=np.int64)
    while len(a):
        a, b = parent[a], parent[b]
        apart = a != b
        a, b = a[apart], b[apart]
        high, low = np.maximum(a, b), np.minimum(a, b)
        np.minimum.at(parent, high, low)
        while True:
            above = parent[parent]
            if np.array_equal(above, parent):
                break
            parent = above
    return parent
