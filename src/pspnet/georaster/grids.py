"""Rasters as grids on the Earth: opened with clear errors, read with their gaps filled, for training and for use.

A pixel has data where at least one of the bands that are read has a value there. A band has no value where it holds
the file's nodata value or NaN, where an alpha band is 0, or where a mask says so. Missing values are filled (with the
model's mean, so that they are 0 after normalisation): a network never sees -3.4e38.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pspnet.errors import RasterError, require
from pspnet.tiling import Window


@dataclass(frozen=True)
class Grid:
    """Pixels on the Earth. crs: a rasterio CRS, or None where the file has none. transform: pixel to map, affine."""

    crs: Any
    transform: Any
    height: int
    width: int

    def part(self, window: Window) -> Grid:
        """The same grid, cut to a window."""
        a, b, _, d, e, _ = self.transform[:6]
        x, y = self.to_map(window.left, window.top)
        return Grid(self.crs, type(self.transform)(a, b, float(x), d, e, float(y)), window.height, window.width)

    def to_map(self, columns: ArrayLike, rows: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Corners of pixels (column 0.5 is a pixel's middle) -> x and y in the grid's CRS."""
        a, b, c, d, e, f = self.transform[:6]
        columns, rows = np.asarray(columns, np.float64), np.asarray(rows, np.float64)
        return a * columns + b * rows + c, d * columns + e * rows + f

    def to_pixels(self, xs: ArrayLike, ys: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The other way: x and y -> columns and rows."""
        a, b, c, d, e, f = self.transform[:6]
        xs, ys = np.asarray(xs, np.float64) - c, np.asarray(ys, np.float64) - f
        area = a * e - b * d
        return (e * xs - b * ys) / area, (a * ys - d * xs) / area

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) in the grid's CRS; of all four corners, for a grid may be rotated."""
        xs, ys = self.to_map([0, self.width, self.width, 0], [0, 0, self.height, self.height])
        return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())

    def row_areas_m2(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(N,) area of a pixel in the middle of each row in square metres: on the ellipsoid where the CRS is geographic,
        in the plane where it is projected, in square units where the grid has no CRS."""
        a, b, _, d, e, _ = self.transform[:6]
        area = abs(a * e - b * d)
        if self.crs is None or not self.crs.is_geographic:
            unit = 1.0 if self.crs is None else self.crs.linear_units_factor[1]
            return np.full(len(rows), area * unit**2)
        geod = require("pyproj", "raster").Geod(ellps="WGS84")
        degrees = self.crs.units_factor[1] * 180 / np.pi  # such a CRS counts its unit in radians
        middle = self.width // 2
        columns = np.array([middle, middle + 1, middle + 1, middle])
        found = []
        for row in rows.tolist():
            xs, ys = self.to_map(columns, [row, row, row + 1, row + 1])
            found.append(abs(geod.polygon_area_perimeter(xs * degrees, ys * degrees)[0]))
        return np.array(found)


# seconds a server may be silent, and the bytes a second below which it counts as silent. GDAL itself would wait for ever,
# with Python's lock held, so that not even Ctrl-C ends it
PATIENCE = {"GDAL_HTTP_LOW_SPEED_TIME": "30", "GDAL_HTTP_LOW_SPEED_LIMIT": "1", "GDAL_HTTP_CONNECTTIMEOUT": "30"}


def open_raster(path: str, **options: Any) -> Any:
    """A rasterio dataset; a server behind a URL may be silent for 30 s, or what GDAL's own settings say.

    Raises RasterError that names the file, with what GDAL found wrong.
    """
    rasterio = require("rasterio", "raster")
    if path.startswith("/vsi") or "://" in path:
        for name, value in PATIENCE.items():
            if rasterio.env.get_gdal_config(name) is None:  # neither set nor in the environment
                rasterio.env.set_gdal_config(name, value)
    with warnings.catch_warnings():  # "not georeferenced" is decided by whoever needs a place on the Earth
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        try:
            return rasterio.open(path, **options)
        except rasterio.errors.RasterioIOError as error:
            raise RasterError(f"'{path}' cannot be opened as a raster: {error}") from error


class OpenRasters:
    """Open datasets, one for each file, thread and process: GDAL's handles must not be shared."""

    def __init__(self) -> None:
        self._local = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]

    def get(self, path: str) -> Any:
        if getattr(self._local, "process", None) != os.getpid():
            self._local.process, self._local.files = os.getpid(), {}
        files: dict[str, Any] = self._local.files
        if path not in files:
            if len(files) >= 16:
                files.pop(next(iter(files))).close()
            files[path] = open_raster(path)
        return files[path]


