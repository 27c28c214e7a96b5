"""Losses on logits: cross entropy, focal, Dice, Lovasz-softmax, hard pixels only, and any weighted sum of them.

Every loss leaves out pixels whose label is IGNORE, and gives 0 with zero gradients (never NaN) where none counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pspnet.config.loss import LossConfig
from pspnet.errors import ConfigError
from pspnet.labels import IGNORE

STRIP_NUMBERS = 2**18  # logits of a strip of pixels: 1 MiB in float32, which a core's cache holds
GPU_STRIP_NUMBERS = 2**24  # there a strip costs kernel launches and no cache holds it: few strips
ROW_CLASSES = 16  # from here on one pixel's classes fill a processor's vector


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


def pixel_cross_entropy(
    log_probabilities: Tensor, labels: Tensor, weights: Tensor | None = None, smoothing: float = 0.0
) -> Tensor:
    """(B, K, *S), (B, *S) -> (B, *S): the cross entropy of each pixel times its class's weight, 0 where ignored.

    With smoothing e a label is (1 - e) of its class and e / K of every class, each with its own weight, as in PyTorch.
    """
    loss = F.nll_loss(log_probabilities, labels, weights, ignore_index=IGNORE, reduction="none")
    if smoothing:
        if weights is None:
            spread = -log_probabilities.mean(dim=1)
        else:
            spread = -torch.einsum("bk...,k->b...", log_probabilities, weights) / log_probabilities.shape[1]
        loss = (1 - smoothing) * loss + smoothing * spread.masked_fill(labels == IGNORE, 0)
    return loss


def slim_cross_entropy(
    logits: Tensor, labels: Tensor, weights: Tensor | None, reduction: Literal["valid", "all"]
) -> Tensor:
    """`mean_over_pixels(pixel_cross_entropy(...))` without log probabilities of the whole batch in float32.

    The loss is one number, so its gradient is known as soon as it is: both are computed strip by strip while the strip is
    in the cache, and only the gradient is kept, in the logits' own type. For 150 classes that is a quarter of the memory.
    """
    count = (labels != IGNORE).sum().clamp(min=1) if reduction == "valid" else max(labels.numel(), 1)
    total: Tensor = _SlimCrossEntropy.apply(logits, labels, weights, torch.as_tensor(count, device=logits.device))
    return total


class _SlimCrossEntropy(torch.autograd.Function):
    """sum over pixels of -w[label] log softmax(logits)[label] / count; its gradient is w[label] (softmax - 1[label]) / count."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, weights: Tensor | None, count: Tensor) -> Tensor:
        logits = logits.detach()
        if not (logits.is_contiguous() or _channels_last(logits)):
            logits = logits.contiguous()
        gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        # softmax runs along vectors of pixels, or along one pixel's classes where they are many and adjoin
        dim = 1 if _channels_last(logits) and logits.shape[1] >= ROW_CLASSES else 0
        maps = _pixel_maps(logits, dim)
        slots = None if gradient is None else _pixel_maps(gradient, dim)
        strip = max(1, (STRIP_NUMBERS if logits.device.type == "cpu" else GPU_STRIP_NUMBERS) // logits.shape[1])
        total = logits.new_zeros((), dtype=torch.float32)
        for image, flat in zip(range(len(labels)), labels.flatten(1), strict=True):
            for first in range(0, flat.numel(), strip):
                part = slice(first, first + strip)
                where = (image, part) if dim else (image, slice(None), part)
                index = flat[part]
                counted = index != IGNORE
                index = index.where(counted, 0)
                share = (counted if weights is None else counted * weights[index]) / count  # (pixels,)
                index, share = index.unsqueeze(dim), share.unsqueeze(dim)
                log_probabilities = maps[where].float().contiguous().log_softmax(dim)
                of_label = log_probabilities.gather(dim, index)
                total -= (of_label * share).sum()
                if slots is not None:
                    slots[where] = log_probabilities.exp_().scatter_(dim, index, of_label.exp() - 1).mul_(share)
        ctx.save_for_backward(*(() if gradient is None else (gradient,)))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer.to(gradient.dtype), None, None, None


def _pixel_maps(maps: Tensor, class_dim: int) -> Tensor:
    """(B, K, *S), contiguous or channels-last -> the same memory as (B, pixels, K) for class_dim 1, (B, K, pixels) for 0."""
    if _channels_last(maps):
        rows = maps.permute(0, 2, 3, 1).view(len(maps), -1, maps.shape[1])
        return rows if class_dim else rows.mT
    columns = maps.view(*maps.shape[:2], -1)
    return columns.mT if class_dim else columns


def _channels_last(maps: Tensor) -> bool:
    return maps.ndim == 4 and maps.is_contiguous(memory_format=torch.channels_last)


def focal_pixels(
    log_probabilities: Tensor, labels: Tensor, weights: Tensor | None = None, gamma: float = 2.0
) -> Tensor:
    """(B, *S): cross entropy times (1 - p)^gamma, p the label's probability (Lin et al. 2017, arXiv:1708.02002)."""
    loss = F.nll_loss(log_probabilities, labels, weights, ignore_index=IGNORE, reduction="none")
    log_p = label_log_probability(log_probabilities, labels)
    # the floor keeps the slope of (1 - p)^gamma finite at p = 1, where gamma < 1 would divide by 0
    return loss * (-torch.expm1(log_p)).clamp(min=1e-7) ** gamma


def mean_over_pixels(pixels: Tensor, labels: Tensor, reduction: Literal["valid", "all"]) -> Tensor:
    """The sum of the pixels' losses over the number that count ('valid') or of all ('all'); 0 where none counts."""
    count = (labels != IGNORE).sum().clamp(min=1) if reduction == "valid" else max(labels.numel(), 1)
    return pixels.sum() / count


@torch.no_grad()
def hard_pixels(log_probabilities: Tensor, labels: Tensor, threshold: float, min_share: float) -> Tensor:
    """(B, *S) bool: counted pixels whose label has a probability below `threshold`, and at least the hardest ones.

    When fewer than `min_share` of the counted pixels are below it, that share is kept, the least probable first.
    """
    counted = labels != IGNORE
    probability = label_log_probability(log_probabilities, labels).exp().masked_fill(~counted, 2.0)  # 2: sorts last
    least = int(min_share * int(counted.sum()))
    hard = probability < threshold
    if least and int(hard.sum()) < least:
        hardest = probability.flatten().topk(least, largest=False).indices
        hard = torch.zeros_like(hard).flatten().index_fill_(0, hardest, True).reshape(hard.shape)
    return hard & counted


def dice_loss(log_probabilities: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """1 - soft Dice, 2 sum(p t) / (sum p + sum t) over the batch's counted pixels, averaged over the classes in it.

    Milletari et al. 2016 (arXiv:1606.04797) without squares. A class that the labels do not hold is left out.
    """
    num_classes = log_probabilities.shape[1]
    counted = labels != IGNORE
    index = labels[counted]
    of_label = label_log_probability(log_probabilities, labels).exp()[counted]
    overlap = of_label.new_zeros(num_classes).index_add(0, index, of_label)
    pixels = torch.bincount(index, minlength=num_classes)
    probabilities = log_probabilities.exp().masked_fill(~counted[:, None], 0)
    predicted = probabilities.flatten(2).sum(dim=(0, 2))
    dice = 2 * overlap / (predicted + pixels).clamp(min=1e-7)
    share = (pixels > 0).to(dice.dtype) * (1.0 if weights is None else weights)
    return ((1 - dice) * share).sum() / share.sum().clamp(min=1e-7)


def lovasz_loss(log_probabilities: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Lovasz-softmax over the batch, averaged over the classes in it (Berman et al. 2018, arXiv:1705.08790)."""
    counted = (labels != IGNORE).flatten()
    present = torch.unique(labels.flatten()[counted])  # (C,)
    probabilities = log_probabilities.movedim(1, 0).flatten(1).index_select(0, present).exp()  # (C, pixels)
    inside = labels.flatten() == present[:, None]
    errors = torch.where(inside, 1 - probabilities, probabilities)
    growth = [_jaccard_growth(e, truth, counted) for e, truth in zip(errors.detach(), inside, strict=True)]
    share = torch.ones_like(errors[:, 0]) if weights is None else weights[present]
    # `new_zeros` stands for the empty stack where nothing counts
    losses = (errors * (torch.stack(growth) if growth else errors.new_zeros(errors.shape))).sum(dim=1)
    return (losses * share).sum() / share.sum().clamp(min=1e-7)


def _jaccard_growth(errors: Tensor, inside: Tensor, counted: Tensor) -> Tensor:
    """(pixels,): how much the Jaccard loss grows with each pixel when pixels turn wrong in the order of falling errors.

    The Lovasz extension is the sum of errors times this, which is constant where the order is: no gradient runs here.
    """
    # ignored pixels come last, where every pixel of the class has been met and the loss grows no more
    order = errors.masked_fill(~counted, -1).argsort(descending=True)
    truth = inside[order]
    # float64: float32 cannot count past 16.7 million pixels, and differences of near-equal ratios lose digits
    hits = truth.double().cumsum(0)
    misses = (~truth).double().cumsum(0)
    jaccard = 1 - (hits[-1] - hits) / (hits[-1] + misses)
    growth = torch.diff(jaccard, prepend=jaccard.new_zeros(1)).to(errors.dtype)
    return torch.empty_like(errors).scatter_(0, order, growth)


def label_log_probability(log_probabilities: Tensor, labels: Tensor) -> Tensor:
    """(B, *S): the logarithm of the probability of each pixel's label, 0 where ignored."""
    return -F.nll_loss(log_probabilities, labels, ignore_index=IGNORE, reduction="none")


def classes_present(labels: Tensor, num_classes: int) -> Tensor:
    """(B, *S) labels -> (B, K) float32: 1 where an image holds a counted pixel of a class, else 0."""
    flat = labels.flatten(1)
    one_more = torch.where(flat == IGNORE, num_classes, flat)  # a column that is cut off again
    present = torch.zeros(len(labels), num_classes + 1, device=labels.device)
    return present.scatter_(1, one_more, 1.0)[:, :num_classes]


def image_loss(image_logits: Tensor, labels: Tensor) -> Tensor:
    """Multi-label binary cross entropy of "which classes are in this image": (B, K), (B, H, W) -> scalar.

    An image without any counted pixel says nothing about its classes and is left out.
    """
    present = classes_present(labels, image_logits.shape[1])
    known = (labels != IGNORE).flatten(1).any(dim=1).to(present.dtype)  # (B,)
    loss = F.binary_cross_entropy_with_logits(image_logits.float(), present, reduction="none").mean(dim=1)
    return (loss * known).sum() / known.sum().clamp(min=1)
