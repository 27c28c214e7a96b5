"""Evaluation end to end on tiny images: scores equal an independent count, reports hold what they promise."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pspnet.config import EvaluationConfig, ModelConfig
from pspnet.data.dataset import Sample
from pspnet.errors import ConfigError, DataError, OutputError
from pspnet.evaluation import assess, compare_models, evaluate
from pspnet.evaluation.objects import objects_beside
from pspnet.evaluation.report import read_per_image
from pspnet.labels import LabelSpace
from pspnet.metrics import PerImage, compare, intervals
from pspnet.nn import PSPNet
from pspnet.predict.conditions import class_translation
from pspnet.predict.protocols import PROTOCOLS
from pspnet.predict.segmenter import Segmenter
from pspnet.weights.checkpoint import card_for

SPACE = LabelSpace(("sky", "road", "car", "tree"))


class Photos:
    """A data set of random images of two sizes."""

    bands = 3

    def __init__(self, number: int = 5, label_space: LabelSpace = SPACE, labelled: bool = True) -> None:
        self.label_space, self.number, self.labelled = label_space, number, labelled

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng(index)
        size = (40, 48) if index % 3 else (33, 47)
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        labels = rng.integers(0, 4, size).astype(np.uint8)
        labels[rng.random(size) < 0.1] = 255
        return Sample(image, labels if self.labelled else None, f"photo_{index}")


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    torch.manual_seed(0)
    model = PSPNet(ModelConfig(encoder="resnet18", num_classes=4, auxiliary="none"))
    return Segmenter(model, card_for(model, SPACE), device="cpu", precision="fp32")


def independent_counts(segmenter: Segmenter, data: Photos) -> np.ndarray:
    counts = np.zeros((4, 4), int)
    for index in range(len(data)):
        sample = data[index]
        batch = torch.from_numpy(sample.image.transpose(2, 0, 1)[None].astype(np.float32))
        with torch.no_grad():
            predicted = segmenter.model(batch).argmax(1)[0].numpy()
        for label, prediction in zip(sample.labels.ravel(), predicted.ravel(), strict=True):
            if label != 255:
                counts[label, prediction] += 1
    return counts


@pytest.mark.parametrize("protocol", ["whole", PROTOCOLS["whole"].changed(pixels="image"), "slide"])
def test_scores_equal_an_independent_count(segmenter: Segmenter, protocol: object) -> None:
    data = Photos()
    scores = evaluate(segmenter, data, protocol)  # type: ignore[arg-type]
    expected = independent_counts(segmenter, data)
    # batches and strips round in another order than one image: a pixel between two classes may fall to either
    assert np.abs(scores.confusion - expected).sum() <= 6
    np.testing.assert_array_equal(scores.confusion.sum(1), expected.sum(1))
    assert (expected.sum(0) > 100).sum() >= 2, "a model of one class would prove little"
    assert scores.names == SPACE.names


def test_the_report_is_complete(segmenter: Segmenter, tmp_path: Path) -> None:
    calls = []
    report = assess(
        segmenter,
        Photos(),
        EvaluationConfig(resamples=200),
        progress=lambda done, total: calls.append((done, total)),
        name="photos val",
    )
    assert calls == [(i, 5) for i in range(1, 6)]
    files = report.save(tmp_path)
    files[2].unlink()
    with pytest.raises(OutputError, match=r"scores.json' exists"):  # before anything is written
        report.save(tmp_path)
    assert not files[2].exists()
    assert report.save(tmp_path, overwrite=True) == files
    content = json.loads(files[0].read_text())
    assert content["images"] == 5
    assert content["protocol"]["name"] == "whole"
    low, high = content["intervals"]["mean_iou"]
    assert low < content["mean_iou"] < high
    assert np.array(content["confusion"]).sum() == report.scores.confusion.sum()
    text = files[1].read_text()
    for word in ("photos val, 5 images", "the whole image at once", "left out of the means", "lowest images", "tree"):
        assert word in text
    with Image.open(files[2]) as picture:
        assert picture.size[0] > 300
    again = read_per_image(files[0])
    np.testing.assert_array_equal(again.counts, report.per_image.counts)
    assert not [f for f in tmp_path.iterdir() if f.suffix == ".tmp"]


def test_classes_are_matched_by_name(segmenter: Segmenter) -> None:
    other = LabelSpace(("tree", "car", "road", "sky"))

    class Turned(Photos):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            assert sample.labels is not None
            return Sample(
                sample.image, np.where(sample.labels == 255, 255, 3 - sample.labels).astype(np.uint8), sample.name
            )

    straight, turned = evaluate(segmenter, Photos()), evaluate(segmenter, Turned(label_space=other))
    np.testing.assert_array_equal(turned.confusion, straight.confusion[::-1, ::-1])
    with pytest.raises(ConfigError, match="only the data set has: boat"):
        evaluate(segmenter, Photos(label_space=LabelSpace(("sky", "road", "car", "boat"))))


def test_classes_that_nobody_named_stand_for_codes(segmenter: Segmenter) -> None:
    """By the table's row, a shuffled table would be scored with other classes (mean IoU 0.842 became 0.078)."""
    unnamed = Segmenter(
        segmenter.model,
        dataclasses.replace(segmenter.card, label_space=LabelSpace.numbered(4)),
        engine=segmenter.engine,
    )

    class Shuffled(Photos):
        """The same codes in the files; the table's rows in another order."""

        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            assert sample.labels is not None
            return Sample(sample.image, self.label_space.decode(sample.labels, sample.name), sample.name)

    table = LabelSpace(("tree", "car", "sky", "road"), codes=(3, 2, 0, 1))
    straight = evaluate(segmenter, Photos())
    with pytest.warns(UserWarning, match="class_0 is taken to be 'sky'"):
        shuffled = evaluate(unnamed, Shuffled(label_space=table))
    assert shuffled.mean_iou == pytest.approx(straight.mean_iou)
    assert dict(zip(shuffled.names, shuffled.iou, strict=True)) == pytest.approx(
        dict(zip(straight.names, straight.iou, strict=True)), nan_ok=True
    )


