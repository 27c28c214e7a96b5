"""Adapting a finished model: statistics equal those of training mode, labels stay out of it, confidence is mended."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from pspnet.adaptation import adapt_batch_norm, calibrate
from pspnet.config import ModelConfig
from pspnet.data.dataset import Sample
from pspnet.errors import ConfigError, DataError
from pspnet.labels import LabelSpace
from pspnet.nn import PSPNet
from pspnet.predict.segmenter import Segmenter
from pspnet.weights.checkpoint import card_for

SPACE = LabelSpace(("sky", "road", "car"))


class Dark:
    """Images whose brightness is far from ImageNet's. Labels, where wanted, are what `teacher` sees."""

    label_space, bands = SPACE, 3

    def __init__(self, number: int = 4, labels: list[np.ndarray] | None = None) -> None:
        self.number, self.labels = number, labels

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> Sample:
        image = np.random.default_rng(index).integers(0, 60, (33, 41, 3), dtype=np.uint8)
        return Sample(image, None if self.labels is None else self.labels[index], f"dark_{index}")


@pytest.fixture
def segmenter() -> Segmenter:
    torch.manual_seed(1)
    model = PSPNet(ModelConfig(encoder="resnet18", num_classes=3, auxiliary="none"))
    return Segmenter(model, card_for(model, SPACE), device="cpu", precision="fp32")


def test_without_prior_statistics_are_the_batchs_own(segmenter: Segmenter) -> None:
    adapted = adapt_batch_norm(segmenter, Dark(), prior=0, batch_size=4, passes=1)
    batch = torch.from_numpy(np.stack([Dark()[i].image for i in range(4)]).transpose(0, 3, 1, 2).astype(np.float32))
    trained = copy.deepcopy(segmenter.model).train()
    for module in trained.modules():
        if isinstance(module, torch.nn.Dropout | torch.nn.Dropout2d):
            module.eval()
    with torch.no_grad():
        expected = trained.coarse_logits(batch)
        actual = adapted.model.eval().coarse_logits(batch)
    np.testing.assert_allclose(actual, expected, atol=2e-3, rtol=1e-3)


def test_the_prior_blends_and_the_model_itself_stays(segmenter: Segmenter) -> None:
    before = {name: value.clone() for name, value in segmenter.model.state_dict().items()}
    adapted = adapt_batch_norm(segmenter, Dark(), prior=12, batch_size=3)
    alone = adapt_batch_norm(segmenter, Dark(), prior=0, batch_size=3)
    name = next(n for n in before if n.endswith("running_mean"))  # the first: its input does not depend on any blend
    old, new, blend = before[name], alone.model.state_dict()[name], adapted.model.state_dict()[name]
    np.testing.assert_allclose(blend, 0.75 * old + 0.25 * new, rtol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in segmenter.model.state_dict().items())
    changed = {n for n, value in adapted.model.state_dict().items() if not torch.equal(value, before[n])}
    assert changed
    assert all(n.endswith(("running_mean", "running_var")) for n in changed)


def test_a_temperature_is_found_and_kept(segmenter: Segmenter) -> None:
    rng, labels = np.random.default_rng(0), []
    for index in range(4):
        pixels = torch.from_numpy(Dark()[index].image.transpose(2, 0, 1)[None].astype(np.float32))
        chance = (segmenter.logits(pixels)[0] / 0.4).softmax(0).numpy()  # the truth is surer than the model is
        labels.append((rng.random(chance.shape[1:]) > chance.cumsum(0)[:2]).sum(0).astype(np.uint8))
    calibrated = calibrate(segmenter, Dark(labels=labels))
    assert calibrated.card.temperature == pytest.approx(0.4, rel=0.15)
    assert segmenter.card.temperature == 1.0
    pixels = torch.from_numpy(Dark()[0].image.transpose(2, 0, 1)[None].astype(np.float32))
    assert torch.equal(calibrated.labels(pixels)[0], segmenter.labels(pixels)[0])


def test_what_cannot_be_adapted_is_refused(segmenter: Segmenter) -> None:
    with pytest.raises(DataError, match="empty"):
        adapt_batch_norm(segmenter, Dark(0))
    with pytest.raises(ConfigError, match="prior >= 0"):
        adapt_batch_norm(segmenter, Dark(), prior=-1)
    with pytest.raises(DataError, match="labelled images"):
        calibrate(segmenter, Dark())
