"""From coarse logits to labels without ever holding (K, H, W) logits: bilinear resize and argmax, strip by strip."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

STRIP_ROWS = 64  # a strip of 150 classes at 2048 px is 75 MB, where the whole map would be 1.2 GB


def upsample_labels(
    coarse: Float[Tensor, "batch classes h w"],
    size: tuple[int, int],
    align_corners: bool,
    confidence: bool = False,
    temperature: float = 1.0,
    strip_rows: int = STRIP_ROWS,
) -> tuple[UInt8[Tensor, "batch height width"], Float[Tensor, "batch height width"] | None]:
    """Coarse logits (B, K, h, w) -> labels (B, H, W) uint8 and, if asked, confidence (B, H, W) float32 in 0..1.

    The labels are those of `resize(coarse, size, align_corners).argmax(1)`; the confidence is the softmax probability
    of the label after division by `temperature`. Columns are resized once for the few coarse rows, then each strip of
    rows is made from them: the same two steps, in the same order, as PyTorch's own bilinear kernel.
    """
    coarse = coarse.float()
    batch, _, rows, columns = coarse.shape
    height, width = size
    labels = torch.empty((batch, height, width), dtype=torch.uint8, device=coarse.device)
    sure = torch.empty((batch, height, width), device=coarse.device) if confidence else None
    x0, x1, x_share = _neighbours(columns, width, align_corners, coarse)
    y0, y1, y_share = _neighbours(rows, height, align_corners, coarse)
    for image in range(batch):  # one image at a time bounds the memory whatever the batch
        wide = coarse[image] if columns == width else _mix(coarse[image][..., x0], coarse[image][..., x1], x_share)
        for top in range(0, height, strip_rows):
            part = slice(top, min(top + strip_rows, height))
            strip = _mix(wide[:, y0[part]], wide[:, y1[part]], y_share[part, None])  # (K, rows, W)
            best, index = strip.max(dim=0)
            labels[image, part] = index.to(torch.uint8)
            if sure is not None:
                sure[image, part] = ((strip - best) / temperature).exp_().sum(dim=0).reciprocal_()
    return labels, sure


def _mix(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    return first * (1 - share) + second * share


def _neighbours(source: int, target: int, align_corners: bool, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each target position: the two source positions it lies between, and the share of the second."""
    rows = torch.arange(target, dtype=torch.float32, device=like.device)
    if align_corners:
        position = rows * ((source - 1) / (target - 1) if target > 1 else 0.0)
    else:
        position = ((rows + 0.5) * (source / target) - 0.5).clamp(min=0)
    first = position.long().clamp(max=source - 1)
    return first, (first + 1).clamp(max=source - 1), position - first
