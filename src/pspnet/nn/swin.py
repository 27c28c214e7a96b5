"""Swin transformer for dense prediction (Liu et al. 2021, arXiv:2103.14030), with every option.

Attributes carry the names that published Swin segmentation checkpoints use, so their weights need no renaming.
Cells are (B, H, W, C) inside; features leave as (B, C, H, W), each through a layer norm of its own.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from timm.layers import DropPath, Mlp, trunc_normal_
from torch import Tensor, nn

from pspnet.config.encoders import SWIN_SIZES, SwinOptions
from pspnet.config.model import DECODER_FACTS, ModelConfig
from pspnet.errors import ConfigError
from pspnet.nn.encoder import Encoder
from pspnet.nn.swin_windows import join_windows, offset_index, pad_to_cells, shift_mask, split_windows

PATCH_PX = 4
POSITION_GRID = 56  # cells per side of the absolute embedding: pretraining on 224 px in patches of 4
DEFAULT_WINDOW, DEFAULT_DROP_PATH = 7, 0.2


class SwinTransformer(Encoder):
    """(B, bands, H, W), any H and W -> one feature per stage at strides 4, 8, 16, 32 (cells rounded up).

    `channels` are embed_dim times 1, 2, 4, 8. `window_size` is in cells. Shifted blocks stay shifted where the map is
    smaller than the window, as in Swin's segmentation code (its classification code and timm shrink the window there).
    Rates: `drop_rate` in MLPs, projections and after the embedding; `attention_drop_rate` on attention weights;
    `drop_path_rate` the chance that the deepest block is skipped, growing linearly over the blocks.
    Raises ConfigError where a stage's channels cannot be divided among its heads.
    """

    def __init__(
        self,
        bands: int = 3,
        embed_dim: int = 96,
        depths: tuple[int, ...] = (2, 2, 6, 2),
        heads: tuple[int, ...] = (3, 6, 12, 24),
        window_size: int = DEFAULT_WINDOW,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        patch_norm: bool = True,
        absolute_position_embedding: bool = False,
        drop_rate: float = 0.0,
        attention_drop_rate: float = 0.0,
        drop_path_rate: float = DEFAULT_DROP_PATH,
    ) -> None:
        super().__init__()
        self.channels = [embed_dim * 2**stage for stage in range(len(depths))]
        self.strides = [PATCH_PX * 2**stage for stage in range(len(depths))]
        for stage, (channels, count) in enumerate(zip(self.channels, heads, strict=True)):
            if channels % count:
                raise ConfigError(
                    f"encoder_options.heads = {heads} with embed_dim = {embed_dim}: stage {stage + 1} has {channels} "
                    f"channels, which {count} heads do not divide. Choose heads that divide embed_dim times 1, 2, 4, 8"
                )
        self.patch_embed = PatchEmbedding(bands, embed_dim, patch_norm)
        self.absolute_pos_embed: nn.Parameter | None = None
        if absolute_position_embedding:
            self.absolute_pos_embed = nn.Parameter(torch.zeros(1, embed_dim, POSITION_GRID, POSITION_GRID))
        self.pos_drop = nn.Dropout(drop_rate)
        self.layers = nn.ModuleList()
        rates = torch.linspace(0, drop_path_rate, sum(depths), device="cpu").tolist()
        for stage, (channels, depth) in enumerate(zip(self.channels, depths, strict=True)):
            blocks = [
                SwinBlock(
                    channels,
                    heads[stage],
                    window_size,
                    shifted=index % 2 == 1,
                    mlp_ratio=mlp_ratio,
                    qkv_bias=qkv_bias,
                    drop_rate=drop_rate,
                    attention_drop_rate=attention_drop_rate,
                    drop_path_rate=rates.pop(0),
                )
                for index in range(depth)
            ]
            self.layers.append(SwinStage(blocks, PatchMerging(channels) if stage < len(depths) - 1 else None))
            self.add_module(f"norm{stage}", nn.LayerNorm(channels))
        self.apply(_initialise)
        if self.absolute_pos_embed is not None:
            trunc_normal_(self.absolute_pos_embed, std=0.02)

    def forward(self, images: Tensor, last_only: bool = False) -> list[Tensor]:
        cells = self.patch_embed(images)
        if self.absolute_pos_embed is not None:
            size = cells.shape[1:3]
            position = F.interpolate(self.absolute_pos_embed, size=size, mode="bicubic", align_corners=False)
            cells = cells + position.permute(0, 2, 3, 1)
        cells = self.pos_drop(cells)
        features: list[Tensor] = []
        for stage, layer in enumerate(self.layers):
            feature, cells = layer(cells)
            if last_only and stage < len(self.layers) - 1:
                continue
            features.append(self.get_submodule(f"norm{stage}")(feature).permute(0, 3, 1, 2))  # (B, C, h, w)
        return features


class PatchEmbedding(nn.Module):
    """(B, bands, H, W) -> (B, ceil(H / 4), ceil(W / 4), channels); the image is zero-padded at right and bottom."""

    def __init__(self, bands: int, channels: int, norm: bool) -> None:
        super().__init__()
        self.proj = nn.Conv2d(bands, channels, PATCH_PX, PATCH_PX)
        self.norm = nn.LayerNorm(channels) if norm else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        images = pad_to_cells(images.permute(0, 2, 3, 1), PATCH_PX)[0].permute(0, 3, 1, 2)
        return self.norm(self.proj(images).permute(0, 2, 3, 1))


class PatchMerging(nn.Module):
    """(B, H, W, C) -> (B, ceil(H / 2), ceil(W / 2), 2 C): joins 2 x 2 neighbours; odd maps are zero-padded."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, cells: Tensor) -> Tensor:
        cells, rows, columns = pad_to_cells(cells, 2)
        quads = cells.reshape(cells.shape[0], rows, 2, columns, 2, cells.shape[3])
        # the column is the slower index: (row, column) = (0, 0), (1, 0), (0, 1), (1, 1), the order of the weights
        return self.reduction(self.norm(quads.permute(0, 1, 3, 4, 2, 5).flatten(3)))


