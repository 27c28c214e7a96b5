"""Bilinear resizing as tables: which source pixels make an output pixel, with which weights.

Peers resize in three ways that differ by more than a score's last digit. As tables they become data: the evaluation
engine applies one to parts of a map, so a map at a test scale never has to exist as a whole.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Interpolation = Literal["half_pixel", "corners", "antialias"]


def taps(source: int, target: int, kind: Interpolation) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(target, T) source positions and (target, T) weights that sum to 1; T is 1 where nothing changes, else 2 or more.

    'half_pixel': pixel centres at half pixels, no antialiasing (OpenCV's INTER_LINEAR; torch, align_corners=False).
    'corners': the corner pixels' centres coincide (align_corners=True). 'antialias': as half_pixel, with a triangle as
    wide as the shrinking and reflected borders (MATLAB's imresize); equal to half_pixel when enlarging.
    """
    if source == target:
        return np.arange(target)[:, None], np.ones((target, 1), np.float32)
    if kind == "antialias" and target < source:
        return _triangle(source, target)
    if kind == "corners":
        position = np.arange(target) * ((source - 1) / (target - 1) if target > 1 else 0.0)
    else:
        position = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
    low = np.minimum(np.floor(position).astype(np.int64), source - 1)
    share = (position - low).astype(np.float32)
    return np.stack([low, np.minimum(low + 1, source - 1)], 1), np.stack([1 - share, share], 1)


def _triangle(source: int, target: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    scale = source / target
    centre = (np.arange(target) + 0.5) * scale - 0.5
    first = np.floor(centre - scale).astype(np.int64)
    positions = first[:, None] + np.arange(int(np.ceil(2 * scale)) + 2)
    weights = np.maximum(1 - np.abs(positions - centre[:, None]) / scale, 0)
    weights /= weights.sum(1, keepdims=True)
    reflected = np.mod(positions, 2 * source)
    reflected = np.where(reflected < source, reflected, 2 * source - 1 - reflected)
    return reflected, weights.astype(np.float32)
