"""Rasters as grids on the Earth: opened with clear errors, read with their gaps filled, for training and for use.

A pixel has data where at least one of the bands that are read has a value there, no mask hides it, and no alpha band is
0. A band has no value where it holds the file's nodata value, NaN or infinity. Missing values are filled (with the
model's mean, so that they are 0 after normalisation): a network never sees -3.4e38. Beside bands with data, a nodata
value that may be a measurement (0 of 8-bit RGB) is one.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pspnet.errors import RasterError, parsing, require
from pspnet.files import path_limits
from pspnet.georaster.content import check_pixels
from pspnet.georaster.products import WAY_OUT, check_complete, metadata_of, product_in
from pspnet.tiling import Window


@dataclass(frozen=True)
class Grid:
    """Pixels on the Earth. crs: a rasterio CRS, or None where the file has none. transform: pixel to map, affine.

    Corners of pixels are whole numbers; the map's y grows upwards, rows grow downwards, so e is negative:

        (500, 900) +---+---+      column 0, row 0 is the upper left corner; pixels of 2 m
                   |   |   |      a window is cut by moving the corner, nothing else
        (500, 898) +---+---+

    >>> from affine import Affine
    >>> grid = Grid(None, Affine(2, 0, 500, 0, -2, 900), height=4, width=4)
    >>> [float(value) for value in grid.to_map(1, 3)]       # x = 500 + 2 * 1, y = 900 - 2 * 3
    [502.0, 894.0]
    >>> [float(value) for value in grid.to_pixels(502, 894)]
    [1.0, 3.0]
    >>> part = grid.part(Window(top=3, left=1, height=1, width=2))
    >>> part.transform.c, part.transform.f, part.bounds
    (502.0, 894.0, (502.0, 892.0, 506.0, 894.0))
    """

    crs: Any
    transform: Any
    height: int
    width: int

    def part(self, window: Window) -> Grid:
        """The same grid, cut to a window."""
        a, b, _, d, e, _ = self.transform[:6]
        x, y = self.to_map(window.left, window.top)
        return Grid(self.crs, type(self.transform)(a, b, float(x), d, e, float(y)), window.height, window.width)

    def to_map(self, columns: ArrayLike, rows: ArrayLike) -> tuple[Any, Any]:
        """Corners of pixels (column 0.5 is a pixel's middle) -> x and y in the grid's CRS; numbers give numbers (float64)."""
        a, b, c, d, e, f = self.transform[:6]
        columns, rows = np.asarray(columns, np.float64), np.asarray(rows, np.float64)
        return a * columns + b * rows + c, d * columns + e * rows + f

    def to_pixels(self, xs: ArrayLike, ys: ArrayLike) -> tuple[Any, Any]:
        """The other way: x and y -> columns and rows; numbers give numbers."""
        a, b, c, d, e, f = self.transform[:6]
        xs, ys = np.asarray(xs, np.float64) - c, np.asarray(ys, np.float64) - f
        area = a * e - b * d
        return (e * xs - b * ys) / area, (a * ys - d * xs) / area

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) in the grid's CRS; of all four corners, for a grid may be rotated."""
        xs, ys = self.to_map([0, self.width, self.width, 0], [0, 0, self.height, self.height])
        return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())


def turns_of(grid: Grid) -> list[Grid]:
    """The grid, and where it is in degrees of longitude the same ground a turn of the Earth to the west and to the east:
    190 degrees east are 170 west. Only those turns that reach into -180..540, where files put their longitudes."""
    if grid.crs is None or not grid.crs.is_geographic:
        return [grid]
    a, b, c, d, e, f = grid.transform[:6]
    turn = 2 * np.pi / grid.crs.units_factor[1]
    shifted = [
        Grid(grid.crs, type(grid.transform)(a, b, c + by, d, e, f), grid.height, grid.width) for by in (-turn, turn)
    ]
    return [grid, *(one for one in shifted if one.bounds[2] > -turn / 2 and one.bounds[0] < 1.5 * turn)]


MOST_SIDE_PX = 20_000_000  # half of the equator in steps of a metre; windows along a side are listed in memory
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
    path_limits.check_raster(path)
    check_pixels(path)
    with warnings.catch_warnings():  # "not georeferenced" is decided by whoever needs a place on the Earth
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        way_out = (WAY_OUT,) if product_in(path) else ()
        with parsing(path, RasterError, "cannot be opened as a raster", *way_out):
            dataset = rasterio.open(metadata_of(path), **options)
            path_limits.check_opened(dataset.driver, dataset.files)
            check_complete(dataset)
            return dataset


def colours_of(dataset: Any) -> list[str]:
    """What each band is by its colour interpretation, in GDAL's words ("red", "alpha", "undefined" ...)."""
    errors = require("rasterio.errors", "raster")
    with suppress(errors.RasterioError, require("rasterio._err", "raster").CPLE_BaseError):
        return [kind.name.lower() for kind in dataset.colorinterp]
    # rasterio raises here what an earlier read of another file left behind, once
    return [kind.name.lower() for kind in dataset.colorinterp]


