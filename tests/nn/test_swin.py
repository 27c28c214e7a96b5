"""Swin against timm where both mean the same, and against attention written per pair of cells where they do not."""

from __future__ import annotations

from typing import Any

import pytest
import timm.models.swin_transformer as timm_swin
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pspnet import errors
from pspnet.config.model import ModelConfig
from pspnet.nn import PSPNet
from pspnet.nn.swin import PatchMerging, SwinBlock, SwinTransformer, WindowAttention, build_swin

TINY = {"embed_dim": 8, "depths": (2, 2, 1, 1), "heads": (1, 2, 2, 4), "window_size": 4}


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter random, norms and biases included, so that no part can hide behind its initial value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            scale = parameter.shape[1] ** -0.5 if parameter.dim() > 1 and "table" not in name else 0.5
            parameter.copy_(noise * scale + (1.0 if name.endswith("weight") and parameter.dim() == 1 else 0.0))
    return module.eval()


def as_timm(network: SwinTransformer) -> dict[str, Tensor]:
    """Our weights under timm's names: there the merging opens the next stage."""
    state = {}
    for name, value in network.state_dict().items():
        parts = name.split(".")
        if len(parts) > 2 and parts[2] == "downsample":
            parts[1] = str(int(parts[1]) + 1)
        state[".".join(parts)] = value
    return state


