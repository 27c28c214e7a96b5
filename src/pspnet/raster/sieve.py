"""Areas that are too small are merged into a neighbour: decided once for the whole map, applied strip by strip.

A first pass over the map finds regions, their areas and, for small ones, how long a border they share with whom. A small
region takes the class of the neighbour with the longest shared border (the larger one where two are equal), smallest
first in rounds, until none is left that has a neighbour; one that lies alone amid nodata stays. What is kept in memory
is a few numbers for each region, not the map. The result does not depend on how the map was cut into strips.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.outlines.connected_components import Ids, connected, find_runs
from pspnet.raster.label_strips import LabelStrip
from pspnet.raster.writing import NODATA

Labels = NDArray[np.uint8]


class Sieve:
    """Feed it all strips once (`look`), `decide`, then let it clean the same strips in the same order (`clean`).

    Areas below two pixels, of 4 square metres each:

        1 1 1 2         1 1 1 2      3 has four borders with 1: it becomes 1
        1 3 1 2   ->    1 1 1 2      4 has one border with 1 and one with 2, and both have 7 pixels: the one that begins
        1 1 2 2         1 1 2 2      first takes it
        4 2 2 2         1 2 2 2

    >>> labels = np.array([[1, 1, 1, 2], [1, 3, 1, 2], [1, 1, 2, 2], [4, 2, 2, 2]], np.uint8)
    >>> strip = LabelStrip(0, 0, labels, np.full((4, 4), 90, np.uint8), np.full((4, 1), 4.0))
    >>> sieve = Sieve(min_area_m2=8)
    >>> sieve.look(strip)
    >>> sieve.decide()
    >>> sieve.clean(strip).labels
    array([[1, 1, 1, 2],
           [1, 1, 1, 2],
           [1, 1, 2, 2],
           [1, 2, 2, 2]], dtype=uint8)
    """

    def __init__(self, min_area_m2: float) -> None:
        self.min_area = min_area_m2
        self.count = 0  # provisional regions so far: those of single strips
        self.areas: list[NDArray[np.float64]] = []
        self.labels: list[Labels] = []
        self.same: list[Ids] = []  # (2, N) provisional regions that are one, across strips
        self.borders: list[NDArray[np.int32]] = []  # (3, N) two neighbours and the pixels of their shared border
        self.before: tuple[LabelStrip, Ids] | None = None
        self.decided: Labels = np.zeros(0, np.uint8)
        self.cleaned = 0

    def look(self, strip: LabelStrip) -> None:
        """Takes in the next strip."""
        regions, labels = _regions(strip.labels)
        count = len(labels)
        pixel_areas = np.broadcast_to(strip.areas, strip.labels.shape)
        inside = regions >= 0
        area: NDArray[np.float64] = np.bincount(regions[inside], pixel_areas[inside], count).astype(np.float64)
        self.areas.append(area)
        self.labels.append(labels)
        small = area < self.min_area
        for one, two in ((regions[:, :-1], regions[:, 1:]), (regions[:-1], regions[1:])):
            self._note(one, two, small, self.count, self.count)
        if self.before is not None and self.before[0].bottom == strip.top:
            self._seam(strip, regions[0], small)
        self.before = (strip, regions[-1] + np.where(regions[-1] >= 0, self.count, 0))
        self.count += count

    def decide(self) -> None:
        """The class of every provisional region."""
        labels = np.concatenate([*self.labels, np.zeros(0, np.uint8)])
        area = np.concatenate([*self.areas, np.zeros(0)])
        same = np.concatenate([*self.same, np.zeros((2, 0), np.int64)], axis=1)
        borders: NDArray[Any] = np.concatenate([*self.borders, np.zeros((3, 0), np.int32)], axis=1)
        self.areas, self.labels, self.same, self.borders = [], [], [], []
        root = connected(self.count, *same)
        area = np.bincount(root, area, self.count).astype(np.float64)
        while True:
            borders = _between(root, borders)
            mine, other, length = self._of_small(borders, area)
            if not len(mine):
                break
            # of each small region's neighbours, the one with the longest border, then the largest, then the first
            mine, other = self._best(mine, other, length)
            mine, other = self._best(mine, other, area[other])
            mine, other = self._best(mine, other, -other)
            into = connected(self.count, mine, other)
            # a merged region's class is that of its largest member
            members = np.unique(np.concatenate([mine, other]))
            members = members[np.lexsort((members, -area[members], into[members]))]
            groups, first = np.unique(into[members], return_index=True)
            labels[groups] = labels[members[first]]
            root = into[root]
            area = np.bincount(into, area, self.count).astype(np.float64)
            # what were neighbours of one class across the merged region is one region now
            borders = _between(root, borders)
            alike = labels[borders[0]] == labels[borders[1]]
            joined = connected(self.count, borders[0][alike], borders[1][alike])
            root, area = joined[root], np.bincount(joined, area, self.count).astype(np.float64)
        self.decided = labels[root]

    def clean(self, strip: LabelStrip) -> LabelStrip:
        """The strip with small areas in their neighbours' classes."""
        regions, labels = _regions(strip.labels)
        decided = np.append(self.decided[self.cleaned : self.cleaned + len(labels)], np.uint8(NODATA))
        self.cleaned += len(labels)
        return LabelStrip(strip.top, strip.left, decided[regions], strip.confidence, strip.areas)

    def _of_small(self, borders: Ids, area: NDArray[np.float64]) -> tuple[Ids, Ids, Ids]:
        """(a small region, its neighbour, length) for each border of a small region."""
        parts = []
        for one, two in ((0, 1), (1, 0)):
            small = area[borders[one]] < self.min_area
            parts.append((borders[one][small], borders[two][small], borders[2][small]))
        mine, other, length = (np.concatenate(pair) for pair in zip(*parts, strict=True))
        return mine, other, length

    def _best(self, mine: Ids, other: Ids, value: NDArray[Any]) -> tuple[Ids, Ids]:
        """For each region of `mine`, only the neighbours with its greatest value."""
        best = np.full(self.count, -np.inf)
        np.maximum.at(best, mine, value)
        is_best = value == best[mine]
        return mine[is_best], other[is_best]

    def _seam(self, strip: LabelStrip, below: Ids, small: NDArray[np.bool_]) -> None:
        assert self.before is not None
        over, above = self.before
        left, right = max(over.left, strip.left), min(over.right, strip.right)
        if left >= right:
            return
        above, below = above[left - over.left : right - over.left], below[left - strip.left : right - strip.left]
        upper = over.labels[-1, left - over.left : right - over.left]
        lower = strip.labels[0, left - strip.left : right - strip.left]
        alike = (upper == lower) & (upper != NODATA)
        pairs = np.unique(_key(above[alike], below[alike] + self.count))
        self.same.append(np.stack([pairs >> 32, pairs & 0xFFFFFFFF]))
        self._note(above, below, small, 0, self.count)

    def _note(self, one: Ids, two: Ids, small: NDArray[np.bool_], first: int, second: int) -> None:
        """Borders between pixels of `one` and `two`, where either region may be a small one."""
        touching = (one != two) | (first != second)
        touching &= (one >= 0) & (two >= 0)
        a, b = one[touching], two[touching]
        matters = (small[a] if first == self.count else self._small_before(a)) | small[b]
        pairs, lengths = np.unique(_key(a[matters] + first, b[matters] + second), return_counts=True)
        self.borders.append(np.stack([pairs >> 32, pairs & 0xFFFFFFFF, lengths]).astype(np.int32))  # half the memory

    def _small_before(self, regions: Ids) -> NDArray[np.bool_]:
        """Whether provisional regions of the strip before are small in it; they are numbered through the map."""
        area = self.areas[-2]
        return area[regions - (self.count - len(area))] < self.min_area


def _regions(labels: Labels) -> tuple[Ids, Labels]:
    """(h, w) region numbers from 0 in reading order, -1 for nothing, and the label of each."""
    runs = find_runs(labels)
    root = connected(len(runs.first), *runs.links)
    real = runs.labels != NODATA
    roots, numbers = np.unique(root[real], return_inverse=True)
    of_run = np.full(len(root), -1, np.int64)
    of_run[real] = numbers
    return of_run[runs.index], runs.labels[roots]


def _between(root: Ids, borders: NDArray[Any]) -> Ids:
    """Borders between the regions that are left, each pair once, with the sum of their lengths."""
    a, b = root[borders[0]], root[borders[1]]
    apart = a != b
    low, high, lengths = np.minimum(a, b)[apart], np.maximum(a, b)[apart], borders[2][apart]
    keys = _key(low, high)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    new = np.flatnonzero(np.diff(keys, prepend=-1))
    sums = np.add.reduceat(lengths[order], new) if len(new) else lengths
    return np.stack([keys[new] >> 32, keys[new] & 0xFFFFFFFF, sums])


def _key(a: Ids, b: Ids) -> Ids:
    """Two numbers below 2^31 as one: a map would need two thousand million regions to exceed it."""
    return (a << 32) | b
