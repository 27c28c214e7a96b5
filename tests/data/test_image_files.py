"""Photographs have 1, 3 or 4 channels by what their files say; everything else is a raster, under every layout."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pspnet.data import check_splits, open_dataset
from pspnet.errors import ConfigError, ImageError
from pspnet.images import is_raster, read_image
from support.rasters import make_segmenter, scene, write_raster


def write_pairs(root: Path, **options: object) -> Path:
    """Four-band TIFFs without a place on the Earth, as other projects stack them, and grey label PNGs."""
    for number in range(3):
        for name in ("images", "labels"):
            (root / name).mkdir(parents=True, exist_ok=True)
        pixels = scene(48, 40, bands=4, seed=number)
        path = write_raster(root / f"images/{number}.tif", pixels, crs=None, photometric="minisblack", **options)
        name_bands(path, ("red", "green", "blue", "nir"))
        Image.fromarray((pixels[3] > 128).astype(np.uint8)).save(root / f"labels/{number}.png")
    (root / "classes.csv").write_text("code,name,red,green,blue\n0,low,0,0,0\n1,high,255,255,255\n")
    return root


def name_bands(path: Path, names: tuple[str, ...]) -> None:
    import rasterio

    with rasterio.open(path, "r+") as file:
        file.descriptions = names


def test_a_folder_of_four_band_tiffs_is_read_with_all_four(tmp_path: Path) -> None:
    root = write_pairs(tmp_path)
    dataset = open_dataset("folder", root, "all")
    assert (dataset.bands, dataset.band_names, dataset.band_numbers) == (
        4,
        ("red", "green", "blue", "nir"),
        (1, 2, 3, 4),
    )
    np.testing.assert_array_equal(dataset[1].image, scene(48, 40, bands=4, seed=1).transpose(1, 2, 0))
    assert check_splits("folder", root).ok


def test_bands_are_chosen_by_number_and_found_by_name_in_every_file(tmp_path: Path) -> None:
    root = write_pairs(tmp_path)
    turned = scene(48, 40, bands=4, seed=2)[::-1]
    name_bands(
        write_raster(root / "images/2.tif", turned, crs=None, photometric="minisblack"), ("nir", "blue", "green", "red")
    )
    dataset = open_dataset("folder", root, "all", bands=[4, 1])
    assert dataset.band_names == ("nir", "red")
    np.testing.assert_array_equal(dataset[2].image, scene(48, 40, bands=4, seed=2)[[3, 0]].transpose(1, 2, 0))
    with pytest.raises(ConfigError, match=r"bands = 3.*1 red, 2 green, 3 blue, 4 nir"):
        open_dataset("folder", root, "all", bands=3)
    with pytest.raises(ConfigError, match="1 to 4"):
        open_dataset("folder", root, "all", bands=[5])


@pytest.mark.parametrize("kind", ["type", "photograph"])
def test_the_check_finds_files_of_another_kind_among_them(tmp_path: Path, kind: str) -> None:
    root = write_pairs(tmp_path)
    if kind == "type":
        deep = scene(48, 40, bands=4).astype(np.uint16) * 40
        name_bands(write_raster(root / "images/1.tif", deep, photometric="minisblack"), ("red", "green", "blue", "nir"))
    else:
        (root / "images/1.tif").unlink()
        Image.fromarray(scene(48, 40).transpose(1, 2, 0)).save(root / "images/1.png")
    # whether the file lies in a split of its own or beside others is a matter of its name's hash: both are found
    messages = " ".join(map(str, check_splits("folder", root).errors))
    assert re.search("uint16" if kind == "type" else "3 bands|the other 3", messages), messages


def test_what_is_nodata_is_ignored_in_the_labels(tmp_path: Path) -> None:
    root = write_pairs(tmp_path, nodata=0)
    pixels = scene(48, 40, bands=4)
    pixels[:, :10] = 0
    name_bands(
        write_raster(root / "images/0.tif", pixels, photometric="minisblack", nodata=0), ("red", "green", "blue", "nir")
    )
    sample = open_dataset("folder", root, "all")[0]
    assert (sample.labels[:10] == 255).all()
    assert (sample.labels[10:] != 255).all()


def test_a_file_says_itself_whether_it_is_a_photograph(tmp_path: Path) -> None:
    pixels = scene(32, 32, bands=4)
    stacked = write_raster(tmp_path / "stacked.tif", pixels, photometric="minisblack")
    beside_rgb = write_raster(tmp_path / "beside_rgb.tif", pixels, photometric="rgb", alpha="unspecified")
    with_alpha = write_raster(tmp_path / "alpha.tif", pixels, photometric="rgb", alpha="yes")
    three = write_raster(tmp_path / "three.tif", pixels[:3], photometric="minisblack")
    rgb = write_raster(tmp_path / "rgb.tif", pixels[:3])
    Image.fromarray(pixels.transpose(1, 2, 0)).save(tmp_path / "rgba.png")
    assert [is_raster(path) for path in (stacked, beside_rgb, three)] == [True, True, True]
    assert [is_raster(path) for path in (with_alpha, rgb, tmp_path / "rgba.png")] == [False, False, False]
    with pytest.raises(ImageError, match=r"stacked\.tif.*raster, no photograph.*4 bands"):
        read_image(stacked)


def test_jpeg_2000_with_a_fourth_band_is_a_photograph_only_with_opacity(tmp_path: Path) -> None:
    options = {"driver": "JP2OpenJPEG", "tiled": False, "compress": None, "photometric": None, "quality": 100}
    four = write_raster(tmp_path / "four.jp2", scene(32, 32, bands=4), **options)
    assert is_raster(four) == (b"cdef" not in four.read_bytes())
    assert not is_raster(write_raster(tmp_path / "three.jp2", scene(32, 32), **options))


def test_a_model_of_named_bands_takes_no_alpha_for_near_infrared(tmp_path: Path) -> None:
    segmenter = make_segmenter(4)
    raster = write_raster(tmp_path / "a.tif", scene(32, 32, bands=4)[::-1], photometric="minisblack")
    name_bands(raster, ("nir", "blue", "green", "red"))
    np.testing.assert_array_equal(segmenter.read(raster), scene(32, 32, bands=4).transpose(1, 2, 0))
    Image.fromarray(scene(32, 32, bands=4).transpose(1, 2, 0)).save(tmp_path / "rgba.png")
    with pytest.raises(ImageError, match="nir"):
        segmenter.read(tmp_path / "rgba.png")
