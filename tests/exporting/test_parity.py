"""The verdict on an export: what is not a number fails, and few images are not taken for proof."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pspnet import LabelSpace, ModelConfig, PSPNet, Segmenter
from pspnet.errors import ExportError
from pspnet.exporting import parity
from pspnet.exporting.parity import Quality, compare
from pspnet.exporting.run import ExportReport, _kept_back
from pspnet.weights.checkpoint import ModelCard

NAN = float("nan")


@pytest.fixture
def source() -> Segmenter:
    torch.manual_seed(0)
    config = ModelConfig(encoder="resnet18", num_classes=3, encoder_options={"depth": 3}, bins=(1, 2), reduce=False)
    card = ModelCard(LabelSpace(("sea", "land", "sky")))
    return Segmenter(PSPNet(config), card, device="cpu", precision="fp32")


def opened(monkeypatch: pytest.MonkeyPatch, logits: Any) -> None:
    stub = SimpleNamespace(logits=logits, engine=SimpleNamespace(name="stub"))
    monkeypatch.setattr(parity.Segmenter, "load", lambda path: stub)


def test_what_is_not_a_number_is_never_equal(source: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The argmax of NaN everywhere is 0 on both sides, and every comparison with NaN is false."""
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    opened(monkeypatch, source.logits)
    assert compare(source, Path("m.onnx"), [image], True)[1][0].label_agreement == 1

    def half(images: torch.Tensor) -> torch.Tensor:
        actual = source.logits(images)
        actual[:, 0, :20] = NAN
        return actual

    opened(monkeypatch, half)
    assert compare(source, Path("m.onnx"), [image], True)[1][0].label_agreement == pytest.approx(0.5)


def test_a_source_without_numbers_is_named(source: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(monkeypatch, source.logits)
    torch.nn.init.constant_(source.model.classifier.bias, NAN)
    with pytest.raises(ExportError, match="source itself"):
        compare(source, Path("m.onnx"), [np.zeros((40, 40, 3), np.uint8)], True)


@pytest.mark.parametrize(
    ("quality", "refused", "uncertain"),
    [
        (Quality(100, 0.70, 0.699, -0.001, 0.003), False, False),  # surely kept
        (Quality(100, 0.70, 0.68, 0.015, 0.025), True, False),  # surely lost
        (Quality(9, 0.70, 0.69, -0.02, 0.04), False, True),  # nine images cannot tell
        (Quality(1, 0.70, 0.69), True, False),  # one image has no interval: its own loss counts
        (Quality(1, 0.70, 0.699), False, False),
        (Quality(100, 0.70, NAN, NAN, NAN), True, False),
        (Quality(100, NAN, NAN), True, False),
    ],
)
def test_the_verdict(quality: Quality, refused: bool, uncertain: bool) -> None:
    assert quality.loses_more(0.005) is refused
    assert quality.uncertain(0.005) is uncertain
    report = str(ExportReport(Path("m.onnx"), "int8", "onnxruntime", 1, (), 0.9, quality, 0.005, 20))
    assert ("cannot tell" in report) is uncertain
    assert "calibrated on 20 images" in report


@pytest.mark.parametrize("count", [2, 3, 4, 12, 13, 100])
def test_what_is_judged_was_not_calibrated_on(count: int) -> None:
    images = [np.full((1, 1, 1), i) for i in range(count)]
    calibration, judged = _kept_back(images)
    assert sorted(x.item() for x in [*calibration, *judged]) == list(range(count))
    assert 1 <= len(judged) <= 3
    assert len(calibration) >= count // 2
