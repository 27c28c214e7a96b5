"""Satellite products whose bands lie in files of their own: Sentinel-2's .SAFE folders and their archives."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pspnet.errors import RasterError

_SAFE = re.compile(
    r"[^/\\]*\.SAFE(?=$|[/\\])|[^/\\]*MSIL[12][ABC][^/\\]*\.zip(?=$|[/\\])|MTD_MSIL[12][ABC]\.xml$", re.IGNORECASE
)
WAY_OUT = (
    "A Sentinel-2 product holds each band in a file of its own. Put those that the model reads into one, in its order: "
    "gdalbuildvrt -separate bands.vrt ..._B04_10m.jp2 ..._B03_10m.jp2 ..._B02_10m.jp2; or name one of the rasters that "
    "gdalinfo MTD_MSIL2A.xml lists (SENTINEL2_L2A:...)"
)


def product_in(path: str | Path) -> str:
    """The part of a path that is a product, such as "S2A_MSIL2A_....SAFE"; "" for none."""
    match = _SAFE.search(str(path))
    return match[0] if match else ""


def check_complete(dataset: Any) -> None:
    """Raises RasterError for a raster of a product whose bands' files are not all there: GDAL reads zeros for them."""
    if dataset.driver != "SENTINEL2" or not dataset.count:
        return
    lacking = []
    for number, text in enumerate(dataset.tags(ns="xml:VRT").get("xml:VRT", "").split("<VRTRasterBand ")[1:], start=1):
        if "<SourceFilename" not in text:
            lacking.append((dataset.descriptions[number - 1] or f"band {number}").split(",")[0])
    # aerosol and water vapour are no measured bands, and some archives leave them out
    measured = [name for name in lacking if not name.startswith(("AOT", "WVP", "CLD", "SNW", "SCL"))]
    if measured:
        raise RasterError(
            f"'{dataset.name}' lacks the files of {', '.join(measured)} (zeros would be read). Download or unpack the product "
            "again, or put the bands that are there into one file: gdalbuildvrt -separate"
        )


def metadata_of(path: str) -> str:
    """What GDAL opens of a product: the metadata file of its folder; else the path itself."""
    if product_in(path) and Path(path).is_dir():
        return str(next(iter(sorted(Path(path).glob("MTD_MSI*.xml"))), path))
    return path
