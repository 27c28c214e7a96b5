"""What a GeoTIFF says that a decoder of photographs passes over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from pspnet.images import write_png
from pspnet.images.pages import GeoTags, further_pictures, geo_tags, nodata_doubt
from pspnet.labels import IGNORE
from support.rasters import scene, write_raster


@pytest.mark.parametrize("options", [{}, {"BIGTIFF": "YES"}, {"tiled": False}])
def test_nodata_mask_and_place(options: dict[str, object], tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", scene(64, 64), nodata=0, **options)
    assert geo_tags(path) == GeoTags("0", masked=False, placed=True)
    path = write_raster(tmp_path / "b.tif", scene(64, 64), crs=None, transform=rasterio.Affine.identity())
    assert geo_tags(path) == GeoTags()
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(np.eye(64, dtype=bool))
    assert geo_tags(path) == GeoTags(masked=True)
    assert further_pictures(path) == "", "a mask is no page"


def test_what_is_no_geotiff_says_nothing(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", np.zeros((9, 9, 3), np.uint8))
    (tmp_path / "cut.tif").write_bytes(b"II*\0\x08\0\0\0\xff")
    for name in ("a.png", "cut.tif", "absent.tif"):
        assert geo_tags(tmp_path / name) == GeoTags()


def test_pixels_without_data_are_told_where_they_count() -> None:
    pixels = np.full((10, 10, 3), 9, np.uint8)
    pixels[:5] = 0
    assert nodata_doubt(GeoTags("0"), pixels) == "calls 0 'no data', which 50.0% of its pixels hold"
    labels = np.zeros((10, 10), np.uint8)
    labels[:5] = IGNORE
    assert nodata_doubt(GeoTags("0"), pixels, labels) == ""
    assert nodata_doubt(GeoTags("7"), pixels) == ""
    assert nodata_doubt(GeoTags("nan"), pixels) == ""
    assert "mask" in nodata_doubt(GeoTags(masked=True), pixels, labels)
