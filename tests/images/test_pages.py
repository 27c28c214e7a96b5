"""Pages and frames are counted by the file's own directories; copies, masks and damage are none."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from pspnet.errors import LabelError
from pspnet.georaster.labels import RasterLabels
from pspnet.images.pages import further_pictures, further_pictures_in
from pspnet.raster import segment_raster
from support.rasters import SPACE, make_segmenter, scene, write_raster

RGB = np.random.default_rng(0).integers(0, 256, (24, 31, 3)).astype(np.uint8)


def encoded(kind: str, frames: int) -> bytes:
    stream = io.BytesIO()
    others = [Image.fromarray(np.rot90(RGB, 2 * k + 2)) for k in range(frames - 1)]
    Image.fromarray(RGB).save(stream, kind, **({"save_all": True, "append_images": others} if others else {}))
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "PNG", "WEBP", "MPO", "BMP"])
def test_one_picture_and_several(kind: str) -> None:
    assert further_pictures_in(encoded(kind, 1)) == ""
    if kind != "BMP":
        message = {"TIFF": "3 pages", "MPO": ""}.get(kind, "an animation")  # a phone's gain map is no second picture
        data = encoded(kind, 3)
        assert further_pictures_in(data) == message
        for end in range(0, len(data), 97):
            further_pictures_in(data[:end])  # raises nothing


def test_overviews_and_masks_are_no_pages(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", scene(128, 128))
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4])
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            file.write_mask(np.full((128, 128), True))
    assert further_pictures(path) == ""


def test_rasters_of_pages_are_told_and_label_rasters_refused(tmp_path: Path) -> None:
    pages = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make_segmenter().read(tmp_path / "a.tif")
        segment_raster(make_segmenter(), tmp_path / "a.tif", tmp_path / "map.tif")
    words = [str(one.message) for one in caught]
    assert any("holds 2 pages; the first picture is read" in text for text in words)
    assert any("holds several rasters, and the first is read. Name another: GTIFF_DIR:1" in text for text in words)
    with pytest.raises(LabelError, match="holds several rasters, and labels are one"):
        RasterLabels(tmp_path / "a.tif", SPACE)


@pytest.mark.parametrize("options", [{"compress": "JPEG"}, {"driver": "JP2OpenJPEG", "tiled": False, "compress": None}])
def test_a_label_raster_of_altered_values_is_refused(options: dict[str, object], tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", scene(64, 64, 1), **options)
    with pytest.raises(LabelError, match="alters values"):
        RasterLabels(path, SPACE)
