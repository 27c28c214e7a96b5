"""Label maps to polygons, strip by strip, with borders that neighbours share exactly.

A polygon's corners lie where four pixels meet. There, each region that does not pass straight through turns a corner:
a convex one around its own pixel, or a concave one around a pixel that is not its own. Where a region holds two
diagonal pixels it turns twice, each time around a foreign pixel, so that a hole touching the outline in a point stays
a ring of its own and every polygon is valid. Corners are found for a strip at once; a region's corners are kept until
it ends, then joined: along a row they pair up from left to right, along a column from top to bottom.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import require
from pspnet.raster.connected_components import Ids, connected, find_runs
from pspnet.raster.writing import NODATA

# Kinds of corners; pixels around a corner: a b / c d. Bits: 1 its row edge goes east; 2 its column edge goes south;
# 4 a walk with the region on its left comes along the column and leaves along the row.
KINDS = {
    "a": 0,
    "b": 1 | 4,
    "c": 2 | 4,
    "d": 1 | 2,  # convex, around the region's own pixel
    "not a": 4,
    "not b": 1,
    "not c": 2,
    "not d": 1 | 2 | 4,  # concave, around a foreign pixel
}


@dataclass(frozen=True)
class Corners:
    """region: (N,) index; x, y: (N,) in pixels from the map's corner; kind: (N,) bits of KINDS."""

    region: Ids
    x: Ids
    y: Ids
    kind: NDArray[np.uint8]

    def take(self, which: NDArray[Any]) -> Corners:
        return Corners(self.region[which], self.x[which], self.y[which], self.kind[which])

    @classmethod
    def join(cls, parts: list[Corners]) -> Corners:
        return cls(
            np.concatenate([p.region for p in parts]),
            np.concatenate([p.x for p in parts]),
            np.concatenate([p.y for p in parts]),
            np.concatenate([p.kind for p in parts]),
        )


@dataclass(frozen=True)
class Outlines:
    """Regions: label (N,), pixels (N,), area in m2 (N,), sum of their confidence (N,), and corners that index them."""

    label: NDArray[np.uint8]
    pixels: NDArray[np.float64]
    area_m2: NDArray[np.float64]
    confidence: NDArray[np.float64]
    corners: Corners


