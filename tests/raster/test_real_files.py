"""Every real GeoTIFF at hand through segment_raster: same grid, nodata where GDAL says so, the broken one by name."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio

from pspnet.errors import RasterError
from pspnet.raster import segment_raster
from support.rasters import make_segmenter

FILES = (
    "plain/RGB.byte.tif",
    "plain/RGBA.byte.tif",
    "plain/RGBA.uint16.tif",
    "plain/all-nodata.tif",
    "plain/alpha.tif",
    "plain/cogeo.tif",
    "plain/float_nan.tif",
    "plain/float_raster_with_nodata.tif",
    "plain/rgb1.tif",
    "plain/rgb_lzw.tif",
    "plain/rotated.tif",
    "plain/world.rgb.tif",
    "spacenet/atlanta_buildings_label.tif",
    "spacenet/atlanta_pan.tif",
    "spacenet/rotterdam_ms1.tif",
    "spacenet/rotterdam_ms2.tif",
    "spacenet/rotterdam_pan1.tif",
    "spacenet/rotterdam_sar_4band_nan.tif",
    "spacenet/vegas_pan.tif",
)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", FILES)
def test_the_map_has_the_files_grid_and_its_gaps(name: str, shared: Path, tmp_path: Path) -> None:
    source = shared / "data" / "geotiff" / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(source) as file:
            bands = sum(colour.name != "alpha" for colour in file.colorinterp)
            # a pixel has data where a band has: GDAL's masks of all bands (nodata, alpha), and NaN, which they may not tell
            known = (file.read_masks()[:bands] > 0) & ~np.isnan(file.read()[:bands])
            known, transform, crs = known.any(axis=0), file.transform, file.crs
    report = segment_raster(make_segmenter(bands), source, tmp_path / "map.tif", tile_px=256, overlap_px=64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(tmp_path / "map.tif") as output:
            labels = output.read(1)
            assert (output.transform, output.crs) == (transform, crs)
    np.testing.assert_array_equal(labels != 255, known)
    assert report.data_share == pytest.approx(known.mean())
    assert (name == "plain/all-nodata.tif") == (not known.any())


@pytest.mark.slow
def test_the_broken_file_is_named_or_skipped(shared: Path, tmp_path: Path) -> None:
    source = shared / "data" / "geotiff" / "plain" / "corrupt.tif"
    with pytest.raises(RasterError, match=r"corrupt\.tif' cannot be read at rows \d+ to \d+.*--skip-errors"):
        segment_raster(make_segmenter(), source, tmp_path / "map.tif", tile_px=256, overlap_px=64)
    assert not (tmp_path / "map.tif").exists()
    report = segment_raster(
        make_segmenter(), source, tmp_path / "map.tif", tile_px=256, overlap_px=64, skip_errors=True
    )
    assert report.unreadable
    assert report.data_share == pytest.approx(1 - sum(h * w for _, _, h, w in report.unreadable) / (1024 * 1024))
