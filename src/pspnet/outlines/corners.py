"""Corners of the regions of a label map: where a region's outline turns, found for a strip of rows at once.

A polygon's corners lie where four pixels meet. There, each region that does not pass straight through turns a corner:
a convex one around its own pixel, or a concave one around a pixel that is not its own:

    a | b      convex around a: a differs from b and from c
    --+--      concave around d: a, b and c are one region, d is another; that region turns around d
    c | d

Where a region holds two diagonal pixels it turns twice, each time around a foreign pixel, so that a hole touching the
outline in a point stays a ring of its own and every polygon is valid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.outlines.connected_components import Ids

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


def corners_of(field: NDArray[np.uint8], regions: Ids, left: int, top: int) -> Corners:
    """All corners on the lines between the rows of `field`; regions: (h, w) its regions, -1 for nothing.

    The border's column of nothing on either side makes corners at the map's edge like any other. A square of region 0 with a
    notch that region 1 fills: three convex corners around its own pixels, a concave one around the notch.

    >>> field = np.array([[255, 255, 255, 255], [255, 7, 7, 255], [255, 7, 8, 255], [255, 255, 255, 255]], np.uint8)
    >>> regions = np.array([[-1, -1, -1, -1], [-1, 0, 0, -1], [-1, 0, 1, -1], [-1, -1, -1, -1]])
    >>> corners = corners_of(field, regions, left=0, top=0)
    >>> of_square = corners.take(corners.region == 0)
    >>> sorted((int(y), int(x)) for x, y in zip(of_square.x, of_square.y))
    [(0, 0), (0, 2), (1, 1), (1, 2), (2, 0), (2, 1)]
    """
    # a corner needs a border between columns and one between rows: few places have both, and only those are looked at
    sideways = field[:, 1:] != field[:, :-1]
    downwards = field[1:] != field[:-1]
    turning = sideways[1:] | sideways[:-1]
    turning &= downwards[:, 1:] | downwards[:, :-1]
    rows, columns = np.nonzero(turning)
    a, b = regions[rows, columns], regions[rows, columns + 1]
    c, d = regions[rows + 1, columns], regions[rows + 1, columns + 1]
    # convex: the pixel's region differs from both neighbours that share a side with it; a diagonal one does not count.
    # concave: three pixels are one region and the fourth is not; the corner is the region's of the three
    tests = {
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
    for kind, (region, turns) in tests.items():
        at = np.flatnonzero(turns & (region >= 0))
        parts.append(Corners(region[at], columns[at] + left, rows[at] + top, np.full(len(at), KINDS[kind], np.uint8)))
    return Corners.join(parts)
