"""Exported models give the source's logits at every size, carry its card, and are opened wherever it is."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pspnet import LabelSpace, ModelConfig, PSPNet, Segmenter
from pspnet.data.catalog import open_dataset
from pspnet.data.dataset import Sample
from pspnet.data.views import Subset
from pspnet.errors import CheckpointError, ConfigError, ExportError
from pspnet.exporting import ExportReport, export
from pspnet.exporting.parity import quality_of
from pspnet.exporting.quantising import QualityJudge
from pspnet.predict.exported import OpenVinoEngine
from pspnet.weights.checkpoint import ModelCard


def segmenter(**changes: object) -> Segmenter:
    torch.manual_seed(0)
    config = ModelConfig(**{"encoder": "resnet18", "num_classes": 3, "encoder_options": {"depth": 3}, **changes})
    model = PSPNet(config)
    torch.nn.init.normal_(model.classifier.weight)
    return Segmenter(model, ModelCard(LabelSpace(("sea", "land", "sky"))), device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def source() -> Segmenter:
    return segmenter(bins=(1, 2, 3, 6), reduce=False)


@pytest.fixture(scope="module")
def folder(source: Segmenter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    check_report(export(source, folder / "model.onnx"))
    assert [p.name for p in folder.iterdir()] == ["model.onnx"]
    return folder


def check_report(report: ExportReport) -> None:
    assert len(report.parity) == 3
    assert min(p.label_agreement for p in report.parity) > 0.9995
    assert max(p.largest_difference for p in report.parity) < 1e-4 * max(p.logits_spread for p in report.parity) + 1e-4


def check_sizes(source: Segmenter, exported: Segmenter) -> None:
    assert exported.classes == source.classes
    for size in [(1, 3, 33, 47), (3, 3, 64, 64), (1, 3, 121, 40), (2, 3, 97, 150)]:
        images = torch.rand(size, generator=torch.Generator().manual_seed(sum(size))) * 255
        difference = (exported.logits(images) - source.logits(images)).abs().max()
        assert difference < 2e-4, (size, difference)


def test_every_size_and_batch_is_exact(source: Segmenter, folder: Path) -> None:
    check_sizes(source, Segmenter.load(folder / "model.onnx"))


@pytest.mark.slow
def test_openvino_is_exact_at_every_size(source: Segmenter, tmp_path: Path) -> None:
    check_report(export(source, tmp_path / "model.xml"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.bin", "model.xml"]
    check_sizes(source, Segmenter.load(tmp_path / "model.xml"))


def test_an_exported_model_segments(source: Segmenter, folder: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    exported = Segmenter.load(folder / "model.onnx")
    result = exported.segment(image)
    assert (result.labels == source.segment(image).labels).mean() > 0.999
    assert exported.segment(image, protocol="mmseg-ms").labels.shape == (50, 70)
    with pytest.raises(ConfigError, match="checkpoint it was exported from"):
        _ = exported.model
    assert Segmenter.load(folder / "model.onnx", engine="auto").engine.name == "onnxruntime"
    with pytest.raises(ConfigError, match="runs in onnxruntime"):
        Segmenter.load(folder / "model.onnx", engine="openvino")


def test_openvino_runs_the_same_graph(source: Segmenter, folder: Path) -> None:
    engine = OpenVinoEngine(folder / "model.onnx", "fp32")
    images = np.random.default_rng(0).random((2, 3, 40, 56), np.float32) * 255
    actual = engine.coarse(images)
    copy = actual.copy()
    assert np.abs(actual - source.logits(images)).max() < 2e-4
    engine.coarse(images + 30)
    assert np.array_equal(actual, copy)  # a later call leaves an earlier result alone


class Painted:
    """Noise whose labels are what `segmenter` says, but for the first `wrong` rows (a Dataset)."""

    bands = 3

    def __init__(self, segmenter: Segmenter, wrong: int = 0, count: int = 3) -> None:
        self.segmenter, self.wrong, self.count = segmenter, wrong, count
        self.label_space = segmenter.card.label_space

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        image = np.random.default_rng(index).integers(0, 256, (48, 56, 3), np.uint8)
        labels = self.segmenter.segment(image).labels.copy()
        labels[: self.wrong] = (labels[: self.wrong] + 1) % self.label_space.num_classes
        return Sample(image, labels, f"noise_{index}")


def test_quality_is_the_mean_iou_of_both(source: Segmenter, folder: Path) -> None:
    actual = quality_of(source, folder / "model.onnx", Painted(source))
    assert actual.images == 3
    assert actual.source == 1.0
    assert actual.exported > 0.99
    worse = quality_of(source, folder / "model.onnx", Subset(Painted(source, wrong=24), [0, 2]))
    assert worse.images == 2
    assert worse.source < 0.8
    assert abs(worse.drop) < 0.01


def test_the_judge_scores_every_image(source: Segmenter, folder: Path) -> None:
    import openvino

    compiled = openvino.Core().compile_model(str(folder / "model.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    judge = QualityJudge(source, Painted(source, wrong=20), 0.01)
    together, single = judge(compiled, [2, 0])
    assert len(single) == 2
    assert 0.2 < together < 0.9
    assert judge(compiled, [0]) == (pytest.approx(single[1]), [pytest.approx(single[1])])


def test_what_cannot_be_is_refused(source: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, precision, words in [
        ("m.tflite", "fp32", "tflite"),
        ("m.onnx", "bf16", r"\.onnx holds fp32, fp16, int8; \.xml"),
        ("m.onnx", "int8", "--images"),
        ("m.xml", "int8", "calibration"),
        ("m.xml", "int4", "int4"),
    ]:
        with pytest.raises(ConfigError, match=words):
            export(source, tmp_path / name, precision)
    with pytest.raises(ConfigError, match=r"\(H, W, 3\)"):
        export(source, tmp_path / "m.onnx", images=[np.zeros((40, 40, 1))])
    for options, words in [
        ({"max_drop": 0.01}, "give a data set"),
        ({"dataset": Painted(source), "argmax": True}, "parity check"),
        ({"dataset": Painted(source), "accuracy_aware": True, "max_drop": 0.01}, "--max-drop"),
        ({"dataset": Painted(source), "max_drop": 2.0}, "half a point"),
    ]:
        with pytest.raises(ConfigError, match=words):
            export(source, tmp_path / "m.xml", **options)  # type: ignore[arg-type]
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(CheckpointError, match=r"broken\.onnx"):
        Segmenter.load(tmp_path / "broken.onnx")
    (tmp_path / "some.pt2").write_bytes(b"x")
    monkeypatch.delenv("PSPNET_TRUST_PT2", raising=False)
    with pytest.raises(ConfigError, match="PSPNET_TRUST_PT2"):
        Segmenter.load(tmp_path / "some.pt2")


def test_an_altered_export_is_refused_and_others_read_it(folder: Path, tmp_path: Path) -> None:
    import onnx

    whole = (folder / "model.onnx").read_bytes()
    onnx.checker.check_model(onnx.load_from_string(whole))
    for position in range(50, len(whole) - 200, len(whole) // 15):
        (tmp_path / "m.onnx").write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(CheckpointError, match="was altered since it was exported"):
            Segmenter.load(tmp_path / "m.onnx")


def test_a_foreign_onnx_is_refused(folder: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(folder / "model.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(CheckpointError, match="no pspnet header"):
        Segmenter.load(tmp_path / "foreign.onnx")


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"pool": "max", "align_corners": True},
        {"decoder": "unet", "concat": "pooled_first"},
        {"decoder": "fpn", "encoder": "mobilenetv2", "encoder_options": {"width_multiplier": 0.35}},
        {"decoder": "progressive", "pyramid": "progressive", "input_scale": 0.5},
        {"fusion": "plain", "bins": (1, 3, 5, 6), "encoder_options": {"depth": 4}},
        {"encoder": "efficientnet_b0", "encoder_options": {}, "bins": (1, 2)},
        {"pointrend": True, "encoder_options": {"depth": 4}},
    ],
    ids=str,
)
def test_the_family_exports(changes: dict[str, object], tmp_path: Path) -> None:
    report = export(segmenter(**changes), tmp_path / "model.onnx")
    assert len(report.parity) == (1 if changes.get("pointrend") else 3)


def test_int8_and_fp16_as_onnx(
    source: Segmenter, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The float32 graph they are made of is the one made already: tracing it again would take most of a minute."""
    monkeypatch.setattr("pspnet.exporting.run.write_onnx", lambda *given: shutil.copy(folder / "model.onnx", given[3]))
    images = [np.random.default_rng(i).integers(0, 256, (64, 64, 3), np.uint8) for i in range(5)]
    whole = (folder / "model.onnx").stat().st_size
    report = export(source, tmp_path / "int8.onnx", "int8", images=images)
    assert report.calibrated == 4
    assert report.size_bytes < 0.45 * whole
    assert min(p.label_agreement for p in report.parity) > 0.9
    assert Segmenter.load(tmp_path / "int8.onnx").classes == source.classes
    report = export(source, tmp_path / "fp16.onnx", "fp16", dataset=Painted(source), max_drop=0.005)
    assert report.size_bytes < 0.65 * whole
    assert report.quality is not None
    assert report.quality.low is not None
    assert sorted(file.name for file in tmp_path.iterdir()) == ["fp16.onnx", "int8.onnx"]


