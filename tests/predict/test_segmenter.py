"""A model applied to images: sizes, kinds of input, windows, results that know what they are."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from pspnet import LabelSpace, ModelConfig, PSPNet, Segmentation, Segmenter
from pspnet.errors import ConfigError, DataError, ImageError, OutputError
from pspnet.predict import windows
from pspnet.predict.folders import find_images
from pspnet.weights.checkpoint import ModelCard
from support.folders import segment_files
from support.windows import blended

SPACE = LabelSpace(("sea", "land", "sky"), ((0, 0, 255), (0, 160, 0), (200, 220, 255)))


@pytest.fixture(scope="module")
def seg() -> Segmenter:
    torch.manual_seed(0)
    config = ModelConfig(encoder="resnet18", num_classes=3, encoder_options={"depth": 3}, bins=(1, 2))
    model = PSPNet(config)
    torch.nn.init.normal_(model.classifier.weight, std=2.0)  # so that all classes occur
    return Segmenter(model, ModelCard(SPACE), device="cpu")


def picture(height: int, width: int) -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def test_labels_are_the_argmax_of_the_logits(seg: Segmenter) -> None:
    image = picture(50, 71)
    result = seg.segment(image)
    logits = seg.logits(torch.from_numpy(image.transpose(2, 0, 1)[None]).float())
    assert np.array_equal(result.labels, logits.argmax(1)[0].numpy())
    assert len(np.unique(result.labels)) > 1
    assert result.confidence is not None
    assert np.allclose(result.confidence, logits.softmax(1).amax(1)[0].numpy(), atol=1e-5)
    assert (result.labels.dtype, result.labels.shape) == (np.uint8, (50, 71))
    assert result.classes == SPACE.names


def test_files_and_arrays_give_the_same(seg: Segmenter, tmp_path: Path) -> None:
    image = picture(40, 60)
    Image.fromarray(image).save(tmp_path / "a.png")
    wanted = seg.segment(image).labels
    assert np.array_equal(seg.segment(tmp_path / "a.png").labels, wanted)
    turned = Image.fromarray(np.rot90(image).copy())  # stored a quarter turn to the left, with the tag that says so
    tag = Image.Exif()
    tag[274] = 6
    turned.save(tmp_path / "turned.png", exif=tag)
    assert np.array_equal(seg.segment(tmp_path / "turned.png").labels, wanted)
    Image.fromarray(np.dstack([image, np.full((40, 60), 255, np.uint8)])).save(tmp_path / "rgba.png")
    assert np.array_equal(seg.segment(tmp_path / "rgba.png").labels, wanted)
    cv2.imwrite(str(tmp_path / "deep.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR).astype(np.uint16) * 257)
    assert np.array_equal(seg.segment(tmp_path / "deep.png").labels, wanted)
    grey = image[..., 0]
    assert np.array_equal(seg.segment(grey).labels, seg.segment(np.dstack([grey] * 3)).labels)


def test_what_is_no_image_is_refused(seg: Segmenter, tmp_path: Path) -> None:
    for wrong in (np.zeros((4, 4, 2)), np.zeros((0, 4, 3)), np.zeros(3), np.full((9, 9, 3), np.nan)):
        with pytest.raises(ImageError):
            seg.segment(wrong)
    with pytest.raises(ImageError, match=r"none\.jpg"):
        seg.segment(tmp_path / "none.jpg")
    with pytest.warns(UserWarning, match="trained on 0 to 255"):
        seg.segment(picture(20, 20) / 255.0)


def test_large_images_are_seen_in_blended_windows(seg: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    image = picture(120, 150)
    whole = seg.segment(image)
    monkeypatch.setattr(windows, "WHOLE_PIXELS", 1000)
    monkeypatch.setattr(windows, "WINDOW_PX", 64)
    monkeypatch.setattr(windows, "OVERLAP_PX", 32)
    parts = seg.segment(image)
    assert parts.labels.shape == whole.labels.shape
    assert (parts.labels == whole.labels).mean() > 0.7  # windows see less of the scene: near, not equal
    assert parts.confidence is not None
    assert parts.confidence.max() <= 1 + 1e-5


def test_blended_windows_of_a_pixelwise_model_are_exact() -> None:
    image = np.random.default_rng(1).random((83, 57, 2), np.float32)
    actual = blended(image, lambda x: np.concatenate([x, 1 - x], 1), 4, 24, 10, batch=3)
    wanted = image.transpose(2, 0, 1)
    assert np.allclose(actual, np.concatenate([wanted, 1 - wanted]), atol=1e-5)


def test_a_result_shows_and_keeps_itself(tmp_path: Path) -> None:
    labels = np.zeros((20, 400), np.uint8)
    labels[:, 100:] = 1
    labels[:, 300:] = 255
    image = np.full((20, 400, 3), 100, np.uint8)
    result = Segmentation(labels, SPACE, np.ones((20, 400), np.float32), image, "x")
    assert result.shares() == pytest.approx({"land": 2 / 3, "sea": 1 / 3})
    bare = result.overlay(opacity=1.0, legend=False)
    assert tuple(bare[0, 0]) == (0, 0, 255)
    assert tuple(bare[0, 399]) == (100, 100, 100)  # nothing is known there: the image stays
    assert result.overlay().shape[0] > 20
    result.save(tmp_path / "sub" / "x.png")
    stored = Image.open(tmp_path / "sub" / "x.png")
    assert stored.mode == "P"
    assert np.array_equal(np.asarray(stored), labels)
    assert stored.getpalette()[:6] == [0, 0, 255, 0, 160, 0]
    result.save(tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text())["classes"]["land"] == pytest.approx(2 / 3)
    result.save_overlay(tmp_path / "o.png")
    result.save(tmp_path / "o.jpg")
    with pytest.raises(ConfigError, match=r"\.gif"):
        result.save(tmp_path / "x.gif")
    for save, name in ((result.save, "sub/x.png"), (result.save, "x.json"), (result.save_overlay, "o.png")):
        (tmp_path / name).write_bytes(b"mine")
        with pytest.raises(OutputError, match="exists"):
            save(tmp_path / name)
        assert (tmp_path / name).read_bytes() == b"mine"
        save(tmp_path / name, overwrite=True)
        assert (tmp_path / name).read_bytes() != b"mine"
    with pytest.raises(ConfigError, match="opacity"):
        result.overlay(opacity=2)


def test_a_broken_image_does_not_stop_the_rest(seg: Segmenter, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    Image.fromarray(picture(20, 30)).save(folder / "a.jpg")
    Image.fromarray(picture(20, 30)).save(folder / "a.png")
    Image.fromarray(picture(30, 20)).save(folder / "deep" / "b.png")
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:200])
    files = find_images([folder])
    reports = list(segment_files(seg, files, tmp_path / "out"))
    assert len(reports) == 4
    assert [Path(p).name for p in reports[-1].failures] == ["broken.png"]
    paths = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.png")}
    assert paths == {"a.png", "a_2.png", "deep/b.png"}
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["done"], len(summary["failures"])) == (3, 1)
    assert sum(summary["images"][0]["classes"].values()) == pytest.approx(1)
    again = list(segment_files(seg, files, tmp_path / "out", skip_existing=True))[-1]
    assert again.skipped == 3


def test_inputs_that_are_not_there() -> None:
    with pytest.raises(DataError, match="does not exist"):
        find_images(["nowhere"])


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no images"):
        find_images([tmp_path])


@pytest.mark.parametrize("protocol", ["whole", "mmseg-slide"])
def test_protocols_apply_to_a_single_image(seg: Segmenter, protocol: str) -> None:
    result = seg.segment(picture(40, 50), protocol=protocol)
    assert result.labels.shape == (40, 50)
    assert result.confidence is not None
    assert 1 / 3 <= result.confidence.min() <= result.confidence.max() <= 1 + 1e-5


@pytest.mark.parametrize("mode", ["RGB", "P", "CMYK", "LA", "1", "L", "RGBA"])
def test_an_image_of_pillows_is_read_as_its_file(mode: str, seg: Segmenter, tmp_path: Path) -> None:
    """A palette's indices were taken for brightness."""
    truth = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8))
    picture = truth.quantize(16) if mode == "P" else truth.convert(mode)
    path = tmp_path / f"a.{'tif' if mode == 'CMYK' else 'png'}"
    picture.save(path)
    with Image.open(path) as opened:
        np.testing.assert_array_equal(seg.read(opened), seg.read(path))
    np.testing.assert_array_equal(seg.read(picture), seg.read(path))


@pytest.mark.parametrize("how", [{}, {"protocol": "whole"}])
def test_a_mean_confidence_needs_no_map_of_it(seg: Segmenter, how: dict[str, str]) -> None:
    image = np.random.default_rng(3).integers(0, 256, (40, 56, 3), np.uint8)
    with_map, without = seg.segment(image, **how), seg.segment(image, confidence=False, **how)
    assert with_map.confidence is not None
    assert without.confidence is None
    assert without.to_dict()["mean_confidence"] == pytest.approx(
        with_map.confidence.mean(),
        abs=0.05,  # of 35 cells, random weights
    )
    assert (without.labels == with_map.labels).all()
