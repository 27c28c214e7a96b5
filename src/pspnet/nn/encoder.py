"""Encoders under one contract: a list of features, fine to coarse, at a chosen output stride, from any number of bands.

ResNet, EfficientNet and MobileNetV2 are timm's, under timm's parameter names; Swin is in nn/swin.py; any other name is
looked up in timm. Only weights are random here: pspnet.weights.encoder_weights brings ImageNet's or a file's.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any, cast

import timm
import torch.nn.functional as F
from timm.layers import DropPath
from timm.models._efficientnet_builder import decode_arch_def, round_channels
from timm.models.efficientnet import EfficientNetFeatures
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

from pspnet.config.encoders import (
    BasicBlockOptions,
    BottleneckOptions,
    EfficientNetOptions,
    MobileNetV2Options,
    ResNetOptions,
)
from pspnet.config.model import ModelConfig
from pspnet.nn.dilation import dilate, pad_for, strides_at


class Encoder(nn.Module):
    """(B, bands, H, W), normalised -> features, fine to coarse; feature i is (B, channels[i], h, w) with h and w the
    image's sides over strides[i], rounded up. Every parameter takes part in a feature; there is no classifier.

    last_only: a list of the last feature alone. The finer ones are then freed on the way: of a 2048 x 1024 px image a
    ResNet-50 holds 470 MB of them.
    """

    channels: list[int]
    strides: list[int]


_LAYERS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    269: (3, 30, 48, 8),
}


class ResNetEncoder(Encoder):
    """A dilated ResNet 18..269 (He et al. 2016, arXiv:1512.03385), with a 7x7 or a deep stem.

    (B, bands, H, W) -> features at strides 2, 4, 8, ... Stages beyond `encoder_options.depth` are not built. 269 is the
    paper's deepest: bottlenecks 3, 30, 48, 8 (Zhao et al. 2017).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        options = cast(ResNetOptions, config.encoder_options)
        layers = int(re.findall(r"\d+", config.encoder)[0])
        stem: dict[str, Any] = {}
        if config.encoder[-1] in "sc":  # s: 64-64-128 (semseg); c: 32-32-64 (MMSegmentation's ResNetV1c)
            stem = {"stem_type": "deep", "stem_width": 64 if config.encoder[-1] == "s" else 32}
        block = BasicBlock if layers < 50 else Bottleneck
        count = options.depth - 1
        net = ResNet(
            block,
            _LAYERS[layers][:count],
            channels=(64, 128, 256, 512)[:count],
            num_classes=0,
            in_chans=config.in_bands,
            output_stride=config.output_stride,
            drop_path_rate=options.drop_path_rate or 0.0,
            avg_down=options.average_shortcut,
            **stem,
        )
        self.conv1, self.bn1, self.act1, self.maxpool = net.conv1, net.bn1, net.act1, net.maxpool
        self.stages = [f"layer{i + 1}" for i in range(count)]
        for nominal, name in zip((4, 8, 16, 32), self.stages, strict=False):
            stage = getattr(net, name)
            self.add_module(name, stage)
            if config.dilation == "uniform" and nominal > config.output_stride:
                dilate(stage, nominal // config.output_stride)
            if options.average_shortcut and nominal > config.output_stride:
                stage[0].downsample[0] = nn.Identity()  # nothing to halve; timm would still average 2 x 2 cells
            if isinstance(options, BasicBlockOptions) and not options.dilate_second_conv:
                for residual in stage:
                    dilate(residual.conv2, 1)
            if isinstance(options, BottleneckOptions) and options.stride_in_first_conv:
                first = stage[0]
                first.conv1.stride, first.conv2.stride = first.conv2.stride, (1, 1)
        self.channels = [info["num_chs"] for info in net.feature_info]
        self.strides = strides_at(config.output_stride, 2, options.depth)

    def forward(self, images: Tensor, last_only: bool = False) -> list[Tensor]:
        x = self.act1(self.bn1(self.conv1(images)))
        features = [x]
        x = self.maxpool(x)
        for name in self.stages:
            if last_only:
                features.clear()
            x = self.get_submodule(name)(x)
            features.append(x)
        return features[-1:] if last_only else features


# table 2 of MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381) as timm writes it: repeats, kernel, stride, expansion,
# channels
_MOBILENET_V2 = [
    ["ds_r1_k3_s1_c16"],
    ["ir_r2_k3_s2_e6_c24"],
    ["ir_r3_k3_s2_e6_c32"],
    ["ir_r4_k3_s2_e6_c64"],
    ["ir_r3_k3_s1_e6_c96"],
    ["ir_r3_k3_s2_e6_c160"],
    ["ir_r1_k3_s1_e6_c320"],
]


NOMINAL_PX = (
    224,
    240,
    260,
    300,
    380,
    456,
    528,
    600,
)  # image side of EfficientNet b0..b7 (timm's and the authors' tables)


class InvertedResidualEncoder(Encoder):
    """EfficientNet b0..b7 (Tan and Le 2019, arXiv:1905.11946) or MobileNetV2 at any width.

    (B, bands, H, W) -> features at strides 2, 4, 8, ...: the last block of each resolution, before timm's 1x1 head,
    which is not built. The width multiplier scales every channel count, the stem's too, rounded to multiples of 8.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        options = config.encoder_options
        if isinstance(options, MobileNetV2Options):
            net = EfficientNetFeatures(
                decode_arch_def(_MOBILENET_V2),
                in_chans=config.in_bands,
                output_stride=config.output_stride,
                act_layer=nn.ReLU6,
                drop_path_rate=options.drop_path_rate or 0.0,
                round_chs_fn=partial(round_channels, multiplier=options.width_multiplier),
            )
        else:
            net = timm.create_model(
                config.encoder,
                features_only=True,
                in_chans=config.in_bands,
                output_stride=config.output_stride,
                drop_path_rate=options.drop_path_rate or 0.0,
            )
        self.channels = net.feature_info.channels()[: options.depth]
        self.strides = strides_at(config.output_stride, 2, options.depth)
        self.taps = [info["stage"] for info in net.feature_info.get_dicts()][: options.depth]  # blocks before a feature
        self.conv_stem, self.bn1 = net.conv_stem, net.bn1
        self.blocks = net.blocks[: self.taps[-1]]
        if config.dilation == "uniform":
            for index, stage in enumerate(self.blocks):
                nominal = 2 ** (1 + sum(tap <= index for tap in self.taps))
                if nominal > config.output_stride:
                    dilate(stage, nominal // config.output_stride)
                    if isinstance(options, MobileNetV2Options) and not options.dilate_later_blocks:
                        dilate(stage[1:], 1)
        _end_drop_path_at(self.blocks, options.drop_path_rate or 0.0)
        self.pad_px = 1
        if isinstance(options, EfficientNetOptions):
            for module in self.modules():
                if options.norm_eps is not None and isinstance(module, nn.BatchNorm2d):
                    module.eps = options.norm_eps
            if options.padding == "nominal":
                pad_for(self, NOMINAL_PX[int(config.encoder[-1])])
                self.pad_px = 2**options.depth  # that padding fits even maps; on odd ones a row would be lost

    def forward(self, images: Tensor, last_only: bool = False) -> list[Tensor]:
        x = self.bn1(self.conv_stem(pad_to(images, self.pad_px)))
        features: list[Tensor] = []
        for index, stage in enumerate(self.blocks):
            if last_only:
                features.clear()
            x = stage(x)
            if index + 1 in self.taps:
                features.append(x)
        return features if self.pad_px == 1 else cut_to(images, features, self.strides)


def pad_to(images: Tensor, multiple: int) -> Tensor:
    """Images with zeros (the mean colour) at right and bottom, up to a multiple of `multiple` px."""
    return images if multiple == 1 else F.pad(images, (0, -images.shape[3] % multiple, 0, -images.shape[2] % multiple))


def cut_to(images: Tensor, features: list[Tensor], strides: list[int]) -> list[Tensor]:
    """The features' cells that lie on the images: ceil(side / stride) of them along each side."""
    height, width = images.shape[2], images.shape[3]
    return [
        x[:, :, : -(-height // s), : -(-width // s)] for x, s in zip(features, strides[-len(features) :], strict=True)
    ]


def _end_drop_path_at(blocks: nn.Module, rate: float) -> None:
    """Stretches stochastic depth so that the deepest block built is skipped with `rate` (timm stops short of it)."""
    drops = [module for module in blocks.modules() if isinstance(module, DropPath)]
    deepest = max((drop.drop_prob for drop in drops), default=0.0)
    for drop in drops:
        drop.drop_prob *= rate / deepest
