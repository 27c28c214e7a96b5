"""The encoders' contract over families and options, and their numbers against timm's own networks."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pspnet.config.encoders import OWN_NAMES
from pspnet.config.model import ModelConfig, last_channels
from pspnet.errors import ConfigError
from pspnet.nn import PSPNet
from pspnet.nn.dilation import BorderConv2d
from pspnet.nn.encoder import Encoder
from pspnet.nn.encoder_families import build_encoder

SMALL_SWIN = {"embed_dim": 12, "depths": (2, 2, 1, 1), "heads": (1, 2, 2, 4)}

# one line for each thing that must work; the values cross families, options, bands and strides
FAMILY: list[dict[str, Any]] = [
    {"encoder": "resnet18"},
    {"encoder": "resnet18", "output_stride": 32, "in_bands": 1},
    {"encoder": "resnet34", "output_stride": 16, "dilation": "contracted", "encoder_options": {"drop_path_rate": 0.3}},
    {"encoder": "resnet18s", "encoder_options": {"depth": 3}, "in_bands": 5},
    {"encoder": "resnet18c", "dilation": "contracted", "encoder_options": {"dilate_second_conv": False}},
    {"encoder": "resnet50", "encoder_options": {"depth": 4}},
    {"encoder": "efficientnet_b0"},
    {"encoder": "efficientnet_b1", "output_stride": 16, "encoder_options": {"depth": 4, "drop_path_rate": 0.2}},
    {"encoder": "efficientnet_b0", "output_stride": 32, "dilation": "contracted", "in_bands": 4},
    {"encoder": "efficientnet_b0", "output_stride": 16, "encoder_options": {"padding": "nominal", "norm_eps": 1e-3}},
    {"encoder": "mobilenetv2"},
    {"encoder": "mobilenetv2", "output_stride": 16, "encoder_options": {"width_multiplier": 0.35}},
    {"encoder": "mobilenetv2", "dilation": "contracted", "encoder_options": {"width_multiplier": 0.9, "depth": 3}},
    {"encoder": "swin_tiny", "encoder_options": SMALL_SWIN},
    {"encoder": "swin_tiny", "encoder_options": SMALL_SWIN | {"window_size": 4, "mlp_ratio": 2.0}, "in_bands": 2},
    {"encoder": "swin_small", "encoder_options": SMALL_SWIN | {"patch_norm": False, "qkv_bias": False}},
    {"encoder": "swin_base", "encoder_options": SMALL_SWIN | {"absolute_position_embedding": True}},
    {
        "encoder": "swin_large",
        "encoder_options": SMALL_SWIN | {"drop_rate": 0.1, "attention_drop_rate": 0.1, "drop_path_rate": 0.0},
    },
    {"encoder": "convnext_atto"},
    {"encoder": "convnext_atto", "output_stride": 16, "encoder_options": {"depth": 4, "drop_path_rate": 0.1}},
    {"encoder": "regnety_002", "in_bands": 6},
    {"encoder": "hrnet_w18_small", "output_stride": 32},
    {"encoder": "mobilenetv3_small_050", "dilation": "contracted"},
]


def label(values: dict[str, Any]) -> str:
    return "-".join(str(v) if not isinstance(v, dict) else ",".join(map(str, v)) for v in values.values())


def randomise_norms(network: nn.Module) -> None:
    """timm starts residual branches at zero: they would hide faults and have no gradient at the first step."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.uniform_(module.running_mean, -0.2, 0.2, generator=generator)
            nn.init.uniform_(module.running_var, 0.5, 1.5, generator=generator)


def images_of(config: ModelConfig, *size: int) -> Tensor:
    return torch.randn(size[0], config.in_bands, *size[1:], generator=torch.Generator().manual_seed(1))


