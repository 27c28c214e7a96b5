"""One segmentation in the words of CVAT, supervision and FiftyOne."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from pspnet.errors import MissingExtraError
from pspnet.integrations.cvat import create
from pspnet.integrations.fiftyone import mask_targets, segmentation_label
from pspnet.integrations.supervision import detections
from pspnet.labels import LabelSpace
from pspnet.predict.segmentation import Segmentation
from pspnet.predict.segmenter import Segmenter
from support.graphs import write_graph
from support.other_programs import use_cvat, use_fiftyone, use_supervision


@pytest.fixture
def result() -> Segmentation:
    """Ground with a square and one pixel; the lower right corner is of no class."""
    labels = np.zeros((20, 30), np.uint8)
    labels[3:9, 4:20] = 2
    labels[10, 10] = 1
    labels[15:, 25:] = 255
    confidence = np.full(labels.shape, 0.5, np.float32)
    confidence[labels == 2] = 0.9
    return Segmentation(labels, LabelSpace(("ground", "pole", "square")), confidence)


def test_supervision(result: Segmentation, monkeypatch: pytest.MonkeyPatch) -> None:
    use_supervision(monkeypatch)
    masks = detections(result)
    np.testing.assert_array_equal(masks.xyxy[2], [4, 3, 20, 9])
    np.testing.assert_array_equal(masks.class_id, [0, 1, 2])
    np.testing.assert_array_equal(masks["class_name"], ["ground", "pole", "square"])
    np.testing.assert_allclose(masks.confidence, [0.5, 0.5, 0.9], atol=1e-6)
    assert masks.mask.sum() == (result.labels != 255).sum()
    nothing = Segmentation(np.full((4, 4), 255, np.uint8), result.label_space)
    assert len(detections(nothing).xyxy) == 0
    assert detections(Segmentation(result.labels, result.label_space)).confidence is None


def test_fiftyone(result: Segmentation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its 0 is background, which it does not show: classes count from 1."""
    use_fiftyone(monkeypatch)
    mask = segmentation_label(result).mask
    targets = mask_targets(result.classes)
    assert targets == {1: "ground", 2: "pole", 3: "square"}
    for index, name in enumerate(result.classes):
        value = next(value for value, title in targets.items() if title == name)
        np.testing.assert_array_equal(mask == value, result.labels == index)
    assert set(np.unique(mask)) == {0, 1, 2, 3}


def decode(points: list[float], height: int, width: int) -> np.ndarray:
    """CVAT's mask, as its documentation tells it."""
    *runs, left, top, right, bottom = (int(value) for value in points)
    inside = np.concatenate([np.full(run, number % 2 == 1) for number, run in enumerate(runs)])
    mask = np.zeros((height, width), bool)
    mask[top : bottom + 1, left : right + 1] = inside.reshape(bottom + 1 - top, right + 1 - left)
    return mask


def context(least: float | None = None, polygons: bool = False) -> SimpleNamespace:
    return SimpleNamespace(frame_name="frame_000017.png", conf_threshold=least, conv_mask_to_poly=polygons)


def test_cvat(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    use_cvat(monkeypatch)
    write_graph(tmp_path / "model.onnx")  # the brightest band is the class
    pixels = np.zeros((24, 32, 3), np.uint8)
    pixels[..., 1] = 20
    pixels[4:10, 5:21] = (0, 0, 9 * 20)
    pixels[12:20, 22:30] = (40, 0, 0)
    function = create(tmp_path / "model.onnx")
    assert [label.name for label in function.spec.labels] == ["red", "green", "blue"]
    shapes = function.detect(context(), Image.fromarray(pixels))
    wanted = Segmenter.load(tmp_path / "model.onnx").segment(pixels)
    ids = {label.id: label.name for label in function.spec.labels}
    assert [ids[shape.label_id] for shape in shapes] == ["red", "green", "blue"]
    for index, shape in enumerate(shapes):
        assert (shape.type, shape.frame) == ("mask", 0)
        np.testing.assert_array_equal(decode(shape.points, 24, 32), wanted.labels == index)
    (blue,) = (
        shape for shape in function.detect(context(polygons=True), Image.fromarray(pixels)) if shape.label_id == 3
    )
    drawn = cv2.fillPoly(np.zeros((24, 32), np.uint8), [np.reshape(blue.points, (-1, 2)).astype(int)], 1)
    np.testing.assert_array_equal(drawn == 1, wanted.labels == 2)
    assert function.detect(context(least=1.1), Image.fromarray(pixels)) == []


def test_a_library_that_is_missing_is_named(result: Segmentation, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("supervision", "fiftyone", "cvat_sdk", "cvat_sdk.auto_annotation"):
        monkeypatch.setitem(sys.modules, name, None)
    for call, package in ((detections, "supervision"), (segmentation_label, "fiftyone")):
        with pytest.raises(MissingExtraError, match=f"pip install {package}"):
            call(result)
    with pytest.raises(MissingExtraError, match="pip install cvat-sdk"):
        create(Segmenter.load("scenes"))
