"""The arrays that recorded outputs of other projects belong to: each depends on nothing but its name and shape."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F


def generator(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


def pixels(name: str, bands: int, height: int, width: int, cell: int = 16) -> np.ndarray:
    """(bands, height, width) float32: a normal value per cell, repeated, plus half a normal value per pixel."""
    rng = generator(name)
    coarse = rng.standard_normal((bands, -(-height // cell), -(-width // cell)))
    noise = rng.standard_normal((bands, height, width))
    return (np.kron(coarse, np.ones((1, cell, cell)))[:, :height, :width] + 0.5 * noise).astype(np.float32)


def image(name: str, height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8."""
    values = pixels(name, 3, height, width).transpose(1, 2, 0).astype(np.float64)
    return np.clip(np.rint(127.5 + 45 * values), 0, 255).astype(np.uint8)


def matrix(name: str, *shape: int) -> torch.Tensor:
    """A weight: normal values times sqrt(2 / fan-in)."""
    scale = np.sqrt(2 / np.prod(shape[1:]))
    return torch.from_numpy((scale * generator(name).standard_normal(shape)).astype(np.float32))


def stand_in(align_corners: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    """The small network that stood in for a PSPNet when protocols were recorded: local features and the crop's mean."""
    weight, context = matrix("standin.conv.weight", 5, 3, 3, 3), matrix("standin.context.weight", 5, 3)
    bias = torch.from_numpy((0.1 * generator("standin.conv.bias").standard_normal(5)).astype(np.float32))

    def logits(images: torch.Tensor) -> torch.Tensor:
        coarse = F.conv2d(images, weight, bias, stride=8, padding=1)
        coarse = coarse + (images.mean((2, 3)) @ context.T)[:, :, None, None]
        return F.interpolate(coarse, images.shape[2:], mode="bilinear", align_corners=align_corners)

    return logits
