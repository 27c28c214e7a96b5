"""A fourth channel: opacity, or a band that a program only calls so."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pspnet.images.opacity import is_measured


@given(seed=st.integers(0, 10**6), dtype=st.sampled_from(["uint8", "uint16", "float32"]), edge=st.floats(0, 0.4))
def test_masks_with_soft_edges_are_opacity(seed: int, dtype: str, edge: float) -> None:
    rng = np.random.default_rng(seed)
    top = np.iinfo(dtype).max if dtype != "float32" else 1
    alpha = (rng.integers(0, 2, (40, 40)) * top).astype(dtype)
    soft = rng.random(alpha.shape) < edge
    alpha[soft] = (rng.random(soft.sum()) * top).astype(dtype)
    assert not is_measured(alpha)


@given(seed=st.integers(0, 10**6), dtype=st.sampled_from(["uint8", "uint16"]))
def test_near_infrared_is_a_band(seed: int, dtype: str) -> None:
    band = np.random.default_rng(seed).normal(90, 25, (40, 40)).clip(0, 255).astype(dtype)
    assert is_measured(band)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_one_value_everywhere_is_opacity(value: int) -> None:
    assert not is_measured(np.full((40, 40), value, np.uint8))
