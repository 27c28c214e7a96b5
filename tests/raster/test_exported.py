"""Exported models on whole rasters: the checkpoint's map, resumed, on many, and told apart by their files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pspnet.errors import CheckpointError, RasterError
from pspnet.exporting import export
from pspnet.predict.segmenter import Segmenter
from pspnet.raster import Progress, segment_raster, segment_rasters
from support.rasters import make_segmenter, read, scene, write_raster

SMALL = {"tile_px": 64, "overlap_px": 16, "block_px": 32}


class StoppedError(Exception):
    pass


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    plain = make_segmenter()
    torch.manual_seed(1)
    torch.nn.init.normal_(plain.model.classifier.weight)
    path = Segmenter(plain.model, plain.card, device="cpu").save(tmp_path_factory.mktemp("model") / "model.safetensors")
    return Segmenter.load(path, device="cpu", precision="fp32")


@pytest.fixture(scope="module", params=[".onnx", ".xml"])
def exported(request: pytest.FixtureRequest, checkpoint: Segmenter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / f"model{request.param}"
    export(checkpoint, path)
    return path


def test_the_map_is_the_checkpoints(checkpoint: Segmenter, exported: Path, tmp_path: Path) -> None:
    """Nodata is filled with the model's mean: it must come from the exported file's header."""
    pixels = scene(90, 140)
    pixels[:2, 20:40, 30:60] = 0  # the third band keeps its value there, so the model looks
    pixels[:, 60:70, 100:110] = 0
    source = write_raster(tmp_path / "in.tif", pixels, nodata=0)
    segment_raster(checkpoint, source, tmp_path / "torch.tif", **SMALL)
    report = segment_raster(Segmenter.load(exported), source, tmp_path / "exported.tif", **SMALL)
    actual, wanted = read(tmp_path / "exported.tif"), read(tmp_path / "torch.tif")
    assert len(np.unique(wanted)) >= 3  # two classes and nodata at least
    np.testing.assert_array_equal(actual == 255, wanted == 255)
    assert (actual == wanted).mean() > 0.999
    assert report.data_share == pytest.approx(1 - 100 / pixels[0].size)


def test_a_stopped_run_goes_on_with_the_same_file_only(exported: Path, checkpoint: Segmenter, tmp_path: Path) -> None:
    source, target = write_raster(tmp_path / "in.tif", scene(300, 70)), tmp_path / "out.tif"

    def stop(progress: Progress) -> None:
        if progress.done_px > 150 * 70:
            raise StoppedError

    with pytest.raises(StoppedError):
        segment_raster(Segmenter.load(exported), source, target, progress=stop, **SMALL)
    with pytest.raises(RasterError, match=r"other settings \(model\)"):
        segment_raster(checkpoint, source, target, **SMALL)
    report = segment_raster(Segmenter.load(exported), source, target, **SMALL)
    assert report.resumed_rows >= 32
    segment_raster(Segmenter.load(exported), source, tmp_path / "whole.tif", **SMALL)
    np.testing.assert_array_equal(read(target), read(tmp_path / "whole.tif"))


def test_many_rasters(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(2):
        write_raster(tmp_path / "in" / f"{number}.tif", scene(60, 60, seed=number))
    report = segment_rasters(exported, tmp_path / "in", tmp_path / "out", workers=1)
    assert (len(report.done), report.failed) == (2, {})
    (tmp_path / "wrong.onnx").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"wrong\.onnx"):
        segment_rasters(tmp_path / "wrong.onnx", tmp_path / "in", tmp_path / "more", workers=1)


def test_fingerprints_tell_models_apart(exported: Path, checkpoint: Segmenter, tmp_path: Path) -> None:
    one = Segmenter.load(exported)
    assert one.fingerprint() == Segmenter.load(exported).fingerprint()
    assert one.fingerprint() != checkpoint.fingerprint()
    for number, file in enumerate(one.files):  # OpenVINO: the graph, and the weights beside it
        changed = tmp_path / file.name
        changed.write_bytes(file.read_bytes()[:-1] + b"?")
        files = [*one.files[:number], changed, *one.files[number + 1 :]]
        assert Segmenter(one.config, one.card, engine=one.engine, files=files).fingerprint() != one.fingerprint()
    assert len(one.files) == (2 if exported.suffix == ".xml" else 1)