class SwinStage(nn.Module):
    """Blocks at one resolution: (B, H, W, C) -> (the stage's feature, the next stage's input: the same at the last)."""

    def __init__(self, blocks: list[SwinBlock], downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        for block in self.blocks:
            cells = block(cells)
        return cells, cells if self.downsample is None else self.downsample(cells)


class SwinBlock(nn.Module):
    """Attention inside windows, then an MLP, each behind a layer norm and beside a residual: (B, H, W, C) -> same.

    Maps that are no multiple of the window are padded at right and bottom with zeros after norm1; padded cells take
    part in the attention, as in the published networks.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        window_size: int,
        shifted: bool,
        mlp_ratio: float,
        qkv_bias: bool,
        drop_rate: float,
        attention_drop_rate: float,
        drop_path_rate: float,
    ) -> None:
        super().__init__()
        self.window_size = window_size
        self.shift = window_size // 2 if shifted else 0
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads, window_size, qkv_bias, attention_drop_rate, drop_rate)
        self.drop_path = DropPath(drop_path_rate) if drop_path_rate > 0 else nn.Identity()
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, int(channels * mlp_ratio), drop=drop_rate)

    def forward(self, cells: Tensor) -> Tensor:
        cells = cells + self.drop_path(self._attend(self.norm1(cells)))
        return cells + self.drop_path(self.mlp(self.norm2(cells)))

    def _attend(self, cells: Tensor) -> Tensor:
        window, shift = self.window_size, self.shift
        height, width = cells.shape[1], cells.shape[2]
        cells, rows, columns = pad_to_cells(cells, window)
        mask = None
        if shift:
            cells = cells.roll((-shift, -shift), (1, 2))
            mask = shift_mask(rows, columns, window, shift, cells)
        cells = join_windows(self.attn(split_windows(cells, rows, columns, window), mask), rows, columns, window)
        if shift:
            cells = cells.roll((shift, shift), (1, 2))
        return cells[:, :height, :width]


class WindowAttention(nn.Module):
    """Multi-head attention with a learned bias for each offset between two cells: (B * n, N, C) -> same; N = window**2.

    `mask` (n, N, N) is added to the scores of each of the n windows of an image; None: nothing is masked.
    """

    relative_position_index: Tensor

    def __init__(
        self, channels: int, heads: int, window_size: int, qkv_bias: bool, attention_drop_rate: float, drop_rate: float
    ) -> None:
        super().__init__()
        self.heads = heads
        self.drop_rate = attention_drop_rate
        self.qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
        self.proj = nn.Linear(channels, channels)
        self.proj_drop = nn.Dropout(drop_rate)
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window_size - 1) ** 2, heads))
        # the window determines it, so no checkpoint has to carry it
        self.register_buffer("relative_position_index", offset_index(window_size), persistent=False)
        trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        total, area, channels = windows.shape
        qkv = self.qkv(windows).view(total, area, 3, self.heads, channels // self.heads)
        queries, keys, values = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B * n, heads, N, C / heads) each
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)[None]
        if mask is not None:
            bias = bias + mask[:, None]  # (n, heads, N, N)
            count = mask.shape[0]
            bias = bias.expand(total // count, *bias.shape).reshape(total, *bias.shape[1:])
        drop = self.drop_rate if self.training else 0.0
        joined = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias.to(queries.dtype), dropout_p=drop)
        return self.proj_drop(self.proj(joined.transpose(1, 2).reshape(total, area, channels)))


def build_swin(config: ModelConfig) -> SwinTransformer:
    """The Swin that a config names, with the size's own widths where the options leave them open."""
    options = cast(SwinOptions, config.encoder_options)
    embed_dim, depths, heads = SWIN_SIZES[config.encoder.removeprefix("swin_")]
    network = SwinTransformer(
        bands=config.in_bands,
        embed_dim=options.embed_dim or embed_dim,
        depths=options.depths or depths,
        heads=options.heads or heads,
        window_size=options.window_size or DEFAULT_WINDOW,
        mlp_ratio=options.mlp_ratio,
        qkv_bias=options.qkv_bias,
        patch_norm=options.patch_norm,
        absolute_position_embedding=options.absolute_position_embedding,
        drop_rate=options.drop_rate,
        attention_drop_rate=options.attention_drop_rate,
        drop_path_rate=DEFAULT_DROP_PATH if options.drop_path_rate is None else options.drop_path_rate,
    )
    for stage in set(range(len(heads))) - _stages_read(config, len(heads)):
        # its feature is there but nobody reads it: a norm without gradients would stop training on several devices
        network.get_submodule(f"norm{stage}").requires_grad_(False)
    return network


def _stages_read(config: ModelConfig, count: int) -> set[int]:
    """The features that a PSPNet with this config uses: the last, and those of its decoder and heads."""
    reads_from = DECODER_FACTS[config.decoder].reads_from
    strides = [PATCH_PX * 2**stage for stage in range(count)]
    read = {stage for stage in range(count) if reads_from and strides[stage] >= reads_from} | {count - 1}
    if config.auxiliary != "none":
        read.add(count + config.auxiliary_stage)
    return read | ({0} if config.pointrend else set())  # PointRend reads the finest from stride 4 on: Swin's first


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
