"""Blended windows: equal to a slow reference, exact where windows agree, resumable, bounded; threads that end."""

from __future__ import annotations

import threading
from collections.abc import Generator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pspnet.errors import ConfigError
from pspnet.predict.windows import Predictor, WindowView, ahead, blended_pieces
from pspnet.tiling import profile, spans
from support.windows import blended


@st.composite
def grids(draw: st.DrawFn) -> tuple[int, int, int, int]:
    tile = draw(st.integers(2, 20))
    return draw(st.integers(1, 50)), draw(st.integers(1, 50)), tile, draw(st.integers(0, tile // 2))


@given(grids())
@settings(max_examples=150, deadline=None)
def test_cores_divide_the_side_and_shared_pixels_have_two_windows(grid: tuple[int, int, int, int]) -> None:
    length, _, tile, overlap = grid
    done, before = 0, None
    for span in spans(length, tile, overlap):
        assert span.core_start == done < span.core_stop
        assert 0 <= span.start <= span.core_start
        assert span.core_stop <= span.stop <= length
        assert span.stop - span.start == min(tile, length)
        if before is not None:
            assert before.stop - span.core_start == span.fade == overlap  # what the window before still knows
            assert span.core_stop - span.core_start >= overlap  # so that its end is not its beginning
        done, before = span.core_stop, span
    assert done == length


def test_an_overlap_above_half_is_refused() -> None:
    with pytest.raises(ConfigError, match="at most half"):
        list(spans(100, 10, 6))


def moody(batch: np.ndarray) -> Tensor:
    """Probabilities that depend on a window's own content as a whole: windows disagree where they overlap."""
    given = torch.from_numpy(batch)
    raised = given + given.mean(dim=(1, 2, 3), keepdim=True) * torch.arange(1, 4)[None, :, None, None]
    return raised.softmax(dim=1)


def moody_array(batch: np.ndarray) -> np.ndarray:
    """The same without tensors."""
    return moody(batch).numpy()


PREDICTORS = [moody, moody_array]


def slowly(image: np.ndarray, tile: int, overlap: int) -> np.ndarray:
    """Every window times its weights, added up: the weights of one side rise over `fade` and fall over `overlap`."""
    height, width, _ = image.shape
    total = np.zeros((3, height, width))
    ramp = profile(2 * overlap, overlap, "cosine")[:overlap].astype(np.float64)
    for rows in spans(height, tile, overlap):
        for columns in spans(width, tile, overlap):
            window = torch.from_numpy(image[rows.start : rows.stop, columns.start : columns.stop].transpose(2, 0, 1))
            actual = moody(window[None].float().numpy())[0].numpy()
            weights = []
            for span, length in ((rows, height), (columns, width)):
                side = np.zeros(span.stop - span.start)
                side[span.core] = 1
                if span.fade:
                    side[span.core_start - span.start :][: span.fade] = ramp
                if span.core_stop < length:
                    side[span.core_stop - span.start :] = 1 - ramp
                weights.append(side)
            total[:, rows.start : rows.stop, columns.start : columns.stop] += actual * np.outer(*weights)
    return total


@given(grids(), st.integers(1, 5), st.sampled_from(PREDICTORS))
@settings(max_examples=60, deadline=None)
def test_blending_equals_the_slow_reference(grid: tuple[int, int, int, int], batch: int, predict: Predictor) -> None:
    height, width, tile, overlap = grid
    image = np.random.default_rng(height * 50 + width).normal(size=(height, width, 3)).astype(np.float32)
    actual = blended(image, predict, 3, tile, overlap, batch)
    np.testing.assert_allclose(actual, slowly(image, tile, overlap), atol=2e-6)


def views(image: np.ndarray, tile: int, overlap: int, first_row: int = 0) -> Generator[WindowView, None, None]:
    for rows in list(spans(image.shape[0], tile, overlap))[first_row:]:
        for columns in spans(image.shape[1], tile, overlap):
            pixels = image[rows.start : rows.stop, columns.start : columns.stop]
            yield WindowView(rows, columns, pixels.transpose(2, 0, 1) if pixels.any() else None)


def test_pixelwise_models_give_bit_identical_windows_and_whole() -> None:
    image = np.random.default_rng(0).integers(1, 255, (70, 50, 3)).astype(np.uint16)
    # a product is rounded alike everywhere; a softmax is not, where one processor takes sixteen numbers at a time
    whole = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32)) * 0.00371
    for piece in blended_pieces(views(image, 16, 5), lambda b: b * 0.00371, 5, 3):
        assert piece.probabilities is not None
        np.testing.assert_array_equal(piece.probabilities, whole[:, *piece.core.slices].numpy())


def test_a_later_start_gives_the_same_pieces_after_one_row_of_windows() -> None:
    image = np.random.default_rng(1).normal(size=(60, 30, 3)).astype(np.float32)
    complete = {p.core: p.probabilities for p in blended_pieces(views(image, 16, 4), moody, 4, 1)}
    resumed = {p.core: p.probabilities for p in blended_pieces(views(image, 16, 4, 2), moody, 4, 1)}
    first = min(core.top for core in resumed)
    later = [core for core in resumed if core.top > first]
    assert len(later) > 3
    for core in later:
        assert torch.equal(complete[core], resumed[core])  # type: ignore[arg-type]


def test_windows_without_data_leave_their_neighbours_alone() -> None:
    image = np.random.default_rng(2).integers(1, 9, (40, 64, 3)).astype(np.float32)
    image[:, 24:40] = 0  # the window at columns 24..39 sees nothing
    pieces = list(blended_pieces(views(image, 16, 4), lambda b: torch.from_numpy(b).softmax(dim=1), 4, 2))
    empty = [p for p in pieces if p.probabilities is None]
    assert {p.core.left for p in empty} == {24}
    whole = torch.from_numpy(image.transpose(2, 0, 1)).softmax(dim=0)
    for piece in pieces:
        if piece.probabilities is not None:
            torch.testing.assert_close(piece.probabilities, whole[:, *piece.core.slices], rtol=0, atol=0)


def test_items_made_ahead_come_in_order_and_errors_in_their_place() -> None:
    def numbers() -> Generator[int, None, None]:
        yield from range(5)
        raise ValueError("five")

    items = ahead(numbers(), 2)
    assert [next(items) for _ in range(5)] == list(range(5))
    with pytest.raises(ValueError, match="five"):
        next(items)


def test_a_taker_that_stops_ends_the_thread_and_closes_the_generator() -> None:
    closed = threading.Event()

    def endless() -> Generator[int, None, None]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    before = threading.active_count()
    items = ahead(endless(), 2)
    assert next(items) == 1
    assert threading.active_count() == before + 1
    items.close()
    assert closed.is_set()
    assert threading.active_count() == before
