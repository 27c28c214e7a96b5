"""Encoder families: which names each has and which options. No torch here: forms and `--help` read it at once.

A family is a row of FAMILIES here (what may be asked of it) and a row of nn/encoder_families.py (what builds it and
where its weights come from). A name that no row has is looked up in timm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Discriminator, Field, Tag

from pspnet.config.base import Fraction, Positive, Settings
from pspnet.errors import ConfigError

FourStages = tuple[Positive, Positive, Positive, Positive]


class EncoderOptions(Settings):
    """What every encoder has. A family adds its own in a subclass; an option without effect is refused."""

    depth: Literal[3, 4, 5] = Field(
        5,
        description="Number of times the encoder may halve the image: 5 keeps all stages, 4 cuts a ResNet after its "
        "third residual stage, 3 after its second (as segmentation-models-pytorch's PSPNet does).",
    )
    drop_path_rate: float | None = Field(
        None,
        ge=0.0,
        lt=1.0,
        description="Stochastic depth: probability that the deepest block is skipped in training, "
        "growing linearly over the blocks. None: 0.2 for Swin, 0 elsewhere.",
    )


class ResNetOptions(EncoderOptions):
    """ResNets of every depth."""

    average_shortcut: bool = Field(
        False,
        description="Shortcuts halve the map by averaging 2 x 2 cells before their 1x1 convolution "
        "(MMSegmentation's ResNetV1d), instead of skipping cells.",
    )


class BasicBlockOptions(ResNetOptions):
    """ResNet-18 and 34: two 3x3 convolutions a block."""

    dilate_second_conv: bool = Field(
        True, description="Whether the second 3x3 of a block is dilated too (MMSegmentation: no)."
    )


class BottleneckOptions(ResNetOptions):
    """ResNet-50 and deeper: 1x1, 3x3, 1x1 a block."""

    stride_in_first_conv: bool = Field(
        False,
        description="A stage halves the map in its first 1x1 convolution, as the paper's Caffe models do, instead of "
        "in its 3x3.",
    )


class EfficientNetOptions(EncoderOptions):
    """EfficientNet b0 to b7."""

    padding: Literal["centred", "nominal"] = Field(
        "centred",
        description="How strided convolutions pad. 'nominal' pads as TensorFlow does at the size the subtype was made "
        "for (b0: 224 px), more at right and bottom; smp's EfficientNets were trained so.",
    )
    norm_eps: float | None = Field(
        None,
        gt=0.0,
        description="What batch norm adds to a variance. None: 1e-5; weights from TensorFlow were trained with 1e-3.",
    )


class MobileNetV2Options(EncoderOptions):
    """MobileNetV2 at any width."""

    width_multiplier: float = Field(
        1.0, gt=0.0, le=4.0, description="Channels times this number, rounded to multiples of 8."
    )
    dilate_later_blocks: bool = Field(
        True,
        description="Whether the blocks behind a stage's first are dilated too (MMSegmentation: no). Matters with "
        "dilation = uniform.",
    )


class SwinOptions(EncoderOptions):
    """Swin transformers. Their four stages are always built."""

    depth: Literal[5] = 5
    window_size: Positive | None = Field(
        None, description="Side of the attention window in patches of 4 px. None: 7 (12 where the name says)."
    )
    patch_norm: bool = Field(True, description="Layer normalisation after the patch embedding.")
    absolute_position_embedding: bool = Field(
        False, description="Adds a learned embedding of absolute position, resized to any input."
    )
    drop_rate: Fraction = Field(0.0, description="Dropout in the MLPs, the projections and after the embedding.")
    attention_drop_rate: Fraction = Field(0.0, description="Dropout of the attention weights.")
    qkv_bias: bool = Field(True, description="A learned bias on queries, keys and values.")
    mlp_ratio: float = Field(4.0, gt=0.0, description="Hidden width of an MLP over its input width.")
    embed_dim: Positive | None = Field(None, description="Channels of the first stage. None: the size's own.")
    depths: FourStages | None = Field(None, description="Blocks of each stage. None: the size's own.")
    heads: FourStages | None = Field(None, description="Attention heads of each stage. None: the size's own.")


SWIN_SIZES: dict[str, tuple[int, tuple[int, ...], tuple[int, ...]]] = {  # embed_dim, depths, heads (Liu et al. 2021)
    "tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "small": (96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "base": (128, (2, 2, 18, 2), (4, 8, 16, 32)),
    "large": (192, (2, 2, 18, 2), (6, 12, 24, 48)),
}
_EFFICIENTNET_WIDTHS = (1.0, 1.0, 1.1, 1.2, 1.4, 1.6, 1.8, 2.0)  # b0 to b7 (Tan and Le 2019)


def round_channels(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of 8, never more than 10 % below (MobileNetV2's rule, arXiv:1801.04381)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def _efficientnet_channels(name: str, options: Any) -> int:
    return round_channels({5: 320, 4: 112, 3: 40}[options.depth] * _EFFICIENTNET_WIDTHS[int(name[-1])])


def _swin_channels(name: str, options: Any) -> int:
    return (options.embed_dim or SWIN_SIZES[name.removeprefix("swin_")][0]) * 8


@dataclass(frozen=True)
class EncoderFamily:
    """One row. names: every encoder of it, for lists in forms. pattern: a regular expression over whole names.

    last_channels: (encoder, options) -> channels of the coarsest features; None where only building tells.
    fixed_stride: the one output stride that works, for networks that cannot be dilated.
    """

    name: str
    names: tuple[str, ...]
    options: type[EncoderOptions]
    last_channels: Callable[[str, Any], int] | None
    fixed_stride: int | None = None

    @property
    def option_names(self) -> list[str]:
        """The options that can be chosen; one that allows a single value is none."""
        schema = self.options.model_json_schema()["properties"]
        return [name for name in self.options.model_fields if "const" not in schema[name]]


def _resnets(*layers: int) -> tuple[str, ...]:
    # s and c: the deep stems of semseg (64-64-128) and MMSegmentation (32-32-64)
    return tuple(f"resnet{count}{stem}" for count in layers for stem in ("", "s", "c"))


FAMILIES: dict[str, EncoderFamily] = {
    family.name: family
    for family in (
        EncoderFamily("resnet_basic", _resnets(18, 34), BasicBlockOptions, lambda _, o: 512 >> (5 - o.depth)),
        EncoderFamily(
            "resnet_bottleneck", _resnets(50, 101, 152, 269), BottleneckOptions, lambda _, o: 2048 >> (5 - o.depth)
        ),
        EncoderFamily(
            "efficientnet", tuple(f"efficientnet_b{n}" for n in range(8)), EfficientNetOptions, _efficientnet_channels
        ),
        EncoderFamily(
            "mobilenetv2",
            ("mobilenetv2",),
            MobileNetV2Options,
            lambda _, o: round_channels({5: 320, 4: 96, 3: 32}[o.depth] * o.width_multiplier),
        ),
        EncoderFamily("swin", tuple(f"swin_{size}" for size in SWIN_SIZES), SwinOptions, _swin_channels, 32),
        EncoderFamily("timm", (), EncoderOptions, None),
    )
}
OWN_NAMES = tuple(name for family in FAMILIES.values() for name in family.names)
# for lists in forms: also names of timm that people look for (Lite: without squeeze-and-excite, for small devices)
SUGGESTED_ENCODERS = (
    *OWN_NAMES,
    *(f"tf_efficientnet_lite{n}" for n in range(5)),
    "convnext_tiny",
    "convnext_small",
    "convnext_base",
)


def encoder_family(encoder: str) -> EncoderFamily:
    """The row that an encoder's name belongs to; 'timm' has every name that no other row has."""
    return next((family for family in FAMILIES.values() if encoder in family.names), FAMILIES["timm"])


