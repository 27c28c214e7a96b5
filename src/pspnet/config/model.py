"""ModelConfig: every choice that makes a network. No torch here, so a form or `--help` can read it at once."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pspnet.config.base import Settings
from pspnet.errors import ConfigError

Unit = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # RGB, 0..255
IMAGENET_STD = (58.395, 57.12, 57.375)


class EncoderOptions(Settings):
    """What only some encoders have. A value that the chosen encoder does not know is refused."""

    depth: Literal[3, 4, 5] = Field(
        5,
        description="Number of times the encoder may halve the image: 5 keeps all stages, 4 cuts a ResNet after its "
        "third residual stage, 3 after its second (as segmentation-models-pytorch's PSPNet does).",
    )
    width_multiplier: float = Field(
        1.0, gt=0.0, le=4.0, description="MobileNetV2 only: channels times this number, rounded to multiples of 8."
    )
    dilate_second_conv: bool = Field(
        True, description="ResNet 18/34 only: whether the second 3x3 of a block is dilated too (MMSegmentation: no)."
    )
    dilate_later_blocks: bool = Field(
        True,
        description="MobileNetV2 only: whether the blocks behind a stage's first are dilated too (MMSegmentation: "
        "no). Matters with dilation = uniform.",
    )
    stride_in_first_conv: bool = Field(
        False,
        description="ResNet 50 and deeper only: a stage halves the map in its first 1x1 convolution, as the paper's "
        "Caffe models do, instead of in its 3x3.",
    )
    average_shortcut: bool = Field(
        False,
        description="ResNet only: shortcuts halve the map by averaging 2 x 2 cells before their 1x1 convolution "
        "(MMSegmentation's ResNetV1d), instead of skipping cells.",
    )
    padding: Literal["centred", "nominal"] = Field(
        "centred",
        description="EfficientNet only: how strided convolutions pad. 'nominal' pads as TensorFlow does at the "
        "size the subtype was made for (b0: 224 px), more at right and bottom; smp's EfficientNets were trained so.",
    )
    norm_eps: float | None = Field(
        None,
        gt=0.0,
        description="EfficientNet only: what batch norm adds to a variance. None: 1e-5; weights that come "
        "from TensorFlow were trained with 1e-3.",
    )
    drop_path_rate: float | None = Field(
        None,
        ge=0.0,
        lt=1.0,
        description="Stochastic depth: probability that the deepest block is skipped in training, "
        "growing linearly over the blocks. None: 0.2 for Swin, 0 elsewhere.",
    )
    window_size: Positive | None = Field(
        None,
        description="Swin only: side of the attention window in patches of 4 px. None: 7 (12 where the name says).",
    )
    patch_norm: bool = Field(True, description="Swin only: layer normalisation after the patch embedding.")
    absolute_position_embedding: bool = Field(
        False, description="Swin only: adds a learned embedding of absolute position, resized to any input."
    )
    drop_rate: Unit = Field(0.0, description="Swin only: dropout in the MLPs, the projections and after the embedding.")
    attention_drop_rate: Unit = Field(0.0, description="Swin only: dropout of the attention weights.")
    qkv_bias: bool = Field(True, description="Swin only: a learned bias on queries, keys and values.")
    mlp_ratio: float = Field(4.0, gt=0.0, description="Swin only: hidden width of an MLP over its input width.")
    embed_dim: Positive | None = Field(
        None, description="Swin only: channels of the first stage. None: the size's own."
    )
    depths: tuple[Positive, Positive, Positive, Positive] | None = Field(
        None, description="Swin only: blocks of each stage. None: the size's own."
    )
    heads: tuple[Positive, Positive, Positive, Positive] | None = Field(
        None, description="Swin only: attention heads of each stage. None: the size's own."
    )


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


class PointRendOptions(Settings):
    """Point refinement (Kirillov et al. 2020, arXiv:1912.08193)."""

    train_points: Positive = Field(2048, description="Points of each image that are trained on.")
    oversample: float = Field(3.0, ge=1.0, description="Candidates drawn for each training point.")
    importance: Unit = Field(0.75, description="Share of the training points chosen by uncertainty.")
    steps: Positive = Field(2, description="Doublings of the coarse logits at inference.")
    points: Positive = Field(8096, description="Most uncertain points refined after each doubling.")
    channels: Positive = Field(256, description="Width of the point network.")
    layers: Positive = Field(3, description="Hidden layers of the point network.")


class ModelConfig(Settings):
    """A network, completely. `PSPNet(config)` builds it; a checkpoint carries it."""

    title = "model"

    encoder: str = Field(
        "resnet50",
        description="The network that sees: resnet18/34/50/101/152/269 (with s or c for the deep stems of "
        "semseg and MMSegmentation), efficientnet_b0..b7, mobilenetv2, swin_tiny/small/base/large, or any timm name.",
    )
    encoder_weights: str = Field(
        "random",
        description="'random', 'imagenet', or the path of a weights file: what `pspnet.build_model` and training load.",
    )
    encoder_options: EncoderOptions = Field(EncoderOptions(), description="Settings of the encoder.")
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
        le=1.0,
        description="The network looks at the image at this size and gives its logits at the image's own: 0.5 costs a "
        "quarter of the time, and thin things.",
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
    reduce: bool = Field(True, description="Branches reduce the channels to 1 / number of bins (the paper's 'DR').")
    pyramid_options: PyramidOptions = Field(PyramidOptions(), description="Details of the pyramid.")
    fusion: Literal["folded", "plain"] = Field(
        "folded", description="How the fusion is computed: the same numbers; 'folded' never builds the concatenation."
    )
    concat: Literal["input_first", "pooled_first"] = Field(
        "input_first", description="Order of the fusion's input channels: it matters only for imported weights."
    )
    decoder: Literal["bilinear", "progressive", "unet", "fpn"] = Field(
        "bilinear",
        description="From coarse features to pixels: one resize, three learned doublings, or skip connections "
        "from finer features (unet, fpn).",
    )
    decoder_channels: Positive | None = Field(
        None,
        description="Channels that the decoder hands to the classifier. None: bilinear 512, progressive 64, unet 64, "
        "fpn 256.",
    )
    dropout: Unit | None = Field(
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
    def _derive_output_stride(cls, values: Any) -> Any:
        """A Swin has one output stride that works: nobody need ask for it."""
        if (
            isinstance(values, dict)
            and "output_stride" not in values
            and encoder_family(str(values.get("encoder"))) == "swin"
        ):
            return {**values, "output_stride": 32}
        return values

    @model_validator(mode="after")
    def _no_contradictions(self) -> ModelConfig:
        family = encoder_family(self.encoder)
        self._check_bands()
        _check_options(self.encoder, family, self.encoder_options)
        if family == "swin" and self.output_stride != 32:
            raise ConfigError(
                f"output_stride = {self.output_stride} with encoder = {self.encoder}: shifted windows cannot be "
                "dilated, so Swin's last stage stays at 32. Set output_stride to 32; decoder fpn or unet brings the "
                "resolution back"
            )
        if self.encoder_options.depth < 5 and self.output_stride > 2**self.encoder_options.depth:
            raise ConfigError(
                f"output_stride = {self.output_stride} with encoder_options.depth = {self.encoder_options.depth}: "
                f"{self.encoder_options.depth} halvings reach {2**self.encoder_options.depth}. "
                f"Set output_stride to {2**self.encoder_options.depth} or less"
            )
        if len(set(self.bins)) != len(self.bins):
            raise ConfigError(f"bins = {self.bins}: each level once")
        channels = last_channels(self)
        divided = self.reduce and self.pyramid == "standard" and not self.pyramid_options.branch_channels
        if self.bins and divided and channels and channels % len(self.bins):
            raise ConfigError(
                f"bins = {self.bins} with reduce = true: {len(self.bins)} levels do not divide the {channels} channels "
                f"of "
                f"{self.encoder}. Use another number of levels, or reduce = false"
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
        """Channels that reach the classifier (SPEC H12)."""
        return self.decoder_channels or {"bilinear": 512, "progressive": 64, "unet": 64, "fpn": 256}[self.decoder]

    @property
    def classifier_dropout(self) -> float:
        """Dropout right before the classifier (SPEC H11)."""
        if self.dropout is not None:
            return self.dropout
        return 0.15 if self.decoder == "progressive" else 0.1


Family = Literal["resnet", "efficientnet", "mobilenetv2", "swin", "timm"]

SWIN_SIZES: dict[str, tuple[int, tuple[int, ...], tuple[int, ...]]] = {  # embed_dim, depths, heads (Liu et al. 2021)
    "tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "small": (96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "base": (128, (2, 2, 18, 2), (4, 8, 16, 32)),
    "large": (192, (2, 2, 18, 2), (6, 12, 24, 48)),
}


def encoder_family(name: str) -> Family:
    """Which of our families an encoder's name belongs to; 'timm' is everything else."""
    if re.fullmatch(r"resnet(18|34|50|101|152|269)[sc]?", name):
        return "resnet"
    if re.fullmatch(r"efficientnet_b[0-7]", name):
        return "efficientnet"
    if name == "mobilenetv2":
        return "mobilenetv2"
    if re.fullmatch(r"swin_(tiny|small|base|large)", name):
        return "swin"
    return "timm"


