"""Heads that only training uses: a second guess per pixel, and the classes in the image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pspnet.nn.blocks import ConvNormAct


class AuxiliaryHead(nn.Sequential):
    """A class per pixel from a middle stage (Zhao et al. 2017, sec. 3.3): (B, C, h, w) -> (B, K, h, w).

    A 3x3 convolution to `width` channels (None: a quarter of C), dropout 0.1, a 1x1 classifier, as in semseg and
    MMSegmentation.
    """

    def __init__(self, in_channels: int, num_classes: int, width: int | None = None) -> None:
        super().__init__()
        width = width or max(in_channels // 4, 1)
        self.reduce = ConvNormAct(in_channels, width, 3)
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(width, num_classes, 1)


class ImageHead(nn.Module):
    """Which classes are in the image: (B, C, h, w) -> (B, K) logits, trained multi-label."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(in_channels, 256)
        self.act = nn.ReLU(inplace=True)
        self.classifier = nn.Linear(256, num_classes)

    def forward(self, features: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch classes"]:
        pooled = torch.flatten(F.adaptive_max_pool2d(features, 1), 1)
        logits: Tensor = self.classifier(self.act(self.hidden(pooled)))
        return logits
