"""ModelConfig: every choice that makes a network. No torch here, so a form or `--help` can read it at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from pspnet.config.base import Fraction, Positive, Settings
from pspnet.config.encoders import AnyEncoderOptions, EncoderOptions, encoder_family, options_for
from pspnet.errors import ConfigError

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # RGB, 0..255
IMAGENET_STD = (58.395, 57.12, 57.375)


class PyramidOptions(Settings):
    """Details of the pyramid's branches and of the fusion that follows. The defaults are the paper's."""

    branch_norm: Literal["batch", "except_global", "none"] = Field(
        "batch",
        description="Batch norm and ReLU after a branch's 1x1 convolution; 'except_global' spares the 1 x 1 bin "
        "(a bias and a ReLU there); 'none' is the bare convolution.",
    )
    branch_bias: bool = Field(False, description="A bias on the branches' convolutions that have no norm.")
    branch_channels: Positive | None = Field(
        None,
        description="Channels of each branch. None: as `reduce` says. MMSegmentation and CSAIL fix 512, which for "
        "encoders other than ResNet-50 and deeper is neither the input's nor its quarter.",
    )
    fusion_kernel: Literal[1, 3] = Field(3, description="Side of the convolution that fuses pyramid and features.")
    fusion_norm: bool = Field(True, description="Batch norm after the fusion; without it the convolution has a bias.")
    fusion_channels: Positive | None = Field(
        None,
        description="Channels after the fusion. None: decoder_channels for the bilinear decoder, else 512 "
        "(1024 for the progressive pyramid).",
    )


# what the progressive pyramid decides itself; fusion_channels is left to choose
DECIDED_BY_PROGRESSIVE = ("branch_norm", "branch_bias", "branch_channels", "fusion_kernel", "fusion_norm")


def _differs(settings: Settings, name: str) -> bool:
    return bool(getattr(settings, name) != type(settings).model_fields[name].default)


class PointRendOptions(Settings):
    """Point refinement (Kirillov et al. 2020, arXiv:1912.08193)."""

    train_points: Positive = Field(2048, description="Points of each image that are trained on.")
    oversample: float = Field(3.0, ge=1.0, description="Candidates drawn for each training point.")
    importance: Fraction = Field(0.75, description="Share of the training points chosen by uncertainty.")
    steps: Positive = Field(2, description="Doublings of the coarse logits at inference.")
    points: Positive = Field(8096, description="Most uncertain points refined after each doubling.")
    channels: Positive = Field(256, description="Width of the point network.")
    layers: Positive = Field(3, description="Hidden layers of the point network.")


@dataclass(frozen=True)
class DecoderFacts:
    """about: a few words for help and forms. channels: what it hands to the classifier unless told otherwise. reads_from: the
    finest stride that it reads; None where it reads the coarsest features only."""

    about: str
    channels: int
    reads_from: int | None = None


# a decoder is a row here and its class in nn/decoders.py
DECODER_FACTS: dict[str, DecoderFacts] = {
    "bilinear": DecoderFacts("one resize", 512),
    "progressive": DecoderFacts("three learned doublings", 64),
    "unet": DecoderFacts("skip connections from all finer features", 64, 1),
    "fpn": DecoderFacts("skip connections from stride 4 on, fused", 256, 4),
    "fcn": DecoderFacts("the sums of FCN-8s", 256, 8),
}
if TYPE_CHECKING:
    DecoderName = str
else:
    DecoderName = Literal[tuple(DECODER_FACTS)]


class ModelConfig(Settings):
    """A network, completely. `PSPNet(config)` builds it; a checkpoint carries it."""

    title = "model"

    encoder: str = Field(
        "resnet50",
        description="Encoder network: resnet18/34/50/101/152/269 (with s or c for the deep stems of "
        "semseg and MMSegmentation), efficientnet_b0..b7, mobilenetv2, swin_tiny/small/base/large, or any timm name.",
    )
    encoder_weights: str = Field(
        "random",
        description="'random', 'imagenet', or the path of a weights file: what `pspnet.build_model` and training load.",
    )
    encoder_options: AnyEncoderOptions = Field(EncoderOptions(), description="Options of the encoder.")
    in_bands: Positive = Field(3, description="Bands of an input image.")
    num_classes: int = Field(150, ge=1, le=255, description="Classes told apart; 255 is reserved for 'ignore'.")
    mean: tuple[float, ...] | None = Field(
        None, description="Mean of each band in the input's own units. None: ImageNet's (0..255 images)."
    )
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        None, description="Standard deviation of each band in the input's own units. None: ImageNet's."
    )
    input_scale: float = Field(
        1.0,
        gt=0.0,
        le=2.0,
        description="The network looks at the image at this size and gives its logits at the image's own: 0.5 costs a "
        "quarter of the time, and thin things; 1.5 costs twice the time and finds more of them in small images.",
    )
    output_stride: Literal[8, 16, 32] = Field(
        8, description="Input pixels per feature cell. 8 is the paper's; 16 and 32 are faster and coarser. Swin: 32."
    )
    dilation: Literal["contracted", "uniform"] = Field(
        "uniform",
        description="Dilation of a dilated stage's first block: 'uniform' the stage's own (paper, semseg), "
        "'contracted' the previous stage's (timm, MMSegmentation, torchvision).",
    )
    align_corners: bool = Field(
        False, description="How bilinear resizing places pixels. semseg and Caffe: true; MMSegmentation: false."
    )
    bins: tuple[Positive, ...] = Field(
        (1, 2, 3, 6), description="Cells per side of each pyramid level; empty is the dilated FCN baseline."
    )
    pool: Literal["avg", "max"] = Field("avg", description="Pooling inside a cell.")
    pyramid: Literal["standard", "progressive"] = Field(
        "standard",
        description="'standard' is the paper's. 'progressive': no reduction, no norm, no bias in the branches, "
        "pooled maps first, a 1x1 fusion with bias to 1024 and ReLU.",
    )
    reduce: bool = Field(
        True,
        description="Branches reduce the channels to 1 / number of bins, rounded down (the paper's 'DR').",
    )
    pyramid_options: PyramidOptions = Field(PyramidOptions(), description="Details of the pyramid.")
    fusion: Literal["folded", "plain"] = Field(
        "folded", description="How the fusion is computed: the same numbers; 'folded' never builds the concatenation."
    )
    concat: Literal["input_first", "pooled_first"] = Field(
        "input_first", description="Order of the fusion's input channels: it matters only for imported weights."
    )
    decoder: DecoderName = Field(
        "bilinear",
        description="From coarse features to pixels. "
        + "; ".join(f"{name}: {row.about}" for name, row in DECODER_FACTS.items())
        + ".",
    )
    decoder_channels: Positive | None = Field(
        None,
        description="Channels that the decoder hands to the classifier. None: "
        + ", ".join(f"{name} {row.channels}" for name, row in DECODER_FACTS.items())
        + ".",
    )
    dropout: Fraction | None = Field(
        None, description="Dropout probability right before the classifier. None: 0.1, or 0.15 for progressive."
    )
    classifier_kernel: Literal[1, 3] = Field(1, description="Side of the last convolution.")
    auxiliary: Literal["pixel", "image", "none"] = Field(
        "pixel", description="A second output in training: a class per pixel, or the classes in the image."
    )
    auxiliary_channels: Positive | None = Field(
        None, description="Hidden channels of the 'pixel' auxiliary head. None: a quarter of the stage's it reads."
    )
    auxiliary_stage: Literal[-4, -3, -2, -1] = Field(
        -2, description="Stage the auxiliary head reads, counted from the last; -2 is ResNet's third."
    )
    pointrend: bool = Field(False, description="Refines uncertain pixels, most of them on borders, point by point.")
    pointrend_options: PointRendOptions = Field(PointRendOptions(), description="Settings of PointRend.")

    @model_validator(mode="before")
    @classmethod
    def _by_family(cls, values: Any) -> Any:
        """The encoder's family decides which options there are, and for Swin the output stride: nobody need ask for it."""
        if not isinstance(values, dict):
            return values
        encoder = str(values.get("encoder", cls.model_fields["encoder"].default))
        fixed = encoder_family(encoder).fixed_stride
        derived = {"output_stride": fixed} if fixed and "output_stride" not in values else {}
        return {**values, **derived, "encoder_options": options_for(encoder, values.get("encoder_options", {}))}

    @model_validator(mode="after")
    def _no_contradictions(self) -> ModelConfig:
        family = encoder_family(self.encoder)
        self._check_bands()
        if family.fixed_stride and self.output_stride != family.fixed_stride:
            raise ConfigError(
                f"output_stride = {self.output_stride} with encoder = {self.encoder}: shifted windows cannot be "
                f"dilated, so its last stage stays at {family.fixed_stride}. Set output_stride to "
                f"{family.fixed_stride}; decoder fpn or unet brings the resolution back"
            )
        if self.encoder_options.depth < 5 and self.output_stride > 2**self.encoder_options.depth:
            raise ConfigError(
                f"output_stride = {self.output_stride} with encoder_options.depth = {self.encoder_options.depth}: "
                f"{self.encoder_options.depth} halvings reach {2**self.encoder_options.depth}. "
                f"Set output_stride to {2**self.encoder_options.depth} or less"
            )
        if len(set(self.bins)) != len(self.bins):
            raise ConfigError(f"bins = {self.bins}: each level once")
        if self.pyramid == "progressive":
            idle = [name for name in DECIDED_BY_PROGRESSIVE if _differs(self.pyramid_options, name)]
            if idle:
                raise ConfigError(
                    f"pyramid_options.{idle[0]} = {getattr(self.pyramid_options, idle[0])!r} with pyramid = progressive: "
                    "it has no effect there, since that pyramid's branches are bare convolutions and its fusion a 1x1 "
                    "with bias. Leave it out, or set pyramid to standard"
                )
        return self

    def _check_bands(self) -> None:
        for name in ("mean", "std"):
            given = getattr(self, name)
            if given is not None and len(given) != self.in_bands:
                raise ConfigError(f"{name} has {len(given)} values, in_bands = {self.in_bands}: give one for each band")

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(mean, std), each with `in_bands` values in the input's units."""
        bands = self.in_bands
        if bands == 3:
            return self.mean or IMAGENET_MEAN, self.std or IMAGENET_STD
        # no ImageNet statistics exist for other band counts: the average of the three keeps 0..255 inputs in range
        return self.mean or (sum(IMAGENET_MEAN) / 3,) * bands, self.std or (sum(IMAGENET_STD) / 3,) * bands

    @property
    def classifier_channels(self) -> int:
        """Channels that reach the classifier."""
        return self.decoder_channels or DECODER_FACTS[self.decoder].channels

    @property
    def classifier_dropout(self) -> float:
        """Dropout right before the classifier."""
        if self.dropout is not None:
            return self.dropout
        return 0.15 if self.decoder == "progressive" else 0.1


def last_channels(config: ModelConfig) -> int | None:
    """Channels of the coarsest features, for the families whose widths are known without building them; else None."""
    rule = encoder_family(config.encoder).last_channels
    return rule(config.encoder, config.encoder_options) if rule else None
