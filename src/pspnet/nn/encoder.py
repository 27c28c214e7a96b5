"""Encoders under one contract: a list of features, fine to coarse, at a chosen output stride, from any number of bands.

ResNet, EfficientNet and MobileNetV2 are timm's, under timm's parameter names; Swin is in nn/swin.py; any other name is
looked up in timm. Only weights are random here: pspnet.weights.encoder_weights brings ImageNet's or a file's.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.layers import DropPath
from timm.models import get_pretrained_cfg
from timm.models._efficientnet_builder import decode_arch_def, round_channels
from timm.models.efficientnet import EfficientNetFeatures
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

from pspnet.config.model import ModelConfig, encoder_family
from pspnet.errors import ConfigError, did_you_mean
from pspnet.nn.dilation import dilate, pad_for, strides_at

OWN_NAMES = tuple(
    [f"resnet{layers}{stem}" for layers in (18, 34, 50, 101, 152, 269) for stem in ("", "s", "c")]
    + [f"efficientnet_b{size}" for size in range(8)]
    + ["mobilenetv2"]
    + [f"swin_{size}" for size in ("tiny", "small", "base", "large")]
)


class Encoder(nn.Module):
    """(B, bands, H, W), normalised -> features, fine to coarse; feature i is (B, channels[i], h, w) with h and w the
    image's sides over strides[i], rounded up. Every parameter takes part in a feature; there is no classifier."""

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
        options = config.encoder_options
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
            if layers < 50 and not options.dilate_second_conv:
                for residual in stage:
                    dilate(residual.conv2, 1)
            if layers >= 50 and options.stride_in_first_conv:
                first = stage[0]
                first.conv1.stride, first.conv2.stride = first.conv2.stride, (1, 1)
        self.channels = [info["num_chs"] for info in net.feature_info]
        self.strides = strides_at(config.output_stride, 2, options.depth)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.act1(self.bn1(self.conv1(images)))
        features = [x]
        x = self.maxpool(x)
        for name in self.stages:
            x = self.get_submodule(name)(x)
            features.append(x)
        return features


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
        if config.encoder == "mobilenetv2":
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
                    if not options.dilate_later_blocks:
                        dilate(stage[1:], 1)
        _end_drop_path_at(self.blocks, options.drop_path_rate or 0.0)
        if options.norm_eps is not None:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eps = options.norm_eps
        self.pad_px = 1
        if options.padding == "nominal":
            pad_for(self, NOMINAL_PX[int(config.encoder[-1])])
            self.pad_px = 2**options.depth  # that padding fits even maps; on odd ones a row would be lost

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.bn1(self.conv_stem(pad_to(images, self.pad_px)))
        features = []
        for index, stage in enumerate(self.blocks):
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
    return [x[:, :, : -(-height // s), : -(-width // s)] for x, s in zip(features, strides, strict=True)]


class TimmEncoder(Encoder):
    """Any other network of timm that gives a pyramid of features (convnext_tiny, regnety_040, ...).

    Raises ConfigError for a name that timm does not have, for networks that take one image size only or whose features
    are no pyramid (a plain ViT), and for an output stride that dilation cannot give.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        depth = config.encoder_options.depth
        net = _timm_features(config, None)
        finest, total = net.feature_info.reduction()[0], len(net.feature_info.out_indices)
        count = sum(finest * 2**index <= 2**depth for index in range(total))
        if 0 < count < total:
            net = _timm_features(config, tuple(range(count)))
        self.channels: list[int] = list(net.feature_info.channels())
        self.strides = strides_at(config.output_stride, finest, count)
        _check_strides(config, list(net.feature_info.reduction()), self.strides)
        if config.dilation == "uniform" and finest * 2 ** (count - 1) > config.output_stride:
            for index, stage in enumerate(_stages(net, config)):
                if finest * 2**index > config.output_stride:
                    dilate(stage, finest * 2**index // config.output_stride)
        self.channels_last = str(getattr(net, "output_fmt", "NCHW")).endswith("NHWC")
        self.body = net
        self.pad_px = 1
        if not self._rounds_up(config.in_bands):
            self.pad_px = finest * 2 ** (count - 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Networks that do not round odd maps up see the image zero-padded at right and bottom; features are cut."""
        features = list(self.body(pad_to(images, self.pad_px)))
        if self.channels_last:
            features = [x.permute(0, 3, 1, 2) for x in features]
        return features if self.pad_px == 1 else cut_to(images, features, self.strides)

    def _rounds_up(self, bands: int) -> bool:
        """Whether an image of odd size gives features of ceil(size / stride): tried on a tensor without memory."""
        side = 2 * self.strides[-1] + 1
        weights = {name: torch.empty_like(value, device="meta") for name, value in self.state_dict().items()}
        image = torch.empty(1, bands, side, side, device="meta")
        training = self.training
        try:
            features = torch.func.functional_call(self.eval(), weights, image)
        except (RuntimeError, AssertionError, ValueError):  # maps that do not fit each other, or a size refused
            return False
        finally:
            self.train(training)
        return all(x.shape[2] == -(-side // s) for x, s in zip(features, self.strides, strict=True))


def _check_strides(config: ModelConfig, given: list[int], wanted: list[int]) -> None:
    if not wanted or (len(set(given)) == 1 and given != wanted):
        raise ConfigError(
            f"encoder = {config.encoder} with encoder_options.depth = {config.encoder_options.depth}: its features "
            f"have strides {given}, which is no pyramid from fine to coarse. Choose a network with stages, such as "
            "convnext_tiny, or swin_tiny for attention"
        )
    if given != wanted:
        raise ConfigError(
            f"output_stride = {config.output_stride} with encoder = {config.encoder}: timm gives strides {given}, so "
            f"this network cannot be dilated to it. Set output_stride to {given[-1]}, or choose another encoder"
        )


def _stages(net: Any, config: ModelConfig) -> list[nn.Module]:
    """The modules behind each feature: those that run after the feature before."""
    info = net.feature_info
    if isinstance(getattr(net, "blocks", None), nn.Sequential):  # the relatives of EfficientNet
        ends = [item["stage"] for item in info.get_dicts()]
        return [net.blocks[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    ends_by_name = [name.replace(".", "_") for name in info.module_name()]  # timm's flattened names
    groups: list[nn.Module] = []
    current: list[nn.Module] = []
    for name, child in net.named_children():
        current.append(child)
        if name in ends_by_name:
            groups.append(nn.Sequential(*current))
            current = []
    if len(groups) != len(ends_by_name):
        raise ConfigError(
            f"dilation = uniform with encoder = {config.encoder}: timm does not tell where its stages begin. "
            f"Set dilation to contracted, or output_stride = {config.output_stride} to 32"
        )
    return groups


def _timm_features(config: ModelConfig, indices: tuple[int, ...] | None) -> Any:
    """timm's features-only form of a network, at the config's output stride, with random weights."""
    if not timm.is_model(config.encoder):
        names = set(OWN_NAMES).union(timm.list_models())
        hint = did_you_mean(config.encoder, names, "timm.list_models() shows its names", most=3)
        raise ConfigError(f"encoder = {config.encoder!r} is neither one of pspnet's own nor a name of timm; {hint}")
    if get_pretrained_cfg(config.encoder).fixed_input_size:
        raise ConfigError(
            f"encoder = {config.encoder}: it takes images of one size only, and scenes have many. Choose a "
            "convolutional network, or swin_tiny, swin_small, swin_base, swin_large, which take any size here"
        )
    wanted: dict[str, Any] = {}
    if config.output_stride != 32:
        wanted["output_stride"] = config.output_stride
    if config.encoder_options.drop_path_rate is not None:
        wanted["drop_path_rate"] = config.encoder_options.drop_path_rate
    if indices is not None:
        wanted["out_indices"] = indices
    try:
        net = timm.create_model(config.encoder, features_only=True, in_chans=config.in_bands, **wanted)
    except (TypeError, AssertionError, RuntimeError, ValueError, NotImplementedError) as error:
        settings = [f"{name} = {value}" for name, value in wanted.items() if name != "out_indices"]
        advice = "Set output_stride to 32" if "output_stride" in wanted else "Choose another encoder"
        if "drop_path_rate" in wanted:
            advice += ", or leave encoder_options.drop_path_rate out"
        raise ConfigError(
            f"{', '.join(settings) or 'features'} with encoder = {config.encoder}: timm cannot build it so "
            f"({' '.join(str(error).split()) or type(error).__name__}). {advice}"
        ) from error
    return net


def _end_drop_path_at(blocks: nn.Module, rate: float) -> None:
    """Stretches stochastic depth so that the deepest block built is skipped with `rate` (timm stops short of it)."""
    drops = [module for module in blocks.modules() if isinstance(module, DropPath)]
    deepest = max((drop.drop_prob for drop in drops), default=0.0)
    for drop in drops:
        drop.drop_prob *= rate / deepest


def build_encoder(config: ModelConfig) -> Encoder:
    """The encoder that a config names, with random weights; see Encoder for what it gives. Raises ConfigError."""
    family = encoder_family(config.encoder)
    if family == "resnet":
        return ResNetEncoder(config)
    if family in ("efficientnet", "mobilenetv2"):
        return InvertedResidualEncoder(config)
    if family == "swin":
        from pspnet.nn.swin import build_swin  # here, because a Swin is an Encoder: its file imports this one

        return build_swin(config)
    return TimmEncoder(config)
