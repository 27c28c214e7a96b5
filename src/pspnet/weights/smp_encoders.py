"""The encoders of smp's PSPNet: which one a state dict holds, how deep it runs, and the names of its parts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pspnet.config.model import ModelConfig, last_channels
from pspnet.errors import CheckpointError
from pspnet.weights import inverted_residuals as names
from pspnet.weights.rename_table import Drop, Foreign, Rename, listed

NOT_RUN = "a part behind the encoder's depth: in the file, but smp's PSPNet never runs it"


@dataclass(frozen=True)
class EncoderPlan:
    """config: the fields of ModelConfig that concern the encoder. first: the name of its first convolution."""

    config: dict[str, Any]
    renames: tuple[Rename, ...]
    drops: tuple[Drop, ...]
    first: str


def encoder_plan(foreign: Foreign, channels: int) -> EncoderPlan:
    """The plan of the encoder whose last features have `channels`. Raises CheckpointError for one not known here."""
    # tu-... encoders of smp wrap a network of timm as `model`
    prefix = "encoder.model." if any(name.startswith("encoder.model.") for name in foreign.state) else "encoder."
    if f"{prefix}layer1.0.conv1.weight" in foreign.state:
        return _resnet(foreign, prefix, channels)
    if "encoder.features.1.conv.0.0.weight" in foreign.state:
        return _mobilenet(foreign, channels)
    if "encoder._conv_stem.weight" in foreign.state:
        return _efficientnet(foreign, channels)
    if f"{prefix}blocks.6.0.se.conv_reduce.weight" in foreign.state:
        return _timm_efficientnet(foreign, prefix, channels)
    encoder_name = foreign.meta.get("config", {}).get("encoder_name")
    parts = listed([name for name in foreign.state if name.startswith("encoder.")], 3)
    raise CheckpointError(
        f"'{foreign.path}' has an encoder ({encoder_name or parts}) that is not imported; "
        "resnet18..152, mobilenet_v2, efficientnet-b0..b7 and timm-efficientnet-b0..b7 are"
    )


def _depth(foreign: Foreign, encoder: str, channels: int) -> int:
    widths = {}
    for depth in (3, 4, 5):
        config = ModelConfig(encoder=encoder, encoder_options={"depth": depth}, output_stride=8, bins=())
        widths[depth] = last_channels(config)
        if widths[depth] == channels:
            return depth
    raise CheckpointError(
        f"'{foreign.path}': its pyramid reads {channels} channels; {encoder} gives "
        + ", ".join(f"{width} at depth {depth}" for depth, width in widths.items())
    )


def _resnet(foreign: Foreign, prefix: str, channels: int) -> EncoderPlan:
    encoder, first = f"resnet{foreign.resnet_layers(prefix)}", re.escape(prefix)
    if f"{prefix}conv1.weight" not in foreign.state:
        raise CheckpointError(f"'{foreign.path}' has a ResNet with another stem than 7 x 7, which smp's own never have")
    depth = _depth(foreign, encoder, channels)
    drops = [(rf"{first}layer{stage}\.", NOT_RUN) for stage in range(depth, 5)] + [(rf"{first}fc\.", NOT_RUN)]
    renames = ((rf"{first}(conv1|bn1|layer[1-4])\.", r"encoder.\1."),)
    config = {"encoder": encoder, "encoder_options": {"depth": depth}}
    return EncoderPlan(config, renames, tuple(drops), f"{prefix}conv1.weight")


def _mobilenet(foreign: Foreign, channels: int) -> EncoderPlan:
    if channels == 1280:
        raise CheckpointError(
            f"'{foreign.path}' has mobilenet_v2 at encoder_depth 5, whose last features are ImageNet's 1280-channel head; "
            "pspnet's MobileNetV2 ends before it. Depths 3 (smp's default) and 4 are imported"
        )
    depth = _depth(foreign, "mobilenetv2", channels)
    run = sum(names.MOBILENET_REPEATS[: names.STAGES_RUN[depth]])
    drops = tuple((rf"encoder\.features\.{number}\.", NOT_RUN) for number in range(run + 1, 19))
    config = {"encoder": "mobilenetv2", "encoder_options": {"depth": depth}}
    return EncoderPlan(config, names.torchvision_mobilenet(r"encoder\."), drops, "encoder.features.0.0.weight")


def _efficientnet(foreign: Foreign, channels: int) -> EncoderPlan:
    """smp's own implementation: it pads as TensorFlow would at the nominal image size, and its norms add 1e-3."""
    count = foreign.count(r"encoder\._blocks\.(\d+)\.")
    size = _efficientnet_size(foreign, count, f"encoder._blocks.{count - 1}._project_conv.weight")
    encoder = f"efficientnet_{size}"
    depth = _depth(foreign, encoder, channels)
    run = sum(names.efficientnet_repeats(size)[: names.STAGES_RUN[depth]])
    drops = [(rf"encoder\._blocks\.{number}\.", NOT_RUN) for number in range(run, count)]
    drops.append((r"encoder\.(_conv_head|_bn1|_fc)\.", NOT_RUN))
    options = {"depth": depth, "padding": "nominal", "norm_eps": 1e-3}
    config = {"encoder": encoder, "encoder_options": options}
    return EncoderPlan(config, names.smp_efficientnet(r"encoder\.", size), tuple(drops), "encoder._conv_stem.weight")


def _timm_efficientnet(foreign: Foreign, prefix: str, channels: int) -> EncoderPlan:
    """timm-efficientnet-* and tu-efficientnet_*: padding, norms and names are those of our own encoder."""
    first = re.escape(prefix)
    counts = [foreign.count(rf"{first}blocks\.{stage}\.(\d+)\.") for stage in range(7)]
    size = _efficientnet_size(foreign, sum(counts), f"{prefix}blocks.6.{counts[6] - 1}.conv_pwl.weight")
    encoder = f"efficientnet_{size}"
    depth = _depth(foreign, encoder, channels)
    drops = [(rf"{first}blocks\.{stage}\.", NOT_RUN) for stage in range(names.STAGES_RUN[depth], 7)]
    drops.append((rf"{first}(conv_head|bn2|classifier)\.", NOT_RUN))
    config = {"encoder": encoder, "encoder_options": {"depth": depth}}
    renames = ((rf"{first}(conv_stem|bn1|blocks)\.", r"encoder.\1."),)
    return EncoderPlan(config, renames, tuple(drops), f"{prefix}conv_stem.weight")


def _efficientnet_size(foreign: Foreign, count: int, last: str) -> str:
    channels = foreign.shape(last)[0]
    if (count, channels) not in names.EFFICIENTNET_SIZES:
        raise CheckpointError(
            f"'{foreign.path}' has an EfficientNet of {count} blocks ending in {channels} channels, which is none of b0..b7"
        )
    return names.EFFICIENTNET_SIZES[count, channels]