def kernels(network: nn.Module, stage: str) -> list[tuple[int, ...]]:
    """Dilations of the convolutions of a stage that see neighbours, in order."""
    convs = [m for m in network.get_submodule(stage).modules() if isinstance(m, nn.Conv2d) and m.kernel_size[0] > 1]
    assert all(
        conv.padding == tuple(d * (k // 2) for d, k in zip(conv.dilation, conv.kernel_size, strict=True))
        for conv in convs
    )
    return [conv.dilation[0] for conv in convs]


@pytest.mark.parametrize("values", FAMILY, ids=label)
def test_every_encoder_keeps_the_contract(values: dict[str, Any]) -> None:
    config = ModelConfig(**values)
    assert ModelConfig.model_validate(config.model_dump()) == config
    encoder = build_encoder(config)
    assert isinstance(encoder, Encoder)
    assert encoder.strides[-1] == min(config.output_stride, 2**config.encoder_options.depth)
    assert encoder.strides == sorted(encoder.strides)
    assert last_channels(config) in (None, encoder.channels[-1])
    encoder.eval()
    for height, width in ((64, 32), (33, 47)):
        images = images_of(config, 1, height, width)
        with torch.no_grad():
            features, again = encoder(images), encoder(images)
            (last,) = encoder(images, last_only=True)
        assert torch.equal(last, features[-1])
        assert len(features) == len(encoder.channels) == len(encoder.strides)
        for feature, channels, stride in zip(features, encoder.channels, encoder.strides, strict=True):
            assert feature.shape == (1, channels, -(-height // stride), -(-width // stride))
        assert all(torch.equal(a, b) for a, b in zip(features, again, strict=True))


@pytest.mark.parametrize("values", [v for i, v in enumerate(FAMILY) if i in (0, 4, 7, 11, 16, 18, 22)], ids=label)
def test_every_parameter_of_a_complete_network_gets_a_gradient(values: dict[str, Any]) -> None:
    config = ModelConfig(
        **values,
        num_classes=3,
        decoder="fpn" if values["encoder"] == "swin_base" else "bilinear",
        decoder_channels=8,
        reduce=False,
        bins=(1, 2),
    )
    torch.manual_seed(0)
    network = PSPNet(config).train()
    randomise_norms(network)
    outputs = network.forward_train(images_of(config, 2, 40, 40) * 60 + 120)
    assert outputs.auxiliary is not None
    (outputs.logits.square().sum() + outputs.auxiliary.square().sum()).backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("resnet18", "resnet18"),
        ("efficientnet_b0", "efficientnet_b0"),
        ("mobilenetv2", "mobilenetv2_100"),
        ("regnety_002", "regnety_002"),
    ],
)
def test_contracted_features_equal_timms(ours: str, theirs: str, stride: int) -> None:
    config = ModelConfig(encoder=ours, output_stride=stride, dilation="contracted")
    encoder = build_encoder(config)
    randomise_norms(encoder)
    reference = timm.create_model(theirs, features_only=True, output_stride=stride)
    state = {name.removeprefix("body."): value for name, value in encoder.state_dict().items()}
    left = reference.load_state_dict(state, strict=False)
    assert not left.unexpected_keys
    assert not left.missing_keys
    images = images_of(config, 2, 45, 64)
    with torch.no_grad():
        for feature, expected in zip(encoder.eval()(images), reference.eval()(images), strict=True):
            torch.testing.assert_close(feature, expected)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenetv2"])
def test_contracted_dilation_computes_the_undilated_numbers_on_a_finer_grid(name: str) -> None:
    """Dilation is stride undone: every fourth cell of the fine map is the coarse map. 'uniform' is another function."""
    coarse = build_encoder(ModelConfig(encoder=name, output_stride=32)).eval()
    randomise_norms(coarse)
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    results = {}
    for dilation in ("contracted", "uniform"):
        fine = build_encoder(ModelConfig(encoder=name, output_stride=8, dilation=dilation)).eval()
        fine.load_state_dict(coarse.state_dict())
        with torch.no_grad():
            results[dilation] = fine(images)[-1][:, :, ::4, ::4]
    with torch.no_grad():
        expected = coarse(images)[-1]
    scale = expected.abs().max()
    assert (results["contracted"] - expected).abs().max() < 1e-5 * scale
    assert (results["uniform"] - expected).abs().max() > 1e-2 * scale


@pytest.mark.parametrize(
    ("values", "layer3", "layer4"),
    [
        ({"encoder": "resnet50"}, [2] * 6, [4] * 3),  # semseg and the paper
        ({"encoder": "resnet50", "dilation": "contracted"}, [1] + [2] * 5, [2] + [4] * 2),  # timm, MMSegmentation
        ({"encoder": "resnet50", "output_stride": 16}, [1] * 6, [2] * 3),
        ({"encoder": "resnet50", "output_stride": 32}, [1] * 6, [1] * 3),
        ({"encoder": "resnet18"}, [2] * 4, [4] * 4),
        ({"encoder": "resnet18", "dilation": "contracted"}, [1, 2, 2, 2], [2, 4, 4, 4]),
        ({"encoder": "resnet18", "encoder_options": {"dilate_second_conv": False}}, [2, 1, 2, 1], [4, 1, 4, 1]),
        (
            {"encoder": "resnet18", "dilation": "contracted", "encoder_options": {"dilate_second_conv": False}},
            [1, 1, 2, 1],
            [2, 1, 4, 1],
        ),
    ],
)
def test_dilations_of_a_resnet(values: dict[str, Any], layer3: list[int], layer4: list[int]) -> None:
    with torch.device("meta"):
        encoder = build_encoder(ModelConfig(**values))
    assert kernels(encoder, "layer2") == [1] * len(kernels(encoder, "layer2"))
    assert kernels(encoder, "layer3") == layer3
    assert kernels(encoder, "layer4") == layer4


@pytest.mark.parametrize(
    ("dilation", "expected"),
    [("uniform", [1, 1, 1, 2, 2, 4, 4]), ("contracted", [1, 1, 1, 1, 2, 2, 4])],  # of each stage's first block
)
@pytest.mark.parametrize("name", ["mobilenetv2", "efficientnet_b0"])
def test_dilations_of_inverted_residuals(name: str, dilation: str, expected: list[int]) -> None:
    with torch.device("meta"):
        encoder = build_encoder(ModelConfig(encoder=name, dilation=dilation))
    actual = [kernels(encoder, f"blocks.{stage}") for stage in range(7)]
    assert [stage[0] for stage in actual] == expected
    assert [stage[-1] for stage in actual[:6]] == [1, 1, 1, 2, 2, 4]


def test_uniform_dilation_of_any_timm_network() -> None:
    with torch.device("meta"):
        fine = build_encoder(ModelConfig(encoder="regnety_002"))
        contracted = build_encoder(ModelConfig(encoder="regnety_002", dilation="contracted"))
        related = build_encoder(ModelConfig(encoder="tf_efficientnet_b0"))
    assert [set(kernels(fine, f"body.s{i}")) for i in (1, 2, 3, 4)] == [{1}, {1}, {2}, {4}]
    assert [set(kernels(contracted, f"body.s{i}")) for i in (1, 2, 3, 4)] == [{1}, {1}, {1, 2}, {2, 4}]
    first = [m for m in related.get_submodule("body.blocks.5.0").modules() if isinstance(m, nn.Conv2d)][1]
    assert (first.dilation, first.padding) == ((4, 4), (8, 8))


@pytest.mark.parametrize("name", ["resnet18", "resnet18c", "efficientnet_b0", "mobilenetv2", "regnety_002"])
def test_depth_cuts_stages_and_changes_nothing_else(name: str) -> None:
    whole = build_encoder(ModelConfig(encoder=name)).eval()
    randomise_norms(whole)
    images = torch.randn(1, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = whole(images)
    for depth in (3, 4):
        cut = build_encoder(ModelConfig(encoder=name, encoder_options={"depth": depth})).eval()
        assert cut.channels == whole.channels[:depth]
        assert cut.strides == whole.strides[:depth]
        assert set(cut.state_dict()) < set(whole.state_dict())
        cut.load_state_dict({key: whole.state_dict()[key] for key in cut.state_dict()})
        with torch.no_grad():
            for feature, same in zip(cut(images), expected[:depth], strict=True):
                torch.testing.assert_close(feature, same)


@pytest.mark.parametrize("name", OWN_NAMES)
def test_every_own_name_builds_with_the_channels_that_its_config_promises(name: str) -> None:
    config = ModelConfig(encoder=name)
    with torch.device("meta"):
        encoder = build_encoder(config)
    assert encoder.channels[-1] == last_channels(config)
    deep = name.endswith(("s", "c")) and name.startswith("resnet")
    if name.startswith("resnet"):
        stem = {"s": (64, 64, 128), "c": (32, 32, 64)}.get(name[-1], (64,))
        convs = [m for m in encoder.conv1.modules() if isinstance(m, nn.Conv2d)]
        assert tuple(conv.out_channels for conv in convs) == stem
        assert convs[0].kernel_size == ((3, 3) if deep else (7, 7))


@settings(max_examples=12, deadline=None)
@given(st.floats(0.05, 2.5))
def test_any_width_gives_multiples_of_8_close_to_what_was_asked(width: float) -> None:
    config = ModelConfig(encoder="mobilenetv2", encoder_options={"width_multiplier": width}, bins=(1,))
    with torch.device("meta"):
        encoder = build_encoder(config)
    assert encoder.channels[-1] == last_channels(config)
    actual = [encoder.conv_stem.out_channels, *encoder.channels]
    for channels, nominal in zip(actual, (32, 16, 24, 32, 96, 320), strict=True):
        assert channels % 8 == 0
        assert channels == 8 or 0.9 * nominal * width <= channels < nominal * width + 8


def test_widths_with_published_networks_have_their_shapes() -> None:
    for width, name in ((0.5, "mobilenetv2_050"), (1.4, "mobilenetv2_140")):
        with torch.device("meta"):
            ours = build_encoder(ModelConfig(encoder="mobilenetv2", encoder_options={"width_multiplier": width}))
            theirs = timm.create_model(name, features_only=True)
        shapes = {name: value.shape for name, value in theirs.state_dict().items()}
        assert {name: value.shape for name, value in ours.state_dict().items()} == shapes


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "mobilenetv2", "swin_tiny"])
def test_the_deepest_block_is_skipped_with_the_rate_asked_for(name: str) -> None:
    depths: dict[str, Any] = {} if name == "swin_tiny" else {"depth": 4}
    with torch.device("meta"):
        encoder = build_encoder(ModelConfig(encoder=name, encoder_options={"drop_path_rate": 0.3, **depths}))
    rates = [m.drop_prob for m in encoder.modules() if type(m).__name__ == "DropPath"]
    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(0.3)


@pytest.mark.parametrize("size", [(224, 224), (64, 96)])
def test_nominal_padding_is_tensorflows_where_sizes_are_even(size: tuple[int, int]) -> None:
    """timm's tf_ networks pad "same" for the image they see: at b0's own 224 px, and wherever sizes halve evenly."""
    options = {"padding": "nominal", "norm_eps": 1e-3}
    ours = build_encoder(ModelConfig(encoder="efficientnet_b0", output_stride=32, encoder_options=options)).eval()
    theirs = timm.create_model("tf_efficientnet_b0", features_only=True).eval()
    randomise_norms(ours)
    assert not theirs.load_state_dict(ours.state_dict(), strict=False).missing_keys
    images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for feature, expected in zip(ours(images), theirs(images), strict=True):
            torch.testing.assert_close(feature, expected)


def test_nominal_padding_follows_the_nominal_size_not_the_image() -> None:
    """b3 was made for 300 px: 300, 150, 75 (odd), 38, 19 (odd): its third and fifth strided layers pad both sides."""
    with torch.device("meta"):
        encoder = build_encoder(
            ModelConfig(encoder="efficientnet_b3", output_stride=32, encoder_options={"padding": "nominal"})
        )
    borders = [m.border[:2] for m in encoder.modules() if isinstance(m, BorderConv2d)]
    kernels_of = [m.kernel_size[0] for m in encoder.modules() if isinstance(m, BorderConv2d)]
    assert kernels_of == [3, 3, 5, 3, 5]
    assert borders == [(0, 1), (0, 1), (2, 2), (0, 1), (2, 2)]


def test_an_image_that_a_network_would_cut_is_padded_instead() -> None:
    """ConvNeXt drops the rest of a patch; here it sees the image with zeros at right and bottom."""
    encoder = build_encoder(ModelConfig(encoder="convnext_atto", output_stride=32)).eval()
    images = torch.randn(1, 3, 50, 70, generator=torch.Generator().manual_seed(1))
    whole = torch.zeros(1, 3, 64, 96)
    whole[:, :, :50, :70] = images
    with torch.no_grad():
        for part, feature in zip(encoder(images), encoder.body(whole), strict=True):
            assert torch.equal(part, feature[:, :, : part.shape[2], : part.shape[3]])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"encoder": "convnext_smal"}, "did you mean 'convnext_small'"),
        ({"encoder": "resnet5O"}, "resnet50"),
        ({"encoder": "vit_tiny_patch16_224"}, "plain vision transformer"),
        ({"encoder": "vit_small_patch14_dinov2"}, "plain vision transformer"),
        ({"encoder": "vit_small_patch16_dinov3"}, "no pyramid"),
        ({"encoder": "levit_128"}, "one size only"),
        ({"encoder": "hrnet_w18_small"}, "output_stride = 8 with encoder = hrnet_w18_small.*Set output_stride to 32"),
        ({"encoder": "densenet121", "output_stride": 16}, "output_stride = 16 with encoder = densenet121"),
        ({"encoder": "xception41"}, "dilation = uniform with encoder = xception41.*contracted"),
        ({"encoder": "swin_tiny", "output_stride": 8}, "output_stride = 8 with encoder = swin_tiny"),
    ],
)
def test_what_cannot_be_is_refused_with_both_fields(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_encoder(ModelConfig(**values))
