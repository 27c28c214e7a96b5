"""The conformance suite of the whole family: any encoder, decoder, head, pyramid and number of bands, in any pair.

Every two values of different axes meet in at least one case; a case then has to pass everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from timm.layers import DropPath
from torch import Tensor, nn

from pspnet.config.encoders import OWN_NAMES
from pspnet.config.model import DECODER_FACTS, ModelConfig
from pspnet.nn import PSPNet, TrainOutputs
from pspnet.nn.decoders import DECODERS
from pspnet.nn.swin import SwinTransformer
from pspnet.weights.checkpoint import card_for, load_checkpoint, save_checkpoint

SWIN = {"embed_dim": 12, "depths": (2, 2, 1, 1), "heads": (1, 2, 2, 4), "window_size": 4}


def encoder(name: str, stride: int | None = None, dilation: str = "uniform", **options: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"encoder": name, "dilation": dilation, "encoder_options": options}
    return values | ({"output_stride": stride} if stride else {})


# the axes; every value is a piece of a ModelConfig
AXES: dict[str, dict[str, dict[str, Any]]] = {
    "encoder": {
        "resnet18": encoder("resnet18"),
        "resnet18c contracted": encoder("resnet18c", dilation="contracted", dilate_second_conv=False),
        "resnet18s to 32": encoder("resnet18s", 32),
        "resnet34 depth 3": encoder("resnet34", depth=3),
        "resnet50 depth 4 to 16": encoder("resnet50", 16, depth=4, drop_path_rate=0.1),
        "efficientnet_b0": encoder("efficientnet_b0", depth=4),
        "efficientnet_b1 to 32": encoder("efficientnet_b1", 32, "contracted", drop_path_rate=0.2),
        "mobilenetv2 x 0.35": encoder("mobilenetv2", width_multiplier=0.35),
        "mobilenetv2 x 0.9 to 16": encoder("mobilenetv2", 16, width_multiplier=0.9),
        "convnext_atto to 32": encoder("convnext_atto", 32),
        "regnety_002": encoder("regnety_002"),
        "swin": encoder("swin_tiny", **SWIN),
        "swin window 3": encoder("swin_tiny", **SWIN | {"window_size": 3}),
        "swin without patch norm": encoder("swin_tiny", **SWIN, patch_norm=False),
        "swin with positions": encoder("swin_tiny", **SWIN, absolute_position_embedding=True),
        "swin with dropout": encoder("swin_tiny", **SWIN, drop_rate=0.1),
        "swin with attention dropout": encoder("swin_tiny", **SWIN, attention_drop_rate=0.1),
        "swin without drop path": encoder("swin_tiny", **SWIN, drop_path_rate=0.0),
        "swin without qkv bias": encoder("swin_tiny", **SWIN, qkv_bias=False),
    },
    "decoder": {name: {"decoder": name, "decoder_channels": 8} for name in DECODERS},
    "pyramid": {
        "standard": {},
        "progressive": {"pyramid": "progressive"},
        "no bins": {"bins": ()},
        "large, max": {"bins": (2, 9), "reduce": False, "pool": "max", "fusion": "plain", "concat": "pooled_first"},
    },
    "auxiliary": {name: {"auxiliary": name} for name in ("pixel", "image", "none")},
    "bands": {str(count): {"in_bands": count} for count in (1, 3, 5)},
    "points": {
        "no pointrend": {},
        "pointrend": {
            "pointrend": True,
            "pointrend_options": {"points": 40, "train_points": 16, "channels": 8, "layers": 2},
        },
    },
    "corners": {"halves": {"align_corners": False}, "aligned": {"align_corners": True}},
    "classifier": {"1x1": {}, "3x3": {"classifier_kernel": 3, "dropout": 0.5}},
}


def pairwise_cases(axes: dict[str, dict[str, Any]]) -> Iterator[dict[str, str]]:
    """Cases in which every two values of two axes meet: each new case takes what meets most that has not met yet."""
    open_pairs = {frozenset([(a, x), (b, y)]) for a, b in combinations(axes, 2) for x in axes[a] for y in axes[b]}
    while open_pairs:
        case: dict[str, str] = dict(min(tuple(sorted(pair)) for pair in open_pairs))
        for axis in axes:
            if axis not in case:
                news = {x: sum(frozenset([(axis, x), met]) in open_pairs for met in case.items()) for x in axes[axis]}
                case[axis] = max(news, key=news.__getitem__)
        open_pairs -= {frozenset(pair) for pair in combinations(case.items(), 2)}
        yield {axis: case[axis] for axis in axes}


CASES = list(pairwise_cases(AXES))


def config_of(case: dict[str, str]) -> ModelConfig:
    values: dict[str, Any] = {"num_classes": 4, "pyramid_options": {"fusion_channels": 16}}
    for axis, name in case.items():
        values |= AXES[axis][name]
    return ModelConfig(**values)


def build(config: ModelConfig) -> PSPNet:
    torch.manual_seed(0)
    model = PSPNet(config)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # timm starts residual branches at zero, where nothing inside learns
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model


def no_drop_path(model: PSPNet) -> None:
    for module in model.modules():
        if isinstance(module, DropPath):
            module.eval()


def unread(model: PSPNet) -> set[str]:
    """Parameters that only features nobody reads depend on: Swin norms each stage's output, and not all are used."""
    config, count = model.config, len(model.encoder.channels)
    reads_from = DECODER_FACTS[config.decoder].reads_from
    strides = model.encoder.strides
    finest = count - 1 if reads_from is None else next(i for i, s in enumerate(strides) if s >= reads_from)
    read = set(range(finest, count))  # Swin's strides are 4, 8, 16, 32
    if config.auxiliary != "none":
        read.add(count + model.auxiliary_stage)
    if model.pointrend is not None:
        read.add(model.pointrend.level)
    if not isinstance(model.encoder, SwinTransformer):
        return set()
    return {f"encoder.norm{i}.{leaf}" for i in range(count) if i not in read for leaf in ("weight", "bias")}


