"""A model knows things by their size in pixels: another ground resolution is told, and mended where asked."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from pspnet.config import RasterConfig
from pspnet.errors import ConfigError
from pspnet.predict.segmenter import Segmenter
from pspnet.raster import segment_raster
from support.rasters import make_segmenter, read, scene, write_raster


def trained_at(metres: float | None) -> Segmenter:
    segmenter = make_segmenter()
    segmenter.card = replace(segmenter.card, ground_resolution=metres)
    return segmenter


@pytest.mark.parametrize("metres", [0.1, 10.0])
def test_another_resolution_is_told_with_both(tmp_path: Path, metres: float) -> None:
    path = write_raster(tmp_path / "a.tif", scene(64, 64))
    with pytest.warns(UserWarning, match=rf"pixels of 2 m; the model was trained on pixels of {metres:g} m"):
        segment_raster(trained_at(metres), path, tmp_path / "map.tif", tile_px=64, overlap_px=16)


@pytest.mark.parametrize("metres", [1.5, 2.9, 0.0, None])
def test_one_that_is_near_or_unknown_is_not(tmp_path: Path, metres: float | None) -> None:
    path = write_raster(tmp_path / "a.tif", scene(64, 64))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        segment_raster(trained_at(metres), path, tmp_path / "map.tif", tile_px=64, overlap_px=16)


def test_the_model_sees_pixels_of_the_trained_size_when_asked(tmp_path: Path) -> None:
    fine = scene(64, 64)
    blocks = fine.repeat(4, axis=1).repeat(4, axis=2)  # pixels of 0.5 m that show what pixels of 2 m would
    options = {"tile_px": 64, "overlap_px": 16}
    source = write_raster(tmp_path / "fine.tif", blocks, transform=from_origin(500_000, 5_600_000, 0.5, 0.5))
    plain = write_raster(tmp_path / "plain.tif", fine)
    segment_raster(trained_at(2.0), plain, tmp_path / "plain_map.tif", **options)
    for name, resolution in (("trained", "trained"), ("metres", 2.0)):
        report = segment_raster(trained_at(2.0), source, tmp_path / f"{name}.tif", resolution=resolution, **options)
        assert (report.height, report.width) == (64, 64)
        with rasterio.open(tmp_path / f"{name}.tif") as file:
            assert file.transform.almost_equals(from_origin(500_000, 5_600_000, 2, 2))
        np.testing.assert_array_equal(read(tmp_path / f"{name}.tif"), read(tmp_path / "plain_map.tif"))


def test_what_has_no_data_has_none_after_resampling(tmp_path: Path) -> None:
    pixels = scene(64, 64)
    pixels[:, :, :32] = 0
    source = write_raster(tmp_path / "a.tif", pixels, nodata=0)
    segment_raster(trained_at(4.0), source, tmp_path / "map.tif", tile_px=64, overlap_px=16, resolution="trained")
    labels = read(tmp_path / "map.tif")
    assert labels.shape == (32, 32)
    assert (labels[:, :16] == 255).all()
    assert (labels[:, 16:] != 255).all()


def test_what_cannot_be_resampled_says_why(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", scene(64, 64))
    with pytest.raises(ConfigError, match="does not say at which it was trained"):
        segment_raster(trained_at(None), path, tmp_path / "map.tif", resolution="trained")
    nowhere = write_raster(tmp_path / "b.tif", scene(64, 64), crs=None)
    with pytest.raises(ConfigError, match="no coordinate system that tells the size"):
        segment_raster(trained_at(2.0), nowhere, tmp_path / "map.tif", resolution=1.0)
    assert RasterConfig.model_validate({"resolution": "0.5"}).resolution == 0.5
    with pytest.raises(ConfigError, match="resolution"):
        RasterConfig.model_validate({"resolution": "coarse"})
