"""Coarse logits of every kind for hypothesis: noise, ties, equal classes, nearly equal ones, large values, smooth maps."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from hypothesis import strategies as st

KINDS = ("noise", "ties", "constant", "nearly equal", "large", "smooth")


@dataclass(frozen=True)
class Coarse:
    """values: (K, h, w) float32, to be resized to `size`."""

    values: np.ndarray
    size: tuple[int, int]
    align_corners: bool


@st.composite
def coarse_logits(draw: st.DrawFn) -> Coarse:
    classes, rows, columns = draw(st.integers(1, 24)), draw(st.integers(1, 11)), draw(st.integers(1, 11))
    size = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    values = random.normal(size=(classes, rows, columns)) * 5
    kind = draw(st.sampled_from(KINDS))
    if kind == "ties":
        values = np.round(values / 4)
    elif kind == "constant":
        values[:] = values.flat[0]
    elif kind == "nearly equal":  # some units in the last place apart: roundings decide
        values = values[:1].astype(np.float32) * (1 + random.integers(-2, 3, values.shape) * np.float32(2**-23))
    elif kind == "large":
        values *= 1e30
    elif kind == "smooth":
        small = np.ascontiguousarray(values[:, ::3, ::3].transpose(1, 2, 0), np.float32)
        values = cv2.resize(small, (columns, rows), interpolation=cv2.INTER_CUBIC).reshape(rows, columns, -1)
        values = values.transpose(2, 0, 1)
    return Coarse(np.ascontiguousarray(values, np.float32), size, draw(st.booleans()))
