"""Pyramid pooling and the convolution that fuses it with the features, computed plainly or folded."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pspnet.config.model import ModelConfig
from pspnet.nn.blocks import ConvNormAct, adaptive_pool, resize
from pspnet.nn.folding import fold_pays, folded_terms


class PyramidPooling(nn.Module):
    """Adds context at several scales to the coarsest features (Zhao et al. 2017, sec. 3.2, arXiv:1612.01105).

    (B, C, H, W) -> (B, channels, H, W). Each bin size s pools to s x s cells, reduces to C // len(bins) channels and
    resizes back; a 3x3 convolution fuses all of them with the features. With no bins only the fusion is left: the
    dilated FCN baseline. A bin may be larger than the map.

    In training a batch of one image gives the 1 x 1 bin one value per channel, of which no variance can be taken:
    that branch's norm then uses its running statistics and leaves them as they are.
    """

    def __init__(self, in_channels: int, config: ModelConfig) -> None:
        super().__init__()
        options = config.pyramid_options
        progressive = config.pyramid == "progressive"
        fixed = None if progressive else options.branch_channels
        reduce = config.reduce and not progressive and fixed is None
        width = fixed or (max(in_channels // max(len(config.bins), 1), 1) if reduce else in_channels)
        self.bins = config.bins
        self.branches = nn.ModuleList(
            _branch(in_channels, width, bin_size, "none" if progressive else options.branch_norm, options.branch_bias)
            for bin_size in config.bins
        )
        self.input_first = config.concat == "input_first" and not progressive
        self.folded = config.fusion == "folded"
        self.max_pool = config.pool == "max"
        self.align_corners = config.align_corners
        self.in_channels, self.width = in_channels, width
        self.channels = fusion_channels(config)
        kernel, norm = (1, False) if progressive else (options.fusion_kernel, options.fusion_norm)
        self.fusion = ConvNormAct(in_channels + width * len(config.bins), self.channels, kernel, norm=norm)

    def forward(self, features: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch fused h w"]:
        pooled = self.pool(features)
        if self.folded and fold_pays(self.fusion.conv, self.bins, self.width, features):
            fused = self._fuse_folded(features, pooled)
        else:
            fused = self.fusion.conv(self.concatenated(features, pooled))
        for layer in list(self.fusion.children())[1:]:
            fused = layer(fused)
        return fused

    def pool(self, features: Float[Tensor, "batch c h w"]) -> list[Tensor]:
        """(B, C, H, W) -> one (B, width, s, s) for each bin size s: pooled, reduced, normalised."""
        return [
            _apply_branch(branch, adaptive_pool(features, bins, self.max_pool))
            for bins, branch in zip(self.bins, self.branches, strict=True)
        ]

    def concatenated(
        self, features: Float[Tensor, "batch c h w"], pooled: list[Tensor]
    ) -> Float[Tensor, "batch joined h w"]:
        """(B, C + width * len(bins), H, W): the features and the resized branches, in the order of `concat`."""
        size = (features.shape[-2], features.shape[-1])
        resized = [resize(p, size, self.align_corners) for p in pooled]
        return torch.cat([features, *resized] if self.input_first else [*resized, features], dim=1)

    def _fuse_folded(self, features: Tensor, pooled: list[Tensor]) -> Tensor:
        conv = self.fusion.conv
        split = [self.width] * len(self.bins)
        if self.input_first:
            feature_part, *parts = torch.split(conv.weight, [self.in_channels, *split], dim=1)
        else:
            *parts, feature_part = torch.split(conv.weight, [*split, self.in_channels], dim=1)
        fused = F.conv2d(features, feature_part, conv.bias, padding=conv.padding)
        return fused + folded_terms(pooled, parts, features, self.align_corners)


def fusion_channels(config: ModelConfig) -> int:
    """Channels after the fusion: the classifier's for the bilinear decoder, else what the design names."""
    if config.pyramid_options.fusion_channels:
        return config.pyramid_options.fusion_channels
    if config.decoder == "bilinear":
        return config.classifier_channels
    return 1024 if config.pyramid == "progressive" else 512


def _branch(in_channels: int, width: int, bin_size: int, norm: str, bias: bool) -> ConvNormAct:
    if norm == "none":
        return ConvNormAct(in_channels, width, 1, norm=False, act=False, bias=bias)
    if norm == "except_global" and bin_size == 1:
        return ConvNormAct(in_channels, width, 1, norm=False)
    return ConvNormAct(in_channels, width, 1)


def _apply_branch(branch: nn.Module, pooled: Tensor) -> Tensor:
    one_value = pooled.shape[0] * pooled.shape[2] * pooled.shape[3] == 1
    for layer in branch.children():
        if isinstance(layer, nn.BatchNorm2d) and layer.training and one_value:
            pooled = F.batch_norm(
                pooled, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=layer.eps
            )
        else:
            pooled = layer(pooled)
    return pooled
