"""The folded fusion: the pyramid's half of the fusion convolution, computed on the bins' own few cells.

The fusion reads concat(x, up(p_1), up(p_2), ...). Convolution and bilinear resizing are both linear, so with the
weight W split along its input channels,

    conv(concat) = conv(x; W_x) + sum_b sum_(i,j) shift_ij( up_b( W_b[:, :, i, j] p_b ) )

and the bracket lives on b x b cells only. `up_b` is separable, so a tap's shift and the resize of an axis are one
small matrix: A (h, taps * b) for rows and B (w, taps * b) for columns. Rows that a shift would read from outside the
map are zero, as the convolution pads. The sum over taps and bins is then part of two matrix products. It costs
taps * sum(bins) multiply-adds per output pixel and channel (36 for the paper's), in place of taps^2 * channels.
Same weights, same function, forward and backward.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pspnet.nn.blocks import exporting, resize_matrix


def fold_pays(conv: nn.Conv2d, bins: tuple[int, ...], width: int, features: Tensor) -> bool:
    """Whether folding needs fewer multiply-adds than the plain way; both counts are exact.

    It does not for many or large bins on a small map, where the bins' cells are as many as the map's.
    """
    if not bins:
        return False
    if exporting():
        return True  # no size to weigh; folding is exact at all of them, and pays at those that take long
    taps, height, wide = conv.kernel_size[0], features.shape[-2], features.shape[-1]
    out = conv.out_channels
    plain = taps * taps * width * len(bins) * out * height * wide
    cells = taps * taps * out * width * sum(b * b for b in bins)  # the weights applied to the cells
    columns = taps * taps * out * wide * sum(b * b for b in bins)  # each tap row's columns, resized
    rows = taps * out * height * wide * sum(bins)
    return bool(cells + columns + rows < plain)


def folded_terms(
    pooled: list[Tensor], weights: list[Tensor], features: Float[Tensor, "batch c h w"], align_corners: bool
) -> Float[Tensor, "batch out h w"]:
    """What the resized branches add to the fusion: (B, out, H, W).

    pooled: per bin (B, width, b, b). weights: per bin (out, width, k, k). features: the map whose size counts.
    """
    height, wide = features.shape[-2], features.shape[-1]
    lines, row_matrices = [], []
    for cells, weight in zip(pooled, weights, strict=True):
        b, taps, out = cells.shape[-1], weight.shape[-1], weight.shape[0]
        rows = tap_matrix(b, height, taps, align_corners, cells)  # (H, taps * b)
        columns = tap_matrix(b, wide, taps, align_corners, cells)  # (W, taps * b)
        # (taps_i, out, taps_j, width) x (B, width, b * b): a 1x1 convolution for every tap
        kernel = weight.permute(2, 0, 3, 1).reshape(taps * out * taps, -1, 1, 1)
        tapped = F.conv2d(cells, kernel).reshape(-1, taps, out, taps, b, b)
        tapped = tapped.permute(0, 2, 1, 4, 3, 5).reshape(-1, out, taps * b, taps * b)  # rows (i, b), columns (j, b)
        lines.append(tapped @ columns.T)  # (B, out, taps * b, W)
        row_matrices.append(rows)
    return torch.cat(row_matrices, dim=1) @ torch.cat(lines, dim=2)  # (B, out, H, W)


def tap_matrix(source: int, target: int, taps: int, align_corners: bool, like: Tensor) -> Tensor:
    """(target, taps * source): the resize of one axis as each tap of a "same" convolution sees it, in `like`'s dtype.

    Made once for a size and kept, except while the network is compiled or exported, where it becomes part of the graph.
    """
    make = _make_tap_matrix if torch.compiler.is_compiling() else _kept_tap_matrix
    return make(source, target, taps, align_corners, like.dtype, like.device)


def _make_tap_matrix(
    source: int, target: int, taps: int, align_corners: bool, dtype: torch.dtype, device: torch.device
) -> Tensor:
    # built in float32 (float64 for float64), since bfloat16 cannot hold a position in a long row
    precise = torch.float64 if dtype == torch.float64 else torch.float32
    matrix = resize_matrix(source, target, align_corners, torch.empty(0, dtype=precise, device=device))
    reach = taps // 2
    padded = F.pad(matrix, (0, 0, reach, reach))
    return torch.cat([padded[i : i + target] for i in range(taps)], dim=1).to(dtype)


@lru_cache(maxsize=512)
def _kept_tap_matrix(
    source: int, target: int, taps: int, align_corners: bool, dtype: torch.dtype, device: torch.device
) -> Tensor:
    # lru_cache is safe between threads; a tensor made in inference mode could not be used in training later
    with torch.inference_mode(False), torch.no_grad():
        return _make_tap_matrix(source, target, taps, align_corners, dtype, device)
