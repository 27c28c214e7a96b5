"""A GPU's labels, from strips or from candidates, are the argmax of the resized logits, and those of a processor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pspnet.nn import upsampling
from pspnet.nn.blocks import resize
from pspnet.nn.upsampling import upsample_labels
from pspnet.predict import logits
from support.coarse import Coarse, coarse_logits


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    align_corners=st.booleans(),
    strip=st.integers(1, 17),
    seed=st.integers(0, 2**31),
)
def test_equal_to_resize_and_argmax(rows, columns, height, width, align_corners, strip, seed):
    coarse = torch.randn(2, 6, rows, columns, generator=torch.Generator().manual_seed(seed))
    ways = (logits.labels, lambda *given: upsample_labels(*given, strip_rows=strip))
    for way in ways:
        labels, confidence = way(coarse, (height, width), align_corners, True)
        check(coarse, labels, confidence, height, width, align_corners)


def check(coarse, labels, confidence, height, width, align_corners):
    full = resize(coarse, (height, width), align_corners)
    best = full.topk(2, dim=1).values
    clear = best[:, 0] - best[:, 1] > 1e-5  # nearer than that, rounding decides
    assert torch.equal(labels[clear], full.argmax(1).to(torch.uint8)[clear])
    assert torch.allclose(confidence, full.softmax(1).amax(1), atol=1e-5)


@settings(max_examples=150, deadline=None)
@given(coarse_logits())
def test_candidates_give_the_labels_of_every_class_resized(given: Coarse) -> None:
    planes = torch.from_numpy(given.values)
    plain = torch.empty(given.size, dtype=torch.uint8)
    upsampling._by_strips(planes, plain, None, given.align_corners, 1.0, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upsampling, "WORTH_IT", 0)  # however many they are
        actual = upsampling._from_candidates(planes, given.size, given.align_corners)
    if given.size[0] * given.size[1] >= 2 * given.values[0].size:
        assert actual is not None
        assert torch.equal(actual, plain)
    # and the processor's are the same, to the last pixel
    np.testing.assert_array_equal(logits.labels(given.values[None], given.size, given.align_corners)[0][0], plain)


def test_values_that_are_not_finite_go_the_plain_way() -> None:
    planes = torch.zeros(3, 4, 4)
    planes[1, 1, 1] = torch.nan
    assert upsampling._from_candidates(planes, (32, 32), False) is None


def test_temperature_softens_the_confidence_only() -> None:
    coarse = torch.randn(1, 4, 3, 3)
    for way in (upsample_labels, logits.labels):
        labels, sharp = way(coarse, (9, 9), False, True)
        same, soft = way(coarse, (9, 9), False, True, 3.0)
        assert torch.equal(labels, same)
        assert (soft < sharp).all()


def test_both_ways_take_temperature() -> None:
    coarse = 3 * torch.randn(2, 5, 4, 6)
    (one, confidence), (other, certain) = (
        way(coarse, (17, 23), False, True, 2.0) for way in (logits.labels, upsample_labels)
    )
    assert torch.equal(one, other)
    assert torch.allclose(confidence, certain, atol=1e-5)
