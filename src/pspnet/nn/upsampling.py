"""From coarse logits to labels on a GPU, without ever holding (K, H, W) logits: the tensors' way of `predict.logits`.

Labels alone need no more than the classes that can win between four coarse pixels (`predict.candidates` explains and
proves it); with confidence, or where too many can, every class is resized, strip by strip.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

STRIP_ROWS = 64  # a strip of 150 classes at 2048 px is 75 MB, where the whole map would be 1.2 GB
ROUNDING = 32 * 2.0**-24  # of the largest value, as in `predict.candidates`
WORTH_IT = 12


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
    of the label after division by `temperature`. Columns are resized first, then rows: the same two steps, in the same
    order, as PyTorch's own bilinear kernel. strip_rows: rows made at once.
    """
    coarse = coarse.float()
    labels = torch.empty((len(coarse), *size), dtype=torch.uint8, device=coarse.device)
    certainty = torch.empty((len(coarse), *size), device=coarse.device) if confidence else None
    for image, planes in enumerate(coarse):  # one image at a time bounds the memory whatever the batch
        candidates = None if confidence else _from_candidates(planes, size, align_corners)
        if candidates is not None:
            labels[image] = candidates
        else:
            image_certainty = None if certainty is None else certainty[image]
            _by_strips(planes, labels[image], image_certainty, align_corners, temperature, strip_rows)
    return labels, certainty


def _by_strips(
    planes: Tensor, labels: Tensor, certainty: Tensor | None, align_corners: bool, temperature: float, strip_rows: int
) -> None:
    """Every class resized; few large operations, as a GPU likes them."""
    height, width = labels.shape
    x0, x1, x_share = _neighbours(planes.shape[2], width, align_corners, planes)
    y0, y1, y_share = _neighbours(planes.shape[1], height, align_corners, planes)
    wide = planes if planes.shape[2] == width else _mix(planes[..., x0], planes[..., x1], x_share)
    for top in range(0, height, strip_rows):
        part = slice(top, min(top + strip_rows, height))
        strip = _mix(wide[:, y0[part]], wide[:, y1[part]], y_share[part, None])  # (K, rows, W)
        best, index = strip.max(dim=0)
        labels[part] = index.to(torch.uint8)
        if certainty is not None:
            certainty[part] = ((strip - best) / temperature).exp_().sum(dim=0).reciprocal_()


def _from_candidates(planes: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor | None:
    """Labels (H, W) of logits (K, h, w); None where the plain way is quicker, or values are not finite."""
    classes, high, wide = planes.shape
    if size[0] * size[1] < 2 * high * wide:
        return None
    rounding = ROUNDING * planes.abs().amax()
    lower = torch.cat([planes[:, 1:], planes[:, -1:]], 1)  # the last row and column are their own neighbours
    least, greatest = torch.minimum(planes, lower), torch.maximum(planes, lower)
    least = torch.minimum(least, torch.cat([least[..., 1:], least[..., -1:]], 2))
    greatest = torch.maximum(greatest, torch.cat([greatest[..., 1:], greatest[..., -1:]], 2))
    possible = (greatest >= least.amax(0) - rounding).permute(1, 2, 0).reshape(high * wide, classes)
    count = possible.sum(1)
    mean, finite = torch.stack([count.double().mean(), torch.isfinite(rounding).double()]).tolist()
    if not finite or (mean - 1) * WORTH_IT > classes:
        return None
    names = possible.nonzero()[:, 1]  # those of cell i are names[starts[i]:][:count[i]], in rising order
    starts = count.cumsum(0) - count
    x0, x1, x_share = _neighbours(wide, size[1], align_corners, planes)
    y0, y1, y_share = _neighbours(high, size[0], align_corners, planes)
    cell = y0[:, None] * wide + x0  # (H, W)
    labels = names[starts][cell].to(torch.uint8)
    best = torch.full(size, -torch.inf, device=planes.device)
    row, column = (count[cell] > 1).nonzero(as_tuple=True)
    number = 0
    while len(row):
        at = cell[row, column]
        name = names[starts[at] + number]
        above, below = (
            _mix(planes[name, y[row], x0[column]], planes[name, y[row], x1[column]], x_share[column]) for y in (y0, y1)
        )
        value = _mix(above, below, y_share[row])
        before = best[row, column]
        better = value > before  # of equals the first stays
        best[row, column] = torch.where(better, value, before)
        labels[row, column] = torch.where(better, name.to(torch.uint8), labels[row, column])
        number += 1
        left = count[at] > number
        row, column = row[left], column[left]
    return labels


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
