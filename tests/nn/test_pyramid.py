"""The pyramid of the progressive variant against an independent restatement: plain loops over the cells and pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pspnet import ModelConfig
from pspnet.nn.pyramid import PyramidPooling


def pooled(plane: np.ndarray, bins: int) -> np.ndarray:
    """(H, W) -> (bins, bins): the mean of each cell; cell i covers rows floor(i H / bins) to ceil((i + 1) H / bins)."""
    height, width = plane.shape
    cells = np.zeros((bins, bins))
    for i in range(bins):
        for j in range(bins):
            top, bottom = i * height // bins, math.ceil((i + 1) * height / bins)
            left, right = j * width // bins, math.ceil((j + 1) * width / bins)
            cells[i, j] = plane[top:bottom, left:right].mean()
    return cells


def resized(plane: np.ndarray, height: int, width: int, align_corners: bool) -> np.ndarray:
    """(h, w) -> (height, width), bilinear, pixel by pixel."""
    result = np.zeros((height, width))

    def source(at: int, side: int, target: int) -> float:
        if align_corners:
            return at * (side - 1) / (target - 1) if target > 1 else 0.0
        return max((at + 0.5) * side / target - 0.5, 0.0)

    for y in range(height):
        for x in range(width):
            row, column = source(y, plane.shape[0], height), source(x, plane.shape[1], width)
            upper, left = int(row), int(column)
            lower, right = min(upper + 1, plane.shape[0] - 1), min(left + 1, plane.shape[1] - 1)
            down, across = row - upper, column - left
            above = (1 - across) * plane[upper, left] + across * plane[upper, right]
            below = (1 - across) * plane[lower, left] + across * plane[lower, right]
            result[y, x] = (1 - down) * above + down * below
    return result


def progressive(features: np.ndarray, pyramid: PyramidPooling, align_corners: bool) -> np.ndarray:
    """(C, H, W): pool, 1x1 convolution without bias and norm, resize; pooled maps first, then the input; 1x1 convolution
    with bias; ReLU."""
    channels, height, width = features.shape
    maps = []
    for bins, branch in zip(pyramid.bins, pyramid.branches, strict=True):
        (weight,) = (parameter.detach().numpy() for parameter in branch.parameters())  # no bias, no norm
        assert weight.shape == (channels, channels, 1, 1)  # no reduction
        cells = np.stack([pooled(plane, bins) for plane in features])
        reduced = np.stack([sum(weight[o, c, 0, 0] * cells[c] for c in range(channels)) for o in range(channels)])
        maps += [resized(plane, height, width, align_corners) for plane in reduced]
    together = [*maps, *features]
    weight, bias = (parameter.detach().numpy() for parameter in pyramid.fusion.parameters())
    fused = [sum(weight[o, c, 0, 0] * plane for c, plane in enumerate(together)) + bias[o] for o in range(len(weight))]
    return np.maximum(np.stack(fused), 0)


@pytest.mark.parametrize("fusion", ["plain", "folded"])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(7, 10), (12, 12), (5, 3)])
def test_the_progressive_pyramid_number_by_number(size: tuple[int, int], align_corners: bool, fusion: str) -> None:
    torch.manual_seed(0)
    config = ModelConfig(
        encoder="resnet50", pyramid="progressive", decoder="progressive", align_corners=align_corners, fusion=fusion
    )
    pyramid = PyramidPooling(4, config).eval()
    assert pyramid.channels == 1024
    features = torch.randn(2, 4, *size)
    with torch.no_grad():
        result = pyramid(features).numpy()
    for image, expected in zip(features.numpy().astype(np.float64), result, strict=True):
        np.testing.assert_allclose(progressive(image, pyramid, align_corners), expected, atol=2e-5)
