"""The windows of one pass over an image at a test scale: where they lie, and how they make pixels of the final map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pspnet.config.protocol import Protocol
from pspnet.predict.resampling import Interpolation, taps
from pspnet.tiling import Padding, shares


@dataclass(frozen=True)
class Reach:
    """One window along one side: its pixels first..first+length of the scaled image, and how they make output pixels.

    Output pixels start..stop take source pixels `source` (n, T), counted from the window's first, times `weight` (n, T);
    the weights carry the window's share of the blend. `plain`: one tap for one, in order.
    """

    first: int
    length: int
    start: int
    stop: int
    source: NDArray[np.int64]
    weight: NDArray[np.float32]
    plain: bool


class WindowGrid:
    """The windows of one pass, as the product of rows and columns.

    Six columns, windows of four with a stride of two: each pixel's weights sum to 1, so windows are added to one map.

        pixel           0    1    2    3    4    5
        window 0..3     1    1   1/2  1/2
        window 2..5              1/2  1/2   1    1

        >>> protocol = Protocol(window_px=(4, 4), stride_px=(2, 2))
        >>> grid = WindowGrid(protocol, 6, 6, Padding(0, 0, 0, 0), 6, 6, align_corners=False)
        >>> [(reach.start, reach.stop, reach.weight.ravel().tolist()) for reach in grid.columns]
        [(0, 4, [1.0, 1.0, 0.5, 0.5]), (2, 6, [0.5, 0.5, 1.0, 1.0])]

    Shown at half the size, the last window writes the map's columns 1 and 2, each the mean of two of its own columns:

        >>> half = WindowGrid(protocol, 6, 6, Padding(0, 0, 0, 0), 3, 3, align_corners=False).columns[1]
        >>> half.start, half.stop, half.source.tolist(), half.weight.tolist()
        (1, 3, [[0, 1], [2, 3]], [[0.25, 0.25], [0.5, 0.5]])
    """

    def __init__(
        self, protocol: Protocol, high: int, wide: int, around: Padding, height: int, width: int, align_corners: bool
    ) -> None:
        kind: Interpolation
        if protocol.map_interpolation == "model":
            kind = "corners" if align_corners else "half_pixel"
        else:
            kind = protocol.map_interpolation
        window = protocol.window_px or (high, wide)
        stride = protocol.stride_px or window
        sides = ((high, around.top, around.bottom, height, 0), (wide, around.left, around.right, width, 1))
        self.rows, self.columns = (
            _reaches(side, before, after, target, window[i], stride[i], protocol, kind)
            for side, before, after, target, i in sides
        )

    @property
    def single(self) -> bool:
        return len(self.rows) == 1 and len(self.columns) == 1


def _reaches(
    side: int, before: int, after: int, target: int, window: int, stride: int, protocol: Protocol, kind: Interpolation
) -> list[Reach]:
    source_of, weight = taps(side - before - after, target, kind)  # in pixels of the scaled image without padding
    reaches = []
    for first, share in shares(side, window, stride, protocol.fall_off):
        local = source_of - (first - before)
        inside = (local >= 0) & (local < len(share))
        local = local.clip(0, len(share) - 1)
        mine = weight * inside * share[local]
        touched = np.flatnonzero(mine.any(1))
        if not len(touched):
            continue  # a window of nothing but padding
        start, stop = int(touched[0]), int(touched[-1]) + 1
        plain = source_of.shape[1] == 1 and bool(inside[start:stop].all())
        reaches.append(
            Reach(
                first,
                len(share),
                start,
                stop,
                local[start:stop].astype(np.int64),
                mine[start:stop].astype(np.float32),
                plain,
            )
        )
    return reaches
