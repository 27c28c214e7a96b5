"""The small parts that every room of the network uses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class ConvNormAct(nn.Sequential):
    """Convolution ("same" padding), batch norm and ReLU, each of the last two optional.

    (B, in, H, W) -> (B, out, ceil(H / stride), ceil(W / stride)). A bias is there exactly when there is no norm,
    unless `bias` says otherwise. Sub-modules: conv, norm, act.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        dilation: int = 1,
        norm: bool = True,
        act: bool = True,
        bias: bool | None = None,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        with_bias = not norm if bias is None else bias
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, bias=with_bias)
        if norm:
            self.norm = nn.BatchNorm2d(out_channels)
        if act:
            self.act = nn.ReLU(inplace=True)


def resize(images: Tensor, size: tuple[int, int], align_corners: bool = False) -> Tensor:
    """Bilinear, (B, C, h, w) -> (B, C, *size), without antialiasing; the input itself where the size is equal."""
    if not exporting() and images.shape[-2:] == torch.Size(size):
        return images
    return F.interpolate(images, size=size, mode="bilinear", align_corners=align_corners)


def exporting() -> bool:
    """Whether the network is being traced for any size: then a size may decide nothing but shapes."""
    return torch.compiler.is_exporting()


def resize_matrix(source: int, target: int, align_corners: bool, like: Tensor) -> Tensor:
    """(target, source): bilinear resizing of one axis as a matrix product, equal to `resize` in float32.

    Written with tensor operations only, so that a target size known at run time exports exactly.
    """
    rows = torch.arange(target, dtype=like.dtype, device=like.device)
    size = rows[-1:] + 1
    if align_corners:
        position = rows * ((source - 1) / (size - 1).clamp(min=1))
    else:
        position = ((rows + 0.5) * (source / size) - 0.5).clamp(0, source - 1)
    cells = torch.arange(source, dtype=like.dtype, device=like.device)
    return (1 - (position[:, None] - cells[None, :]).abs()).clamp(min=0)


def pool_cells(source: int, bins: int, device: torch.device) -> Tensor:
    """(bins, source) bool: which rows each cell of an adaptive pooling covers.

    Cell k covers rows floor(k * source / bins) to ceil((k + 1) * source / bins), as PyTorch's adaptive pooling does.
    """
    rows = torch.arange(source, device=device)
    cells = torch.arange(bins, device=device)
    size = rows[-1:] + 1
    # whole numbers: floor and ceil must not depend on rounding
    first = torch.div(cells * size, bins, rounding_mode="floor")
    last = torch.div((cells + 1) * size + bins - 1, bins, rounding_mode="floor")
    return (rows[None, :] >= first[:, None]) & (rows[None, :] < last[:, None])


def pool_matrix(source: int, bins: int, like: Tensor) -> Tensor:
    """(bins, source): adaptive average pooling of one axis as a matrix product."""
    inside = pool_cells(source, bins, like.device).to(like.dtype)
    return inside / inside.sum(dim=1, keepdim=True)


OWN_POOLING = ("mps",)  # kinds of device whose adaptive pooling takes only sizes that the bins divide


def adaptive_pool(
    features: Float[Tensor, "batch c h w"], bins: int, maximum: bool
) -> Float[Tensor, "batch c bins bins"]:
    """(B, C, H, W) -> (B, C, bins, bins): adaptive average or maximum pooling.

    PyTorch's own, but for an export, where the sizes are unknown, and on Apple's GPUs (MPS), whose operator refuses sizes
    that the bins do not divide: there two matrix products (or masked maxima) do it, exactly, where other projects export
    one size or an approximation.
    """
    if not exporting() and features.device.type not in OWN_POOLING:
        return F.adaptive_max_pool2d(features, bins) if maximum else F.adaptive_avg_pool2d(features, bins)
    height, width = features.shape[-2], features.shape[-1]
    if not maximum:
        rows, columns = pool_matrix(height, bins, features), pool_matrix(width, bins, features)
        return rows @ (features @ columns.T)
    low = torch.finfo(features.dtype).min
    rows, columns = pool_cells(height, bins, features.device), pool_cells(width, bins, features.device)
    lines = [features.masked_fill(~rows[k][:, None], low).amax(dim=-2) for k in range(bins)]  # (B, C, W) each
    strips = torch.stack(lines, dim=-2)  # (B, C, bins, W)
    return torch.stack([strips.masked_fill(~columns[k], low).amax(dim=-1) for k in range(bins)], dim=-1)
