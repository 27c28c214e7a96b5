"""Which images show the same picture: a perceptual hash, made sure of by comparing small copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_HASH_SIDE, _COPY_SIDE = 16, 32
_HASH_BITS = _HASH_SIDE * _HASH_SIDE
# Measured on CamVid, aerial and sample images: copies that were re-encoded, resized or brightened differ by 0 to 12 bits
# (seldom 34), copies less a fiftieth of two sides by 17 to 40 bits and up to 14 levels, neighbouring frames of a film
# (15 Hz) by 14 to 28 bits and 2 to 5 levels; the most alike of different pictures differed by 65 bits and 9 levels.
MAX_BITS = 44  # of 256
MAX_DIFFERENCE = 12.0  # mean difference of the small grey copies about their means, 0..255
_FLAT = 4.0  # standard deviation of a small copy below which an image shows nothing that could be told apart
_BLOCK = 2048


@dataclass(frozen=True)
class Fingerprint:
    """bits: (256,) +-1, the signs of neighbouring differences. small: (32, 32) grey copy less its
    mean. flat: shows nothing."""

    bits: NDArray[np.int8]
    small: NDArray[np.float32]
    flat: bool


def fingerprint(image: NDArray[Any]) -> Fingerprint:
    """(H, W, bands) of any type -> its fingerprint; other types than uint8 are stretched to 0..255."""
    grey = _grey(image)
    small = cv2.resize(grey, (_COPY_SIDE, _COPY_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    small -= small.mean()  # a copy may be brighter
    tiny = cv2.resize(grey, (_HASH_SIDE + 1, _HASH_SIDE), interpolation=cv2.INTER_AREA)
    bits = np.where(tiny[:, 1:] > tiny[:, :-1], 1, -1).astype(np.int8).ravel()
    return Fingerprint(bits, small, float(small.std()) < _FLAT)


def _grey(image: NDArray[Any]) -> NDArray[Any]:
    """(H, W), 0..255."""
    if image.dtype == np.uint8 and image.shape[2] in (1, 3):
        return image[..., 0] if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    grey = image[..., :3].mean(axis=2, dtype=np.float64)
    low, high = float(grey.min()), float(grey.max())
    return ((grey - low) * (255.0 / max(high - low, 1e-6))).astype(np.float32)


def closest(ours: Sequence[Fingerprint], theirs: Sequence[Fingerprint]) -> list[tuple[int, int, float]]:
    """(i, j, mean difference): for each of `ours` that has a near duplicate in `theirs`, the closest one."""
    pairs = []
    left = [i for i, item in enumerate(ours) if not item.flat]
    right = [j for j, item in enumerate(theirs) if not item.flat]
    if not left or not right:
        return []
    known = np.stack([theirs[j].bits for j in right]).astype(np.float32)
    for start in range(0, len(left), _BLOCK):
        block = left[start : start + _BLOCK]
        bits = np.stack([ours[i].bits for i in block]).astype(np.float32)
        distance = (_HASH_BITS - bits @ known.T) / 2  # of two rows of +-1, the product counts equal less unequal bits
        for row, column in zip(*np.nonzero(distance <= MAX_BITS), strict=True):
            i, j = block[row], right[column]
            difference = float(np.abs(ours[i].small - theirs[j].small).mean())
            if difference <= MAX_DIFFERENCE:
                pairs.append((i, j, difference))
    best: dict[int, tuple[int, int, float]] = {}
    for i, j, difference in pairs:
        if i not in best or difference < best[i][2]:
            best[i] = (i, j, difference)
    return [best[i] for i in sorted(best)]