@pytest.mark.parametrize(
    ("depths", "window", "size", "qkv_bias", "mlp_ratio"),
    [
        ((2, 2, 2, 2), 2, (64, 128), True, 4.0),  # every map is a multiple of the window, shifted blocks included
        ((2, 2, 4, 1), 2, (64, 64), False, 2.0),
        ((1, 1, 1, 1), 5, (72, 109), True, 4.0),  # padded patches and windows, odd maps
    ],
)
def test_features_equal_timm_where_timm_means_the_same(  # shifted and padded it does not: it rolls before it pads
    depths: tuple[int, ...], window: int, size: tuple[int, int], qkv_bias: bool, mlp_ratio: float
) -> None:
    options = {"embed_dim": 8, "depths": depths, "window_size": window, "qkv_bias": qkv_bias, "mlp_ratio": mlp_ratio}
    ours = SwinTransformer(heads=(1, 2, 2, 4), **options)
    randomised(ours)
    theirs = timm_swin.SwinTransformer(
        img_size=size, num_heads=(1, 2, 2, 4), strict_img_size=False, always_partition=True, num_classes=0, **options
    )
    theirs.norm = nn.Identity()
    left = theirs.load_state_dict(as_timm(ours), strict=False)
    assert not left.missing_keys
    assert set(left.unexpected_keys) == {f"norm{stage}.{leaf}" for stage in range(4) for leaf in ("weight", "bias")}
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = ours(images)
        whole = F.pad(images, (0, -size[1] % 4, 0, -size[0] % 4))  # timm refuses part of a patch
        expected = theirs.eval().forward_intermediates(whole, intermediates_only=True)
        for stage, (feature, theirs_raw) in enumerate(zip(features, expected, strict=True)):
            normed = getattr(ours, f"norm{stage}")(theirs_raw.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            torch.testing.assert_close(feature, normed, rtol=1e-4, atol=2e-5)


def slow_attention(attention: WindowAttention, cells: Tensor, window: int, shift: int) -> Tensor:
    """Attention of each cell to the cells of its window, one pair at a time. `cells` (H, W, C) is already padded.

    Windows of a shifted block start at `shift`; the stripe before them is a (narrow) window of its own.
    """
    height, width, channels = cells.shape
    heads, size = attention.heads, channels // attention.heads
    queries, keys, values = attention.qkv(cells).view(height, width, 3, heads, size).unbind(2)
    places = [(row, column) for row in range(height) for column in range(width)]
    result = torch.zeros(height, width, heads, size)
    for row, column in places:
        mates = [
            (r, c)
            for r, c in places
            if (r - shift) // window == (row - shift) // window and (c - shift) // window == (column - shift) // window
        ]
        for head in range(heads):
            scores = torch.stack(
                [
                    queries[row, column, head] @ keys[r, c, head] / size**0.5
                    + attention.relative_position_bias_table[
                        (row - r + window - 1) * (2 * window - 1) + (column - c + window - 1), head
                    ]
                    for r, c in mates
                ]
            )
            weights = scores.softmax(0)
            result[row, column, head] = sum(w * values[r, c, head] for w, (r, c) in zip(weights, mates, strict=True))
    return attention.proj(result.view(height, width, channels))


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("height", "width", "window"), [(6, 9, 3), (5, 7, 3), (2, 3, 4), (3, 5, 1)])
def test_block_equals_attention_written_per_pair(height: int, width: int, window: int, shifted: bool) -> None:
    block = SwinBlock(
        6, 2, window, shifted, mlp_ratio=2.0, qkv_bias=True, drop_rate=0.0, attention_drop_rate=0.0, drop_path_rate=0.0
    )
    randomised(block)
    cells = torch.randn(2, height, width, 6, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        padded = F.pad(block.norm1(cells), (0, 0, 0, -width % window, 0, -height % window))
        attended = torch.stack([slow_attention(block.attn, image, window, window // 2 * shifted) for image in padded])
        middle = cells + attended[:, :height, :width]
        expected = middle + block.mlp(block.norm2(middle))
        torch.testing.assert_close(block(cells), expected, rtol=1e-4, atol=1e-5)


def test_merging_pads_odd_maps_and_keeps_the_published_order() -> None:
    merging = PatchMerging(2)
    cells = torch.randn(1, 3, 5, 2)
    padded = torch.zeros(1, 4, 6, 2)
    padded[:, :3, :5] = cells
    quads = torch.cat([padded[:, 0::2, 0::2], padded[:, 1::2, 0::2], padded[:, 0::2, 1::2], padded[:, 1::2, 1::2]], -1)
    torch.testing.assert_close(merging(cells), merging.reduction(merging.norm(quads)))


def test_absolute_embedding_is_resized_to_the_patches() -> None:
    plain, placed = SwinTransformer(**TINY), SwinTransformer(**TINY, absolute_position_embedding=True)
    randomised(plain)
    randomised(placed)
    placed.load_state_dict(plain.state_dict(), strict=False)
    assert placed.absolute_pos_embed is not None
    assert placed.absolute_pos_embed.shape == (1, 8, 56, 56)
    images = torch.randn(1, 3, 33, 50)
    calls: list[Tensor] = []
    for network in (plain, placed):
        network.pos_drop.register_forward_hook(lambda _, inputs, __: calls.append(inputs[0]))
        network(images)
    grid = F.interpolate(placed.absolute_pos_embed, (9, 13), mode="bicubic", align_corners=False)
    torch.testing.assert_close(calls[1] - calls[0], grid.permute(0, 2, 3, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (33, 47), (64, 64)])
def test_any_size_gives_rounded_up_features(size: tuple[int, int]) -> None:
    network = SwinTransformer(**TINY)
    features = network(torch.randn(2, 3, *size))
    assert network.channels == [8, 16, 32, 64]
    assert network.strides == [4, 8, 16, 32]
    shapes = [(2, 8 * k, -(-size[0] // (4 * k)), -(-size[1] // (4 * k))) for k in (1, 2, 4, 8)]
    assert [tuple(f.shape) for f in features] == shapes


def test_every_parameter_of_every_option_gets_a_gradient() -> None:
    network = SwinTransformer(
        **TINY, absolute_position_embedding=True, drop_rate=0.1, attention_drop_rate=0.1, drop_path_rate=0.0
    )
    torch.manual_seed(0)
    randomised(network).train()
    sum(f.square().sum() for f in network(torch.randn(2, 3, 40, 40))).backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without


@pytest.mark.parametrize("option", ["drop_rate", "attention_drop_rate", "drop_path_rate"])
def test_a_rate_acts_in_training_only(option: str) -> None:
    rates = {"drop_path_rate": 0.0, option: 0.4}
    network = SwinTransformer(**TINY, **rates)
    randomised(network)
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(network(images)[-1], network(images)[-1])
    torch.manual_seed(0)
    network.train()
    assert not torch.equal(network(images)[-1], network(images)[-1])


def test_without_rates_training_equals_evaluation() -> None:
    network = SwinTransformer(**TINY, drop_path_rate=0.0)
    randomised(network)
    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(network(images)[-1], network.train()(images)[-1])


def test_stochastic_depth_grows_linearly_over_the_blocks() -> None:
    network = SwinTransformer(**TINY, drop_path_rate=0.5)
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for stage in network.layers for block in stage.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_names_are_those_of_published_segmentation_checkpoints() -> None:
    names = set(SwinTransformer(**TINY, absolute_position_embedding=True).state_dict())
    block = "layers.1.blocks.1."
    assert {name.removeprefix(block) for name in names if name.startswith(block)} == {
        f"{part}.{leaf}"
        for part in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
        for leaf in ("weight", "bias")
    } | {"attn.relative_position_bias_table"}
    assert {name for name in names if "blocks" not in name} == {
        "absolute_pos_embed",
        "patch_embed.proj.weight",
        "patch_embed.proj.bias",
        "patch_embed.norm.weight",
        "patch_embed.norm.bias",
        *(
            f"layers.{stage}.downsample.{leaf}"
            for stage in range(3)
            for leaf in ("norm.weight", "norm.bias", "reduction.weight")
        ),
        *(f"norm{stage}.{leaf}" for stage in range(4) for leaf in ("weight", "bias")),
    }


def test_switches_remove_what_they_name() -> None:
    names = set(SwinTransformer(**TINY, patch_norm=False, qkv_bias=False).state_dict())
    assert not any("patch_embed.norm" in name or "qkv.bias" in name or "absolute" in name for name in names)


@pytest.mark.parametrize(("size", "millions"), [("tiny", 27.52), ("small", 48.84), ("base", 86.74), ("large", 194.99)])
def test_sizes_have_the_published_parameters(size: str, millions: float) -> None:
    """timm's headless counts of the four sizes, to which the norms of the first three outputs are added."""
    with torch.device("meta"):
        network = build_swin(ModelConfig(encoder=f"swin_{size}"))
        theirs = timm_swin.SwinTransformer(
            embed_dim=network.channels[0],
            depths=tuple(len(stage.blocks) for stage in network.layers),
            num_heads=tuple(stage.blocks[0].attn.heads for stage in network.layers),
            num_classes=0,
        )
    extra = 2 * sum(network.channels[:-1])
    count = sum(p.numel() for p in network.parameters())
    assert count == sum(p.numel() for p in theirs.parameters()) + extra
    assert count / 1e6 == pytest.approx(millions, abs=0.01)


def test_own_sizes_and_options_reach_the_network() -> None:
    options = {
        "embed_dim": 24,
        "depths": (1, 1, 2, 1),
        "heads": (2, 4, 4, 8),
        "window_size": 5,
        "mlp_ratio": 2,
        "drop_rate": 0.1,
        "attention_drop_rate": 0.2,
        "drop_path_rate": 0.3,
    }
    network = build_swin(ModelConfig(encoder="swin_small", encoder_options=options, in_bands=5))
    block = network.layers[2].blocks[1]
    assert network.patch_embed.proj.weight.shape == (24, 5, 4, 4)
    assert (block.window_size, block.shift, block.attn.heads) == (5, 2, 4)
    assert (block.mlp.fc1.out_features, block.mlp.drop1.p) == (192, 0.1)
    assert (network.pos_drop.p, block.attn.drop_rate, block.attn.proj_drop.p) == (0.1, 0.2, 0.1)
    assert network.layers[3].blocks[0].drop_path.drop_prob == pytest.approx(0.3)


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(errors.ConfigError, match=r"stage 2 has 192 channels, which 5 heads"):
        build_swin(ModelConfig(encoder="swin_tiny", encoder_options={"heads": (3, 5, 12, 24)}))


@pytest.mark.parametrize(
    ("values", "frozen"),
    [
        ({}, {0, 1}),
        ({"auxiliary": "none"}, {0, 1, 2}),
        ({"pointrend": True}, {1}),
        ({"decoder": "fpn"}, set()),
        ({"auxiliary": "image", "auxiliary_stage": -4, "decoder": "progressive"}, {1, 2}),
    ],
)
def test_norms_that_nothing_reads_do_not_learn(values: dict[str, Any], frozen: set[int]) -> None:
    """The rest of a complete network learns: nothing is left over that data-parallel training would wait for."""
    options = {"embed_dim": 8, "depths": (1, 1, 1, 1), "heads": (1, 2, 2, 4), "drop_path_rate": 0.0}
    torch.manual_seed(0)
    network = PSPNet(
        ModelConfig(encoder="swin_tiny", encoder_options=options, num_classes=3, decoder_channels=8, **values)
    )
    outputs = network.train().forward_train(torch.rand(2, 3, 40, 40) * 255)
    given = [outputs.logits, outputs.auxiliary, outputs.image_logits, outputs.points and outputs.points.logits]
    sum(value.square().sum() for value in given if value is not None).backward()
    still = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert still == {f"encoder.norm{stage}.{leaf}" for stage in frozen for leaf in ("weight", "bias")}
    assert {name for name, parameter in network.named_parameters() if parameter.grad is None} == still


@pytest.mark.slow
def test_one_export_serves_every_size() -> None:
    """Exported at a size where every map has several windows, the graph computes any other size too."""
    network = SwinTransformer(**TINY | {"depths": (1, 2, 1, 1)}, absolute_position_embedding=True)
    randomised(network)
    sizes = {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    program = torch.export.export(
        network, (torch.randn(2, 3, 160, 192),), dynamic_shapes=({0: torch.export.Dim.AUTO, **sizes},)
    )
    exported = program.module(check_guards=False)
    for size in ((1, 33, 47), (2, 64, 64), (3, 97, 131)):
        images = torch.randn(size[0], 3, *size[1:])
        for feature, expected in zip(exported(images), network(images), strict=True):
            torch.testing.assert_close(feature, expected, rtol=1e-4, atol=1e-4)