class GivenOptions(dict[str, Any]):
    """Options as they were given, with the family that is to check them (pydantic chooses the model by it)."""

    family: str


def options_for(encoder: str, given: Any) -> Any:
    """Given options, addressed to the encoder's family. What other families have is refused where it says something.

    Configurations written before families had options of their own hold every option; one that is as it would be
    anyway says nothing and is dropped. Raises ConfigError for one that would have no effect.
    """
    family = encoder_family(encoder)
    if isinstance(given, EncoderOptions):
        given = given.model_dump(exclude_unset=True)
    if not isinstance(given, Mapping):
        return given
    options = GivenOptions()
    options.family = family.name
    for name, value in given.items():
        others = [row.options.model_fields[name] for row in FAMILIES.values() if name in row.options.model_fields]
        if name in family.options.model_fields or not others:
            options[name] = value
        elif all(_plain(value) != _plain(field.default) for field in others):
            raise ConfigError(
                f"encoder_options.{name} = {value!r} with encoder = {encoder}: it has no such option; it has "
                f"{', '.join(sorted(family.option_names))}"
            )
    return options


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _tag(value: Any) -> str | None:
    if isinstance(value, GivenOptions):
        return value.family
    return next((name for name, family in FAMILIES.items() if type(value) is family.options), None)


if TYPE_CHECKING:
    AnyEncoderOptions = EncoderOptions
else:  # one choice a row, so that a new family is a row and nothing else
    AnyEncoderOptions = Annotated[
        Union[tuple(Annotated[family.options, Tag(family.name)] for family in FAMILIES.values())],  # noqa: UP007
        Discriminator(_tag),
    ]
