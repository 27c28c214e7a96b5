"""Sentinel-2 products: a stand-in as ESA lays it out is refused by name with the way out, wherever it is given."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.transform import from_origin

from pspnet.data.catalog import open_dataset
from pspnet.errors import DataError, ImageError, RasterError
from pspnet.georaster.bands import BandInfo, find_bands
from pspnet.georaster.grids import grid_of, open_raster
from pspnet.georaster.products import product_in
from pspnet.georaster.whole import read_bands
from pspnet.images import is_raster
from pspnet.raster import segment_raster
from support.rasters import make_segmenter, read, scene, write_raster

NAME = "S2A_MSIL2A_20240601T101031_N0510_R022_T32TQM_20240601T161200"
BANDS = ("B02", "B03", "B04", "B08")


def write_product(folder: Path) -> Path:
    """FOLDER/NAME.SAFE with metadata that lists nothing, and 10 m bands in files of their own."""
    root = folder / f"{NAME}.SAFE"
    bands = root / "GRANULE/L2A_T32TQM_A046000_20240601T101601/IMG_DATA/R10m"
    bands.mkdir(parents=True)
    for name, pixels in zip(BANDS, scene(96, 96, 4), strict=True):
        path = write_raster(folder / "band.tif", pixels[None].astype(np.uint16) * 30)
        target = bands / f"T32TQM_20240601T101031_{name}_10m.jp2"
        rasterio.shutil.copy(path, target, driver="JP2OpenJPEG", reversible="YES", quality=100)
        path.unlink()
    (root / "MTD_MSIL2A.xml").write_text(
        "<n1:Level-2A_User_Product xmlns:n1='https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-2A.xsd'/>"
    )
    return root


def test_a_product_is_refused_with_the_way_out(tmp_path: Path) -> None:
    root = write_product(tmp_path)
    archive = tmp_path / f"{NAME}.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in root.rglob("*.*"):
            file.write(path, path.relative_to(tmp_path))
    for given in (root, root / "MTD_MSIL2A.xml", archive):
        with pytest.raises(RasterError, match=r"each band in a file of its own.*gdalbuildvrt -separate"):
            segment_raster(make_segmenter(), given, tmp_path / "map.tif")
    (tmp_path / "data/images").mkdir(parents=True)
    (tmp_path / "data/labels").mkdir()
    (tmp_path / "data/classes.csv").write_text("code,name\n0,water\n1,land\n")
    root.rename(tmp_path / "data/images" / root.name)
    with pytest.raises(DataError, match=rf"holds the product {NAME}\.SAFE, not an image.*gdalbuildvrt"):
        open_dataset("raster", tmp_path / "data")


def test_one_band_of_a_product_is_no_grey_photograph(tmp_path: Path) -> None:
    bands = sorted(write_product(tmp_path).rglob("*.jp2"))
    assert all(is_raster(path) for path in bands)
    assert not product_in(tmp_path)
    with pytest.raises(ImageError, match="has 1 band besides alpha; the model reads 3"):
        make_segmenter().read(bands[0])
    landsat = tmp_path / "LC08_L2SP_195024_20210610_20210621_02_T1_SR_B4.TIF"
    write_raster(landsat, scene(32, 32, 1))
    assert is_raster(landsat)
    assert not is_raster(tmp_path / "photo_B4.tif")


def test_the_way_out_leads_out(tmp_path: Path) -> None:
    """Bands put into one file in the model's order: the map is that of the same bands in one raster."""
    bands = {path.stem.split("_")[2]: path for path in write_product(tmp_path).rglob("*.jp2")}
    pixels = np.concatenate([rasterio.open(bands[name]).read() for name in ("B04", "B03", "B02")])
    joined = write_raster(tmp_path / "joined.tif", pixels, photometric="minisblack")
    segmenter = make_segmenter(value_range=(0.0, 7650.0), pixel_type="uint16")
    segment_raster(segmenter, joined, tmp_path / "map.tif")
    assert read(tmp_path / "map.tif").any()


