"""PSPNet: encoder, pyramid, decoder, classifier and the heads that training adds, in one visible place."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from fractions import Fraction
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pspnet.config.model import ModelConfig
from pspnet.nn.blocks import resize
from pspnet.nn.decoders import build_decoder
from pspnet.nn.encoder_families import build_encoder
from pspnet.nn.heads import AuxiliaryHead, ImageHead
from pspnet.nn.pointrend import PointRend
from pspnet.nn.pyramid import PyramidPooling


class PointOutputs(NamedTuple):
    """Points that PointRend trains on: coordinates (B, N, 2) as (x, y) in 0..1 and logits (B, K, N).

    `pspnet.nn.pointrend.labels_at_points` gives their labels.
    """

    coordinates: Tensor
    logits: Tensor


class TrainOutputs(NamedTuple):
    """What training sees. logits, auxiliary: (B, K, H, W) at the input's size; image_logits: (B, K)."""

    logits: Tensor
    auxiliary: Tensor | None = None
    image_logits: Tensor | None = None
    points: PointOutputs | None = None


_weights_follow: ContextVar[bool] = ContextVar("weights_follow", default=False)


@contextmanager
def weights_follow() -> Iterator[None]:
    """For those who fill the networks that they build inside: no warning that the weights are random."""
    token = _weights_follow.set(True)
    try:
        yield
    finally:
        _weights_follow.reset(token)


class PSPNet(nn.Module):
    """The pyramid scene parsing network (Zhao et al. 2017, arXiv:1612.01105).

    forward: (B, bands, H, W) in the images' own value range -> logits (B, K, H, W), any H and W.
    forward_train: the same images -> TrainOutputs; what the config leaves out is None.
    The first line normalises with the buffers `mean` and `std` (bands,), so nobody else has to. The network never
    computes a loss. In training a batch of one image works: see PyramidPooling for what its 1 x 1 bin does.

    Its weights are random, and files are not its business: where config.encoder_weights asks for others it warns, since
    pspnet.build_model(config) and pspnet.train bring them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        if (
            config.encoder_weights != "random"
            and not _weights_follow.get()
            and torch.get_default_device().type != "meta"
        ):
            warnings.warn(
                f"encoder_weights = {config.encoder_weights}: PSPNet(config) starts from random weights; "
                "pspnet.build_model(config) loads them",
                stacklevel=2,
            )
        mean, std = config.normalisation
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))
        self.encoder = build_encoder(config)
        channels, strides = list(self.encoder.channels), list(self.encoder.strides)
        self.pyramid = PyramidPooling(channels[-1], config)
        self.decoder = build_decoder([*channels[:-1], self.pyramid.channels], strides, config)
        self.dropout = nn.Dropout2d(config.classifier_dropout)
        kernel = config.classifier_kernel
        self.classifier = nn.Conv2d(self.decoder.channels, config.num_classes, kernel, padding=kernel // 2)
        stage = max(config.auxiliary_stage, -len(channels))
        if config.auxiliary == "pixel":
            self.auxiliary: nn.Module | None = AuxiliaryHead(
                channels[stage], config.num_classes, config.auxiliary_channels
            )
        elif config.auxiliary == "image":
            self.auxiliary = ImageHead(channels[stage], config.num_classes)
        else:
            self.auxiliary = None
        self.auxiliary_stage = stage
        self.pointrend = PointRend(channels, strides, config) if config.pointrend else None

    def forward(self, images: Float[Tensor, "batch bands height width"]) -> Float[Tensor, "batch classes height width"]:
        size = (images.shape[-2], images.shape[-1])
        return resize(self.coarse_logits(images), size, self.config.align_corners)

    def coarse_logits(self, images: Float[Tensor, "batch bands height width"]) -> Float[Tensor, "batch classes h w"]:
        """(B, bands, H, W) -> logits (B, K, h, w) before the last resize: the decoder's, or PointRend's where it is on."""
        needs_finer = self.decoder.reads_finer or self.pointrend is not None
        features = self.encoder(self.normalise(images), last_only=not needs_finer)
        logits = self._classify(features)
        if self.pointrend is None:
            return logits
        return self.pointrend(features, logits, (images.shape[-2], images.shape[-1]))

    def describe(self, images: Float[Tensor, "batch bands height width"]) -> tuple[Tensor, Tensor]:
        """(B, bands, H, W) -> the encoder's last feature averaged over the image (B, C), and logits (B, K, h, w) before
        PointRend and the last resize."""
        features = self.encoder(self.normalise(images))
        return features[-1].mean(dim=(2, 3)), self._classify(features)

    def forward_train(
        self, images: Float[Tensor, "batch bands height width"], input_scale: float | None = None
    ) -> TrainOutputs:
        """Every head's logits at the images' size. input_scale: in place of the config's, for progressive resizing."""
        size = (images.shape[-2], images.shape[-1])
        features = self.encoder(self.normalise(images, input_scale))
        logits = self._classify(features)
        auxiliary = image_logits = points = None
        if self.pointrend is not None:
            points = PointOutputs(*self.pointrend.at_training_points(features, logits))
        if isinstance(self.auxiliary, ImageHead):
            image_logits = self.auxiliary(features[self.auxiliary_stage])
        elif self.auxiliary is not None:
            auxiliary = resize(self.auxiliary(features[self.auxiliary_stage]), size, self.config.align_corners)
        return TrainOutputs(resize(logits, size, self.config.align_corners), auxiliary, image_logits, points)

    def normalise(
        self, images: Float[Tensor, "batch bands height width"], input_scale: float | None = None
    ) -> Float[Tensor, "batch bands h w"]:
        """The images in the units, and at the scale, that the encoder was trained with."""
        images = (images - self.mean[:, None, None]) / self.std[:, None, None]
        factor = self.config.input_scale if input_scale is None else input_scale
        if factor == 1.0:
            return images
        # whole numbers, rounded up: exporters follow them where a factor's floats fail, and no side becomes 0
        scale = Fraction(factor).limit_denominator(1000)
        height, width = (-(-side * scale.numerator // scale.denominator) for side in images.shape[-2:])
        return F.interpolate(images, size=(height, width), mode="bilinear", align_corners=False)

    def _classify(self, features: list[Tensor]) -> Tensor:
        decoded = self.decoder([*features[:-1], self.pyramid(features[-1])])
        return self.classifier(self.dropout(decoded))
