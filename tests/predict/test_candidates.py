"""Labels without resized logits: those of the plain way on every pixel, ties too, in the memory of coarse logits."""

from __future__ import annotations

import doctest
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from pspnet.predict import candidates, logits
from pspnet.predict.candidates import crowded, labels_of_cells, rounding_of
from support.coarse import Coarse, coarse_logits


def slowly(coarse: np.ndarray, size: tuple[int, int], align_corners: bool) -> np.ndarray:
    """Every class resized in whole, then argmax."""
    return logits.resize(coarse[None], size, align_corners)[0].argmax(0).astype(np.uint8)


def test_the_worked_example() -> None:
    assert doctest.testmod(candidates).failed == 0


@settings(max_examples=300, deadline=None)
@given(coarse_logits())
def test_equal_on_every_pixel(given: Coarse) -> None:
    wanted = slowly(given.values, given.size, given.align_corners)
    np.testing.assert_array_equal(labels_of_cells(given.values, given.size, given.align_corners), wanted)
    np.testing.assert_array_equal(logits.labels(given.values[None], given.size, given.align_corners)[0][0], wanted)
    with_confidence = logits.labels(given.values[None], given.size, given.align_corners, confidence=True)
    np.testing.assert_array_equal(with_confidence[0][0], wanted)


@settings(max_examples=40, deadline=None)
@given(coarse_logits())
def test_threads_share_the_rows(given: Coarse) -> None:
    wanted = slowly(given.values, given.size, given.align_corners)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logits, "thread_count", lambda: 3)
        for confidence in (False, True):
            actual = logits.labels(given.values[None], given.size, given.align_corners, confidence)
            np.testing.assert_array_equal(actual[0][0], wanted)
            assert confidence == (actual[1] is not None)


@settings(max_examples=60, deadline=None)
@given(coarse_logits())
def test_small_blocks_of_entries_change_nothing(given: Coarse) -> None:
    wanted = slowly(given.values, given.size, given.align_corners)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "ENTRIES", 7)
        patch.setattr(candidates, "BLOCK_VALUES", 1)
        np.testing.assert_array_equal(labels_of_cells(given.values, given.size, given.align_corners), wanted)


def test_values_that_are_not_finite_go_the_plain_way() -> None:
    coarse = np.zeros((3, 6, 6), np.float32)
    coarse[1, 2, 2] = np.inf
    coarse[2, 4, 4] = np.nan
    assert not np.isfinite(rounding_of(coarse))
    wanted = slowly(coarse, (48, 48), False)
    np.testing.assert_array_equal(logits.labels(coarse[None], (48, 48), False)[0][0], wanted)


def regions(classes: int, high: int, wide: int) -> np.ndarray:
    """Logits as a trained network's: each class strong in a region of its own, smooth borders between them."""
    from scipy.ndimage import gaussian_filter

    random = np.random.default_rng(0)
    owner = random.integers(0, classes, (high // 16, wide // 16)).repeat(16, 0).repeat(16, 1)
    planes = random.normal(size=(classes, high, wide)).astype(np.float32)
    for number in np.unique(owner):
        planes[number] += 12 * gaussian_filter((owner == number).astype(np.float32), 2)
    return planes


def test_noise_goes_the_plain_way_and_regions_do_not() -> None:
    noise = np.random.default_rng(0).normal(size=(150, 60, 60)).astype(np.float32)
    assert crowded(noise, 480 * 480, rounding_of(noise))
    clear = regions(150, 64, 64)
    assert not crowded(clear, 512 * 512, rounding_of(clear))
    assert crowded(clear, 64 * 64, rounding_of(clear))  # nothing to gain where the size is that of the logits


def test_memory_is_that_of_the_coarse_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    coarse = regions(150, 64, 128)
    monkeypatch.setattr(logits, "thread_count", lambda: 1)
    tracemalloc.start()
    labels: Any = logits.labels(coarse[None], (512, 1024), False)[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * coarse.nbytes, f"{peak / coarse.nbytes:.1f} times the coarse logits"  # resized: 64 times
    np.testing.assert_array_equal(labels[0], slowly(coarse, (512, 1024), False))
