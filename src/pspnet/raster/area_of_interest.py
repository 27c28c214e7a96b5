"""The area of interest: a file of polygons or a box, in any coordinate system, as a part of a raster."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import RasterError, require
from pspnet.georaster.grids import Grid, turns_of
from pspnet.georaster.vectors import move, read_features
from pspnet.tiling import Window


def area_of_interest(aoi: Path | tuple[float, float, float, float], aoi_crs: str | None, crs: Any) -> Any:
    """A shapely geometry in `crs`. Raises RasterError where it is empty or cannot be moved there."""
    shapely = require("shapely", "raster")
    if isinstance(aoi, Path):
        geometries = read_features(aoi, crs).geometries
        geometries = geometries[shapely.area(geometries) > 0]
        if not len(geometries):
            raise RasterError(f"'{aoi}' holds no polygon with an area; draw at least one")
        return shapely.union_all(geometries)
    box = shapely.box(*aoi)
    if aoi_crs is None:
        return box
    # a straight side is curved in another system: 64 points a side follow it to far below a pixel of any usual raster
    dense = shapely.segmentize(box, max(aoi[2] - aoi[0], aoi[3] - aoi[1]) / 64)
    return move(np.array([dense]), aoi_crs, crs, f"aoi {aoi}")[0]


def on_grid(area: Any, grid: Grid) -> Any:
    """An area where a grid's own longitudes are: 170 west is 190 degrees east on a grid of 179 to 191. What lies nowhere on
    the grid is returned as it is."""
    shapely, turns, parts = require("shapely", "raster"), turns_of(grid), []
    if not any(shapely.intersects(area, shapely.box(*turn.bounds)) for turn in turns[1:]):
        return area
    for turn in turns:
        shift = grid.transform.c - turn.transform.c
        part = shapely.intersection(area, shapely.box(*turn.bounds))
        parts.append(shapely.transform(part, lambda points, by=shift: np.add(points, (by, 0))))
    return shapely.union_all(parts)


def window_of(area: Any, grid: Grid, name: str) -> Window:
    """The smallest window of whole pixels that holds the area. Raises RasterError when they do not meet."""
    shapely = require("shapely", "raster")
    outline = shapely.box(*shapely.bounds(area)) if grid.transform.is_rectilinear else shapely.convex_hull(area)
    columns, rows = grid.to_pixels(*shapely.get_coordinates(outline).T)
    # a border that meets a pixel's border up to rounding does not take in the next pixel
    left, right = math.floor(columns.min() + 1e-6), math.ceil(columns.max() - 1e-6)
    top, bottom = math.floor(rows.min() + 1e-6), math.ceil(rows.max() - 1e-6)
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, grid.width), min(bottom, grid.height)
    if left >= right or top >= bottom:
        wanted = tuple(shapely.bounds(area).tolist())
        shown, asked_bounds = (", ".join(f"{v:.10g}" for v in b) for b in (grid.bounds, wanted))
        degrees = grid.crs is not None and not grid.crs.is_geographic and max(map(abs, wanted)) <= 180
        hint = ". Is it in degrees? Then say so: aoi_crs=EPSG:4326" if degrees else ""
        raise RasterError(
            f"the area of interest ({asked_bounds}) does not touch '{name}' ({shown}): left, bottom, right, "
            f"top, both in the raster's coordinate system{hint}"
        )
    return Window(top, left, bottom - top, right - left)


def inside(area: Any, grid: Grid) -> NDArray[np.bool_] | None:
    """(height, width) bool: the pixels whose centre lies in the area; None where all do."""
    shapely, features = require("shapely", "raster"), require("rasterio.features", "raster")
    left, bottom, right, top = grid.bounds
    box = shapely.box(left, bottom, right, top)
    if shapely.contains_properly(area, box):
        return None
    near = shapely.clip_by_rect(area, left, bottom, right, top)
    if shapely.is_empty(near):
        return np.zeros((grid.height, grid.width), bool)
    is_inside: NDArray[np.bool_] = features.geometry_mask(
        [near], (grid.height, grid.width), grid.transform, invert=True
    )
    return is_inside
