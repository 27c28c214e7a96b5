"""From a region's corners to its polygon: edges, walks along them, and shapely's polygons.

Along a row, a region's corners pair up from left to right: the first begins an edge that the second ends. Along a column
they pair up from top to bottom. A walk goes along a row edge, then a column edge, and so on, until it is where it began:

    x---x        pairs along rows:    (1, 2), (3, 4), (5, 6)
    |1  |2       pairs along columns: (1, 5), (2, 3), (4, 6)
    |   x---x    walk: 1 2 3 4 6 5, one ring
    |   3   |4
    x-------x
     5       6
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import require
from pspnet.outlines.connected_components import Ids
from pspnet.outlines.corners import Corners, Outlines


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
    # shapely takes the first ring of an index as the outline: those that enclose more than nothing come first
    sorted_rings = np.lexsort((twice < 0, region))
    return shapely.polygons(rings[sorted_rings], indices=region[sorted_rings])


def _sorted(region: Ids, line: Ids, along: Ids) -> Ids:
    """The order of corners by region, line and place on it: one sort of one number each where that fits."""
    line, along = line - line.min(), along - along.min()
    lines, length = int(line.max()) + 1, int(along.max()) + 1
    if (int(region.max()) + 1) * lines * length < 2**62:
        return np.argsort((region * lines + line) * length + along, kind="stable")
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
    # one step of Python for each second corner: memoryview and bytearray are read twice as fast as arrays
    visited = bytearray(len(starts))
    order: list[int] = []
    lengths: list[int] = []
    for start in range(len(starts)):
        if visited[start]:
            continue
        before, at = len(order), start
        while not visited[at]:
            visited[at] = 1
            order.append(at)
            at = following[at]
        lengths.append(len(order) - before)
    return starts[np.array(order)], np.array(lengths)
