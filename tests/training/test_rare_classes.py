"""Help for rare classes: what is chosen follows from the data, is said, and gives way to what a user sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pspnet import train
from pspnet.config import AugmentConfig, LossConfig, TrainConfig, with_overrides
from pspnet.data.dataset import Sample
from pspnet.training.resolve import DataSets, resolve
from pspnet.weights.checkpoint import read_header
from support.toys import Toys, toy_run


class Uneven(Toys):
    """One pixel in a hundred is a square, the rest is ground; there is no stripe."""

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        labels = np.zeros_like(sample.labels)
        labels[10:14, 10:14] = 1
        return Sample(sample.image, labels, sample.name)


def resolved(folder: Path, data: Toys, **changes: object) -> tuple[TrainConfig, list[str]]:
    messages: list[str] = []
    return resolve(toy_run(folder, **changes), DataSets.given(data, None), messages.append), messages


def test_help_comes_unless_a_word_switches_it_off() -> None:
    assert TrainConfig().rare_classes == "auto"
    assert TrainConfig(**with_overrides({}, ["rare_classes=off"])).rare_classes == "off"


def test_off_is_off(tmp_path: Path) -> None:
    config, messages = resolved(tmp_path, Uneven())
    assert (config.loss.class_weights, config.augmentation.rare_crop_probability, messages) == ("none", 0.0, [])


@pytest.mark.parametrize(("help_with", "weights", "crops"), [("auto", 1, 1), ("weights", 1, 0), ("crops", 0, 1)])
def test_what_is_chosen_is_written_down_and_said(tmp_path: Path, help_with: str, weights: int, crops: int) -> None:
    config, (message,) = resolved(tmp_path, Uneven(), rare_classes=help_with)
    assert message.startswith("rare classes: square 1.00%. Chosen: ")
    assert message.endswith("(rare_classes=off switches this off)")
    assert ("class_weights=tempered" in message, "rare_crop_probability=0.5" in message) == (weights, crops)
    assert config.augmentation.rare_crop_probability == 0.5 * crops
    if weights:
        assert isinstance(config.loss.class_weights, tuple)
        assert config.loss.class_weights[1] > 5 * config.loss.class_weights[0]
    else:
        assert config.loss.class_weights == "none"


def test_what_a_user_sets_stays(tmp_path: Path) -> None:
    given = {"loss": LossConfig(class_weights="none"), "augmentation": AugmentConfig(crop=None)}
    config, (message,) = resolved(tmp_path, Uneven(), rare_classes="auto", **given)
    assert "Chosen: nothing; as you set it: loss.class_weights, augmentation.crop=none" in message
    assert config.loss.class_weights == "none"


def test_nothing_rare_nothing_changed(tmp_path: Path) -> None:
    config, (message,) = resolved(tmp_path, Toys(), rare_classes="auto")
    assert message == "rare classes: none below 6.7% of the labelled pixels; nothing is changed"
    assert (config.loss.class_weights, config.augmentation.rare_crop_probability) == ("none", 0.0)


def test_a_run_says_it_and_its_folder_has_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = toy_run(tmp_path / "run", rare_classes="auto", steps=1, val_every=1)
    best = train(config, train_data=Uneven(4), val_data=Uneven(2))
    assert "rare classes: square" in capsys.readouterr().err
    assert read_header(best)[1].provenance
    assert "rare_crop_probability: 0.5" in (tmp_path / "run" / "config.yaml").read_text()
