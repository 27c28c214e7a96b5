"""Cross entropy strip by strip: loss and gradient in one pass, without log probabilities of the whole batch."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pspnet.labels import IGNORE

STRIP_NUMBERS = 2**18  # logits of a strip of pixels: 1 MiB in float32, which a core's cache holds
GPU_STRIP_NUMBERS = 2**24  # there a strip costs kernel launches and no cache holds it: few strips
ROW_CLASSES = 16  # from here on one pixel's classes fill a processor's vector


def slim_cross_entropy(
    logits: Tensor, labels: Tensor, weights: Tensor | None, reduction: Literal["valid", "all"]
) -> Tensor:
    """`mean_over_pixels(pixel_cross_entropy(...))` without log probabilities of the whole batch in float32.

    The loss is one number, so its gradient is known as soon as it is: both are computed strip by strip while the strip is
    in the cache, and only the gradient is kept, in the logits' own type. For 150 classes that is a quarter of the memory.

    Two classes on 4 x 4 pixels, in strips of eight (in earnest of some 100,000); the last row is ignored, so 12 count:

        labels    0 0 0 0    strip 1: log softmax, loss of 8 pixels, their gradient; then strip 2 in the same memory
                  0 0 0 1
                  0 0 0 0
                  x x x x

        >>> logits = torch.zeros(1, 2, 4, 4, requires_grad=True)  # both classes are equally likely
        >>> labels = torch.zeros(1, 4, 4, dtype=torch.int64)
        >>> labels[0, 1, 3], labels[0, 3] = 1, IGNORE
        >>> loss = slim_cross_entropy(logits, labels, None, "valid")
        >>> loss.backward()
        >>> round(loss.item(), 4)  # log 2 at each pixel that counts
        0.6931
        >>> (12 * logits.grad[0, 0] + 0).tolist()  # softmax, less 1 where the label is class 0; nothing where it is ignored
        [[-0.5, -0.5, -0.5, -0.5], [-0.5, -0.5, -0.5, 0.5], [-0.5, -0.5, -0.5, -0.5], [0.0, 0.0, 0.0, 0.0]]
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
