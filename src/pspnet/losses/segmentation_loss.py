"""The weighted sum of losses that a recipe names, and weights of classes from their shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from pspnet.config.loss import LossConfig
from pspnet.errors import ConfigError
from pspnet.labels import IGNORE
from pspnet.losses.slim_cross_entropy import slim_cross_entropy
from pspnet.losses.terms import (
    dice_loss,
    focal_pixels,
    hard_pixels,
    lovasz_loss,
    mean_over_pixels,
    pixel_cross_entropy,
)


class SegmentationLoss(nn.Module):
    """The weighted sum of losses that a LossConfig names.

    logits (B, K, *S) and labels (B, *S) int64 with 0..K-1 and IGNORE -> a scalar float32. *S is (H, W) for maps and
    (N,) for the points of PointRend. Class weights multiply a pixel's loss in cross_entropy, focal and ohem, and a
    class's share of the mean in dice and lovasz. Raises ConfigError where the shapes of logits and labels differ.
    """

    class_weights: Tensor | None
    ignored: Tensor

    def __init__(self, config: LossConfig, num_classes: int, class_weights: Sequence[float] | Tensor | None) -> None:
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        weights = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)
        self.register_buffer("ignored", torch.tensor(config.ignored_classes, dtype=torch.int64), persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        if logits.shape[1] != self.num_classes or logits.shape[:1] + logits.shape[2:] != labels.shape:
            raise ConfigError(
                f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} do not fit: with {self.num_classes} "
                f"classes logits are (B, {self.num_classes}, H, W) and labels (B, H, W)"
            )
        config, weights = self.config, self.class_weights
        if self.ignored.numel():
            labels = labels.masked_fill(torch.isin(labels, self.ignored), IGNORE)
        if config.is_plain_cross_entropy:
            return config.cross_entropy * slim_cross_entropy(logits, labels, weights, config.reduction)
        log_probabilities = logits.float().log_softmax(dim=1)  # once, for all terms; 16-bit logits lose too much here
        total = log_probabilities.new_zeros(())
        if config.cross_entropy or config.ohem:
            pixels = pixel_cross_entropy(log_probabilities, labels, weights, config.label_smoothing)
            if config.cross_entropy:
                total = total + config.cross_entropy * mean_over_pixels(pixels, labels, config.reduction)
            if config.ohem:
                hard = hard_pixels(log_probabilities, labels, config.ohem_threshold, config.ohem_min_share)
                easy_ignored = labels.masked_fill(~hard, IGNORE)
                total = total + config.ohem * mean_over_pixels(pixels * hard, easy_ignored, config.reduction)
        if config.focal:
            pixels = focal_pixels(log_probabilities, labels, weights, config.focal_gamma)
            total = total + config.focal * mean_over_pixels(pixels, labels, config.reduction)
        if config.dice:
            total = total + config.dice * dice_loss(log_probabilities, labels, weights)
        if config.lovasz:
            total = total + config.lovasz * lovasz_loss(log_probabilities, labels, weights)
        return total


def build_loss(
    config: LossConfig, num_classes: int, class_weights: Sequence[float] | Tensor | None = None
) -> SegmentationLoss:
    """The loss for `num_classes` classes. `class_weights`: K numbers, needed where the config derives them from shares.

    Raises ConfigError where weights are missing or are not K, and where an ignored class does not exist.
    """
    if class_weights is None and isinstance(config.class_weights, tuple):
        class_weights = config.class_weights
    if class_weights is None and config.class_weights != "none":
        raise ConfigError(
            f"class_weights = {config.class_weights!r} needs the shares of the classes in the training labels: pass "
            "class_weights_from_shares(shares, mode), or give one number for each class"
        )
    if class_weights is not None and len(class_weights) != num_classes:
        raise ConfigError(f"class_weights has {len(class_weights)} numbers for {num_classes} classes; give each one")
    unknown = [index for index in config.ignored_classes if index >= num_classes]
    if unknown:
        raise ConfigError(f"ignored_classes holds {unknown[0]}; the {num_classes} classes are 0..{num_classes - 1}")
    return SegmentationLoss(config, num_classes, class_weights)


def class_weights_from_shares(
    shares: Sequence[float] | Tensor, mode: Literal["none", "inverse", "tempered"]
) -> Tensor | None:
    """Weights (K,) from the shares of the classes in the counted training pixels; None for 'none'.

    inverse: 1 / share, so that every class has the same say (a rare class's few pixels get very loud).
    tempered: 1 / log(1.10 + share), at most 7.8 times as much for the rarest as for the commonest (Paszke et al. 2016,
    arXiv:1606.02147, whose constant 1.02 lets it be 36 times).
    Both are scaled so that the mean weight of a training pixel is 1: the loss and the learning rate keep their scale.
    A class that never occurs gets the weight of the rarest one that does. Raises ConfigError on shares that are
    negative or all 0.
    """
    if mode == "none":
        return None
    given = torch.as_tensor(shares, dtype=torch.float64)
    if given.ndim != 1 or not torch.isfinite(given).all() or (given < 0).any() or given.sum() == 0:
        raise ConfigError(f"shares = {given.tolist()}: give one share per class, none below 0 and not all 0")
    share = given / given.sum()
    present = share > 0
    share = torch.where(present, share, share[present].min())
    weights = 1 / share if mode == "inverse" else 1 / torch.log(1.10 + share)
    return (weights / (weights * share * present).sum()).float()
