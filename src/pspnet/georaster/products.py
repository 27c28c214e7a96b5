"""Satellite products whose bands lie in files of their own: Sentinel-2's .SAFE folders and their archives."""

from __future__ import annotations

import re
from pathlib import Path

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


def metadata_of(path: str) -> str:
    """What GDAL opens of a product: the metadata file of its folder; else the path itself."""
    if product_in(path) and Path(path).is_dir():
        return str(next(iter(sorted(Path(path).glob("MTD_MSI*.xml"))), path))
    return path