@pytest.mark.slow
def test_int8_and_pt2_and_labels(source: Segmenter, tmp_path: Path) -> None:
    images = [np.random.default_rng(i).integers(0, 256, (64, 64, 3), np.uint8) for i in range(8)]
    report = export(source, tmp_path / "int8.xml", "int8", images=images, bound=0.5)
    assert report.size_bytes < 0.5 * export(source, tmp_path / "whole.xml").size_bytes
    assert export(source, tmp_path / "m.pt2").parity[0].label_agreement > 0.9995
    export(source, tmp_path / "labels.onnx", argmax=True)
    with pytest.raises(ExportError, match="Nothing was written"):
        export(source, tmp_path / "strict.xml", "int8", images=images, bound=1.0)
    assert not (tmp_path / "strict.xml").exists()


@pytest.mark.slow
def test_int8_keeps_the_mean_iou_that_is_asked(tmp_path: Path) -> None:
    trained = Segmenter.load("scenes", device="cpu", precision="fp32")
    scenes = open_dataset("scenes", split="val", count=12, size=128)
    images = [open_dataset("scenes", split="train", count=16, size=128)[i].image for i in range(16)]
    report = export(trained, tmp_path / "scenes.xml", "int8", images=images, dataset=scenes, max_drop=0.03)
    assert report.quality is not None
    assert report.quality.images == 12
    assert report.quality.source > 0.6
    assert f"{report.quality.source:.2%} before" in str(report)
    aware = export(
        trained,
        tmp_path / "aware.xml",
        "int8",
        images=images,
        dataset=scenes,
        max_drop=0.002,
        accuracy_aware=True,
        bound=0.5,
    )
    assert aware.quality is not None
    assert not aware.quality.loses_more(0.002)
    with pytest.raises(ExportError, match=r"points lost.*Nothing was written"):
        export(trained, tmp_path / "bad.xml", "int8", images=images, dataset=Painted(trained), max_drop=0.0, bound=0.0)
    assert not (tmp_path / "bad.xml").exists()