_FAMILY_OPTIONS: dict[str, set[str]] = {
    "resnet": {"depth", "dilate_second_conv", "stride_in_first_conv", "average_shortcut", "drop_path_rate"},
    "efficientnet": {"depth", "drop_path_rate", "padding", "norm_eps"},
    "mobilenetv2": {"depth", "width_multiplier", "dilate_later_blocks", "drop_path_rate"},
    "swin": {
        "window_size",
        "patch_norm",
        "absolute_position_embedding",
        "drop_rate",
        "drop_path_rate",
        "attention_drop_rate",
        "qkv_bias",
        "mlp_ratio",
        "embed_dim",
        "depths",
        "heads",
    },
    "timm": {"depth", "drop_path_rate"},
}


def encoder_option_names(encoder: str) -> set[str]:
    """The names of the encoder options that an encoder has; a form shows these only."""
    return set(_FAMILY_OPTIONS[encoder_family(encoder)])


def _check_options(encoder: str, family: Family, options: EncoderOptions) -> None:
    changed = {
        name for name in options.model_fields_set if getattr(options, name) != EncoderOptions.model_fields[name].default
    }
    foreign = sorted(changed - _FAMILY_OPTIONS[family])
    if foreign:
        raise ConfigError(
            f"encoder_options.{foreign[0]} = {getattr(options, foreign[0])!r} with encoder = {encoder}: it has no such "
            f"option; it has {', '.join(sorted(_FAMILY_OPTIONS[family])) or 'none'}"
        )


def last_channels(config: ModelConfig) -> int | None:
    """Channels of the coarsest features, for the families whose widths are known without building them; else None."""
    family, depth = encoder_family(config.encoder), config.encoder_options.depth
    if family == "resnet":
        layers = int(re.findall(r"\d+", config.encoder)[0])
        return (512 if layers < 50 else 2048) >> (5 - depth)
    if family == "efficientnet":
        width = {"b0": 1.0, "b1": 1.0, "b2": 1.1, "b3": 1.2, "b4": 1.4, "b5": 1.6, "b6": 1.8, "b7": 2.0}[
            config.encoder[-2:]
        ]
        return round_channels({5: 320, 4: 112, 3: 40}[depth] * width)
    if family == "mobilenetv2":
        return round_channels({5: 320, 4: 96, 3: 32}[depth] * config.encoder_options.width_multiplier)
    if family == "swin":
        size = config.encoder.removeprefix("swin_")
        return (config.encoder_options.embed_dim or SWIN_SIZES[size][0]) * 8
    return None


def round_channels(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of 8, never more than 10 % below (MobileNetV2's rule, arXiv:1801.04381)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
