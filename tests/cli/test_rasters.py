"""The commands raster, data tile and data repair, as a user types them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pspnet.cli import _run
from pspnet.predict.segmenter import Segmenter
from support.classified_tiles import export
from support.rasters import broken, make_segmenter, read, scene, write_raster

OPTIONS = ["--tile", "48", "--overlap", "12", "--set", "block_px=32", "--device", "cpu"]


@pytest.fixture
def model(tmp_path: Path) -> str:
    segmenter = make_segmenter()
    return str(Segmenter(segmenter.model, segmenter.card, device="cpu").save(tmp_path / "model.safetensors"))


def test_one_raster_with_polygons_and_an_area(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = str(write_raster(tmp_path / "in.tif", scene(80, 90))), str(tmp_path / "map.tif")
    command = [
        "raster",
        model,
        source,
        target,
        *OPTIONS,
        "--polygons",
        str(tmp_path / "map.gpkg"),
        "--aoi",
        "500020,5599880,500120,5599980",
    ]
    assert _run(command, debug=False) == 0
    out = capsys.readouterr().out
    assert "50 x 50 px" in out
    assert "polygons ->" in out
    assert read(Path(target)).shape == (50, 50)
    assert _run(command, debug=False) == 1
    assert "exists" in capsys.readouterr().err
    assert _run([*command, "--set", "sieve=3"], debug=False) == 2
    assert "sieve" in capsys.readouterr().err
    assert _run([*command, "--aoi", "1,2,three,4"], debug=False) == 2
    capsys.readouterr()
    assert _run([*command, "--set", "overlap_px=20"], debug=False) == 2
    assert "overlap_px = 20 by --set, 12 by --overlap" in capsys.readouterr().err


@pytest.mark.slow
def test_warnings_are_one_line_and_empty_maps_are_told(model: str, tmp_path: Path) -> None:
    source = write_raster(tmp_path / "in.tif", np.zeros((3, 40, 40), np.uint8), nodata=0, crs=None)
    command = ["raster", model, str(source), str(tmp_path / "map.tif"), *OPTIONS]
    done = subprocess.run([sys.executable, "-m", "pspnet", *command], capture_output=True, text=True, check=True)
    assert "no pixel has data" in done.stdout
    assert done.stderr.splitlines()[0].startswith(f"warning: '{source}' has no coordinate system")
    assert "UserWarning" not in done.stderr


def test_a_folder_ends_with_1_where_a_raster_failed(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    write_raster(tmp_path / "in" / "good.tif", scene(60, 60))
    broken(tmp_path / "in" / "bad.tif")
    command = ["raster", model, str(tmp_path / "in"), str(tmp_path / "out"), *OPTIONS, "--workers", "1"]
    assert _run(command, debug=False) == 1
    out = capsys.readouterr().out
    assert "1 rasters mapped, 1 failed" in out
    assert "bad.tif" in out
    assert _run([*command, "--skip-errors"], debug=False) == 0
    assert "1 rasters mapped, 1 there before, 0 failed" in capsys.readouterr().out


def test_chips_are_cut_and_exports_repaired(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "town" / "images").mkdir(parents=True)
    (tmp_path / "town" / "labels").mkdir()
    write_raster(tmp_path / "town" / "images" / "a.tif", scene(64, 64))
    write_raster(tmp_path / "town" / "labels" / "a.tif", np.where(scene(64, 64)[:1] > 128, 2, 1).astype(np.uint8))
    out = str(tmp_path / "chips")
    assert _run(["data", "tile", str(tmp_path / "town"), out, "--option", "window_px=32"], debug=False) == 0
    assert "4 chips" in capsys.readouterr().out
    assert _run(["data", "check", out, "--format", "classified_tiles"], debug=False) == 0
    capsys.readouterr()
    damaged = export(tmp_path / "export", emd=False)
    assert _run(["data", "repair", str(damaged)], debug=False) == 0
    assert "esri_model_definition.emd" in capsys.readouterr().out
    assert _run(["data", "repair", str(damaged)], debug=False) == 0
    assert "nothing is missing" in capsys.readouterr().out


@pytest.mark.slow
def test_a_damaged_mosaic_is_told_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "a.vrt").write_bytes(b'<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBa\xa1d')
    command = [
        sys.executable,
        "-m",
        "pspnet",
        "raster",
        "aerial-dubai",
        str(tmp_path / "a.vrt"),
        str(tmp_path / "m.tif"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "a.vrt' cannot be opened as a raster" in done.stderr
    assert "Traceback" not in done.stderr
