"""A graph of another project makes a map of a raster in windows, by the options of `pspnet raster`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pspnet.cli import _run
from pspnet.config import ForeignModel, RasterConfig
from pspnet.errors import ConfigError
from pspnet.predict.segmenter import Segmenter
from pspnet.raster import segment_raster, segment_rasters
from pspnet.raster.pipeline import fitted
from support.foreign import WEIGHTS, write_foreign
from support.rasters import read, write_raster

ABOUT = ["classes=[water,forest,field]", "bands=[band_3,band_1,band_2]", "divide=10000", "mean=0", "std=1"]


@pytest.fixture
def raster(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """Four bands of 16 bits, of which the model reads three in an order of its own; and the classes that it must find."""
    pixels = np.random.default_rng(0).integers(0, 10_000, (4, 150, 210), dtype=np.uint16)
    wanted = np.einsum("kb,bhw->khw", WEIGHTS.astype(float), pixels[[2, 0, 1]].astype(float)).argmax(0)
    return write_raster(tmp_path / "city.tif", pixels), wanted


def test_the_command_maps_with_a_graph_of_one_size(raster: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    source, wanted = raster
    model = write_foreign(tmp_path / "unet.onnx", size=(64, 64), batch=1)
    (tmp_path / "unet_about.yaml").write_text("output: logits\ndivide: 255\n")
    said = [part for text in [str(tmp_path / "unet_about.yaml"), *ABOUT] for part in ("--about", text)]
    assert _run(["raster", str(model), str(source), str(tmp_path / "map.tif"), *said], debug=True) == 0
    assert (read(tmp_path / "map.tif") == wanted).mean() > 0.999


def test_what_is_not_said_stops_before_work(
    raster: tuple[Path, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = str(raster[0]), tmp_path / "map.tif"
    model = str(write_foreign(tmp_path / "unet.onnx"))
    assert _run(["raster", model, source, str(target)], debug=False) == 1
    assert "--about" in capsys.readouterr().err
    assert _run(["raster", model, source, str(target), "--about", "divide=1"], debug=False) == 2
    stderr = capsys.readouterr().err
    assert all(name in stderr for name in ("classes", "bands", "mean", "std", "output"))
    assert not target.exists()


def test_labels_have_no_confidence_and_fixed_windows_their_size(
    raster: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    source, wanted = raster
    about = ForeignModel.model_validate(
        {"classes": ["a", "b", "c"], "bands": ["band_3", "band_1", "band_2"], "divide": 10000, "mean": 0, "std": 1}
        | {"output": "labels"}
    )
    seg = Segmenter.load(write_foreign(tmp_path / "unet.onnx", "labels", size=(96, 96)), about=about)
    for name in ("confidence", "probabilities"):
        with pytest.raises(ConfigError, match="labels without probabilities"):
            segment_raster(seg, source, tmp_path / "map.tif", **{name: True})
    with pytest.raises(ConfigError, match="96 x 96 px only"):
        segment_raster(seg, source, tmp_path / "map.tif", tile_px=128, overlap_px=0)
    assert fitted(RasterConfig(), seg).tile_px == 96
    report = segment_rasters(seg, [source], tmp_path / "maps")
    assert (len(report.done), report.failed) == (1, {})
    assert (read(tmp_path / "maps" / "city.tif") == wanted).mean() > 0.999
    with pytest.raises(ConfigError, match="give its path or name"):
        segment_rasters(seg, [source], tmp_path / "more", workers=2)
