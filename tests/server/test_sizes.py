"""A request's photograph is looked at with the trained size, and answered at its own."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pspnet.config.model import ModelConfig
from pspnet.nn import PSPNet
from pspnet.predict.segmenter import Segmenter
from pspnet.server.batching import Found
from pspnet.server.problems import Problem
from pspnet.server.sizes import brought_back, brought_to, wished_size


@pytest.fixture(scope="module")
def model() -> Segmenter:
    net = PSPNet(ModelConfig(encoder="resnet18", encoder_options={"depth": 3}, num_classes=2, auxiliary="none"))
    segmenter = Segmenter(net.eval(), device="cpu", precision="fp32")
    segmenter.card = dataclasses.replace(segmenter.card, trained_size=(48, 64))
    return segmenter


def test_there_and_back(model: Segmenter) -> None:
    photograph = np.zeros((150, 200, 3), np.uint8)
    scaled = brought_to(photograph, model, wished_size(None))
    assert scaled.shape == (48, 64, 3)
    actual = Found(np.ones((48, 64), np.uint8), np.full((48, 64), 0.5, np.float32), 1, 0.0, 0.0)
    back = brought_back(actual, photograph)
    assert back.labels.shape == (150, 200)
    assert back.confidence is not None
    assert back.confidence.shape == (150, 200)
    assert brought_to(photograph, model, wished_size("native")) is photograph


@pytest.mark.parametrize("text", ["huge", "0", "70000"])
def test_a_wrong_size_is_a_problem(text: str) -> None:
    with pytest.raises(Problem, match="native, trained") as refused:
        wished_size(text)
    assert refused.value.status == 422


def test_no_request_makes_the_server_work_on_far_more_than_it_sent(model: Segmenter) -> None:
    with pytest.raises(Problem, match="at most 4 times"):
        brought_to(np.zeros((20, 20, 3), np.uint8), model, wished_size("4000"))
    assert brought_to(np.zeros((20, 20, 3), np.uint8), model, wished_size("40")).shape == (40, 40, 3)
