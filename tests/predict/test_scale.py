"""A photograph is brought to the size that the model was trained at, and the labels have the photograph's own."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from pspnet.config.model import ModelConfig
from pspnet.errors import ConfigError
from pspnet.nn import PSPNet
from pspnet.predict import scale, windows
from pspnet.predict.segmenter import Segmenter


@pytest.fixture(scope="module")
def model() -> Segmenter:
    torch.manual_seed(0)
    net = PSPNet(
        ModelConfig(
            encoder="resnet18", encoder_options={"depth": 3}, num_classes=3, auxiliary="none", decoder_channels=8
        )
    )
    segmenter = Segmenter(net.eval(), device="cpu", precision="fp32")
    segmenter.card = dataclasses.replace(segmenter.card, trained_size=(48, 64))
    return segmenter


def photograph(height: int, width: int) -> Any:
    small = np.random.default_rng(3).integers(0, 256, (12, 16, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize(
    ("native", "wish", "expected"),
    [
        ((48, 64), "trained", (48, 64)),
        ((56, 74), "trained", (56, 74)),  # near enough: resizing would only blur it
        ((144, 192), "trained", (48, 64)),
        ((192, 144), "trained", (64, 48)),  # upright: as large, not as wide
        ((24, 32), "trained", (48, 64)),
        ((144, 192), "native", (144, 192)),
        ((144, 192), 96, (72, 96)),
    ],
)
def test_what_is_looked_at(native: scale.Size, wish: scale.Wish, expected: scale.Size) -> None:
    assert scale.seen_size(native, (48, 64), wish) == expected


def test_nothing_changes_where_no_size_is_known() -> None:
    assert scale.seen_size((480, 640), None) == (480, 640)


def test_a_large_photograph_is_seen_as_a_trained_one(model: Segmenter) -> None:
    large = photograph(150, 200)
    small = cv2.resize(large, (64, 48), interpolation=cv2.INTER_AREA)
    labels, confidence = model.labels(small.transpose(2, 0, 1)[None].astype(np.float32), True, (150, 200))
    assert confidence is not None
    actual = model.segment(large)
    assert actual.labels.shape == (150, 200)
    assert actual.confidence is not None
    assert actual.confidence.shape == (150, 200)
    assert actual.image is not None
    assert actual.image.shape[:2] == (150, 200)
    assert (actual.labels == labels[0]).all()
    assert (actual.confidence == confidence[0]).all()
    with pytest.warns(UserWarning, match="200 x 150 pixels, the model was trained at 64 x 48"):
        native = model.segment(large, size="native")
    assert native.confidence is not None
    assert (native.confidence != actual.confidence).any()


def test_windows_of_a_wished_size(model: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "WHOLE_PIXELS", 100)
    actual = model.segment(photograph(96, 128))
    assert actual.labels.shape == (96, 128)
    assert actual.confidence is not None
    assert actual.confidence.shape == (96, 128)


def test_a_protocol_sees_what_it_says(model: Segmenter) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.seen_size((144, 192), None, "whole") == (144, 192)


@pytest.mark.parametrize("text", ["big", "8", "-3", "1e3", ""])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ConfigError, match="native, trained, or the longer side"):
        scale.parse_size(text)


def test_sizes_of_the_command_line() -> None:
    assert [scale.parse_size(text) for text in ("native", "trained", "640")] == ["native", "trained", 640]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.int32])
@pytest.mark.parametrize("bands", [1, 4, 6])
def test_every_kind_of_pixel_is_resized(dtype: Any, bands: int) -> None:
    scaled = scale.at_size(np.full((40, 60, bands), 7, dtype), (20, 30))
    assert scaled.shape == (20, 30, bands)
    assert scaled.dtype == dtype
    assert (scaled == 7).all()
