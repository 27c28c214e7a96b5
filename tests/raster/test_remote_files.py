"""A raster behind a URL: read in parts from a real HTTP server on this machine; an answer that is none."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rasterio._env import del_gdal_config
from rasterio.env import get_gdal_config

from pspnet.errors import RasterError
from pspnet.georaster.grids import PATIENCE, open_raster
from pspnet.raster import segment_raster
from support.paths import ROOT
from support.rasters import make_segmenter, read, scene, whole, write_raster


class Files:
    """A server's process. `url` is what GDAL opens; `sent()` ends it and tells how many bytes it sent."""

    def __init__(self, folder: Path) -> None:
        program = ROOT / "tests" / "support" / "file_server.py"
        self.process = subprocess.Popen([sys.executable, program, folder], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = f"/vsicurl/http://127.0.0.1:{int(self.process.stdout.readline())}"

    def sent(self) -> int:
        self.process.kill()
        assert self.process.stdout is not None
        return sum(int(line.split()[1]) for line in self.process.stdout)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    monkeypatch.setenv("GDAL_HTTP_TIMEOUT", "20")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Files(tmp_path)
    with server.process:
        yield server
        server.process.kill()


def test_a_raster_behind_a_url_is_classified_like_a_file(files: Files, tmp_path: Path) -> None:
    pixels = scene(150, 131)
    write_raster(tmp_path / "in.tif", pixels)
    report = segment_raster(make_segmenter(), f"{files.url}/in.tif", tmp_path / "out.tif", tile_px=48, overlap_px=12)
    np.testing.assert_array_equal(read(tmp_path / "out.tif"), whole(make_segmenter(), pixels).argmax(axis=0))
    assert report.data_share == 1.0
    assert files.sent() > 0


def test_only_the_part_that_is_asked_for_is_fetched(files: Files, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(1, 255, (3, 1024, 1024), dtype=np.uint8)
    size = write_raster(tmp_path / "in.tif", noise, blockxsize=128, blockysize=128).stat().st_size
    corner = (500_000, 5_599_872, 500_128, 5_600_000)  # 64 x 64 px at the upper left, in the raster's own metres
    segment_raster(make_segmenter(), f"{files.url}/in.tif", tmp_path / "out.tif", tile_px=64, overlap_px=0, aoi=corner)
    assert read(tmp_path / "out.tif").shape == (64, 64)
    assert 0 < files.sent() < 0.3 * size


@pytest.mark.parametrize("name", ["missing.tif", "broken.tif"])
def test_a_url_that_fails_is_named(files: Files, tmp_path: Path, name: str) -> None:
    with pytest.raises(RasterError, match=rf"{name}"):
        segment_raster(make_segmenter(), f"{files.url}/{name}", tmp_path / "out.tif", tile_px=48, overlap_px=12)
    assert not (tmp_path / "out.tif").exists()


@pytest.fixture
def nothing_set() -> None:
    """GDAL's settings hold for a process, so those of the tests before go first."""
    for name in PATIENCE:
        del_gdal_config(name)


@pytest.mark.usefixtures("nothing_set")
def test_a_server_that_never_answers_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("GDAL_HTTP_LOW_SPEED_TIME", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel takes the connection, nobody reads it
        url = f"/vsicurl/http://127.0.0.1:{silent.getsockname()[1]}/in.tif"
        with pytest.raises(RasterError, match=r"in.tif.* too slow"):
            segment_raster(make_segmenter(), url, tmp_path / "out.tif", tile_px=48, overlap_px=12)


@pytest.mark.usefixtures("nothing_set")
def test_the_users_own_patience_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDAL_HTTP_CONNECTTIMEOUT", "7")
    with pytest.raises(RasterError):
        open_raster("/vsizip/missing.zip/in.tif")
    assert get_gdal_config("GDAL_HTTP_CONNECTTIMEOUT") == 7
    assert get_gdal_config("GDAL_HTTP_LOW_SPEED_LIMIT") == 1
