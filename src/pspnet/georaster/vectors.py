"""Vector files (GeoJSON, GeoPackage, shapefile, ...): read, repaired, moved to a raster's coordinate system."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import RasterError, require


@dataclass(frozen=True)
class Features:
    """geometries: (N,) shapely, two-dimensional and valid, in one CRS. values: (N,) of the field asked for, or None."""

    geometries: NDArray[Any]
    values: NDArray[Any] | None


def read_features(
    path: str | Path,
    crs: Any,
    field: str | None = None,
    layer: str | None = None,
    bounds: tuple[float, float, float, float] | None = None,
) -> Features:
    """All features of a file, in the coordinate system `crs` (a rasterio CRS; None: as they are).

    bounds: only those that touch this box (left, bottom, right, top), in `crs`. Self-intersections are repaired, a
    third dimension is dropped, empty geometries are left out. Raises RasterError naming the file: it cannot be read,
    has no such field, or has a CRS where the raster has none (or the other way round).
    """
    pyogrio, shapely = require("pyogrio", "raster"), require("shapely", "raster")
    name = str(path)
    try:
        info = pyogrio.read_info(path, layer=layer)
        if field is not None and field not in info["fields"]:
            raise RasterError(f"'{name}' has no field {field!r}; it has: {', '.join(info['fields']) or 'none'}")
        meta, _, wkb, columns = pyogrio.raw.read(path, layer=layer, columns=[field] if field else [], force_2d=True)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise RasterError(f"'{name}' cannot be read as a vector file: {error}") from error
    if wkb is None:
        raise RasterError(f"'{name}' is a table without geometries")
    try:
        geometries = shapely.from_wkb(wkb)
    except shapely.errors.GEOSException as error:
        raise RasterError(f"'{name}' holds a damaged geometry: {error}") from error
    geometries = move(geometries, meta["crs"], crs, name)
    broken = ~shapely.is_valid(geometries)
    geometries[broken] = shapely.make_valid(geometries[broken])
    kept = ~(shapely.is_missing(geometries) | shapely.is_empty(geometries))
    if bounds is not None:
        kept &= shapely.intersects(geometries, shapely.box(*bounds))
    return Features(geometries[kept], columns[0][kept] if field else None)


def move(geometries: NDArray[Any], source: Any, target: Any, name: str) -> NDArray[Any]:
    """Geometries from one coordinate system to another. Raises RasterError where only one of the two is known."""
    shapely, pyproj = require("shapely", "raster"), require("pyproj", "raster")
    if target is None or source is None:
        if (target is None) != (source is None):
            known, unknown = ("it has", "the raster has none") if target is None else ("it has none", "the raster has")
            raise RasterError(
                f"'{name}' cannot be placed on the raster: of a coordinate system, {known}, {unknown}. "
                "Give the other one its coordinate system first"
            )
        return geometries
    try:
        before, after = pyproj.CRS.from_user_input(source), pyproj.CRS.from_user_input(_wkt(target))
    except pyproj.exceptions.CRSError as error:
        raise RasterError(
            f"'{name}': {source!r} is no coordinate system that is known ({error}); give a code such as EPSG:4326"
        ) from error
    if before.equals(after, ignore_axis_order=True):
        return geometries
    transformer = pyproj.Transformer.from_crs(before, after, always_xy=True)

    def transform(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(transformer.transform(points[:, 0], points[:, 1]))

    moved = shapely.transform(geometries, transform)
    lost = ~np.isfinite(shapely.bounds(moved)).all(axis=1) & ~shapely.is_empty(geometries)
    if lost.any():
        raise RasterError(f"'{name}': {int(lost.sum())} geometries lie outside of what {after.name!r} can show")
    return moved


def _wkt(crs: Any) -> Any:
    """A rasterio CRS as text that pyproj reads; anything else as it is."""
    return crs.to_wkt() if type(crs).__module__.startswith("rasterio") else crs