def is_lossy(dataset: Any) -> bool:
    """Whether values are altered when the file is written, by its format and by what GDAL says of its compression."""
    structure = dataset.tags(ns="IMAGE_STRUCTURE")
    if structure.get("COMPRESSION_REVERSIBILITY", "").startswith("LOSSLESS"):
        return False
    if float(structure.get("MAX_Z_ERROR", 0)) >= 0.5:  # LERC
        return True
    altering = ("JPEG", "YCbCr JPEG", "JPEG2000", "JP2000", "WEBP", "JXL")
    return dataset.driver.startswith(("JPEG", "JP2", "WEBP")) or structure.get("COMPRESSION", "") in altering


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
    """Where a dataset lies. Raises RasterError for one that is placed by something else than a regular grid, or that
    says what no raster is: sides of thousands of millions of pixels, a grid of no numbers or without area."""
    numbers = dataset.transform[:6]
    if not np.isfinite(numbers).all() or dataset.transform.determinant == 0:
        raise RasterError(
            f"'{dataset.name}' has the grid {tuple(numbers)}, which is none. Give it its grid first: gdal_edit -a_ullr WEST "
            "NORTH EAST SOUTH FILE"
        )
    if max(dataset.width, dataset.height) > MOST_SIDE_PX:
        raise RasterError(
            f"'{dataset.name}' says that it has {dataset.width} x {dataset.height} pixels; sides of up to {MOST_SIDE_PX:,} are "
            "read. Is its header damaged? Else cut it into parts: gdal_translate -srcwin"
        )
    if dataset.transform.is_identity:
        by_what = ""
        if dataset.gcps[0]:
            by_what = "ground control points, not by a grid; warp it first: gdalwarp IN.tif OUT.tif"
        elif dataset.crs is not None and dataset.rpcs is not None:
            by_what = (
                "rational polynomial coefficients (RPC), not by a grid; warp it first: gdalwarp -rpc IN.tif OUT.tif"
            )
        elif dataset.tags(ns="GEOLOCATION"):
            by_what = "geolocation arrays, not by a grid; warp it first: gdalwarp -geoloc IN OUT.tif"
        if by_what:
            raise RasterError(f"'{dataset.name}' is placed by {by_what}")
        if dataset.crs is not None:
            raise RasterError(
                f"'{dataset.name}' has the coordinate system {dataset.crs.to_string()[:60]} and no grid (its pixels lie at "
                "0, 0): a map of it would lie in the wrong place. Give it its grid first: gdal_edit -a_ullr WEST NORTH EAST "
                "SOUTH FILE"
            )
    return Grid(dataset.crs, dataset.transform, dataset.height, dataset.width)


class BandReader:
    """Reads some bands of an open dataset, with what counts and what does not.

    indexes: band numbers, the first is 1. fill: a value for each band, put where it has none. nodata: overrides what
    the file says; masks and alpha bands count all the same. Use it in the thread that opened the dataset.
    """

    def __init__(
        self, dataset: Any, indexes: Sequence[int], fill: Sequence[float], nodata: float | None = None
    ) -> None:
        enums = require("rasterio", "raster").enums
        self.dataset, self.indexes = dataset, list(indexes)
        kinds = [np.dtype(dataset.dtypes[i - 1]) for i in indexes]
        self.dtype = np.result_type(*kinds)
        self.fill = np.array([_within(f, self.dtype) for f in fill], self.dtype)
        # GDAL itself takes an alpha band for a mask only as the last of two or four, of whole numbers, without nodata
        # one that is read as a band is no mask: programs call near infrared so
        alpha = [i for i, kind in enumerate(colours_of(dataset), start=1) if kind == "alpha" and i not in self.indexes]
        self.alpha = alpha[-1] if alpha else None
        flags = [set(dataset.mask_flag_enums[i - 1]) for i in indexes]
        self.masked = any(enums.MaskFlags.per_dataset in f and enums.MaskFlags.alpha not in f for f in flags)
        values = [dataset.nodatavals[i - 1] if nodata is None else nodata for i in indexes]
        self.nodata = [v if v is not None and _holds(self.dtype, v) else None for v in values]
        self.has_gaps = (
            self.masked
            or self.alpha is not None
            or self.dtype.kind == "f"
            or any(value is not None for value in self.nodata)
        )

    def read(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """(bands, h, w) in the file's own type, gaps filled, and (h, w) bool, or None where all pixels have data.

        Raises rasterio's RasterioIOError for a block that cannot be decoded.
        """
        area = ((window.top, window.bottom), (window.left, window.right))
        pixels = self.dataset.read(self.indexes, window=area, out_dtype=self.dtype)
        if not self.has_gaps:
            return pixels, None
        hidden = self._hidden(area, pixels.shape[1:])
        valid = np.zeros(pixels.shape[1:], bool)
        gaps = []  # of each band: where it holds what cannot be a measurement
        for band, nodata in zip(pixels, self.nodata, strict=True):
            gap = ~np.isfinite(band) if band.dtype.kind == "f" else np.zeros(band.shape, bool)
            empty = gap
            if nodata is not None and np.isfinite(nodata):
                empty = gap | (band == self.dtype.type(nodata))
                gap = gap if _measurable(nodata) else empty
            gaps.append(gap)
            valid |= ~empty
        if hidden is not None:
            valid &= ~hidden
        if valid.all() and not any(gap.any() for gap in gaps):
            return pixels, None
        for band, gap, fill in zip(pixels, gaps, self.fill, strict=True):
            band[gap | ~valid] = fill
        return pixels, (None if valid.all() else valid)

    def _hidden(self, area: Any, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
        """Pixels that a mask or an alpha band takes out; None where there is neither."""
        hidden: NDArray[np.bool_] | None = None
        if self.masked:
            hidden = self.dataset.dataset_mask(window=area) == 0
        if self.alpha is not None:
            opaque = self.dataset.read(self.alpha, window=area) > 0  # NaN is not
            hidden = ~opaque if hidden is None else hidden | ~opaque
        return hidden


def _measurable(nodata: float) -> bool:
    """Whether a pixel may measure this value: 0 and 255 are dark and bright, -9999 and 1e38 nothing at all.

    A band that alone holds such a value beside bands with others is data: deep shadow and pure colours have zeros.
    """
    return -999 < nodata < 1e20


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
