"""The confusion matrix and its scores, against semseg's and MMSegmentation's recorded numbers and torchmetrics."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pspnet.errors import ConfigError, LabelError
from pspnet.metrics import ConfusionMatrix, Scores, count_pairs
from support.paths import GOLDEN


def golden_cases(name: str) -> list[dict[str, Any]]:
    return json.loads((GOLDEN / name / "manifest.json").read_text())["cases"]


def golden_matrix(name: str, case: dict[str, Any]) -> ConfusionMatrix:
    arrays = np.load(GOLDEN / name / "labels_and_predictions.npz")
    matrix = ConfusionMatrix(case["classes"])
    for index in range(case["images"]):
        matrix.update(arrays[f"{case['case']}_label_{index}"], arrays[f"{case['case']}_prediction_{index}"])
    return matrix


def slow_counts(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    counts = np.zeros((num_classes, num_classes), int)
    for label, prediction in zip(labels.ravel().tolist(), predictions.ravel().tolist(), strict=True):
        if label != 255:
            counts[label, prediction] += 1
    return counts


@pytest.mark.parametrize("case", golden_cases("semseg_metrics"), ids=lambda c: c["case"])
def test_semsegs_numbers(case: dict[str, Any]) -> None:
    scores = golden_matrix("semseg_metrics", case).scores("zero")
    total = {k: np.sum([image[k] for image in case["per_image"]], 0) for k in ("intersection", "union", "target")}
    areas = scores.areas
    np.testing.assert_array_equal(areas.hits, total["intersection"])
    np.testing.assert_array_equal(areas.labels, total["target"])
    np.testing.assert_array_equal(areas.labels + areas.predictions - areas.hits, total["union"])
    np.testing.assert_allclose(scores.iou, case["iou_per_class"], atol=1e-12, rtol=0)
    np.testing.assert_allclose(scores.accuracy, case["accuracy_per_class"], atol=1e-12, rtol=0)
    actual = [scores.mean_iou, scores.mean_accuracy, scores.pixel_accuracy]
    np.testing.assert_allclose(actual, [case["mIoU"], case["mAcc"], case["allAcc"]], atol=1e-12, rtol=0)


@pytest.mark.parametrize("case", golden_cases("mmseg_metrics"), ids=lambda c: c["case"])
def test_mmsegmentations_numbers(case: dict[str, Any]) -> None:
    scores = golden_matrix("mmseg_metrics", case).scores("exclude")
    total = case["area_totals"]
    np.testing.assert_array_equal(scores.areas.hits, total["intersect"])
    np.testing.assert_array_equal(scores.areas.predictions, total["pred"])
    np.testing.assert_array_equal(scores.areas.labels, total["label"])
    per_class = {
        "IoU": scores.iou,
        "Acc": scores.accuracy,
        "Dice": scores.dice,
        "Fscore": scores.f1,
        "Precision": scores.precision,
        "Recall": scores.recall,
    }
    for name, values in per_class.items():
        expected = [math.nan if v is None else v for v in case["per_class"][name]]
        np.testing.assert_allclose(values, expected, atol=1e-6, rtol=0, err_msg=name)
    for given_scores, percents in (
        (scores, case["rounded_percent"]),
        (Scores(scores.confusion, "zero"), case.get("with_nan_to_num_0", case)["rounded_percent"]),
    ):
        means = {
            "aAcc": given_scores.pixel_accuracy,
            "mIoU": given_scores.mean_iou,
            "mAcc": given_scores.mean_accuracy,
            "mDice": given_scores.mean_dice,
            "mFscore": given_scores.mean_f1_of_found,
            "mPrecision": given_scores.mean_precision,
            "mRecall": given_scores.mean_accuracy,
        }
        for name, value in means.items():
            assert round(100 * value, 2) == pytest.approx(percents[name], abs=1e-5), name


def test_torchmetrics_jaccard_agrees() -> None:
    """Recorded from torchmetrics 1.9.0: MulticlassJaccardIndex(7, ignore_index=255, average="none")."""
    recorded = [0.090361, 0.061834, 0.084388, 0.078387, 0.097068, 0.073404, 0.068303]
    rng = np.random.default_rng(3)
    labels, predictions = rng.integers(0, 7, (2, 40, 50)), rng.integers(0, 7, (2, 40, 50))
    labels[rng.random(labels.shape) < 0.1] = 255
    matrix = ConfusionMatrix(7)
    matrix.update(labels, predictions)
    np.testing.assert_allclose(matrix.scores().iou, recorded, atol=1e-6)


@given(
    hnp.arrays(np.uint8, (5, 7), elements=st.sampled_from([0, 1, 2, 3, 255])),
    hnp.arrays(np.uint8, (5, 7), elements=st.integers(0, 3)),
    st.sampled_from([np.uint8, np.int64, np.uint16]),
)
@settings(max_examples=60, deadline=None)
def test_counts_equal_a_slow_loop(labels: np.ndarray, predictions: np.ndarray, kind: type) -> None:
    expected = slow_counts(labels, predictions, 4)
    np.testing.assert_array_equal(count_pairs(labels.astype(kind), predictions.astype(kind), 4), expected)
    tensors = torch.from_numpy(labels).long(), torch.from_numpy(predictions)
    np.testing.assert_array_equal(count_pairs(*tensors, 4), expected)


def test_the_device_path_counts_the_same() -> None:
    from pspnet.metrics.confusion import _count_tensor

    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 9, (3, 8, 9)), rng.integers(0, 9, (3, 8, 9))
    labels[0, :3] = 255
    counts = _count_tensor(torch.from_numpy(labels), torch.from_numpy(predictions))
    np.testing.assert_array_equal(counts[:9, :9], slow_counts(labels, predictions, 9))


@pytest.mark.parametrize(
    ("labels", "predictions", "word"),
    [
        ([[0, 4]], [[0, 0]], "labels hold 4"),
        ([[0, 1]], [[0, 9]], "predictions hold 9"),
        ([[0, -1]], [[0, 1]], "labels hold -1"),
        ([[0, 1]], [[0, 300]], "predictions hold 300"),
        ([[0, 1]], [[0]], "one shape"),
    ],
)
def test_foreign_values_are_refused(labels: list[Any], predictions: list[Any], word: str) -> None:
    with pytest.raises(LabelError, match=word):
        ConfusionMatrix(4).update(np.array(labels), np.array(predictions))


def test_a_foreign_prediction_on_an_ignored_pixel_does_not_matter() -> None:
    matrix = ConfusionMatrix(2)
    matrix.update(np.array([[255, 1]], np.uint8), np.array([[77, 1]], np.uint8))
    assert matrix.counts.tolist() == [[0, 0], [0, 1]]


def test_scores_of_nothing_are_nan_and_survive_json() -> None:
    scores = ConfusionMatrix(3).scores()
    assert math.isnan(scores.mean_iou)
    assert math.isnan(scores.pixel_accuracy)
    text = json.dumps(scores.to_dict(), allow_nan=False)
    assert json.loads(text)["mean_iou"] is None


def test_scores_round_trip_and_table() -> None:
    from rich.console import Console

    scores = Scores(np.array([[8, 2, 0], [1, 9, 0], [0, 0, 0]]), "exclude", ("sky", "road", "cat"))
    again = Scores.from_dict(json.loads(json.dumps(scores.to_dict())))
    np.testing.assert_array_equal(again.confusion, scores.confusion)
    assert (again.names, again.mean_iou) == (scores.names, scores.mean_iou)
    console = Console(record=True, width=100, file=io.StringIO())
    console.print(scores.table("val"))
    text = console.export_text()
    assert "72.7" in text  # 8 / 11: sky
    assert "left out" in text


@pytest.mark.wrong_types
def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="allowed are exclude, zero"):
        Scores(np.zeros((2, 2), np.int64), "skip")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="1 to 255"):
        ConfusionMatrix(256)


def test_mean_f1_does_not_reward_finding_fewer_classes() -> None:
    """MMSegmentation leaves out a class that was never found, so that answering two of four classes looks better."""
    labels = np.repeat(np.arange(4, dtype=np.uint8), 100).reshape(20, 20)
    rng = np.random.default_rng(0)
    full = np.where(rng.random(labels.shape) < 0.4, 0, labels).astype(np.uint8)
    lazy = (labels > 0).astype(np.uint8)
    pairs = []
    for predictions in (full, lazy):
        matrix = ConfusionMatrix(4)
        matrix.update(labels, predictions)
        pairs.append(matrix.scores())
    assert pairs[1].mean_f1 < pairs[0].mean_f1
    assert pairs[1].mean_f1 == pytest.approx((1 + 0.5 + 0 + 0) / 4)
    assert pairs[1].mean_f1_of_found == pytest.approx((1 + 0.5) / 2)  # theirs, under its own name
    assert {"mean_f1", "mean_f1_of_found"} <= set(pairs[0].summary())
