"""Label maps to polygons, strip by strip, with borders that neighbours share exactly.

Rows come from top to bottom; what is kept is the last row and, for each region that still goes on, its sums and its
corners (corners.py). A region whose pixels are no longer in the last row has ended; its corners become a polygon
(rings.py). Two regions may turn out to be one far below, as the arms of a U do: they are numbered anew with every strip.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.labels import IGNORE
from pspnet.outlines.connected_components import Ids, connected, find_runs
from pspnet.outlines.corners import Corners, Outlines, corners_of


class Tracer:
    """Takes a label map from top to bottom and gives back the regions that have ended.

    A map of 4 x 4 pixels of 4 square metres, in two strips:

        1 1 2 2
        1 2 2 1
        -------     the strips' seam
        1 1 1 1
        2 2 1 .     . is nothing

    >>> labels = np.array([[1, 1, 2, 2], [1, 2, 2, 1], [1, 1, 1, 1], [2, 2, 1, 255]], np.uint8)
    >>> confidence, areas = np.full((2, 4), 90, np.uint8), np.full((2, 1), 4.0)
    >>> tracer = Tracer()
    >>> tracer.feed(0, 0, labels[:2], confidence, areas).label      # all reach the seam: none has ended
    array([], dtype=uint8)
    >>> upper = tracer.feed(2, 0, labels[2:], confidence, areas)    # the 2 above is shut in now
    >>> upper.label, upper.pixels, upper.area_m2
    (array([2], dtype=uint8), array([4.]), array([16.]))
    >>> rest = tracer.finish()                                      # the 1 to the right of the 2 is the other 1
    >>> rest.label, rest.pixels
    (array([1, 2], dtype=uint8), array([9., 2.]))
    >>> from pspnet.outlines.rings import polygons
    >>> polygons(upper, lambda x, y: (x, -y))[0].wkt
    'POLYGON ((4 0, 2 0, 2 -1, 1 -1, 1 -2, 3 -2, 3 -1, 4 -1, 4 0))'
    """

    def __init__(self) -> None:
        nothing: Any = np.zeros(0, np.int64)
        self.open = Outlines(
            nothing.astype(np.uint8),
            nothing.astype(float),
            nothing.astype(float),
            nothing.astype(float),
            Corners(nothing, nothing, nothing, nothing.astype(np.uint8)),
        )
        self.left = self.right = self.bottom = 0  # where the last row lies
        self.row = np.zeros(0, np.uint8)
        self.row_regions: Ids = nothing  # index in `open` of its pixels, -1 where there is nothing

    def feed(
        self, top: int, left: int, labels: NDArray[np.uint8], confidence: NDArray[np.uint8], areas: NDArray[Any]
    ) -> Outlines:
        """The next rows: labels and confidence (h, w) at (top, left); outside of them there is nothing.

        areas: square metres of each pixel, (h, w), or (h, 1) where the columns are alike. Returns the regions that
        ended above.
        """
        if top > self.bottom and len(self.row):  # rows without data came between
            ended = self._advance(self.bottom, self.left, np.full((1, len(self.row)), IGNORE, np.uint8))
            self.row = self.row[:0]
            return _together(ended, self._advance(top, left, labels, confidence, areas))
        return self._advance(top, left, labels, confidence, areas)

    def finish(self) -> Outlines:
        """The regions that end with the map."""
        return self._advance(self.bottom, self.left, np.full((1, len(self.row)), IGNORE, np.uint8))

    def _advance(
        self,
        top: int,
        left: int,
        labels: NDArray[np.uint8],
        confidence: NDArray[np.uint8] | None = None,
        areas: NDArray[Any] | None = None,
    ) -> Outlines:
        high, wide = labels.shape
        start = min(left, self.left) if len(self.row) else left
        stop = max(left + wide, self.left + len(self.row)) if len(self.row) else left + wide
        # the row before, the new rows, and a column of nothing on either side
        field = np.full((high + 1, stop - start + 2), IGNORE, np.uint8)
        before = slice(self.left - start + 1, self.left - start + 1 + len(self.row))
        field[0, before] = self.row
        field[1:, left - start + 1 : left - start + 1 + wide] = labels
        runs = find_runs(field)
        regions_before = np.full(field.shape[1], -1, np.int64)
        regions_before[before] = self.row_regions[: len(self.row)]

        # one node for each open region and each new run; runs of the row before stand for their region
        old = len(self.open.label)
        in_first = int(np.searchsorted(runs.first, field.shape[1]))
        node = np.arange(len(runs.first)) + old - in_first
        node[:in_first] = regions_before[runs.first[:in_first]]
        group = connected(old + len(runs.first) - in_first, node[runs.links[0]], node[runs.links[1]])
        counted = np.concatenate([np.ones(old, bool), runs.labels[in_first:] != IGNORE])
        roots, numbers = np.unique(group[counted], return_inverse=True)
        region = np.full(len(group), -1, np.int64)
        region[counted] = numbers
        region_of_run = np.where(runs.labels != IGNORE, region[node], -1)

        sums = self._sum(field, runs, region, region_of_run, in_first, len(roots), left - start + 1, confidence, areas)
        corners = corners_of(field, region_of_run[runs.index], start, top)
        earlier = self.open.corners
        corners = Corners.join([Corners(region[earlier.region], earlier.x, earlier.y, earlier.kind), corners])
        last = region_of_run[runs.index[-1]]
        is_open = np.zeros(len(roots) + 1, bool)
        is_open[last] = True
        is_open = is_open[:-1]  # index -1, where there is nothing, fell on the last place
        number = np.where(is_open, np.cumsum(is_open) - 1, np.cumsum(~is_open) - 1)
        of_open = is_open[corners.region]
        corners = Corners(number[corners.region], corners.x, corners.y, corners.kind)
        self.open = _pick(sums, is_open, corners.take(of_open))
        self.left, self.row, self.bottom = start, field[-1, 1:-1].copy(), top + high
        self.row_regions = np.where(last >= 0, number[last] if len(number) else -1, -1)[1:-1]
        return _pick(sums, ~is_open, corners.take(~of_open))

    def _sum(
        self,
        field: NDArray[np.uint8],
        runs: Any,
        region: Ids,
        region_of_run: Ids,
        in_first: int,
        count: int,
        left: int,
        confidence: NDArray[np.uint8] | None,
        areas: NDArray[Any] | None,
    ) -> tuple[NDArray[Any], ...]:
        """label, pixels, area and confidence of each region: what was known, and the new rows."""
        open_before, of = self.open, region[: len(self.open.label)]
        new = np.flatnonzero(runs.labels != IGNORE)
        new = new[new >= in_first]
        label = np.zeros(count, np.uint8)
        label[of], label[region_of_run[new]] = open_before.label, runs.labels[new]
        pixels = np.bincount(of, open_before.pixels, count) + np.bincount(region_of_run[new], runs.lengths[new], count)
        area = np.bincount(of, open_before.area_m2, count)
        certainty = np.bincount(of, open_before.confidence, count)
        if confidence is not None and areas is not None:
            if areas.shape[1] == 1:
                each = runs.lengths[new] * areas[runs.rows[new] - 1, 0]
            else:
                ground = np.zeros(field.shape)
                ground[1:, left : left + areas.shape[1]] = areas
                each = runs.sums(ground)[new]
            area = area + np.bincount(region_of_run[new], each, count)
            shares = np.zeros(field.shape, np.uint8)
            shares[1:, left : left + confidence.shape[1]] = confidence
            certainty = certainty + np.bincount(region_of_run[new], runs.sums(shares)[new], count)
        return label, pixels, area, certainty


def _pick(sums: tuple[NDArray[Any], ...], which: NDArray[np.bool_], corners: Corners) -> Outlines:
    label, *others = (part[which] for part in sums)
    pixels, area_m2, confidence = (
        np.asarray(part, np.float64) for part in others
    )  # bincount of nothing counts in int64
    return Outlines(label, pixels, area_m2, confidence, corners)


def _together(one: Outlines, two: Outlines) -> Outlines:
    moved = Corners(two.corners.region + len(one.label), two.corners.x, two.corners.y, two.corners.kind)
    return Outlines(
        np.concatenate([one.label, two.label]),
        np.concatenate([one.pixels, two.pixels]),
        np.concatenate([one.area_m2, two.area_m2]),
        np.concatenate([one.confidence, two.confidence]),
        Corners.join([one.corners, moved]),
    )