class Tracer:
    """Takes a label map from top to bottom and gives back the regions that have ended."""

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

        areas: square metres of each pixel, (h, w), or (h, 1) where the columns are alike. Returns the regions that ended above.
        """
        if top > self.bottom and len(self.row):  # rows without data came between
            ended = self._advance(self.bottom, self.left, np.full((1, len(self.row)), NODATA, np.uint8))
            self.row = self.row[:0]
            return _together(ended, self._advance(top, left, labels, confidence, areas))
        return self._advance(top, left, labels, confidence, areas)

    def finish(self) -> Outlines:
        """The regions that end with the map."""
        return self._advance(self.bottom, self.left, np.full((1, len(self.row)), NODATA, np.uint8))

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
        field = np.full((high + 1, stop - start + 2), NODATA, np.uint8)
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
        counted = np.concatenate([np.ones(old, bool), runs.labels[in_first:] != NODATA])
        roots, numbers = np.unique(group[counted], return_inverse=True)
        region = np.full(len(group), -1, np.int64)
        region[counted] = numbers
        region_of_run = np.where(runs.labels != NODATA, region[node], -1)

        sums = self._sum(field, runs, region, region_of_run, in_first, len(roots), left - start + 1, confidence, areas)
        corners = _corners(field, region_of_run[runs.index], start, top)
        kept = self.open.corners
        corners = Corners.join([Corners(region[kept.region], kept.x, kept.y, kept.kind), corners])
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
        own, of = self.open, region[: len(self.open.label)]
        new = np.flatnonzero(runs.labels != NODATA)
        new = new[new >= in_first]
        label = np.zeros(count, np.uint8)
        label[of], label[region_of_run[new]] = own.label, runs.labels[new]
        pixels = np.bincount(of, own.pixels, count) + np.bincount(region_of_run[new], runs.lengths[new], count)
        area, sure = np.bincount(of, own.area_m2, count), np.bincount(of, own.confidence, count)
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
            sure = sure + np.bincount(region_of_run[new], runs.sums(shares)[new], count)
        return label, pixels, area, sure


def _pick(sums: tuple[NDArray[Any], ...], which: NDArray[np.bool_], corners: Corners) -> Outlines:
    label, pixels, area_m2, confidence = (part[which] for part in sums)
    return Outlines(label, pixels, area_m2, confidence, corners)


def _corners(field: NDArray[np.uint8], regions: Ids, left: int, top: int) -> Corners:
    """All corners on the lines between the rows of `field`; regions: (h, w) its regions, -1 for nothing."""
    beside = field[:, 1:] != field[:, :-1]
    below = field[1:] != field[:-1]
    turning = beside[1:] | beside[:-1]
    turning &= below[:, 1:] | below[:, :-1]
    rows, columns = np.nonzero(turning)
    a, b = regions[rows, columns], regions[rows, columns + 1]
    c, d = regions[rows + 1, columns], regions[rows + 1, columns + 1]
    found = {
        "a": (a, (a != b) & (a != c)),
        "b": (b, (b != a) & (b != d)),
        "c": (c, (c != a) & (c != d)),
        "d": (d, (d != b) & (d != c)),
        "not a": (b, (b == c) & (b == d) & (b != a)),
        "not b": (a, (a == c) & (a == d) & (a != b)),
        "not c": (a, (a == b) & (a == d) & (a != c)),
        "not d": (a, (a == b) & (a == c) & (a != d)),
    }
    parts = []
    for kind, (region, there) in found.items():
        place = np.flatnonzero(there & (region >= 0))
        parts.append(
            Corners(region[place], columns[place] + left, rows[place] + top, np.full(len(place), KINDS[kind], np.uint8))
        )
    return Corners.join(parts)


def polygons(areas: Outlines, to_map: Any) -> NDArray[Any]:
    """(N,) shapely polygons of the regions, outlines anticlockwise on a north-up map.

    to_map: (columns, rows) -> (xs, ys), such as Grid.to_map.
    """
    shapely = require("shapely", "raster")
    corners = areas.corners
    if not len(corners.x):
        return np.zeros(0, object)
    by_row = _sorted(corners.region, corners.y, corners.x)
    # Where one region holds two diagonal pixels, its two corners exchange their row edges, to turn around the foreign
    # pixels. Only now is it known whether the pixels belong to one region: they may have met far below.
    first = _shared(corners.take(by_row))
    kind = corners.kind.copy()
    kind[by_row[first]] ^= 1
    kind[by_row[first + 1]] ^= 1
    along_row = _partners(by_row, first, (kind & 1).astype(bool))
    by_column = _sorted(corners.region, corners.x, corners.y)
    along_column = _partners(by_column, _shared(corners.take(by_column)), (kind & 2).astype(bool))
    order, lengths = _rings(np.flatnonzero(kind & 4), along_row, along_column)
    points = np.column_stack([order, along_row[order]]).ravel()  # each of a ring's corners, in the order of a walk
    xs, ys = to_map(corners.x[points], corners.y[points])
    rings = shapely.linearrings(np.column_stack([xs, ys]), indices=np.repeat(np.arange(len(lengths)), 2 * lengths))
    first = np.cumsum(lengths) - lengths
    region = corners.region[order[first]]
    column, row = corners.x[points].astype(np.float64), corners.y[points].astype(np.float64)
    # the shoelace formula over all rings at once; an outline encloses more than nothing, a hole less
    ends = np.arange(len(points)) + 1
    ends[2 * np.cumsum(lengths) - 1] = 2 * first
    twice = np.add.reduceat(row * column[ends] - column * row[ends], 2 * first)
    sorted_rings = np.lexsort((twice < 0, region))
    return shapely.polygons(rings[sorted_rings], indices=region[sorted_rings])


def _sorted(region: Ids, line: Ids, along: Ids) -> Ids:
    """The order of corners by region, line and place on it: one sort of one number each where that fits."""
    line, along = line - line.min(), along - along.min()
    lines, places = int(line.max()) + 1, int(along.max()) + 1
    if (int(region.max()) + 1) * lines * places < 2**62:
        return np.argsort((region * lines + line) * places + along, kind="stable")
    return np.lexsort((along, line, region))


def _shared(corners: Corners) -> Ids:
    """Where two corners that follow each other are one region's in one place."""
    same = (corners.x[1:] == corners.x[:-1]) & (corners.y[1:] == corners.y[:-1])
    same &= corners.region[1:] == corners.region[:-1]
    return np.flatnonzero(same)


def _partners(order: Ids, first: Ids, forward: NDArray[np.bool_]) -> Ids:
    """(N,) the corner at the other end of the edge along each corner's line. first: where `order` has two corners in
    one place; the edge that ends there comes before the one that starts."""
    wrong = first[forward[order[first]]]
    order = order.copy()
    order[wrong], order[wrong + 1] = order[wrong + 1], order[wrong]
    pairs = order.reshape(-1, 2)
    partner = np.empty_like(order)
    partner[pairs[:, 0]], partner[pairs[:, 1]] = pairs[:, 1], pairs[:, 0]
    return partner


def _rings(starts: Ids, along_row: Ids, along_column: Ids) -> tuple[Ids, Ids]:
    """Walks over row edge, column edge, row edge ... from each of `starts`: (their order in the walks, each's length)."""
    number = np.full(len(along_row), -1, np.int64)
    number[starts] = np.arange(len(starts))
    following = memoryview(number[along_column[along_row[starts]]].data)
    seen = bytearray(len(starts))
    order: list[int] = []
    lengths: list[int] = []
    for start in range(len(starts)):
        if seen[start]:
            continue
        before, at = len(order), start
        while not seen[at]:
            seen[at] = 1
            order.append(at)
            at = following[at]
        lengths.append(len(order) - before)
    return starts[np.array(order)], np.array(lengths)


def _together(one: Outlines, two: Outlines) -> Outlines:
    moved = Corners(two.corners.region + len(one.label), two.corners.x, two.corners.y, two.corners.kind)
    return Outlines(
        np.concatenate([one.label, two.label]),
        np.concatenate([one.pixels, two.pixels]),
        np.concatenate([one.area_m2, two.area_m2]),
        np.concatenate([one.confidence, two.confidence]),
        Corners.join([one.corners, moved]),
    )
