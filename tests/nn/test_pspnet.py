"""The network as a whole: sizes, dilation rules, batches of one, contradictions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pspnet import ModelConfig, PSPNet
from pspnet.errors import ConfigError


def small(**changes: object) -> PSPNet:
    torch.manual_seed(0)
    return PSPNet(ModelConfig(**{"encoder": "resnet18", "num_classes": 5, **changes}))


@pytest.mark.parametrize("size", [(33, 47), (64, 64), (65, 97), (40, 121)])
@pytest.mark.parametrize("stride", [8, 16, 32])
def test_logits_have_the_input_size(size: tuple[int, int], stride: int) -> None:
    model = small(output_stride=stride).eval()
    with torch.inference_mode():
        assert model(torch.rand(2, 3, *size) * 255).shape == (2, 5, *size)
        coarse = model.coarse_logits(torch.rand(1, 3, *size))
    assert coarse.shape[-2:] == tuple(-(-side // stride) for side in size)


@pytest.mark.parametrize("bands", [1, 2, 5])
def test_any_number_of_bands(bands: int) -> None:
    model = small(in_bands=bands)
    assert model.mean.shape == model.std.shape == (bands,)
    assert model.forward_train(torch.rand(2, bands, 40, 48) * 255).logits.shape == (2, 5, 40, 48)


def test_normalisation_is_the_first_line() -> None:
    plain, normalised = small().eval(), small(mean=(10.0, 20.0, 30.0), std=(2.0, 4.0, 8.0)).eval()
    normalised.load_state_dict({**plain.state_dict(), "mean": normalised.mean, "std": normalised.std})
    images = torch.rand(1, 3, 40, 40) * 255
    same = (images - plain.mean[:, None, None]) / plain.std[:, None, None] * normalised.std[
        :, None, None
    ] + normalised.mean[:, None, None]
    assert torch.allclose(plain(images), normalised(same), atol=1e-4)


@pytest.mark.parametrize("bins", [(1, 2, 3, 6), (1, 3, 5, 6), (1,), (), (2, 4), (1, 50)])
def test_training_with_one_image_works_and_everything_learns(bins: tuple[int, ...]) -> None:
    model = small(bins=bins, pyramid_options={"fusion_channels": 32})
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(
                module.weight
            )  # timm starts a residual branch at 0, where its inner weights learn nothing yet
    before = {name: b.clone() for name, b in model.named_buffers() if "branches.0" in name and "running" in name}
    outputs = model.forward_train(torch.rand(1, 3, 41, 59) * 255)
    assert outputs.auxiliary is not None
    (outputs.logits.square().mean() + outputs.auxiliary.square().mean()).backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # one image leaves one value per channel in a 1 x 1 bin after a norm on running statistics: all still learn
    assert silent == []
    if bins[:1] == (1,):
        assert all(torch.equal(dict(model.named_buffers())[name], value) for name, value in before.items())


def dilations(model: PSPNet, stage: str) -> list[list[int]]:
    blocks = getattr(model.encoder, stage)
    return [
        [m.dilation[0] for m in block.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
        for block in blocks
    ]


@pytest.mark.parametrize(
    ("encoder", "rule", "stride", "third", "fourth"),
    [
        ("resnet50", "uniform", 8, [[2]] * 6, [[4]] * 3),
        ("resnet50", "contracted", 8, [[1]] + [[2]] * 5, [[2]] + [[4]] * 2),
        ("resnet50", "contracted", 16, [[1]] * 6, [[1]] + [[2]] * 2),
        ("resnet50", "uniform", 16, [[1]] * 6, [[2]] * 3),
        ("resnet50", "uniform", 32, [[1]] * 6, [[1]] * 3),
        ("resnet18", "uniform", 8, [[2, 2]] * 2, [[4, 4]] * 2),
        ("resnet18", "contracted", 8, [[1, 2], [2, 2]], [[2, 4], [4, 4]]),
    ],
)
def test_dilation_rules(encoder: str, rule: str, stride: int, third: list[list[int]], fourth: list[list[int]]) -> None:
    with torch.device("meta"):
        model = small(encoder=encoder, dilation=rule, output_stride=stride)
    assert dilations(model, "layer3") == third
    assert dilations(model, "layer4") == fourth
    assert all(d == [1] * len(d) for s in ("layer1", "layer2") for d in dilations(model, s))


@pytest.mark.parametrize(
    "encoder", ["resnet34", "resnet50s", "resnet50c", "resnet101", "resnet152", "resnet269", "resnet18c"]
)
def test_depths_and_stems(encoder: str) -> None:
    with torch.device("meta"):
        model = small(encoder=encoder)
        layers = int(encoder[6:].rstrip("sc"))
        convs = [m for n, m in model.encoder.named_modules() if isinstance(m, nn.Conv2d) and "downsample" not in n]
        stem = 3 if encoder[-1] in "sc" else 1
        assert len(convs) - stem == layers - 2
        assert model(torch.rand(1, 3, 33, 33)).shape == (1, 5, 33, 33)
    first = convs[0]
    assert (first.out_channels, first.kernel_size[0]) == {"s": (64, 3), "c": (32, 3)}.get(encoder[-1], (64, 7))


def test_a_network_may_look_at_a_smaller_image() -> None:
    model, half = small().eval(), small(input_scale=0.5).eval()
    half.load_state_dict(model.state_dict())
    images = torch.rand(1, 3, 64, 96) * 255
    smaller = torch.nn.functional.avg_pool2d(images, 2)  # bilinear at exactly one half is the mean of four pixels
    assert torch.allclose(half.coarse_logits(images), model.coarse_logits(smaller), atol=1e-4)
    for size in ((47, 33), (1, 1)):
        assert half(torch.rand(1, 3, *size)).shape == (1, 5, *size)
    expected, scaled = half.forward_train(images), model.forward_train(images, 0.5)  # in one step of a training
    assert torch.equal(scaled.logits, expected.logits)


def test_auxiliary_choices() -> None:
    assert small(auxiliary="none").auxiliary is None
    outputs = small(auxiliary="image").forward_train(torch.rand(2, 3, 33, 33))
    assert outputs.auxiliary is None
    assert outputs.image_logits is not None
    assert outputs.image_logits.shape == (2, 5)
    stage = small(auxiliary_stage=-3)
    assert stage.auxiliary is not None
    assert next(stage.auxiliary.parameters()).shape[1] == 128


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (
            {"encoder_options": {"stride_in_first_conv": True}},
            ("stride_in_first_conv", "resnet18", "dilate_second_conv"),
        ),
        ({"encoder": "resnet50", "encoder_options": {"dilate_second_conv": False}}, ("dilate_second_conv", "resnet50")),
        ({"pyramid": "progressive", "pyramid_options": {"fusion_kernel": 1}}, ("fusion_kernel", "progressive")),
        ({"encoder": "swin_tiny", "output_stride": 8}, ("output_stride", "encoder", "swin_tiny")),
        ({"mean": (1.0,)}, ("mean", "in_bands")),
        ({"encoder_options": {"window_size": 7}}, ("window_size", "resnet18")),
        ({"encoder_options": {"depth": 3}, "output_stride": 16}, ("output_stride", "depth")),
        ({"bins": (1, 1)}, ("bins",)),
        ({"dropout": 1.5}, ("dropout", "1.5")),
        ({"encodr": "x"}, ("encodr", "encoder")),
        ({"encoder": "swin_tiny", "encoder_options": {"widow_size": 3}}, ("encoder_options.widow_size", "window_size")),
        ({"num_classes": "many"}, ("num_classes", "many")),
    ],
)
def test_contradictions_are_refused_when_the_config_is_built(
    changes: dict[str, object], named: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as caught:
        ModelConfig(**{"encoder": "resnet18", **changes})
    assert all(part in str(caught.value) for part in named), str(caught.value)


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        ModelConfig(encoder="resnet18", bands=3, num_classes=0, pool="median")
    assert len(caught.value.faults) == 3


def test_options_written_before_families_had_their_own_still_open() -> None:
    """Every option of every family at its default, as checkpoints of then hold them: what says nothing is dropped."""
    old = {"depth": 4, "width_multiplier": 1.0, "window_size": None, "depths": None, "qkv_bias": True, "norm_eps": None}
    config = ModelConfig(encoder="resnet18", encoder_options=old)
    assert config.encoder_options.model_dump(exclude_unset=True) == {"depth": 4}
    assert config.changed(encoder="swin_tiny", encoder_options={}).output_stride == 32
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("bins", [(1, 2, 3), (1, 2, 3, 6, 8), (1, 2, 3, 4, 5, 6), (1, 2, 3, 4, 5, 6, 7)])
def test_any_number_of_levels(bins: tuple[int, ...]) -> None:
    """Branches have 512 // levels channels, rounded down as other projects do; what divides stays as it was."""
    model = small(bins=bins).eval()
    assert model.pyramid.width == 512 // len(bins)
    assert model(torch.zeros(1, 3, 65, 97)).shape[2:] == (65, 97)
