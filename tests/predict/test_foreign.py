"""Other projects' ONNX files: what they say not themselves is asked for, and then they are models like ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pspnet.config import ForeignModel
from pspnet.errors import CheckpointError, ConfigError
from pspnet.predict.segmenter import Segmenter
from support.foreign import WEIGHTS, write_foreign

ABOUT: dict[str, Any] = {
    "classes": ["water", "forest", "field"],
    "bands": ["red", "green", "blue"],
    "divide": 255,
    "mean": [0.4, 0.5, 0.6],
    "std": [0.2, 0.3, 0.2],
    "output": "logits",
}


def about(**changes: Any) -> ForeignModel:
    return ForeignModel.model_validate({**ABOUT, **changes})


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (37, 50, 3), dtype=np.uint8)


def expected(image: np.ndarray, weights: np.ndarray = WEIGHTS) -> np.ndarray:
    """Logits (H, W, K), in the plainest way: what smp's own preprocessing does."""
    normalised = (image / 255 - np.array(ABOUT["mean"])) / np.array(ABOUT["std"])
    return normalised @ weights.T


def check(labels: np.ndarray, wanted: np.ndarray) -> None:
    """The classes of the greatest logits, but for those that rounding may turn."""
    order = np.sort(wanted, axis=2)
    decided = order[..., -1] - order[..., -2] > 1e-3
    assert decided.mean() > 0.99
    np.testing.assert_array_equal(labels[decided], wanted.argmax(2)[decided])


@pytest.mark.parametrize("output", ["logits", "probabilities", "labels"])
@pytest.mark.parametrize("last", [False, True])
def test_labels_are_the_graphs(image: np.ndarray, tmp_path: Path, output: str, last: bool) -> None:
    path = write_foreign(tmp_path / "unet.onnx", output, last=last)
    actual = Segmenter.load(path, about=about(output=output)).segment(image)
    wanted = expected(image)
    check(actual.labels, wanted)
    assert actual.classes == ("water", "forest", "field")
    if output != "labels":
        odds = np.exp(wanted - wanted.max(2, keepdims=True))
        np.testing.assert_allclose(actual.confidence, (odds / odds.sum(2, keepdims=True)).max(2), atol=1e-4)


def test_one_plane_for_two_classes(image: np.ndarray, tmp_path: Path) -> None:
    """What smp exports for a binary task: a logit or a sigmoid of the second class."""
    for output in ("logits", "probabilities"):
        path = write_foreign(tmp_path / f"{output}.onnx", output, weights=WEIGHTS[:1])
        actual = Segmenter.load(path, about=about(output=output, classes=["ground", "roof"])).segment(image)
        check(actual.labels, np.pad(expected(image, WEIGHTS[:1]), ((0, 0), (0, 0), (1, 0))))


def test_a_fixed_size_and_a_batch_of_one(image: np.ndarray, tmp_path: Path) -> None:
    seg = Segmenter.load(write_foreign(tmp_path / "unet.onnx", size=(64, 64), batch=1), about=about())
    actual = seg.segment(image)
    check(actual.labels, expected(image))
    pair = np.stack([image, image[::-1]]).transpose(0, 3, 1, 2).astype(np.float32)
    labels, _ = seg.labels(pair)
    np.testing.assert_array_equal(labels[0], labels[1][::-1])
    with pytest.raises(ConfigError, match=r"64 x 64 px only, not 80 x 70: .*--tile 64"):
        seg.segment(np.zeros((70, 80, 3), np.uint8))


def test_a_coarse_output_is_resized_as_said(image: np.ndarray, tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "unet.onnx", stride=4)
    with pytest.raises(CheckpointError, match="align_corners=true or align_corners=false"):
        Segmenter.load(path, about=about(multiple_px=4)).segment(image)
    actual = Segmenter.load(path, about=about(multiple_px=4, align_corners=False)).segment(image)
    assert actual.labels.shape == image.shape[:2]


def test_what_is_not_said_is_asked_for(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "unet.onnx")
    with pytest.raises(CheckpointError, match=r"unet\.yaml.*--about.*classes, bands, divide, mean, std, output"):
        Segmenter.load(path)
    with pytest.raises(ConfigError, match="6 settings are wrong"):
        ForeignModel()
    with pytest.raises(ConfigError, match="value_range is missing: with divide = 1"):
        about(divide=1)
    with pytest.raises(ConfigError, match="mean has 2 values for 3 bands"):
        about(mean=[1, 2])
    square = write_foreign(tmp_path / "square.onnx", size=(3, 3), last=True)
    with pytest.raises(CheckpointError, match="axes=channels_first or axes=channels_last"):
        Segmenter.load(square, about=about())


@pytest.mark.parametrize(
    ("output", "changes", "message"),
    [
        ("logits", {"output": "probabilities"}, "they are no probabilities. Say output=logits"),
        ("logits", {"output": "labels"}, r"labels \(B, H, W\) were expected"),
        ("labels", {}, "logits of 3 classes were expected"),
        ("labels", {"output": "labels", "classes": ["a", "b"]}, "2 classes are named, 0 to 1"),
        ("logits", {"classes": ["a", "b", "c", "d"]}, "logits of 4 classes were expected"),
        (
            "logits",
            {"bands": ["red", "green"], "mean": 0, "std": 1},
            "takes 3 bands; bands names 2|where the 2 bands are",
        ),
    ],
)
def test_what_is_said_wrong_is_refused(
    image: np.ndarray, tmp_path: Path, output: str, changes: dict[str, Any], message: str
) -> None:
    path = write_foreign(tmp_path / "unet.onnx", output)
    with pytest.raises(CheckpointError, match=message):
        Segmenter.load(path, about=about(**changes)).segment(image[..., : len(changes.get("bands", "rgb"))])


def test_the_yaml_beside_it_serves_every_door(image: np.ndarray, tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "unet.onnx")
    (tmp_path / "unet.yaml").write_text(about().to_yaml())
    seg = Segmenter.load(path)
    check(seg.segment(image).labels, expected(image))
    other = Segmenter.load(path, about=about(mean=0))
    assert other.fingerprint() != seg.fingerprint()
    (tmp_path / "unet.yaml").write_text("klasses: [a]\n")
    with pytest.raises(ConfigError, match=r"unet\.yaml"):
        Segmenter.load(path)