@pytest.mark.parametrize("table", ["ade20k", "loveda", "isprs", "voc", "cityscapes", "coco_stuff"])
def test_published_spellings_are_scored(table: str) -> None:
    """Names as MMSegmentation writes them, in the same order, in upper case, turned round."""
    own_table = LabelSpace.named(table)
    theirs = {"bed": "bed ", "television": "television receiver", "agriculture": "agricultural"}
    names = tuple(theirs.get(name, name.replace(" ", "_").upper()) for name in own_table.names)
    assert class_translation(LabelSpace(names), own_table) is None
    turned = class_translation(LabelSpace(names[::-1]), own_table)
    assert turned is not None
    assert turned[: own_table.num_classes].tolist() == list(range(own_table.num_classes))[::-1]


def test_what_cannot_be_scored_is_refused(segmenter: Segmenter) -> None:
    with pytest.raises(DataError, match="photo_0' has no labels"):
        evaluate(segmenter, Photos(labelled=False))
    with pytest.raises(DataError, match="empty"):
        evaluate(segmenter, Photos(0))
    with pytest.raises(ConfigError, match="semseg-ms"):
        EvaluationConfig(protocol="semseg")


def test_a_reading_error_reaches_the_caller(segmenter: Segmenter) -> None:
    class Broken(Photos):
        def __getitem__(self, index: int) -> Sample:
            if index == 3:
                raise DataError("photo_3 is damaged")
            return super().__getitem__(index)

    with pytest.raises(DataError, match="photo_3 is damaged"):
        evaluate(segmenter, Broken())


def random_images(seed: int, quality: float, number: int = 40) -> PerImage:
    rng, result = np.random.default_rng(seed), PerImage()
    for index in range(number):
        labels = np.random.default_rng(index).integers(0, 3, 200)
        predicted = np.where(rng.random(200) < quality, labels, rng.integers(0, 3, 200))
        result.add(f"image_{index}", np.bincount(labels * 3 + predicted, minlength=9).reshape(3, 3))
    return result


def test_intervals_equal_a_slow_bootstrap() -> None:
    images = random_images(0, 0.7)
    actual, classes = intervals(images, resamples=300, seed=5)
    draws = np.random.default_rng(5).multinomial(40, np.full(40, 1 / 40), 300)
    slow = []
    for draw in draws:
        hits, labels, predictions = sum(count * row for count, row in zip(draw, images.rows, strict=True))
        slow.append((hits / (labels + predictions - hits)).mean())
    assert actual["mean_iou"].low == pytest.approx(np.quantile(slow, 0.025))
    assert actual["mean_iou"].high == pytest.approx(np.quantile(slow, 0.975))
    assert all(interval.low <= interval.value <= interval.high for interval in classes)


def test_a_paired_comparison_sees_what_intervals_do_not() -> None:
    weak, strong = random_images(0, 0.70), random_images(1, 0.74)
    actual = compare(weak, strong)["mean_iou"]
    assert actual.low > 0
    assert actual.better > 0.99
    assert actual.p_value < 0.05
    same = compare(weak, weak)["pixel_accuracy"]
    assert (same.value, same.low, same.high, same.better, same.p_value) == (0, 0, 0, 0.5, 1.0)
    with pytest.raises(ConfigError, match="different images"):
        compare(weak, random_images(0, 0.7, 39))
    with pytest.raises(ConfigError, match="at least 2"):
        intervals(random_images(0, 0.7, 1))


