"""What builds an encoder of each family, and which published ImageNet weights fit it.

A family's names and options are a row of config/encoders.py, which needs no torch; this is the other half of that row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from pspnet.config.encoders import EfficientNetOptions, MobileNetV2Options, SwinOptions, encoder_family
from pspnet.config.model import ModelConfig
from pspnet.nn.encoder import Encoder, InvertedResidualEncoder, ResNetEncoder
from pspnet.nn.swin import build_swin
from pspnet.nn.timm_encoder import TimmEncoder


@dataclass(frozen=True)
class FamilyNetwork:
    """build: config -> the encoder with random weights. pretrained: config -> (timm's network whose ImageNet weights
    fit, '' where none do; what may be chosen instead)."""

    build: Callable[[ModelConfig], Encoder]
    pretrained: Callable[[ModelConfig], tuple[str, str]]


def build_encoder(config: ModelConfig) -> Encoder:
    """The encoder that a config names, with random weights; see Encoder for what it gives. Raises ConfigError."""
    return FAMILY_NETWORKS[encoder_family(config.encoder).name].build(config)


def pretrained_network(config: ModelConfig) -> tuple[str, str]:
    """(name in timm of the network whose ImageNet weights fit the encoder, or ''; what to choose where none fit)."""
    return FAMILY_NETWORKS[encoder_family(config.encoder).name].pretrained(config)


def _resnet(config: ModelConfig) -> tuple[str, str]:
    return config.encoder, "resnet18, 34, 50, 101 or 152, or with a deep stem resnet50s, 101s, 152s, 50c, 101c or 152c"


def _efficientnet(config: ModelConfig) -> tuple[str, str]:
    # the networks that came from TensorFlow are the ones trained with nominal padding
    nominal = cast(EfficientNetOptions, config.encoder_options).padding == "nominal"
    hint = "encoder_options.padding = nominal with norm_eps = 0.001: then TensorFlow's weights of b0..b7 fit"
    return (f"tf_{config.encoder}" if nominal else config.encoder), hint


def _mobilenetv2(config: ModelConfig) -> tuple[str, str]:
    width = cast(MobileNetV2Options, config.encoder_options).width_multiplier
    name = {0.5: "mobilenetv2_050", 1.0: "mobilenetv2_100", 1.4: "mobilenetv2_140"}.get(width, "")
    hint = "encoder_options.width_multiplier = 0.5, 1.0 or 1.4, or encoder_weights = random or the path of a file"
    return name, hint


def _swin(config: ModelConfig) -> tuple[str, str]:
    window = cast(SwinOptions, config.encoder_options).window_size or 0
    large = window >= 12 and config.encoder in ("swin_base", "swin_large")
    return f"{config.encoder}_patch4_{'window12_384' if large else 'window7_224'}", ANY_OTHER


def _timm(config: ModelConfig) -> tuple[str, str]:
    return config.encoder, ANY_OTHER


ANY_OTHER = "encoder_weights = random, or the path of a file"
FAMILY_NETWORKS: dict[str, FamilyNetwork] = {
    "resnet_basic": FamilyNetwork(ResNetEncoder, _resnet),
    "resnet_bottleneck": FamilyNetwork(ResNetEncoder, _resnet),
    "efficientnet": FamilyNetwork(InvertedResidualEncoder, _efficientnet),
    "mobilenetv2": FamilyNetwork(InvertedResidualEncoder, _mobilenetv2),
    "swin": FamilyNetwork(build_swin, _swin),
    "timm": FamilyNetwork(TimmEncoder, _timm),
}
