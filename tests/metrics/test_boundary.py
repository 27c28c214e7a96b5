"""Boundary IoU, bands along borders, calibration and temperature, each beside its slow definition."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pspnet.errors import ConfigError
from pspnet.metrics import BoundaryCounter, CalibrationCounter, bootstrap, fit_temperature
from pspnet.metrics.boundary import near_border, near_own_contour


def blobs(seed: int, size: tuple[int, int] = (40, 52), classes: int = 4, ignore: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, classes, (6, 7)).astype(np.uint8)
    labels = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_NEAREST)
    labels[rng.random(size) < ignore] = 255
    return labels


def slow_boundary(mask: np.ndarray, distance: int) -> np.ndarray:
    """Cheng et al.: the mask without `distance` erosions by 3 x 3, with zeros around the image."""
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=distance)[1:-1, 1:-1]
    return mask & (eroded == 0)


@pytest.mark.parametrize(("ratio", "ignore"), [(0.02, 0.0), (0.06, 0.0), (0.03, 0.02)])
def test_boundary_iou_equals_its_definition(ratio: float, ignore: float) -> None:
    counter = BoundaryCounter(4, ratio)
    both, either = np.zeros(4), np.zeros(4)
    for seed in range(3):
        labels, predicted = blobs(seed, ignore=ignore), np.roll(blobs(seed), 2, 1)
        counter.update(str(seed), labels, predicted)
        distance = max(1, round(ratio * np.hypot(*labels.shape)))
        for k in range(4):
            one = slow_boundary(labels == k, distance)
            two = slow_boundary((predicted == k) & (labels != 255), distance)
            both[k] += (one & two).sum()
            either[k] += (one | two).sum()
    np.testing.assert_allclose(counter.boundary_iou().iou, both / either)
    assert 0 < counter.boundary_iou().iou.mean() < 1


def test_boundary_iou_of_a_perfect_prediction_is_one() -> None:
    counter = BoundaryCounter(4)
    counter.update("a", blobs(1), blobs(1))
    assert counter.boundary_iou().iou.tolist() == [1, 1, 1, 1]
    assert all(areas.pixel_accuracy == 1 for areas in counter.band_iou().values())


@given(st.integers(0, 99), st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_bands_hold_pixels_that_see_two_classes(seed: int, distance: int) -> None:
    labels = blobs(seed, (17, 23), ignore=0.05)
    near, contour = near_border(labels, distance), near_own_contour(labels, distance)
    for row in range(17):
        for column in range(23):
            around = labels[
                max(row - distance, 0) : row + distance + 1, max(column - distance, 0) : column + distance + 1
            ]
            assert near[row, column] == (len(set(around.ravel().tolist()) - {255}) > 1)
            outside = min(row, column, 16 - row, 22 - column) < distance
            assert contour[row, column] == (outside or len(set(around.ravel().tolist())) > 1)


def test_bands_are_confusion_matrices_of_fewer_pixels() -> None:
    labels, predicted = blobs(0), np.roll(blobs(0), 3, 1)
    counter = BoundaryCounter(4, border_px=(1, 2, 40))
    counter.update("a", labels, predicted)
    bands = counter.band_iou()
    pixels = [areas.labels.sum() for areas in bands.values()]
    assert pixels[0] < pixels[1] < pixels[2] == labels.size
    assert bands[40].pixel_accuracy == pytest.approx((labels == predicted).mean())
    assert bands[1].pixel_accuracy < bands[40].pixel_accuracy


def scored(seed: int, sharpness: float, number: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a model that is exactly calibrated at sharpness 1."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (number, 3))
    chance = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (rng.random((number, 1)) > chance.cumsum(1)[:, :2]).sum(1)
    return (logits * sharpness).astype(np.float32), labels


def confident(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    chance = torch.from_numpy(logits).softmax(1).numpy()
    return chance.argmax(1), chance.max(1)


def test_calibration_error_equals_its_definition() -> None:
    counter = CalibrationCounter(10)
    logits, labels = scored(0, 2.0)
    labels[::7] = 255
    actual, confidence = confident(logits)
    counter.update(labels[:1500], actual[:1500], confidence[:1500])
    counter.update(labels[1500:], actual[1500:], confidence[1500:])
    counted, error = labels != 255, 0.0
    for low in np.arange(10) / 10:
        here = counted & (confidence >= low) & (confidence < low + 0.1)
        if here.any():
            error += here.sum() / counted.sum() * abs((actual == labels)[here].mean() - confidence[here].mean())
    assert counter.summary()["calibration_error"] == pytest.approx(error, abs=1e-6)
    assert counter.summary()["overconfidence"] > 0.05
    assert sum(point["pixels"] for point in counter.to_dict()["reliability"]) == counted.sum()
    sure_of_it = bootstrap(counter.rows, counter.summary, 100)["calibration_error"]
    assert sure_of_it.low <= sure_of_it.value <= sure_of_it.high


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_temperature_undoes_sharpness(sharpness: float) -> None:
    logits, labels = scored(1, sharpness)
    labels[:100] = 255
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(sharpness, rel=0.06)
    counter = CalibrationCounter()
    counter.update(labels, *confident(logits / temperature))
    assert counter.summary()["calibration_error"] < 0.03


def test_temperature_needs_labels() -> None:
    with pytest.raises(ConfigError, match="labelled pixels"):
        fit_temperature(np.zeros((3, 2), np.float32), np.full(3, 255))
