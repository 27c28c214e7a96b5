"""PSPNet as other projects write it, to measure ours beside: semseg's and MMSegmentation's graph in plain PyTorch."""

from __future__ import annotations

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PlainPSPNet(nn.Module):
    """The usual way: (B, 3, H, W), normalised -> logits and auxiliary logits, (B, K, H, W) both.

    timm's dilated ResNet, each pyramid level resized and joined (for ResNet-50 to 4096 channels), a 3x3 fusion, an
    auxiliary head.
    """

    def __init__(self, classes: int, encoder: str = "resnet50") -> None:
        super().__init__()
        net = timm.create_model(encoder, pretrained=False, output_stride=8)
        self.stem = nn.Sequential(net.conv1, net.bn1, net.act1, net.maxpool)
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        middle, deep = (info["num_chs"] for info in net.feature_info[-2:])
        self.branches = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(bins), *_layer(deep, deep // 4, 1)) for bins in (1, 2, 3, 6)
        )
        self.head = nn.Sequential(*_layer(2 * deep, 512, 3), nn.Dropout2d(0.1), nn.Conv2d(512, classes, 1))
        self.auxiliary = nn.Sequential(
            *_layer(middle, middle // 4, 3), nn.Dropout2d(0.1), nn.Conv2d(middle // 4, classes, 1)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        middle, deep = self._features(images)
        size = images.shape[2:]
        return _resized(self._logits(deep), size), _resized(self.auxiliary(middle), size)

    def coarse_logits(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, K, H / 8, W / 8): the network without the last resize."""
        return self._logits(self._features(images)[1])

    def _features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        middle = self.layer3(self.layer2(self.layer1(self.stem(images))))
        return middle, self.layer4(middle)

    def _logits(self, deep: Tensor) -> Tensor:
        levels = [_resized(branch(deep), deep.shape[2:]) for branch in self.branches]
        return self.head(torch.cat([deep, *levels], dim=1))


def _resized(maps: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def _layer(inside: int, outside: int, kernel: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inside, outside, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(inplace=True),
    ]
