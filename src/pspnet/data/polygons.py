"""Polygons and run lengths as COCO and Label Studio write them, drawn as masks, without their libraries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def polygon_mask(points: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """(n, 2) corners x, y in px, (0, 0) the image's upper left corner -> (H, W): pixels whose centres lie inside.

    Even-odd rule, as COCO's own drawing; no pixel is added along the border. Raises ValueError below three corners.
    """
    if len(points) < 3:
        raise ValueError(f"a polygon has at least 3 corners, this one {len(points)}")
    if not np.isfinite(points).all():
        raise ValueError("a corner is not a number")
    (x1, y1), (x2, y2) = points.T, np.roll(points, -1, axis=0).T
    left = int(np.clip(np.floor(points[:, 0].min()), 0, width))
    right = int(np.clip(np.ceil(points[:, 0].max()), left, width))
    centres = np.arange(left, right) + 0.5
    crosses = (x1[:, None] <= centres) != (x2[:, None] <= centres)  # (n, columns): the edge passes over the column
    edge, column = np.nonzero(crosses)
    y = y1[edge] + (centres[column] - x1[edge]) * (y2[edge] - y1[edge]) / (x2[edge] - x1[edge])
    first = np.clip(np.ceil(y - 0.5), 0, height).astype(np.int64)  # the first pixel centre below the edge
    toggles = np.zeros((height + 1, right - left), np.int64)
    np.add.at(toggles, (first, column), 1)
    mask = np.zeros((height, width), np.bool_)
    mask[:, left:right] = np.cumsum(toggles[:height], axis=0) % 2 == 1
    return mask


def rle_mask(counts: Sequence[int] | str, height: int, width: int) -> NDArray[np.bool_]:
    """COCO's run lengths, plain or as text, down the columns, the first run outside -> (H, W).

    Raises ValueError when they do not cover height x width pixels.
    """
    runs = np.asarray(_runs(counts) if isinstance(counts, str) else counts, np.int64)
    if runs.sum() != height * width or (runs < 0).any():
        raise ValueError(f"the run lengths cover {int(runs.sum())} pixels, the image has {height * width}")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def _runs(text: str) -> list[int]:
    """Each run is a signed number in 5-bit groups, lowest first, bit 6 saying "more", plus 48 (COCO's maskApi).

    From the fourth run on, a number is the difference to the run before the last.
    """
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        group = ord(letter) - 48
        value |= (group & 0x1F) << shift
        shift += 5
        if group & 0x20:
            continue
        if group & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("the run lengths end in the middle of a number")
    return runs


def brush_mask(data: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """A brush stroke of Label Studio's: bytes of a bit stream of RGBA pixels -> (H, W), where their alpha is 128 or more.

    Bits, the highest of a byte first (thi.ng/rle-pack, which Label Studio uses):

        32: number of words (4 for each pixel)    5: bits of a word - 1    4 x 4: bits of each of four sizes of counts - 1
        then, until all words are there:    1: whether a word repeats    2: which size    size: count - 1    the word, or all words

    Raises ValueError for another size of picture, a stream that ends early, and what are no bytes.
    """
    stored = np.asarray(data)
    if stored.ndim != 1 or stored.dtype.kind not in "iu" or (stored.size and (stored.min() < 0 or stored.max() > 255)):
        raise ValueError("its run lengths are no list of bytes, 0 to 255")
    bits, at = np.unpackbits(stored.astype(np.uint8)), 0
    powers = 2 ** np.arange(31, -1, -1, dtype=np.int64)

    def take(size: int) -> NDArray[np.uint8]:
        nonlocal at
        at += size
        if at > len(bits):
            raise ValueError("its run lengths end early")
        return bits[at - size : at]

    def number(size: int) -> int:
        return int(take(size) @ powers[32 - size :])

    words, word_bits = number(32), number(5) + 1
    sizes = [number(4) + 1 for _ in range(4)]
    if words != 4 * height * width or word_bits != 8:
        raise ValueError(
            f"its run lengths hold {words} numbers of {word_bits} bits, the picture {height * width} pixels of 4 x 8"
        )
    pixels, first = np.empty(words, np.uint8), 0
    while first < words:
        repeats = number(1)
        last = first + 1 + number(sizes[number(2)])
        if last > words:
            raise ValueError(f"its run lengths go on behind the picture's {words} numbers")
        pixels[first:last] = number(8) if repeats else np.packbits(take(8 * (last - first)))
        first = last
    return pixels.reshape(height, width, 4)[..., 3] >= 128
