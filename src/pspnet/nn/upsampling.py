"""From coarse logits to labels without ever holding (K, H, W) logits: bilinear resize and argmax, strip by strip."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

STRIP_ROWS = 64  # on a GPU: a strip of 150 classes at 2048 px is 75 MB, where the whole map would be 1.2 GB
CACHED_VALUES = 2**19  # on a processor: logits of a strip, 2 MB, which a core's cache holds


def upsample_labels(
    coarse: Float[Tensor, "batch classes h w"],
    size: tuple[int, int],
    align_corners: bool,
    confidence: bool = False,
    temperature: float = 1.0,
    strip_rows: int | None = None,
) -> tuple[UInt8[Tensor, "batch height width"], Float[Tensor, "batch height width"] | None]:
    """Coarse logits (B, K, h, w) -> labels (B, H, W) uint8 and, if asked, confidence (B, H, W) float32 in 0..1.

    The labels are those of `resize(coarse, size, align_corners).argmax(1)`; the confidence is the softmax probability
    of the label after division by `temperature`. Columns are resized once for the few coarse rows, then each strip of
    rows is made from them: the same two steps, in the same order, as PyTorch's own bilinear kernel. strip_rows: rows made
    at once; None: as many as suit the device.
    """
    coarse = coarse.float()
    if coarse.device.type == "cpu":
        return _in_cache(coarse, size, align_corners, confidence, temperature, strip_rows)
    return _by_strips(coarse, size, align_corners, confidence, temperature, strip_rows or STRIP_ROWS)


def _by_strips(
    coarse: Tensor, size: tuple[int, int], align_corners: bool, confidence: bool, temperature: float, strip_rows: int
) -> tuple[Tensor, Tensor | None]:
    """Few large operations, as a GPU likes them."""
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


def _in_cache(
    coarse: Tensor,
    size: tuple[int, int],
    align_corners: bool,
    confidence: bool,
    temperature: float,
    strip_rows: int | None,
) -> tuple[Tensor, Tensor | None]:
    """Classes last, strips as small as a core's cache, nothing gathered: 30 ms where `_by_strips` takes 200 (150 classes,
    480 x 480 px, one Zen 5 core). NumPy's argmax over the last axis takes a quarter of PyTorch's time."""
    batch, classes, rows, columns = coarse.shape
    height, width = size
    strip_rows = strip_rows or max(CACHED_VALUES // (width * classes), 1)
    labels = torch.empty((batch, height, width), dtype=torch.uint8)
    sure = torch.empty((batch, height, width)) if confidence else None
    x0, x1, x_share = _neighbours(columns, width, align_corners, coarse)
    y0, y1, y_share = (values.tolist() for values in _neighbours(rows, height, align_corners, coarse))
    strip = torch.empty((strip_rows, width, classes))
    for image in range(batch):
        lines = coarse[image].permute(1, 2, 0).contiguous()  # (h, w, K)
        wide: dict[int, Tensor] = {}  # the coarse rows at hand, (W, K) each: two at most
        for top in range(0, height, strip_rows):
            part = range(top, min(top + strip_rows, height))
            for place, row in enumerate(part):
                near = (y0[row], y1[row])
                wide = {y: wide[y] if y in wide else _mix(lines[y, x0], lines[y, x1], x_share[:, None]) for y in near}
                torch.mul(wide[near[0]], 1 - y_share[row], out=strip[place])
                strip[place].add_(wide[near[1]], alpha=y_share[row])
            made = strip[: len(part)]
            found = torch.from_numpy(made.numpy().argmax(axis=2))
            labels[image, part.start : part.stop] = found.to(torch.uint8)
            if sure is not None:
                best = made.gather(2, found[..., None])
                sure[image, part.start : part.stop] = made.sub_(best).div_(temperature).exp_().sum(dim=2).reciprocal_()
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
