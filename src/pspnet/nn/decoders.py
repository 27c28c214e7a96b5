"""From a list of features, fine to coarse, to the map that the classifier reads. Adding one: a class and a line."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from pspnet.config.model import ModelConfig
from pspnet.nn.blocks import ConvNormAct, resize


class Decoder(nn.Module):
    """features: a list (B, C_i, H / s_i, W / s_i), fine to coarse, the last the fused pyramid -> (B, channels, h, w).

    `channels` is what the classifier reads; `reads_finer`: whether any feature but the last is read. Strides may repeat (a dilated encoder's do) and sizes may be odd: maps are
    resized to one another's sizes, never by a factor.
    """

    channels: int
    reads_finer = True

    def __init__(self, channels: list[int], strides: list[int], config: ModelConfig) -> None:
        super().__init__()


class BilinearDecoder(Decoder):
    """The paper's: the fused pyramid itself goes to the classifier, whose logits are resized once."""

    reads_finer = False

    def __init__(self, channels: list[int], strides: list[int], config: ModelConfig) -> None:
        super().__init__(channels, strides, config)
        self.channels = channels[-1]

    def forward(self, features: list[Tensor]) -> Tensor:
        return features[-1]


class ProgressiveDecoder(Decoder):
    """Learned doublings of the fused pyramid until the input's resolution; finer features are not used.

    Dropout2d 0.3, then blocks of {bilinear 2x, 3x3 convolution, batch norm, PReLU} with dropout 0.15 between them. With
    c = the classifier's channels the widths are 4c, c, c: at output stride 8 and the progressive pyramid's 1024
    channels 1024 -> 256 -> 64 -> 64. One block for each halving of the encoder: 4 at output stride 16, 5 at 32, the
    further ones c wide too. The dropout after the last block is the classifier's (`dropout` in the config).
    A side of n features ends at 2^blocks n pixels: the input's where the stride divides it, else a little more.
    """

    reads_finer = False

    def __init__(self, channels: list[int], strides: list[int], config: ModelConfig) -> None:
        super().__init__(channels, strides, config)
        self.align_corners = config.align_corners
        self.channels = config.classifier_channels
        halvings = max(round(math.log2(strides[-1])), 1)
        inner = [4 * self.channels, *[self.channels] * halvings][: halvings - 1]
        widths = [channels[-1], *inner, self.channels]
        self.dropout = nn.Dropout2d(0.3)
        self.blocks = nn.ModuleList(
            nn.Sequential(ConvNormAct(narrow, wide, 3, act=False), nn.PReLU()) for narrow, wide in pairwise(widths)
        )
        self.between = nn.Dropout2d(0.15)

    def forward(self, features: list[Tensor]) -> Tensor:
        x = self.dropout(features[-1])
        for number, block in enumerate(self.blocks):
            if number:
                x = self.between(x)
            x = block(resize(x, (2 * x.shape[-2], 2 * x.shape[-1]), self.align_corners))
        return x


class UNetDecoder(Decoder):
    """Goes back up through every finer feature (Ronneberger et al. 2015, arXiv:1505.04597).

    Each step: resize to the finer map's size, a 3x3 convolution, join with the finer map, a 3x3 convolution. The finest
    step is as wide as the classifier's channels, each coarser stride twice as wide. Ends at the finest feature's stride
    (2 for ResNet, 4 for Swin). Resize and convolve, not a transposed convolution: that leaves checkerboards (Odena et
    al. 2016, doi:10.23915/distill.00003) and knows neither odd sizes nor two features of one size.
    """

    def __init__(self, channels: list[int], strides: list[int], config: ModelConfig) -> None:
        super().__init__(channels, strides, config)
        self.align_corners = config.align_corners
        self.channels = config.classifier_channels
        widths = [self.channels * stride // strides[0] for stride in strides[:-1]]
        below = [*widths[1:], channels[-1]]  # what comes up to each step
        self.up = nn.ModuleList(ConvNormAct(b, w, 3) for b, w in zip(below, widths, strict=True))
        self.join = nn.ModuleList(ConvNormAct(c + w, w, 3) for c, w in zip(channels[:-1], widths, strict=True))

    def forward(self, features: list[Tensor]) -> Tensor:
        x = features[-1]
        for skip, up, join in zip(features[-2::-1], self.up[::-1], self.join[::-1], strict=True):
            x = up(resize(x, (skip.shape[-2], skip.shape[-1]), self.align_corners))
            x = join(torch.cat([skip, x], dim=1))
        return x


class FPNDecoder(Decoder):
    """A feature pyramid fused at stride 4; after pyramid pooling this is UPerNet's (Xiao et al. 2018, arXiv:1807.10221).

    Each feature of stride 4 or more gets a 1x1 convolution to the classifier's channels; from the coarsest on each is
    resized and added to the next finer one; every level but the pyramid's gets a 3x3 convolution; all are resized to
    the finest, joined and fused by a 3x3 convolution.
    """

    def __init__(self, channels: list[int], strides: list[int], config: ModelConfig) -> None:
        super().__init__(channels, strides, config)
        self.align_corners = config.align_corners
        self.channels = width = config.classifier_channels
        self.first = next((index for index, stride in enumerate(strides) if stride >= 4), len(strides) - 1)
        self.lateral = nn.ModuleList(ConvNormAct(c, width, 1) for c in channels[self.first : -1])
        self.smooth = nn.ModuleList(ConvNormAct(width, width, 3) for _ in self.lateral)
        # the pyramid's output joins as it is where its width fits, as in UPerNet
        self.top = nn.Identity() if channels[-1] == width else ConvNormAct(channels[-1], width, 1)
        self.fuse = ConvNormAct(width * (len(self.lateral) + 1), width, 3)

    def forward(self, features: list[Tensor]) -> Tensor:
        *finer, coarsest = features[self.first :]
        x = self.top(coarsest)
        levels = [x]  # coarse to fine
        for feature, lateral, smooth in zip(finer[::-1], self.lateral[::-1], self.smooth[::-1], strict=True):
            x = lateral(feature) + resize(x, (feature.shape[-2], feature.shape[-1]), self.align_corners)
            levels.append(smooth(x))
        finest = (x.shape[-2], x.shape[-1])
        return self.fuse(torch.cat([resize(level, finest, self.align_corners) for level in levels[::-1]], dim=1))


class FCNDecoder(Decoder):
    """The sums of FCN-8s (Long et al. 2015, arXiv:1411.4038, sec. 4.2), on any encoder.

    A 1x1 convolution turns each feature of stride 8 or more into scores; from the coarsest on they are resized to the
    next finer map and added to its scores. With `bins` empty and output stride 32 that is FCN-8s; the bilinear decoder
    is then FCN-32s. There the skips begin at zero; here as any convolution, so that finer features learn at once.
    """

    def __init__(self, channels: list[int], strides: list[int], config: ModelConfig) -> None:
        super().__init__(channels, strides, config)
        self.align_corners = config.align_corners
        self.channels = width = config.classifier_channels
        self.first = next((index for index, stride in enumerate(strides) if stride >= 8), len(strides) - 1)
        self.top = nn.Conv2d(channels[-1], width, 1)
        self.skips = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels[self.first : -1])

    def forward(self, features: list[Tensor]) -> Tensor:
        *finer, coarsest = features[self.first :]
        x: Tensor = self.top(coarsest)
        for feature, skip in zip(finer[::-1], self.skips[::-1], strict=True):
            x = resize(x, (feature.shape[-2], feature.shape[-1]), self.align_corners) + skip(feature)
        return x


DECODERS: dict[str, type[Decoder]] = {
    "bilinear": BilinearDecoder,
    "progressive": ProgressiveDecoder,
    "unet": UNetDecoder,
    "fpn": FPNDecoder,
    "fcn": FCNDecoder,
}


def build_decoder(channels: list[int], strides: list[int], config: ModelConfig) -> Decoder:
    """The decoder that `config.decoder` names; `.channels` is what it gives."""
    return DECODERS[config.decoder](channels, strides, config)
