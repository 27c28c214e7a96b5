"""Cityscapes' four scores against the official script's numbers, and instance weighting in plain words."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from pspnet.errors import ConfigError, LabelError
from pspnet.labels import LabelSpace
from pspnet.metrics import InstanceCounter, InstanceRules
from support import paths

GOLDEN = paths.GOLDEN / "cityscapes"
RESULTS = json.loads((GOLDEN / "results.json").read_text())["results"]


def images() -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Labels, predictions (labelIds) and objects: Cityscapes' instanceIds below 1000 are no single objects."""
    arrays = np.load(GOLDEN / "images.npz")
    collected = []
    for i in range(2):
        objects = np.where(arrays[f"instances_{i}"] >= 1000, arrays[f"instances_{i}"], 0)
        collected.append((arrays[f"labels_{i}"], arrays[f"predictions_{i}"], objects))
    return collected


def assert_equal(actual: np.ndarray, names: tuple[str, ...], expected: dict[str, float | None]) -> None:
    wanted = [math.nan if expected[name] is None else expected[name] for name in names]
    np.testing.assert_allclose(actual, wanted, atol=1e-9, rtol=0)


def test_the_official_scripts_numbers() -> None:
    rules = InstanceRules.cityscapes_ids()
    counter = InstanceCounter(rules)
    for image in images():
        counter.update(*image)
    scores = counter.scores()
    categories = tuple(rules.categories)
    assert_equal(scores.iou, rules.names, RESULTS["classScores"])
    assert_equal(scores.instance_iou, rules.names, RESULTS["classInstScores"])
    assert_equal(scores.category_iou, categories, RESULTS["categoryScores"])
    assert_equal(scores.category_instance_iou, categories, RESULTS["categoryInstScores"])
    official = (
        "averageScoreClasses",
        "averageScoreInstClasses",
        "averageScoreCategories",
        "averageScoreInstCategories",
    )
    np.testing.assert_allclose(list(scores.summary().values()), [RESULTS[name] for name in official], atol=1e-9, rtol=0)


def test_training_ids_give_the_same_scores_as_label_ids() -> None:
    ids, space = InstanceRules.cityscapes_ids(), LabelSpace.named("cityscapes")
    assert ids.evaluated == space.codes
    to_index = np.full(256, 255)
    to_index[list(space.codes)] = range(19)
    rng = np.random.default_rng(0)
    by_id, by_index = InstanceCounter(ids), InstanceCounter(InstanceRules.of(space))
    for labels, _, objects in images():
        predictions = np.array(space.codes)[rng.integers(0, 19, labels.shape)]
        predictions = np.where((rng.random(labels.shape) < 0.5) & np.isin(labels, space.codes), labels, predictions)
        by_id.update(labels, predictions, objects)
        by_index.update(to_index[labels], to_index[predictions], objects)
    np.testing.assert_allclose(list(by_index.scores().summary().values()), list(by_id.scores().summary().values()))
    np.testing.assert_allclose(by_index.scores().instance_iou, by_id.scores().instance_iou[list(space.codes)])


def test_iiou_in_plain_words_on_any_data_set() -> None:
    labels = np.zeros((4, 10), int)
    labels[0, :2], labels[2:, :4], labels[0, 8:] = 1, 1, 255  # a small cat (2 px) and a large one (8 px)
    objects = np.zeros((4, 10), int)
    objects[0, :2], objects[2:, :4], objects[0, 8:] = 7, 9, 3  # object 3 lies on ignored pixels
    predictions = np.where(labels == 1, 1, 0)
    predictions[0, :2], predictions[1, 9] = 0, 1  # the small cat is missed, one pixel of floor taken for a cat
    counter = InstanceCounter(InstanceRules(("floor", "cat")))
    counter.update(labels, predictions, objects)
    scores = counter.scores()
    mean_size = (2 + 8) / 2
    hit, missed, false = mean_size * 8 / 8, mean_size * 2 / 2, 1
    assert scores.instance_iou[1] == pytest.approx(hit / (hit + missed + false))
    assert scores.iou[1] == pytest.approx(8 / 11)
    assert math.isnan(scores.instance_iou[0])
    assert scores.to_dict()["classes"]["floor"]["iiou"] is None
    assert math.isnan(scores.summary()["category_iou"])


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="two categories"):
        InstanceCounter(InstanceRules(("a", "b"), {"x": (0, 1), "y": (1,)}))
    with pytest.raises(LabelError, match="differ in shape"):
        InstanceCounter(InstanceRules(("a",))).update(
            np.zeros((2, 2), int), np.zeros((2, 2), int), np.zeros((2, 3), int)
        )