def test_gdal_s_words_for_the_bands_of_a_product(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", scene(32, 32, 4), photometric="minisblack")
    with rasterio.open(path, "r+") as file:
        file.descriptions = tuple(
            f"B{n}, central wavelength {nm} nm" for n, nm in ((4, 665), (3, 560), (2, 490), (8, 842))
        )
    assert read_bands(path).names == ("b4", "b3", "b2", "b8")
    segment_raster(make_segmenter(), path, tmp_path / "map.tif")  # red, green and blue are found without a word


PRODUCT = """<?xml version="1.0"?>
<n1:Level-2A_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-2A.xsd"><n1:General_Info>
<Product_Info><PRODUCT_START_TIME>2024-01-01T10:54:41.024Z</PRODUCT_START_TIME><PRODUCT_URI>{uri}</PRODUCT_URI><PRODUCT_TYPE>S2MSI2A</PRODUCT_TYPE>
<Query_Options><PRODUCT_FORMAT>SAFE_COMPACT</PRODUCT_FORMAT></Query_Options><Product_Organisation><Granule_List>
<Granule granuleIdentifier="S2A_OPER_MSI_L2A_TL_2APS_20240101T140000_A044573_T31UDQ_N05.10" imageFormat="JPEG2000">{files}
</Granule></Granule_List></Product_Organisation></Product_Info></n1:General_Info></n1:Level-2A_User_Product>"""
GRANULE = """<?xml version="1.0"?>
<n1:Level-2A_Tile_ID xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/S2_PDI_Level-2A_Tile_Metadata.xsd"><n1:Geometric_Info>
<Tile_Geocoding><HORIZONTAL_CS_CODE>EPSG:32631</HORIZONTAL_CS_CODE><Size resolution="10"><NROWS>64</NROWS><NCOLS>64</NCOLS>
</Size><Geoposition resolution="10"><ULX>399960</ULX><ULY>5400000</ULY><XDIM>10</XDIM><YDIM>-10</YDIM></Geoposition>
</Tile_Geocoding></n1:Geometric_Info></n1:Level-2A_Tile_ID>"""


def test_a_product_as_esa_writes_it(tmp_path: Path) -> None:
    """The folder, its metadata and its zip name the rasters inside; one of those is read by the colours of its bands."""
    safe = tmp_path / "S2A_MSIL2A_20240101T105441_N0510_R051_T31UDQ_20240101T140000.SAFE"
    granule = "GRANULE/L2A_T31UDQ_A044573_20240101T105435"
    pixels, files = scene(64, 64, bands=4).astype(np.uint16) * 20, []
    for number, band in enumerate(("B04", "B03", "B02", "B08")):
        files.append(f"{granule}/IMG_DATA/R10m/T31UDQ_20240101T105441_{band}_10m")
        path = safe / f"{files[-1]}.jp2"
        path.parent.mkdir(parents=True, exist_ok=True)
        profile = {
            "driver": "JP2OpenJPEG",
            "height": 64,
            "width": 64,
            "count": 1,
            "dtype": "uint16",
            "crs": "EPSG:32631",
        }
        corner = from_origin(399_960, 5_400_000, 10, 10)
        with rasterio.open(path, "w", transform=corner, QUALITY=100, REVERSIBLE="YES", **profile) as file:
            file.write(pixels[number], 1)
    (safe / granule / "MTD_TL.xml").write_text(GRANULE)
    named = "".join(f"<IMAGE_FILE>{name}</IMAGE_FILE>" for name in files)
    (safe / "MTD_MSIL2A.xml").write_text(PRODUCT.format(uri=safe.name, files=named))
    shutil.make_archive(str(safe.with_suffix("")), "zip", tmp_path, safe.name)
    for product in (safe, safe / "MTD_MSIL2A.xml", safe.with_suffix(".zip")):
        with (
            open_raster(str(product)) as dataset,
            pytest.raises(RasterError, match=r"several rasters.*:10m:EPSG_32631"),
        ):
            BandInfo.of(dataset)
    with open_raster(f"SENTINEL2_L2A:{safe / 'MTD_MSIL2A.xml'}:10m:EPSG_32631") as dataset:
        numbers = find_bands(BandInfo.of(dataset), ("blue", "green", "red", "nir"))
        np.testing.assert_array_equal(dataset.read(numbers), pixels[[2, 1, 0, 3]])
        assert grid_of(dataset).bounds == (399_960, 5_399_360, 400_600, 5_400_000)
    (safe / f"{files[1]}.jp2").unlink()  # a download that broke off
    with pytest.raises(RasterError, match=r"lacks the files of B3 \(zeros would be read\)\. Download"):
        open_raster(f"SENTINEL2_L2A:{safe / 'MTD_MSIL2A.xml'}:10m:EPSG_32631")
