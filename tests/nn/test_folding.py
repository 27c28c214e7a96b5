"""The folded fusion is the plain one: same numbers forward and backward, whatever the shapes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pspnet.config import ModelConfig
from pspnet.nn.blocks import pool_matrix, resize_matrix
from pspnet.nn.folding import fold_pays, folded_terms
from pspnet.nn.pyramid import PyramidPooling


def plain_terms(pooled, weights, features, align_corners):
    """The slow reference: resize every branch, then convolve it."""
    size, total = features.shape[-2:], 0
    for cells, weight in zip(pooled, weights, strict=True):
        resized = F.interpolate(cells, size=size, mode="bilinear", align_corners=align_corners)
        total = total + F.conv2d(resized, weight, padding=weight.shape[-1] // 2)
    return total


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 23),
    width=st.integers(1, 23),
    bins=st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True),
    taps=st.sampled_from([1, 3]),
    align_corners=st.booleans(),
    batch=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
def test_folded_terms_equal_resize_and_convolve(height, width, bins, taps, align_corners, batch, seed):
    draw = torch.Generator().manual_seed(seed)
    pooled = [torch.randn(batch, 4, b, b, generator=draw, requires_grad=True) for b in bins]
    weights = [(torch.randn(5, 4, taps, taps, generator=draw) / (6 * taps)).requires_grad_() for _ in bins]
    features = torch.empty(batch, 1, height, width)
    folded = folded_terms(pooled, weights, features, align_corners)
    plain = plain_terms(pooled, weights, features, align_corners)
    assert torch.allclose(folded, plain, atol=1e-5)
    upstream = torch.randn(plain.shape, generator=draw)
    leaves = [*pooled, *weights]
    for a, b in zip(
        torch.autograd.grad(folded, leaves, upstream), torch.autograd.grad(plain, leaves, upstream), strict=True
    ):
        assert torch.allclose(a, b, atol=1e-5 * max(1.0, float(b.abs().max())))


@pytest.mark.parametrize("concat", ["input_first", "pooled_first"])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("align_corners", [False, True])
def test_fusion_switch_changes_no_number_and_no_key(concat: str, kernel: int, align_corners: bool) -> None:
    torch.manual_seed(0)
    options = {"fusion_kernel": kernel, "fusion_channels": 24}
    config = ModelConfig(encoder="resnet18", concat=concat, align_corners=align_corners, pyramid_options=options)
    folded, plain = PyramidPooling(64, config), PyramidPooling(64, config.changed(fusion="plain"))
    plain.load_state_dict(folded.state_dict())
    assert folded.folded
    assert not plain.folded
    features = torch.randn(2, 64, 13, 17)
    for mode in (True, False):
        a, b = features.clone().requires_grad_(), features.clone().requires_grad_()
        left, right = folded.train(mode)(a), plain.train(mode)(b)
        assert torch.allclose(left, right, atol=1e-5)
        left.square().sum().backward()
        right.square().sum().backward()
        assert torch.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-4)
        for (name, p), q in zip(folded.named_parameters(), plain.parameters(), strict=True):
            assert torch.allclose(p.grad, q.grad, rtol=1e-4, atol=1e-3), name


def test_folding_is_left_where_it_would_not_pay() -> None:
    conv = torch.nn.Conv2d(8, 8, 3)
    assert fold_pays(conv, (1, 2, 3, 6), 512, torch.empty(1, 1, 60, 60))
    assert not fold_pays(conv, (1, 2, 3, 6), 4, torch.empty(1, 1, 5, 5))
    assert not fold_pays(conv, (), 4, torch.empty(1, 1, 60, 60))


@settings(max_examples=60, deadline=None)
@given(source=st.integers(1, 40), target=st.integers(1, 40), align_corners=st.booleans())
def test_resize_matrix_is_interpolation(source, target, align_corners):
    line = torch.randn(1, 1, source, 1)
    wanted = F.interpolate(line, size=(target, 1), mode="bilinear", align_corners=align_corners)[0, 0, :, 0]
    assert torch.allclose(resize_matrix(source, target, align_corners, line) @ line[0, 0, :, 0], wanted, atol=5e-5)


@settings(max_examples=60, deadline=None)
@given(source=st.integers(1, 60), bins=st.integers(1, 12))
def test_pool_matrix_is_adaptive_pooling(source, bins):
    line = torch.randn(source)
    wanted = F.adaptive_avg_pool1d(line[None, None], bins)[0, 0]
    assert torch.allclose(pool_matrix(source, bins, line) @ line, wanted, atol=1e-5)
