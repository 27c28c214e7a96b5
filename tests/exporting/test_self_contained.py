"""A graph with labels as output, run by the example in a process without pspnet and PyTorch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
from PIL import Image

from pspnet import Segmenter
from pspnet.cli import _run
from pspnet.errors import CheckpointError, ConfigError
from pspnet.exporting.self_contained import export_labels
from support.graphs import tiny_segmenter
from support.paths import ROOT

ALONE = """
import runpy, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("pspnet", "torch", "timm", "cv2"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


@pytest.mark.parametrize(
    "size", [pytest.param(None, marks=pytest.mark.slow, id="any size"), pytest.param((64, 80), id="one size")]
)
def test_the_example_gives_the_models_labels(size: tuple[int, int] | None, tmp_path: Path) -> None:
    source = tiny_segmenter()
    checkpoint = source.save(tmp_path / "model.safetensors")
    words = ["export", str(checkpoint), str(tmp_path / "labels.onnx"), "--output", "labels"]
    assert _run([*words, *(["--size", "64x80"] if size else [])], debug=True) == 0
    small = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    height, width = size or (71, 93)
    image = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(image).save(tmp_path / "photo.png")
    done = subprocess.run(
        [sys.executable, "-c", ALONE, ROOT / "examples" / "onnx_labels.py", "labels.onnx", "photo.png", "out.png"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )
    assert done.returncode == 0, done.stderr
    result = source.segment(image)
    with Image.open(tmp_path / "out.png") as actual:
        assert (np.asarray(actual) == result.labels).mean() > 0.9995
        assert actual.getpalette()[:6] == [0, 0, 255, 0, 160, 0]
    assert len(np.unique(result.labels)) > 1
    largest = next(iter(result.shares()))
    assert f"{largest:20s} {result.shares()[largest]:6.1%}" in done.stdout
    with pytest.raises(CheckpointError, match="ends with labels"):
        Segmenter.load(tmp_path / "labels.onnx")


@pytest.mark.slow
def test_a_photograph_is_brought_to_the_trained_size_inside(tmp_path: Path) -> None:
    """As Segmenter.segment does: shrunk, enlarged, or left alone where it is near; labels at the photograph's own size, equal
    but for borders (the module says why)."""
    source = tiny_segmenter(trained_size=(64, 80))
    export_labels(source, tmp_path / "labels.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "labels.onnx"), providers=["CPUExecutionProvider"])
    small = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    for height, width, least in (
        (64, 80, 0.9995),
        (70, 88, 0.9995),
        (160, 200, 0.97),
        (121, 301, 0.97),
        (30, 41, 0.9),
    ):
        image = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        (labels,) = session.run(["labels"], {"images": image[None]})
        assert labels.shape == (1, height, width)
        assert (labels[0] == source.segment(image).labels).mean() >= least, (height, width)
    pair = np.stack([image, image[::-1]])
    (labels,) = session.run(["labels"], {"images": pair})
    assert labels.shape == (2, 30, 41)


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.onnx"):
        export_labels(tiny_segmenter(), tmp_path / "m.xml")
    with pytest.raises(ConfigError, match="8-bit"):
        export_labels(tiny_segmenter(value_range=(0.0, 10000.0)), tmp_path / "m.onnx")
    assert _run(["export", "scenes", str(tmp_path / "m.onnx"), "--output", "labels", "--precision", "int8"], False) == 2
    assert _run(["export", "scenes", str(tmp_path / "m.onnx"), "--size", "64x64"], False) == 2
    assert _run(["export", "scenes", str(tmp_path / "m.onnx"), "--output", "labels", "--size", "big"], False) == 2