def scalar(outputs: TrainOutputs) -> Tensor:
    given = [outputs.logits, outputs.auxiliary, outputs.image_logits, outputs.points and outputs.points.logits]
    return torch.stack([o.square().mean() for o in given if o is not None]).sum()


@pytest.mark.parametrize("case", CASES, ids=lambda case: ", ".join(case.values()))
def test_case(case: dict[str, str], tmp_path: Path) -> None:
    config = config_of(case)
    model = build(config)
    images = 255 * torch.rand(2, config.in_bands, 33, 47) * torch.tensor([1.0, 0.3])[:, None, None, None]

    with torch.no_grad():
        outputs = model.train().forward_train(images[:1])  # a batch of one, with batch norm on
    assert outputs.logits.shape == (1, 4, 33, 47)
    assert (outputs.auxiliary is None) == (config.auxiliary != "pixel")
    assert (outputs.image_logits is None) == (config.auxiliary != "image")
    assert (outputs.points is None) == (not config.pointrend)
    if outputs.auxiliary is not None:
        assert outputs.auxiliary.shape == (1, 4, 33, 47)
    if outputs.image_logits is not None:
        assert outputs.image_logits.shape == (1, 4)
    if outputs.points is not None:
        assert outputs.points.coordinates.shape == (1, 16, 2)
        assert outputs.points.logits.shape == (1, 4, 16)
    no_drop_path(model)  # a block that happens to be skipped would have no gradient
    scalar(model.forward_train(images)).backward()
    silent = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert silent == unread(model)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)

    model.eval()
    with torch.inference_mode():
        logits = model(images)
        assert logits.shape == (2, 4, 33, 47)
        assert torch.isfinite(logits).all()
        assert torch.equal(model(images), logits), "evaluation is not deterministic"
        torch.testing.assert_close(model(images[1:]), logits[1:], atol=2e-3, rtol=1e-3)

        assert ModelConfig(**yaml.safe_load(config.to_yaml())) == config
        loaded, _ = load_checkpoint(save_checkpoint(tmp_path / "model.safetensors", model, card_for(model)))
        assert loaded.config == config
        assert torch.equal(loaded(images), logits)


def test_every_two_choices_meet() -> None:
    met = {pair for case in CASES for pair in combinations(case.items(), 2)}
    assert met == {((a, x), (b, y)) for a, b in combinations(AXES, 2) for x in AXES[a] for y in AXES[b]}
    assert len(AXES["encoder"]) >= 12
    assert len(CASES) < 120


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN_NAMES)
def test_every_own_encoder_at_its_full_size(name: str) -> None:
    """Shapes only, on tensors without memory: every decoder, PointRend and head takes what the encoder gives."""
    with torch.device("meta"):
        for decoder in DECODERS:
            model = PSPNet(ModelConfig(encoder=name, decoder=decoder, pointrend=True, num_classes=3))
            outputs = model.forward_train(torch.empty(2, 3, 65, 97))
            assert outputs.logits.shape == outputs.auxiliary.shape == (2, 3, 65, 97)
            assert outputs.points.logits.shape == (2, 3, 2048)
            assert model.eval()(torch.empty(1, 3, 65, 97)).shape == (1, 3, 65, 97)
