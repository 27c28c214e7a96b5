"""Swin weights under the names of five projects -> nn/swin.py, which uses those of the segmentation code itself.

Segmentation code: already ours. Classification code: one final norm; the embedding of positions as a sequence. timm:
the merging opens the next stage. torchvision: numbered features. MMSegmentation: own names, and a merging that joins
the four neighbours in another order, so its weights are permuted. A window of another size gets interpolated tables.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from pspnet.weights.rename_table import Rename

MARKER = r"patch_embed\.proj\.weight|patch_embed\.projection\.weight|features\.0\.0\.weight"
DETERMINED = re.compile(r".*\.(relative_position_index|attn_mask)$")  # buffers that window and image size determine

MMSEG: tuple[Rename, ...] = (
    (r"patch_embed\.projection\.", "patch_embed.proj."),
    (r"stages\.(\d)\.blocks\.(\d+)\.attn\.w_msa\.", r"layers.\1.blocks.\2.attn."),
    (r"stages\.(\d)\.blocks\.(\d+)\.ffn\.layers\.0\.0\.", r"layers.\1.blocks.\2.mlp.fc1."),
    (r"stages\.(\d)\.blocks\.(\d+)\.ffn\.layers\.1\.", r"layers.\1.blocks.\2.mlp.fc2."),
    (r"stages\.", "layers."),
)
TORCHVISION: tuple[Rename, ...] = (
    (r"features\.0\.0\.", "patch_embed.proj."),
    (r"features\.0\.2\.", "patch_embed.norm."),
    *((rf"features\.{2 * s + 1}\.(\d+)\.mlp\.0\.", rf"layers.{s}.blocks.\1.mlp.fc1.") for s in range(4)),
    *((rf"features\.{2 * s + 1}\.(\d+)\.mlp\.3\.", rf"layers.{s}.blocks.\1.mlp.fc2.") for s in range(4)),
    *((rf"features\.{2 * s + 1}\.(\d+)\.", rf"layers.{s}.blocks.\1.") for s in range(4)),
    *((rf"features\.{2 * s + 2}\.", f"layers.{s}.downsample.") for s in range(3)),
    (r"norm\.", "norm3."),
)
TIMM: tuple[Rename, ...] = (
    *((rf"layers\.{s + 1}\.downsample\.", f"layers.{s}.downsample.") for s in range(3)),
    (r"norm\.", "norm3."),
)
CLASSIFICATION: tuple[Rename, ...] = ((r"norm\.", "norm3."),)


def to_ours(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under our names, permuted where a project orders neighbours otherwise. Unknown names stay.

    Buffers that the window determines are left out. `state` has no wrapper's prefix: its names begin as in MARKER.
    """
    if any(name.startswith("stages.") for name in state):
        rules = MMSEG
    elif "features.0.0.weight" in state:
        rules = TORCHVISION
    elif any(name.startswith("layers.3.downsample.") for name in state) or not any(
        name.startswith("layers.0.downsample.") for name in state
    ):
        rules = TIMM
    else:
        rules = CLASSIFICATION
    ours = {}
    for name, value in state.items():
        if not DETERMINED.match(name):
            if rules is MMSEG and ".downsample." in name:
                value = _from_unfold(value)
            ours[renamed(name, rules)] = value
    return ours


def renamed(name: str, rules: tuple[Rename, ...]) -> str:
    """The name after the first rule that fits its beginning; the name itself where none does."""
    for pattern, to in rules:
        match = re.match(pattern, name)
        if match:
            return match.expand(to) + name[match.end() :]
    return name


def _from_unfold(value: Tensor) -> Tensor:
    """A merging's norm (4 C,) or reduction (out, 4 C) whose inputs are ordered channel by channel, as nn.Unfold gives
    them, for inputs ordered neighbour by neighbour. Unfold goes along rows first, the published Swin along columns."""
    quads = value.reshape(*value.shape[:-1], -1, 4).transpose(-1, -2)  # (..., 4, C)
    return quads[..., [0, 2, 1, 3], :].flatten(-2)


def fit_table(table: Tensor, rows: int) -> Tensor:
    """Relative position biases ((2 w - 1)**2, heads) of one window for another, bicubic (Liu et al. 2021, sec. 4)."""
    old, new = math.isqrt(table.shape[0]), math.isqrt(rows)
    grid = table.T.reshape(1, -1, old, old).float()
    grid = F.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    return grid.reshape(-1, rows).T.contiguous()


def fit_positions(embedding: Tensor, height: int, width: int) -> Tensor:
    """Absolute positions, (1, cells, C) of a square or (1, C, h, w), as (1, C, height, width), bicubic."""
    if embedding.dim() == 3:
        side = math.isqrt(embedding.shape[1])
        embedding = embedding.transpose(1, 2).reshape(1, -1, side, side)
    if embedding.shape[2:] == torch.Size((height, width)):
        return embedding.contiguous()
    return F.interpolate(embedding.float(), size=(height, width), mode="bicubic", align_corners=False)
