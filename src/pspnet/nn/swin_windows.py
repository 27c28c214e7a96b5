"""Cells cut into windows and joined again, with the offsets and the mask that attention in a window needs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# what is added to the scores of two cells that the shift made neighbours. Not -inf: the published networks use -100,
# and a window never holds foreign cells only, so the softmax makes it zero either way
FOREIGN = -100.0


def pad_to_cells(cells: Tensor, side: int) -> tuple[Tensor, int, int]:
    """(B, H, W, C) zero-padded at right and bottom to whole squares of `side`, and the squares' rows and columns.

    Written without remainders, so that sizes known only at run time export: the padded height is rows * side.
    """
    height, width = cells.shape[1], cells.shape[2]
    rows, columns = (height + side - 1) // side, (width + side - 1) // side
    return F.pad(cells, (0, 0, 0, columns * side - width, 0, rows * side - height)), rows, columns


def split_windows(cells: Tensor, rows: int, columns: int, window: int) -> Tensor:
    """(B, rows * window, columns * window, C) -> (B * rows * columns, window**2, C), windows row by row."""
    batch, channels = cells.shape[0], cells.shape[3]
    grid = cells.reshape(batch, rows, window, columns, window, channels)
    return grid.transpose(2, 3).reshape(batch * rows * columns, window * window, channels)


def join_windows(windows: Tensor, rows: int, columns: int, window: int) -> Tensor:
    """The inverse of split_windows: (B * rows * columns, window**2, C) -> (B, rows * window, columns * window, C)."""
    batch, channels = windows.shape[0] // (rows * columns), windows.shape[2]
    grid = windows.reshape(batch, rows, columns, window, window, channels)
    return grid.transpose(2, 3).reshape(batch, rows * window, columns * window, channels)


def offset_index(window: int) -> Tensor:
    """(N, N) int64: which row of the bias table serves each pair of cells (query, key) of a window."""
    cells = torch.arange(window)
    offset = cells[:, None] - cells[None, :] + window - 1  # along one axis, 0 .. 2 * window - 2
    index = offset[:, None, :, None] * (2 * window - 1) + offset[None, :, None, :]
    return index.reshape(window**2, window**2)


def shift_mask(rows: int, columns: int, window: int, shift: int, like: Tensor) -> Tensor:
    """(rows * columns, N, N): 0 for two cells of a window that are neighbours in the image, FOREIGN for two that the
    roll joined."""

    def stripes(count: int) -> Tensor:  # the last window of an axis holds two stripes that come from opposite borders
        position = torch.arange(count * window, device=like.device)
        return (position >= (count - 1) * window).long() + (position >= count * window - shift).long()

    regions = 3 * stripes(rows)[:, None] + stripes(columns)[None, :]
    cells = split_windows(regions[None, :, :, None], rows, columns, window).squeeze(-1)  # (n, N)
    foreign = cells[:, :, None] != cells[:, None, :]
    return foreign.to(like.dtype) * FOREIGN
