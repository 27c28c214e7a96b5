"""Bands of a model are found in files by name, in any spelling, and never guessed against what a file says."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from pspnet.errors import RasterError
from pspnet.georaster.bands import BandInfo, compare_bands, find_bands
from pspnet.georaster.grids import open_raster

RGB = ("red", "green", "blue")


def info(*names: str, alpha: tuple[int, ...] = ()) -> BandInfo:
    count = len(names)
    return BandInfo("a.tif", names, alpha, ("uint16",) * count, (1.0,) * count, (0.0,) * count, False)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("blue", "green", "red", "nir"), (3, 2, 1)),
        (("b02", "b03", "b04", "b08"), (3, 2, 1)),  # Sentinel-2
        (("b2", "b3", "b4", "b8"), (3, 2, 1)),
        (("sr_b2", "sr_b3", "sr_b4", "sr_b5"), (3, 2, 1)),  # Landsat 8 of Earth Engine
        (("b1", "b2", "b3", "b4", "b5", "b6", "b7", "b8a"), (4, 3, 2)),
        (("b4 - red (665 nm)", "b3 - green", "b2 - blue", "vegetation red edge"), (1, 2, 3)),
        (("coastal_blue", "blue", "green_i", "green", "yellow", "red", "rededge", "nir"), (6, 4, 2)),  # PlanetScope
        (("rot", "grün", "blau", "infrarot"), (1, 2, 3)),
    ],
)
def test_colours_are_found_by_sensors_names_and_languages(names: tuple[str, ...], expected: tuple[int, ...]) -> None:
    assert find_bands(info(*names), RGB) == expected


def test_a_model_of_sensor_bands_reads_a_file_of_colours() -> None:
    assert find_bands(info("red", "green", "blue", "nir"), ("B08", "B04", "B03")) == (4, 1, 2)


@pytest.mark.parametrize(
    "names",
    [
        ("nir", "red", "green"),  # a colour infrared image has no blue
        ("b1", "b2", "b3", "b4"),  # red is 3 to Landsat 7 and 4 to Landsat 8
        ("elevation", "slope", "aspect"),
        ("red", "", ""),
    ],
)
def test_what_the_file_contradicts_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(RasterError, match=r"a\.tif.*bands=\.\.\."):
        find_bands(info(*names), RGB)


def test_unnamed_bands_are_taken_by_the_trained_numbers_with_a_word() -> None:
    with pytest.warns(UserWarning, match=r"\(3, 2, 1\) are taken as red, green, blue \(as in training\)"):
        assert find_bands(info("", "", "", ""), RGB, (3, 2, 1)) == (3, 2, 1)
    with pytest.warns(UserWarning, match="the first ones"):
        assert find_bands(info("", "", "", ""), RGB) == (1, 2, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_bands(info("", "", "", "", alpha=(4,)), RGB, (1, 2, 3)) == (1, 2, 3)


def test_a_numbered_name_is_a_number_in_the_file() -> None:
    names = ("band_3", "band_2", "band_1")
    assert find_bands(info("", "", "", ""), names) == (3, 2, 1)
    with pytest.warns(UserWarning, match=r"by their numbers alone \(band_3, .*a\.tif' calls them blue, green, red"):
        assert find_bands(info("red", "green", "blue"), names, (3, 2, 1)) == (3, 2, 1)
    assert find_bands(info("red", "green", "blue"), names) == (3, 2, 1)  # named by hand
    with pytest.raises(RasterError, match="1 to 3"):
        find_bands(info("", "", ""), ("band_4", "band_2", "band_1"))


def test_bands_of_a_data_set_and_a_model_are_compared_by_meaning() -> None:
    assert compare_bands(RGB, ("b04", "b03", "b02")) == ""
    assert compare_bands(RGB, ("band_1", "band_2", "band_3")) == ""  # nobody can know
    assert "in this order" in compare_bands(RGB, ("blue", "green", "red"))
    assert "in this order" in compare_bands(("band_3", "band_2", "band_1"), ("band_1", "band_2", "band_3"))
    assert "4 bands" in compare_bands(RGB, ("red", "green", "blue", "nir"))


def test_a_container_of_several_rasters_names_what_is_inside(tmp_path: Path) -> None:
    path = tmp_path / "two.gpkg"
    for number, name in enumerate(("spring", "autumn")):
        more = {"APPEND_SUBDATASET": "YES"} if number else {}
        options = {"driver": "GPKG", "RASTER_TABLE": name, "TILE_FORMAT": "PNG", **more}
        transform = {"crs": "EPSG:32631", "transform": from_origin(500_000, 5_600_000, 2, 2)}
        with rasterio.open(path, "w", height=32, width=32, count=3, dtype="uint8", **transform, **options) as file:
            file.write(np.full((3, 32, 32), 9, np.uint8))
    with open_raster(str(path)) as dataset, pytest.raises(RasterError, match=r"several rasters.*spring.*autumn"):
        BandInfo.of(dataset)


def test_files_that_cannot_be_compared_say_why() -> None:
    one = info("", "")
    other = BandInfo("b.tif", ("", ""), (), ("uint8", "uint8"), (1e-4, 1e-4), (0.0, -1000.0), True)
    text = " ".join(one.differences(other, (1, 2)))
    assert "type uint8 instead of uint16" in text
    assert "scale 0.0001" in text
    assert "offset 0, -1000" in text
    assert "a palette" in text
    assert one.differences(one, (1, 2)) == []
