"""Metres and square metres on the ground, in any coordinate system.

A map's plane is not the ground: Web Mercator shows 4 square metres for each one at 60 degrees north, a degree of longitude
is no length, and a site's own grid may count in feet. Areas are those of the ellipsoid (Karney 2013, "Algorithms for
geodesics", through PROJ), whatever the projection; lengths are laid out around each feature. A raster without a
coordinate system, or in a local one, is taken as a plane.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import RasterError, require
from pspnet.georaster.grids import Grid
from pspnet.tiling import Window

Areas = NDArray[np.float64]
LATTICE_PX = 256  # at most: where a pixel's area is computed exactly; between, it is interpolated
CELL_DEGREES = 0.5  # features within such a cell share a plane: 40 km from its middle it is 7e-6 too short


class PixelAreas:
    """The ground that the pixels of a grid cover, in square metres; square units where the plane is all that is known.

    Exact row by row where the columns are alike (degrees and cylindrical projections, north up); elsewhere exact on a
    lattice that is fixed to the grid, and interpolated between, so that no result depends on how a map is cut.
    Raises RasterError where the coordinate system cannot be brought to the ellipsoid: before the work, not after it.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        a, b, _, d, e, _ = grid.transform[:6]
        self._plane = abs(a * e - b * d) * unit_metres(grid.crs) ** 2
        self._ellipsoid = None if is_plane(grid.crs) else _Ellipsoid(grid.crs)
        self._alike = self._ellipsoid is not None and b == d == 0 and self._ellipsoid.is_cylindrical
        self._nodes: tuple[NDArray[np.float64], NDArray[np.float64], Areas] | None = None
        self.read(0, 1, 0, 1)

    def read(self, top: int, bottom: int, left: int, right: int) -> Areas:
        """(rows, columns) square metres of the pixels of a window, or (rows, 1) where all columns are alike."""
        rows = np.arange(top, bottom)
        if self._ellipsoid is None:
            return np.full((len(rows), 1), self._plane)
        if self._alike:
            return self._exact(rows, np.array([self.grid.width // 2]))
        ys, xs, areas = self._lattice()
        columns = np.arange(left, right)
        by_row = np.stack([np.interp(rows + 0.5, ys, areas[:, j]) for j in range(len(xs))], axis=1)  # (rows, nodes)
        at = np.clip(np.searchsorted(xs, columns + 0.5) - 1, 0, len(xs) - 2)
        share = (columns + 0.5 - xs[at]) / (xs[at + 1] - xs[at])
        row_areas: Areas = by_row[:, at] * (1 - share) + by_row[:, at + 1] * share
        return row_areas

    def _lattice(self) -> tuple[NDArray[np.float64], NDArray[np.float64], Areas]:
        if self._nodes is None:
            step = max(1, min(LATTICE_PX, max(self.grid.height, self.grid.width) // 128))
            rows, columns = (np.unique([*range(0, n, step), n - 1]) for n in (self.grid.height, self.grid.width))
            if len(columns) == 1:
                columns = np.array([columns[0], columns[0] + 1])
            self._nodes = rows + 0.5, columns + 0.5, self._exact(rows, columns)
        return self._nodes

    def _exact(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Areas:
        """(rows, columns) areas of single pixels, by their four corners."""
        assert self._ellipsoid is not None
        x, y = np.meshgrid(columns, rows)
        corners = [self.grid.to_map(x + i, y + j) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))]
        return self._ellipsoid.areas(np.stack([c[0] for c in corners], -1), np.stack([c[1] for c in corners], -1))


def resolution_m(grid: Grid) -> float | None:
    """Side of the grid's middle pixel on the ground, in metres; None where only a plane is known."""
    if is_plane(grid.crs):
        return None
    row, column = grid.height // 2, grid.width // 2
    areas = PixelAreas(grid.part(Window(row, column, 1, 1)))
    return float(areas.read(0, 1, 0, 1)[0, 0]) ** 0.5


def pixel_sides_m(grid: Grid) -> tuple[float, float] | None:
    """(width, height) of the grid's middle pixel on the ground, in metres; None where only a plane is known, or the pixel is
    not on the Earth."""
    if is_plane(grid.crs):
        return None
    column, row = grid.width // 2, grid.height // 2
    xs, ys = grid.to_map([column, column + 1, column], [row, row, row + 1])
    return _Ellipsoid(grid.crs).sides(xs, ys)


def is_plane(crs: Any) -> bool:
    """Whether nothing but a plane is known: no coordinate system, or a local (engineering) one."""
    return crs is None or not (crs.is_geographic or crs.is_projected)


def unit_metres(crs: Any) -> float:
    """Metres in the unit of a coordinate system; 1 where it has none, or none that is a length."""
    if crs is None or crs.is_geographic:
        return 1.0
    try:
        axes = require("pyproj", "raster").CRS.from_wkt(crs.to_wkt()).axis_info
    except require("pyproj.exceptions", "raster").CRSError as error:
        raise RasterError(f"the coordinate system is not understood ({error}); give the raster another one") from error
    return float(axes[0].unit_conversion_factor) if axes and axes[0].unit_conversion_factor else 1.0


def widened(geometries: NDArray[Any], width_m: float, crs: Any) -> NDArray[Any]:
    """Lines and points as areas of this width on the ground. crs: a rasterio CRS, or None.

    Each is widened in a plane around it (azimuthal equidistant) where metres are metres. Raises RasterError for one that
    lies outside of what its coordinate system can show.
    """
    shapely = require("shapely", "raster")
    if is_plane(crs):
        return np.asarray(shapely.buffer(geometries, width_m / 2 / unit_metres(crs)))
    pyproj = require("pyproj", "raster")
    datum_crs = pyproj.CRS.from_wkt(crs.to_wkt())
    degrees = pyproj.Transformer.from_crs(datum_crs, datum_crs.geodetic_crs, always_xy=True)
    boxes = shapely.bounds(geometries)
    middle = degrees.transform((boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2)
    lon, lat = (
        np.asarray(part) * datum_crs.geodetic_crs.axis_info[0].unit_conversion_factor * 180 / np.pi for part in middle
    )
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        raise RasterError(f"lines or points lie outside of what {datum_crs.name!r} can show")
    cells = np.round(np.column_stack([lon, lat]) / CELL_DEGREES).astype(np.int64)
    middles, of = np.unique(cells, axis=0, return_inverse=True)
    result = np.asarray(geometries, object).copy()
    for number, (x, y) in enumerate(middles * CELL_DEGREES):
        plane = pyproj.CRS.from_proj4(f"+proj=aeqd +lon_0={x} +lat_0={np.clip(y, -90, 90)} +datum=WGS84 +units=m")
        there = pyproj.Transformer.from_crs(datum_crs, plane, always_xy=True)
        which = np.flatnonzero(of.ravel() == number)
        flat = shapely.transform(result[which], lambda p, t=there: np.column_stack(t.transform(p[:, 0], p[:, 1])))
        wide = shapely.buffer(flat, width_m / 2)
        result[which] = shapely.transform(
            wide, lambda p, t=there: np.column_stack(t.transform(p[:, 0], p[:, 1], direction="INVERSE"))
        )
    return result


class _Ellipsoid:
    """From a coordinate system to its ellipsoid."""

    def __init__(self, crs: Any) -> None:
        pyproj = require("pyproj", "raster")
        try:
            datum_crs = pyproj.CRS.from_wkt(crs.to_wkt())
            self.to_degrees = pyproj.Transformer.from_crs(datum_crs, datum_crs.geodetic_crs, always_xy=True)
            self.geod = datum_crs.get_geod()
            # a geographic system may count in radians or gons
            self.degrees = datum_crs.geodetic_crs.axis_info[0].unit_conversion_factor * 180 / np.pi
        except (pyproj.exceptions.ProjError, AttributeError, IndexError) as error:
            raise RasterError(
                f"areas cannot be computed in the coordinate system {crs.to_string()[:80]!r} ({error}); leave polygons "
                "out, or warp the raster first: gdalwarp -t_srs EPSG:..."
            ) from error
        method = "" if datum_crs.coordinate_operation is None else datum_crs.coordinate_operation.method_name.lower()
        upright = "oblique" not in method and "transverse" not in method and "gauss" not in method
        self.is_cylindrical = crs.is_geographic or (
            upright
            and any(word in method for word in ("mercator", "equidistant cylindrical", "cylindrical equal area"))
        )

    def sides(self, xs: NDArray[np.float64], ys: NDArray[np.float64]) -> tuple[float, float] | None:
        """Metres from the first of three points to the second and to the third; None where one is not on the Earth."""
        lon, lat = (np.asarray(part) * self.degrees for part in self.to_degrees.transform(xs, ys))
        if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
            return None
        _, _, lengths = self.geod.inv(lon[[0, 0]], lat[[0, 0]], lon[1:], lat[1:])
        return float(lengths[0]), float(lengths[1])

    def areas(self, xs: NDArray[np.float64], ys: NDArray[np.float64]) -> Areas:
        """(..., 4) corners -> (...) square metres. Raises RasterError where a corner is not on the Earth."""
        lon, lat = self.to_degrees.transform(xs.ravel(), ys.ravel())
        lon, lat = np.reshape(lon, (-1, 4)) * self.degrees, np.reshape(lat, (-1, 4)) * self.degrees
        areas = np.zeros(len(lon))
        visible = np.isfinite(lon).all(axis=1) & np.isfinite(lat).all(axis=1)
        for row in np.flatnonzero(visible):
            areas[row] = abs(self.geod.polygon_area_perimeter(lon[row], lat[row])[0])
        return areas.reshape(xs.shape[:-1])
