"""Window geometry: coverage, bounds, order, and blending that sums to one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pspnet.errors import ConfigError
from pspnet.tiling import (
    padding,
    profile,
    shares,
    starts,
    windows,
)

SIDE = st.integers(1, 90)


@st.composite
def grids(draw: st.DrawFn) -> tuple[int, int, tuple[int, int], tuple[int, int]]:
    tile = draw(SIDE), draw(SIDE)
    return draw(SIDE), draw(SIDE), tile, (draw(st.integers(1, tile[0])), draw(st.integers(1, tile[1])))


@given(grids())
@settings(max_examples=150, deadline=None)
def test_windows_cover_everything_inside_the_image(grid: tuple[int, int, tuple[int, int], tuple[int, int]]) -> None:
    height, width, tile, stride = grid
    visits = np.zeros((height, width), int)
    actual = windows(height, width, tile, stride=stride)
    for window in actual:
        assert 0 <= window.top < window.bottom <= height
        assert 0 <= window.left < window.right <= width
        assert (window.height, window.width) == (min(tile[0], height), min(tile[1], width))
        visits[window.slices] += 1
    assert visits.min() >= 1
    assert [(w.top, w.left) for w in actual] == sorted({(w.top, w.left) for w in actual})  # growing, none twice


@given(SIDE, SIDE, st.data())
@settings(max_examples=100, deadline=None)
def test_starts_are_semsegs_and_mmsegs(length: int, tile: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, tile))
    if length >= tile:  # semseg's loop, in its own words: grid = ceil((length - crop) / stride) + 1
        expected = []
        for index in range(int(np.ceil((length - tile) / stride)) + 1):
            end = min(index * stride + tile, length)
            expected.append(end - tile)
    else:
        expected = [0]
    assert list(starts(length, tile, stride)) == expected


@given(SIDE, SIDE, st.sampled_from(["flat", "linear", "cosine"]), st.data())
@settings(max_examples=100, deadline=None)
def test_shares_sum_to_one_everywhere(length: int, tile: int, fall_off: str, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, tile))
    total = np.zeros(length)
    for start, share in shares(length, tile, stride, fall_off):
        assert share.min() > 0
        total[start : start + len(share)] += share
    np.testing.assert_allclose(total, 1.0, atol=1e-6)


@pytest.mark.parametrize("fall_off", ["linear", "cosine"])
def test_neighbours_sum_to_one_in_their_overlap(fall_off: str) -> None:
    side = profile(32, 8, fall_off)
    np.testing.assert_allclose(side[-8:] + side[:8], 1.0, atol=1e-6)
    assert side[8:-8].min() == 1.0
    assert side[0] > 0
    assert (np.diff(side[:9]) > 0).all()


def test_padding_is_placed_as_each_project_does() -> None:
    centre, end = padding(52, 70, 97, "centre"), padding(52, 70, 97, "end")
    assert (centre.top, centre.left, centre.bottom, centre.right) == (22, 13, 23, 14)
    assert (end.top, end.left, end.bottom, end.right) == (0, 0, 45, 27)
    assert not padding(97, 120, 97, "centre").any


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"stride": 9}, "gaps"),
        ({"overlap": 8}, "tile - 1"),
        ({"stride": 4, "overlap": 4}, "one of"),
        ({"stride": 0}, "1 to"),
    ],
)
def test_impossible_grids_are_refused(options: dict[str, int], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        windows(20, 20, 8, **options)