def grid_of(dataset: Any) -> Grid:
    """Where a dataset lies. Raises RasterError for one placed by control points only, which has no regular grid."""
    if dataset.crs is None and dataset.gcps[0]:
        raise RasterError(
            f"'{dataset.name}' is placed by ground control points, not by a grid; warp it first: "
            "gdalwarp IN.tif OUT.tif"
        )
    return Grid(dataset.crs, dataset.transform, dataset.height, dataset.width)


class BandReader:
    """Reads some bands of an open dataset, with what counts and what does not.

    indexes: band numbers, the first is 1. fill: a value for each band, put where it has none. nodata: overrides what
    the file says. Use it in the thread that opened the dataset.
    """

    def __init__(
        self, dataset: Any, indexes: Sequence[int], fill: Sequence[float], nodata: float | None = None
    ) -> None:
        enums = require("rasterio", "raster").enums
        self.dataset, self.indexes = dataset, list(indexes)
        kinds = [np.dtype(dataset.dtypes[i - 1]) for i in indexes]
        self.dtype = np.result_type(*kinds)
        self.fill = np.array([_within(f, self.dtype) for f in fill], self.dtype)
        flags = [set(dataset.mask_flag_enums[i - 1]) for i in indexes]
        self.masked = nodata is None and any(enums.MaskFlags.per_dataset in f for f in flags)
        values = [dataset.nodatavals[i - 1] if nodata is None else nodata for i in indexes]
        self.nodata = [v if v is not None and _holds(self.dtype, v) else None for v in values]
        self.has_gaps = self.masked or self.dtype.kind == "f" or any(v is not None for v in self.nodata)

    def read(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """(bands, h, w) in the file's own type, gaps filled, and (h, w) bool, or None where all pixels have data.

        Raises rasterio's RasterioIOError for a block that cannot be decoded.
        """
        place = ((window.top, window.bottom), (window.left, window.right))
        pixels = self.dataset.read(self.indexes, window=place, out_dtype=self.dtype)
        if not self.has_gaps:
            return pixels, None
        mask = self.dataset.dataset_mask(window=place) != 0 if self.masked else None
        valid = np.zeros(pixels.shape[1:], bool)
        for band, nodata, fill in zip(pixels, self.nodata, self.fill, strict=True):
            gaps = np.isnan(band) if band.dtype.kind == "f" else None
            if nodata is not None and not np.isnan(nodata):
                missing = band == self.dtype.type(nodata)
                gaps = missing if gaps is None else gaps | missing
            if mask is not None:
                gaps = ~mask if gaps is None else gaps | ~mask
            if gaps is None or not gaps.any():
                valid[:] = True
                continue
            band[gaps] = fill
            valid |= ~gaps
        return pixels, (None if valid.all() else valid)


def _holds(dtype: np.dtype[Any], value: float) -> bool:
    """Whether pixels of the type can have this value: a nodata of -9999 in a uint8 file masks nothing."""
    if dtype.kind == "f":
        return True
    info = np.iinfo(dtype)
    return bool(not np.isnan(value) and info.min <= value <= info.max and value == int(value))


def _within(value: float, dtype: np.dtype[Any]) -> float:
    if dtype.kind == "f":
        return value
    info = np.iinfo(dtype)
    return float(np.clip(round(value), info.min, info.max))