def test_borders_objects_and_calibration_are_reported(segmenter: Segmenter, tmp_path: Path) -> None:
    config = EvaluationConfig(resamples=50, boundary=True, calibration=True, instances=True, border_px=(2,))

    def halves(sample: Sample) -> np.ndarray:
        assert sample.labels is not None
        return np.where(np.arange(sample.labels.shape[1]) < 20, 1, 2) * np.ones(sample.labels.shape, int)

    report = assess(segmenter, Photos(), config, objects=halves)
    content = json.loads(report.save(tmp_path)[0].read_text())
    names = {"boundary_iou", "mean_iou_within_2_px", "class_iiou", "calibration_error"}
    assert names <= set(content) & set(content["intervals"])
    assert content["class_iou"] == pytest.approx(content["mean_iou"])
    assert 0 <= content["calibration_error"] <= 1
    assert content["classes"][2]["boundary_iou"] is not None
    assert "IoU within 2 px of a border" in (tmp_path / "report.txt").read_text()
    with Image.open(tmp_path / "reliability.png") as picture:
        assert picture.size[0] > 300
    slid = assess(segmenter, Photos(), config.changed(protocol="slide", instances=False, boundary=False))
    assert slid.summary()["calibration_error"] == pytest.approx(content["calibration_error"], abs=0.02)


def test_objects_are_found_beside_labels(tmp_path: Path) -> None:
    values = np.array([[0, 24001], [26, 24002]], np.uint16)
    places = {
        "gtFine/a_gtFine_labelIds.png": ("gtFine/a_gtFine_instanceIds.png", values, [[0, 24001], [0, 24002]]),
        "SegmentationClass/a.png": ("SegmentationObject/a.png", np.array([[1, 255]], np.uint8), [[1, 0]]),
        "set/labels/x/a.png": ("set/instances/x/a.png", np.array([[0, 3]], np.uint8), [[0, 3]]),
    }
    for label, (root, stored, expected) in places.items():
        sample = Sample(np.zeros((1, 2, 3)), None, "a", None, tmp_path / label)
        with pytest.raises(DataError, match=Path(root).name):
            objects_beside(sample)
        (tmp_path / root).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(stored).save(tmp_path / root)
        np.testing.assert_array_equal(objects_beside(sample), expected)
    with pytest.raises(DataError, match="beside 'labels'"):
        objects_beside(Sample(np.zeros((1, 2, 3)), None, "a", None, tmp_path / "masks" / "a.png"))
    with pytest.raises(DataError, match="no label file"):
        objects_beside(Sample(np.zeros((1, 2, 3)), None, "a"))


def test_two_models_are_compared_image_by_image(segmenter: Segmenter, tmp_path: Path) -> None:
    from rich.console import Console

    weak, strong = random_images(0, 0.70), random_images(1, 0.74)
    actual = compare_models(weak, strong)
    changes = [change for _, change in actual.images]
    assert changes == sorted(changes)
    assert len(changes) == 40
    console = Console(record=True, width=120, file=io.StringIO())
    console.print(actual.render())
    text = console.export_text()
    assert "better" in text
    assert "largest losses" in text
    json.dumps(actual.to_dict(), allow_nan=False)
    path = assess(segmenter, Photos()).save_json(tmp_path / "scores.json")
    same = compare_models(path, path)
    assert same.differences["mean_iou"].value == 0
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(DataError, match="not a scores"):
        compare_models(path, tmp_path / "other.json")


def test_an_exported_model_is_evaluated_without_its_network(segmenter: Segmenter) -> None:
    class Exported:
        name, device = "exported", torch.device("cpu")

        def coarse(self, images: torch.Tensor) -> torch.Tensor:
            return segmenter.engine.coarse(images)

    bare = Segmenter(segmenter.config, segmenter.card, engine=Exported())
    small = PROTOCOLS["semseg-ss"].changed(base_px=(40,), window_px=(33, 33), stride_px=(22, 22))
    for protocol in ("whole", "slide", small):
        report = assess(bare, Photos(2), EvaluationConfig(resamples=0), protocol=protocol)
        np.testing.assert_array_equal(report.scores.confusion, evaluate(segmenter, Photos(2), protocol).confusion)
    assert report.device == "exported on cpu, precision not known"


def test_the_cards_protocol_is_kept(segmenter: Segmenter) -> None:
    """A model that is to be scored in windows was scored whole by everything but the command line."""
    card = dataclasses.replace(segmenter.card, protocol="slide")
    sliding = Segmenter(segmenter.model, card, engine=segmenter.engine)
    assert assess(sliding, Photos(2)).protocol.name == "slide"
    assert assess(sliding, Photos(2), protocol="whole").protocol.name == "whole"
    assert assess(sliding, Photos(2), EvaluationConfig(protocol="whole", resamples=0)).protocol.name == "whole"


def test_a_data_set_without_a_label_is_not_scored(segmenter: Segmenter) -> None:
    class Nothing(Photos):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            return Sample(sample.image, np.full(sample.image.shape[:2], 255, np.uint8), sample.name)

    with pytest.raises(DataError, match="no pixel of its 5 images has a class"):
        evaluate(segmenter, Nothing())
