"""Where windows lie on an image that is larger than a network's crop, and how their results are blended.

Integers and small arrays only: evaluation protocols, large photographs and rasters all take their geometry from here
(convention 5). semseg, the paper's Caffe code and MMSegmentation share one rule: windows start at multiples of the
stride, and the last one is moved back so that it ends at the border. Windows never reach outside the image; where an
image is smaller than the tile there is one window of the image's own size, and `padding` says how to fill it up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import ConfigError

FallOff = Literal["flat", "linear", "cosine"]
Placement = Literal["centre", "end"]
Size = int | tuple[int, int]  # one number for both, or (high, wide), in pixels


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels: rows top..bottom-1, columns left..right-1."""

    top: int
    left: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        return self.top + self.height

    @property
    def right(self) -> int:
        return self.left + self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Indexes the last two axes of an array: `image[window.slices]`, `maps[..., *window.slices]`."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


@dataclass(frozen=True, slots=True)
class Padding:
    """Pixels to add on each side."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def any(self) -> bool:
        return bool(self.top or self.left or self.bottom or self.right)


def pair(size: Size) -> tuple[int, int]:
    """512 -> (512, 512); (512, 1024) stays."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def count(length: int, tile: int, stride: int) -> int:
    """The number of windows along one side, `length` px long."""
    return max(length - tile + stride - 1, 0) // stride + 1


def starts(length: int, tile: int, stride: int) -> Iterator[int]:
    """First pixels of the windows along one side, strictly growing; the last window ends at the border."""
    last = max(length - tile, 0)
    for index in range(count(length, tile, stride)):
        yield min(index * stride, last)


def strides(tile: Size, stride: Size | None = None, overlap: Size | None = None) -> tuple[int, int]:
    """(high, wide) stride in pixels from whichever of stride and overlap is given; without either, the tile itself.

    Raises ConfigError when both are given, when a tile or stride is below 1, when a stride would leave gaps, or when an
    overlap does not leave at least one new pixel a step.
    """
    tile_hw = pair(tile)
    if min(tile_hw) < 1:
        raise ConfigError(f"tile = {tile}: a window needs at least 1 pixel on each side")
    if stride is not None and overlap is not None:
        raise ConfigError(f"stride = {stride} and overlap = {overlap}: give one of them; the other follows")
    if overlap is not None:
        overlap_hw = pair(overlap)
        if not all(0 <= o < t for o, t in zip(overlap_hw, tile_hw, strict=True)):
            raise ConfigError(f"overlap = {overlap} with tile = {tile}: allowed are 0 to tile - 1 pixels on each side")
        return tile_hw[0] - overlap_hw[0], tile_hw[1] - overlap_hw[1]
    stride_hw = tile_hw if stride is None else pair(stride)
    if not all(1 <= s <= t for s, t in zip(stride_hw, tile_hw, strict=True)):
        raise ConfigError(f"stride = {stride} with tile = {tile}: allowed are 1 to tile px; a larger one leaves gaps")
    return stride_hw


def windows(
    height: int, width: int, tile: Size, *, stride: Size | None = None, overlap: Size | None = None
) -> list[Window]:
    """Windows of the tile's size that cover (height, width) px, row by row, each inside the image.

    stride: pixels from one window to the next; overlap: pixels that neighbours share at least; with neither, 0.
    A side smaller than the tile gives one window of that side's own length. Raises ConfigError as `strides` does.
    """
    (tile_h, tile_w), (stride_h, stride_w) = pair(tile), strides(tile, stride, overlap)
    if height < 1 or width < 1:
        raise ConfigError(f"an image of {height} x {width} px cannot be divided into windows")
    high, wide = min(tile_h, height), min(tile_w, width)
    lefts = list(starts(width, tile_w, stride_w))
    return [Window(top, left, high, wide) for top in starts(height, tile_h, stride_h) for left in lefts]


def padding(height: int, width: int, tile: Size, placement: Placement) -> Padding:
    """What fills an image up to the tile on sides that are smaller than it.

    'centre' puts half (rounded down) at the top and left, the rest at the bottom and right, as semseg does; 'end' puts
    all at the bottom and right, as the paper's Caffe code does.
    """
    tile_h, tile_w = pair(tile)
    more_h, more_w = max(tile_h - height, 0), max(tile_w - width, 0)
    top, left = (more_h // 2, more_w // 2) if placement == "centre" else (0, 0)
    return Padding(top, left, more_h - top, more_w - left)


def profile(length: int, overlap: int, fall_off: FallOff) -> NDArray[np.float32]:
    """(length,) weights along one side of a window: 1 in the middle, falling towards both ends, never 0.

    The fall takes `overlap` px. Two neighbours that share exactly `overlap` px have weights that sum to 1 there, for
    'linear' (a ramp) and 'cosine' (sin^2, smooth at both ends); 'flat' is 1 everywhere: a plain average by visits.
    """
    if fall_off == "flat" or overlap < 1:
        return np.ones(length, np.float32)
    position = np.arange(1, length + 1, dtype=np.float64)
    ramp = np.minimum(np.minimum(position, position[::-1]) / (overlap + 1), 1.0)
    return (ramp if fall_off == "linear" else np.sin(0.5 * np.pi * ramp) ** 2).astype(np.float32)


def shares(
    length: int, tile: int, stride: int, fall_off: FallOff = "flat", overlap: int | None = None
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Each window along one side as (first pixel, its weights divided by the sum over all windows at that pixel).

    A grid of windows is a product of its two sides, so a window's normalised weights are the outer product of two of
    these. They sum to 1 at every pixel: windows can be added to one map, with nothing to divide at the end.
    overlap: width of the fall in pixels; None: tile - stride.
    """
    size = min(tile, length)
    weights = profile(size, max(tile - stride, 0) if overlap is None else overlap, fall_off).astype(np.float64)
    total = np.zeros(length)
    for start in starts(length, tile, stride):
        total[start : start + size] += weights
    for start in starts(length, tile, stride):
        yield start, (weights / total[start : start + size]).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Span:
    """One window along one side: pixels start..stop-1, of which core_start..core_stop-1 are its own to finish.

    The cores divide the side without gap or overlap. The first `fade` pixels of a core are shared with the window
    before, and blended; no pixel has more than two windows along one side.
    """

    start: int
    stop: int
    core_start: int
    core_stop: int
    fade: int

    @property
    def core(self) -> slice:
        """The core inside the window's own pixels."""
        return slice(self.core_start - self.start, self.core_stop - self.start)


def spans(length: int, tile: int, overlap: int) -> Iterator[Span]:
    """The windows of `starts` along one side, each with its core, so that blending needs only the last `overlap` pixels
    of the window before: what memory must hold does not depend on how far the last window was moved back.

    Raises ConfigError when the overlap is more than half of the tile (a pixel would have three windows).
    """
    if overlap > tile // 2:
        raise ConfigError(f"overlap = {overlap} with tile = {tile}: at most half of the tile, {tile // 2} px")
    (stride, _), size, done = strides(tile, overlap=overlap), min(tile, length), 0
    for start in starts(length, tile, stride):
        stop = start + size
        core_stop = length if stop == length else stop - overlap
        yield Span(start, stop, done, core_stop, overlap if start else 0)
        done = core_stop
