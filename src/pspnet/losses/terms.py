"""The terms of a loss, each on log probabilities of the whole batch: cross entropy, focal, hard pixels, Dice, Lovasz."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pspnet.labels import IGNORE


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
