"""The file for Deepness, opened and run as the plugin does it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest

from pspnet import Segmenter
from pspnet.cli import _run
from pspnet.errors import CheckpointError, ConfigError
from pspnet.exporting.deepness import export_deepness
from support.deepness import DeepnessReader
from support.graphs import tiny_segmenter


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Segmenter, Path]:
    folder = tmp_path_factory.mktemp("deepness")
    source = tiny_segmenter(ground_resolution=0.25, temperature=2.0)
    checkpoint = source.save(folder / "model.safetensors")
    words = ["export", str(checkpoint), str(folder / "model.onnx"), "--for", "deepness", "--size", "96"]
    assert _run(words, debug=True) == 0
    return source, folder / "model.onnx"


@pytest.mark.slow
def test_the_plugin_finds_the_models_labels(exported: tuple[Segmenter, Path]) -> None:
    source, path = exported
    small = np.random.default_rng(1).integers(0, 256, (7, 7, 4), dtype=np.uint8)
    raster = cv2.resize(small, (96, 96), interpolation=cv2.INTER_CUBIC)  # a fourth band that the model does not read
    actual = DeepnessReader(path).labels(raster)
    wanted = source.segment(np.ascontiguousarray(raster[..., :3])).labels
    assert len(np.unique(wanted)) > 1
    assert (actual == wanted).mean() > 0.999


@pytest.mark.slow
def test_the_plugin_is_told_everything(exported: tuple[Segmenter, Path]) -> None:
    reader = DeepnessReader(exported[1])
    assert reader.classes == ["sea", "land", "sky"]
    facts = {key: reader.facts[key] for key in ("model_type", "resolution", "tile_size", "tiles_overlap", "seg_thresh")}
    assert facts == {
        "model_type": "Segmentor",
        "resolution": 25.0,
        "tile_size": 96,
        "tiles_overlap": 25,
        "seg_thresh": 0.0,
    }


@pytest.mark.slow
def test_probabilities_are_the_models(exported: tuple[Segmenter, Path]) -> None:
    source, path = exported
    image = np.random.default_rng(2).integers(0, 256, (1, 3, 96, 96)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(None, {"images": image / 255})
    np.testing.assert_allclose(probabilities, source.probabilities(image), atol=1e-4)


@pytest.mark.slow
def test_it_is_not_taken_for_a_model_with_logits(exported: tuple[Segmenter, Path]) -> None:
    with pytest.raises(CheckpointError, match="ends with probabilities"):
        Segmenter.load(exported[1])


def test_what_cannot_be_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="8-bit"):
        export_deepness(tiny_segmenter(value_range=(0.0, 10000.0)), tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match=r"\.onnx"):
        export_deepness(tiny_segmenter(), tmp_path / "m.xml")
    with pytest.raises(ConfigError, match="overlap_percent = 60"):
        export_deepness(tiny_segmenter(), tmp_path / "m.onnx", overlap_percent=60)
    for words in (
        ["--for", "deepnes"],
        ["--for", "deepness", "--precision", "int8"],
        ["--for", "deepness", "--size", "64x80"],
    ):
        assert _run(["export", "scenes", str(tmp_path / "m.onnx"), *words], debug=False) == 2
    assert "deepness or model-server" in capsys.readouterr().err


@pytest.mark.slow
def test_every_onnx_file_names_its_classes_for_others(exported: tuple[Segmenter, Path]) -> None:
    facts = onnxruntime.InferenceSession(str(exported[1])).get_modelmeta().custom_metadata_map
    assert json.loads(facts["class_names"]) == {"0": "sea", "1": "land", "2": "sky"}
    assert facts["names"] == "{0: 'sea', 1: 'land', 2: 'sky'}"
    assert (facts["model_info labels"], facts["model_info model_type"]) == ("sea land sky", "Segmentation")
