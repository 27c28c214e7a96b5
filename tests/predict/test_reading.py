"""What a photograph's file, an array or a GeoTIFF says that a model must not pass over."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from pspnet.errors import ImageError
from pspnet.predict.reading import read_for
from pspnet.weights.checkpoint import ModelCard
from support.rasters import SPACE, UTM, scene, write_raster

CARD = ModelCard(SPACE)


def told(path: Path, card: ModelCard = CARD) -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_for(card, 3, path)
    return "\n".join(str(one.message) for one in caught)


def test_a_masked_array_is_refused_where_it_hides_something() -> None:
    pixels = np.ma.masked_equal(scene(40, 40).transpose(1, 2, 0), 0)
    assert read_for(CARD, 3, pixels).shape == (40, 40, 3)
    pixels[:10] = np.ma.masked
    with pytest.raises(ImageError, match=r"hides 25\.0% of its values.*image\.filled"):
        read_for(CARD, 3, pixels)


def test_near_infrared_that_is_stored_as_opacity(tmp_path: Path) -> None:
    pixels = scene(40, 40, bands=4).transpose(1, 2, 0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert "a.png' has a fourth channel that is called opacity and holds many values" in told(tmp_path / "a.png")
    pixels[..., 3] = np.where(np.eye(40), 0, 255)
    Image.fromarray(pixels).save(tmp_path / "b.png")
    assert told(tmp_path / "b.png") == ""


def test_a_geotiff_with_pixels_without_data(tmp_path: Path) -> None:
    pixels = scene(40, 40)
    pixels[:, :10] = 0
    assert "calls 0 'no data', which 25.0% of its pixels hold" in told(
        write_raster(tmp_path / "a.tif", pixels, nodata=0)
    )


def test_the_size_of_a_geotiffs_pixels_is_compared(tmp_path: Path) -> None:
    card = replace(CARD, ground_resolution=0.2)
    path = write_raster(tmp_path / "a.tif", scene(40, 40))
    assert "has pixels of 2 m; the model was trained on pixels of 0.2 m" in told(path, card)
    fine = write_raster(tmp_path / "b.tif", scene(40, 40), transform=from_origin(500_000, 5_600_000, 0.2, 0.2))
    assert told(fine, card) == ""


def test_deep_pictures_are_read_as_the_training_read_them(tmp_path: Path) -> None:
    """A camera of 12 bits: the picture's own largest value says nothing of what was white in training."""
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), scene(40, 40).transpose(1, 2, 0).astype(np.uint16) * 2)
    assert "1023 is taken for white by its own largest value" in told(path)
    card = replace(CARD, full_scale=4095)
    assert told(path, card) == ""
    assert read_for(card, 3, path).max() == round(2 * int(scene(40, 40).max()) * 255 / 4095)
    assert ModelCard.from_dict(card.to_dict()) == card


def test_images_from_python_are_told_as_files_are() -> None:
    """Four channels of which one is near infrared, 16 bits of Pillow's, signed values around zero."""
    rgbn = scene(40, 40, bands=4).transpose(1, 2, 0)
    for given in (rgbn, Image.fromarray(rgbn)):
        with pytest.warns(UserWarning, match="the image has a fourth channel that is called opacity"):
            read_for(CARD, 3, given)
    deep = Image.fromarray(scene(40, 40)[0].astype(np.uint16) * 3)
    with pytest.warns(UserWarning, match="the image has more than 8 bits, and 1023 is taken for white"):
        read_for(CARD, 3, deep)
    assert read_for(replace(CARD, full_scale=4095), 3, deep).max() <= round(254 * 3 * 255 / 4095)
    with pytest.warns(UserWarning, match=r"\(int16\) holds values from -\d+ to \d+; the model was trained on 0 to 255"):
        read_for(CARD, 3, scene(40, 40).transpose(1, 2, 0).astype(np.int16) - 128)


def test_colours_of_many_bits_are_rasters(tmp_path: Path) -> None:
    """Floating point TIFFs and 16-bit JPEG 2000 of three bands: Pillow calls such files damaged."""
    floating = write_raster(tmp_path / "a.tif", scene(40, 40).astype(np.float32))
    np.testing.assert_array_equal(read_for(CARD, 3, floating), scene(40, 40).transpose(1, 2, 0))
    pixels = scene(256, 256).astype(np.uint16)
    profile = {"driver": "JP2OpenJPEG", "height": 256, "width": 256, "count": 3, "dtype": "uint16", "crs": UTM}
    corner = from_origin(500_000, 5_600_000, 2, 2)
    with rasterio.open(tmp_path / "a.jp2", "w", transform=corner, QUALITY=100, REVERSIBLE="YES", **profile) as file:
        file.write(pixels)
    np.testing.assert_array_equal(read_for(CARD, 3, tmp_path / "a.jp2"), pixels.transpose(1, 2, 0))
