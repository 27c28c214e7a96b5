"""Labels by strips are the argmax of the resized logits."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pspnet.nn import upsampling
from pspnet.nn.blocks import resize
from pspnet.nn.upsampling import upsample_labels


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
    for way in (upsampling._in_cache, upsampling._by_strips):
        labels, sure = way(coarse, (height, width), align_corners, True, 1.0, strip)
        check(coarse, labels, sure, height, width, align_corners)


def check(coarse, labels, sure, height, width, align_corners):
    full = resize(coarse, (height, width), align_corners)
    best = full.topk(2, dim=1).values
    clear = best[:, 0] - best[:, 1] > 1e-5  # nearer than that, rounding decides
    assert torch.equal(labels[clear], full.argmax(1).to(torch.uint8)[clear])
    assert torch.allclose(sure, full.softmax(1).amax(1), atol=1e-5)


def test_temperature_softens_the_confidence_only() -> None:
    coarse = torch.randn(1, 4, 3, 3)
    labels, sharp = upsample_labels(coarse, (9, 9), False, confidence=True)
    same, soft = upsample_labels(coarse, (9, 9), False, confidence=True, temperature=3.0)
    assert torch.equal(labels, same)
    assert sharp is not None
    assert soft is not None
    assert (soft < sharp).all()


def test_both_ways_take_temperature() -> None:
    coarse = 3 * torch.randn(2, 5, 4, 6)
    for first, second in zip(
        *(way(coarse, (17, 23), False, True, 2.0, 5) for way in (upsampling._in_cache, upsampling._by_strips)),
        strict=True,
    ):
        assert torch.allclose(first.float(), second.float(), atol=1e-5)
