"""Decoders and heads by themselves: structure as the papers name it, any strides, any sizes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pspnet.config.model import DECODER_FACTS, ModelConfig
from pspnet.nn.blocks import resize
from pspnet.nn.decoders import DECODERS, build_decoder
from pspnet.nn.heads import ImageHead

DILATED = [2, 4, 8, 8, 8]  # a ResNet at output stride 8
PLAIN = [4, 8, 16, 32]  # a Swin


def maps(channels: list[int], strides: list[int], height: int = 33, width: int = 47) -> list[Tensor]:
    """Random features of an image, sizes as convolutions with padding leave them."""
    generator = torch.Generator().manual_seed(1)
    sizes = [(-(-height // s), -(-width // s)) for s in strides]
    return [torch.randn(2, c, *size, generator=generator) for c, size in zip(channels, sizes, strict=True)]


def config_for(decoder: str, channels: int = 8) -> ModelConfig:
    return ModelConfig(encoder="resnet18", decoder=decoder, decoder_channels=channels)


@pytest.mark.parametrize("decoder", sorted(DECODERS))
@pytest.mark.parametrize("strides", [DILATED, PLAIN, [2, 4, 8], [2, 4, 8, 16, 16]])
@pytest.mark.parametrize("size", [(33, 47), (64, 64), (17, 18)])
def test_any_strides_and_sizes(decoder: str, strides: list[int], size: tuple[int, int]) -> None:
    channels = [*[4, 6, 10, 12][: len(strides) - 1], 16]
    network = build_decoder(channels, strides, config_for(decoder))
    decoded = network(maps(channels, strides, *size))
    assert decoded.shape[:2] == (2, network.channels)
    assert network.channels == (16 if decoder == "bilinear" else 8)
    features = maps(channels, strides, *size)
    expected = {
        "bilinear": features[-1].shape[-2:],
        "progressive": tuple(side * strides[-1] for side in features[-1].shape[-2:]),
        "unet": features[0].shape[-2:],
        "fpn": features[strides.index(4)].shape[-2:],
        "fcn": features[strides.index(8)].shape[-2:],
    }
    assert tuple(decoded.shape[-2:]) == tuple(expected[decoder])


def test_progressive_is_h15_to_h16() -> None:
    """Three blocks of bilinear 2x, 3x3, norm, PReLU: 1024 -> 256 -> 64 -> 64; dropout 0.3, 0.15, and 0.15 at the end."""
    config = ModelConfig(encoder="resnet50", decoder="progressive", pyramid="progressive")
    network = build_decoder([64, 256, 512, 1024, 1024], DILATED, config)
    blocks = [[*block[0], block[1]] for block in network.blocks]
    assert [[type(layer) for layer in block] for block in blocks] == [[nn.Conv2d, nn.BatchNorm2d, nn.PReLU]] * 3
    assert [(block[0].in_channels, block[0].out_channels) for block in blocks] == [(1024, 256), (256, 64), (64, 64)]
    assert [block[0].kernel_size for block in blocks] == [(3, 3)] * 3
    assert (network.dropout.p, network.between.p, config.classifier_dropout) == (0.3, 0.15, 0.15)

    network.eval()
    features = maps([1024], [8], 16, 24)
    x = features[-1]
    for conv, norm, act in blocks:
        x = act(norm(conv(F.interpolate(x, scale_factor=2, mode="bilinear"))))
    torch.testing.assert_close(network(features), x)
    assert x.shape[-2:] == (16, 24), "the input's size where the stride divides it"


@pytest.mark.parametrize(
    ("strides", "widths"),
    [([2, 4, 8, 16, 32], [32, 8, 8, 8, 8]), (PLAIN, [32, 8, 8, 8, 8]), ([2, 4, 8, 16, 16], [32, 8, 8, 8])],
)
def test_progressive_doubles_as_often_as_the_encoder_halves(strides: list[int], widths: list[int]) -> None:
    network = build_decoder([4] * len(strides), strides, config_for("progressive"))
    assert [block[0].conv.out_channels for block in network.blocks] == widths


def test_unet_is_resize_convolve_join_convolve() -> None:
    channels = [4, 6, 10, 12, 16]
    network = build_decoder(channels, DILATED, config_for("unet")).eval()
    features = maps(channels, DILATED)
    assert [up.conv.out_channels for up in network.up] == [8, 16, 32, 32]
    x = features[4]
    for level in (3, 2, 1, 0):
        x = network.up[level](resize(x, tuple(features[level].shape[-2:])))
        x = network.join[level](torch.cat([features[level], x], dim=1))
    torch.testing.assert_close(network(features), x)


def test_fpn_is_upernets() -> None:
    """Laterals from stride 4 on, sums from the top down, a 3x3 on all but the pyramid's level, joined and fused."""
    channels = [4, 6, 10, 12, 8]
    network = build_decoder(channels, DILATED, config_for("fpn")).eval()
    features = maps(channels, DILATED)
    c2, c3, c4, top = features[1:]
    at = [tuple(f.shape[-2:]) for f in (c2, c3, c4)]
    p4 = network.lateral[2](c4) + resize(top, at[2])
    p3 = network.lateral[1](c3) + resize(p4, at[1])
    p2 = network.lateral[0](c2) + resize(p3, at[0])
    levels = [network.smooth[0](p2), network.smooth[1](p3), network.smooth[2](p4), top]
    fused = network.fuse(torch.cat([resize(level, at[0]) for level in levels], dim=1))
    torch.testing.assert_close(network(features), fused)
    assert isinstance(network.top, nn.Identity)
    wider = build_decoder([*channels[:-1], 16], DILATED, config_for("fpn"))
    assert wider.top.conv.kernel_size == (1, 1)


@pytest.mark.parametrize("decoder", ["unet", "fpn"])
def test_skip_connections_reach_the_output(decoder: str) -> None:
    """A change in any feature that the design uses changes the output; fpn leaves stride 2 alone."""
    channels = [4, 6, 10, 12, 8]
    network = build_decoder(channels, DILATED, config_for(decoder)).eval()
    features = maps(channels, DILATED)
    with torch.no_grad():
        before = network(features)
        moved = []
        for level in range(5):
            other = list(features)
            other[level] = features[level] + 1.0
            moved.append(not torch.allclose(network(other), before))
    assert moved == [decoder == "unet", True, True, True, True]


def test_image_head_is_h18() -> None:
    head = ImageHead(12, 5)
    features = torch.randn(2, 12, 6, 7)
    hidden = F.relu(F.linear(features.amax((2, 3)), head.hidden.weight, head.hidden.bias))
    assert head.hidden.out_features == 256
    torch.testing.assert_close(head(features), F.linear(hidden, head.classifier.weight, head.classifier.bias))


def test_every_decoder_is_in_the_vocabulary() -> None:
    assert list(DECODERS) == list(DECODER_FACTS)


def test_fcn_8s_sums_scores() -> None:
    channels, strides = [4, 6, 10, 12, 16], [2, 4, 8, 16, 32]
    network = build_decoder(channels, strides, config_for("fcn"))
    features = maps(channels, strides, 70, 91)
    by_hand = resize(network.top(features[4]), features[3].shape[-2:], False) + network.skips[1](features[3])
    by_hand = resize(by_hand, features[2].shape[-2:], False) + network.skips[0](features[2])
    assert torch.equal(network(features), by_hand)
