"""What counts as data in a raster, and where a raster lies: told or refused, never guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.rpc import RPC
from rasterio.transform import Affine

from pspnet.errors import RasterError
from pspnet.georaster.grids import BandReader, grid_of, open_raster
from pspnet.tiling import Window
from support.rasters import scene, write_raster

ALL = Window(0, 0, 32, 32)


def read(path: Path, bands: int = 3, nodata: float | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    with open_raster(str(path)) as dataset:
        return BandReader(dataset, range(1, bands + 1), [77.0] * bands, nodata).read(ALL)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("nodata", [None, 0, 255])
def test_alpha_hides_pixels_of_any_number_of_bands_and_any_type(
    tmp_path: Path, kind: str, nodata: float | None
) -> None:
    pixels = scene(32, 32, bands=5).astype(kind)
    alpha = np.full((1, 32, 32), 1, kind)
    alpha[:, :, :9] = 0
    path = tmp_path / "a.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=32,
        width=32,
        count=6,
        dtype=kind,
        nodata=nodata,
        crs="EPSG:32631",
        transform=Affine(2, 0, 0, 0, -2, 0),
    ) as file:
        file.colorinterp = [ColorInterp.gray, *[ColorInterp.undefined] * 4, ColorInterp.alpha]
        file.write(np.concatenate([pixels, alpha]))
    actual, valid = read(path, 5)
    assert valid is not None
    assert not valid[:, :9].any()
    assert valid[:, 9:].all()
    assert (actual[:, :, :9] == 77).all()
    np.testing.assert_array_equal(actual[:, :, 9:], pixels[:, :, 9:])


def test_a_dark_band_beside_bright_ones_is_data(tmp_path: Path) -> None:
    pixels = scene(32, 32)
    pixels[:2, 5, 5] = 0
    pixels[:, 7, 7] = 0
    actual, valid = read(write_raster(tmp_path / "a.tif", pixels, nodata=0))
    assert actual[:, 5, 5].tolist() == pixels[:, 5, 5].tolist()
    assert actual[:, 7, 7].tolist() == [77, 77, 77]
    assert np.argwhere(~valid).tolist() == [[7, 7]]


@pytest.mark.parametrize("nothing", [-9999.0, -3.4028235e38, np.nan, np.inf, -np.inf])
def test_what_no_pixel_can_measure_is_filled_in_each_band(tmp_path: Path, nothing: float) -> None:
    pixels = scene(32, 32).astype(np.float32)
    pixels[1, 5, 5] = nothing
    pixels[:, 7, 7] = nothing
    nodata = nothing if nothing < -1000 and np.isfinite(nothing) else None
    actual, valid = read(write_raster(tmp_path / "a.tif", pixels, nodata=nodata))
    assert actual[1, 5, 5] == 77
    assert actual[0, 5, 5] == pixels[0, 5, 5]
    assert np.isfinite(actual).all()
    assert np.argwhere(~valid).tolist() == [[7, 7]]


def test_a_mask_beside_the_file_counts_with_a_nodata_value_too(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", scene(32, 32), nodata=0)
    with rasterio.open(path, "r+") as file:
        mask = np.full((32, 32), 255, np.uint8)
        mask[:4] = 0
        file.write_mask(mask)
    _, valid = read(path)
    assert not valid[:4].any()
    assert valid[4:].all()
    assert not read(path, nodata=3)[1][:4].any()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"crs": "EPSG:4326", "rpcs": True}, r"rational polynomial.*gdalwarp -rpc"),
        ({"crs": "EPSG:32631"}, r"no grid.*wrong place"),
    ],
)
def test_a_system_without_a_grid_is_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    if options.get("rpcs"):
        options = options | {
            "rpcs": RPC(
                0,
                1,
                50,
                1,
                [0, 0, -1] + [0] * 17,
                [1] + [0] * 19,
                16,
                16,
                5,
                1,
                [0, 1] + [0] * 18,
                [1] + [0] * 19,
                16,
                16,
            )
        }
    path = write_raster(tmp_path / "a.tif", scene(32, 32), transform=None, **options)
    with open_raster(str(path)) as dataset, pytest.raises(RasterError, match=said):
        grid_of(dataset)
    with open_raster(str(write_raster(tmp_path / "b.tif", scene(32, 32), transform=None, crs=None))) as dataset:
        assert grid_of(dataset).crs is None


@pytest.mark.parametrize(
    ("size", "transform", "message"),
    [
        (300, "nan,1,0,5000000,0,-1", "which is none"),
        (300, "500000,0,0,5000000,0,-1", "which is none"),
        (2_000_000_000, "500000,1,0,5000000,0,-1", "2000000000 x 300 pixels"),
    ],
)
def test_a_header_that_no_raster_has_is_refused(tmp_path: Path, size: int, transform: str, message: str) -> None:
    (tmp_path / "a.vrt").write_text(
        f'<VRTDataset rasterXSize="{size}" rasterYSize="300"><GeoTransform>{transform}</GeoTransform>'
        '<VRTRasterBand dataType="Byte" band="1"/></VRTDataset>'
    )
    with open_raster(str(tmp_path / "a.vrt")) as dataset, pytest.raises(RasterError, match=message):
        grid_of(dataset)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # rasterio cannot log such a message
def test_bytes_that_are_no_text_are_an_error_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.vrt").write_bytes(b'<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBa\xa1d')
    with pytest.raises(RasterError, match="cannot be opened as a raster"):
        open_raster(str(tmp_path / "a.vrt"))
