"""Outlines that a surveyor accepts: small holes filled, stairs of pixels made straight, right angles where they belong.

All works on the polygons of a whole map at once, in pixels (x: columns, y: rows downwards as negative numbers), so that
neighbours keep a common border: it is simplified once, for both (Visvalingam and Whyatt 1993, "Line generalisation by
repeated elimination of points", through GEOS' coverage simplification). Right angles: right_angles.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import ConfigError, require
from pspnet.georaster.grids import Grid
from pspnet.georaster.ground import resolution_m
from pspnet.outlines.corners import Outlines
from pspnet.outlines.rings import polygons as polygons_of
from pspnet.raster.right_angles import TOLERANCE_PX, squared

Geometries = NDArray[Any]


@dataclass(frozen=True)
class Polygons:
    """geometry (N,) shapely, label (N,), area_m2 (N,) on the ground, confidence (N,) mean in per cent."""

    geometry: Geometries
    label: NDArray[np.uint8]
    area_m2: NDArray[np.float64]
    confidence: NDArray[np.float64]

    @classmethod
    def of(cls, outlines: Outlines, to_map: Any) -> Polygons:
        """Regions that have ended. to_map: columns and rows -> x and y."""
        confidence = np.round(outlines.confidence / outlines.pixels, 2)
        return cls(polygons_of(outlines, to_map), outlines.label, outlines.area_m2, confidence)

    @classmethod
    def join(cls, parts: list[Polygons]) -> Polygons:
        return cls(
            np.concatenate([part.geometry for part in parts]),
            np.concatenate([part.label for part in parts]),
            np.concatenate([part.area_m2 for part in parts]),
            np.concatenate([part.confidence for part in parts]),
        )


def upright_pixels(columns: Any, rows: Any) -> tuple[Any, Any]:
    """Pixels as a plane whose y grows upwards, so that outlines turn as they do on a north-up map."""
    return columns, -rows


@dataclass(frozen=True)
class Cleaning:
    """What is done to the polygons of a map. squared: the labels of classes that get right angles."""

    simplify_m: float
    fill_holes_m2: float
    squared: tuple[int, ...]

    @classmethod
    def of(
        cls, simplify_m: float, fill_holes_m2: float, regularize: tuple[str, ...], names: Mapping[int, str]
    ) -> Cleaning | None:
        """None where nothing is to be done. Raises ConfigError for a class that the map has not."""
        values = {name: value for value, name in names.items()}
        unknown = [name for name in regularize if name not in values]
        if unknown:
            raise ConfigError(f"regularize = {unknown[0]}: the map has the classes {', '.join(values)}")
        if not (simplify_m or fill_holes_m2 or regularize):
            return None
        return cls(simplify_m, fill_holes_m2, tuple(values[name] for name in regularize))

    def clean(self, polygons: Polygons, grid: Grid) -> Polygons:
        """polygons: in `upright_pixels`; the result is in the grid's coordinate system, areas follow the outlines."""
        shapely = require("shapely", "raster")
        shapes, label, confidence = polygons.geometry, polygons.label, polygons.confidence
        pixel_m2 = polygons.area_m2 / shapely.area(shapes)
        if self.fill_holes_m2:
            shapes, left = fill_holes(shapes, self.fill_holes_m2 / pixel_m2)
            label, confidence, pixel_m2 = label[left], confidence[left], pixel_m2[left]
        tolerance = self.simplify_m / (resolution_m(grid) or float(np.sqrt(pixel_m2.mean())))
        if self.simplify_m:
            shapes = simplify(shapes, tolerance)
        if self.squared:
            shapes = shapes if self.simplify_m else with_junctions(shapes)
            shapes, origin = squared(shapes, np.isin(label, self.squared), max(TOLERANCE_PX, tolerance))
            label, confidence, pixel_m2 = label[origin], confidence[origin], pixel_m2[origin]
        on_map = shapely.transform(shapes, lambda points: np.column_stack(grid.to_map(points[:, 0], -points[:, 1])))
        return Polygons(on_map, label, shapely.area(shapes) * pixel_m2, confidence)


def fill_holes(polygons: Geometries, smallest_px: NDArray[np.float64]) -> tuple[Geometries, NDArray[np.bool_]]:
    """(polygons without holes below their limit, which polygons are left): what lay in a filled hole is gone.

    smallest_px: for each polygon, the area in pixels below which a hole is filled.
    """
    shapely = require("shapely", "raster")
    filled, patches = polygons.copy(), []
    for index in np.flatnonzero(shapely.get_num_interior_rings(polygons)):
        rings = [shapely.polygons(ring) for ring in polygons[index].interiors]
        small = [ring for ring in rings if ring.area < smallest_px[index]]
        if small:
            large = [shapely.get_exterior_ring(ring) for ring in rings if ring.area >= smallest_px[index]]
            filled[index] = shapely.Polygon(shapely.get_exterior_ring(polygons[index]), large)
            patches += small
    left = np.ones(len(polygons), bool)
    if patches:
        inside, _ = shapely.STRtree(np.array(patches, object)).query(shapely.point_on_surface(polygons), "within")
        left[inside] = False
    return filled[left], left


def simplify(polygons: Geometries, tolerance_px: float) -> Geometries:
    """Fewer corners, with the borders that neighbours share kept shared. tolerance_px: a corner stays where leaving it out
    would move more than a triangle of this side squared."""
    shapely = require("shapely", "raster")
    return np.asarray(shapely.coverage_simplify(with_junctions(polygons), tolerance_px), object)


def with_junctions(polygons: Geometries) -> Geometries:
    """Polygons of pixels whose straight sides have a corner wherever another polygon has one, as a coverage must.

    Sides run along rows and columns, so the corners on a side are a stretch of one sorted list of all corners.

    >>> shapely = require("shapely", "raster")
    >>> left, upper, lower = shapely.box(0, 0, 1, 2), shapely.box(1, 1, 2, 2), shapely.box(1, 0, 2, 1)
    >>> with_junctions(np.array([left, upper, lower], object))[0].wkt       # (1, 1) is a corner of its neighbours
    'POLYGON ((1 0, 1 1, 1 2, 0 2, 0 0, 1 0))'
    """
    shapely = require("shapely", "raster")
    rings, of_polygon = shapely.get_rings(polygons, return_index=True)
    points, of_ring = shapely.get_coordinates(rings, return_index=True)
    points = points.round().astype(np.int64)
    corner = points - points.min(axis=0)
    size = int(corner.max()) + 2
    starts = np.flatnonzero(of_ring[1:] == of_ring[:-1])  # a side goes from each point to the next of its ring
    side = corner[starts + 1] - corner[starts]
    along = (side[:, 1] == 0).astype(int)  # 1: along a row
    extra_points, extra_side = [np.zeros((0, 2), np.int64)], [np.zeros(0, np.int64)]
    for direction in (0, 1):
        moving, fixed = (1, 0) if direction == 0 else (0, 1)
        keys = np.unique(corner[:, fixed] * size + corner[:, moving])
        which = np.flatnonzero(along == direction)
        first, last = corner[starts[which]], corner[starts[which] + 1]
        low, high = np.minimum(first, last)[:, moving], np.maximum(first, last)[:, moving]
        begin = np.searchsorted(keys, first[:, fixed] * size + low, side="right")
        end = np.searchsorted(keys, first[:, fixed] * size + high, side="left")
        count = np.maximum(end - begin, 0)
        owner = np.repeat(np.arange(len(which)), count)
        step = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        backwards = (last[:, moving] < first[:, moving])[owner]
        key = keys[np.where(backwards, end[owner] - 1 - step, begin[owner] + step)]
        ends = np.empty((len(key), 2), np.int64)
        ends[:, fixed], ends[:, moving] = key // size, key % size
        extra_points.append(ends)
        extra_side.append(starts[which][owner])
    more, after = np.concatenate(extra_points), np.concatenate(extra_side)
    places = np.concatenate([np.arange(len(corner)), after + 0.5])  # a side's junctions come after its first point
    order = np.argsort(places, kind="stable")
    whole = np.concatenate([corner, more])[order] + points.min(axis=0)
    ring_of = np.concatenate([of_ring, of_ring[after]])[order]
    return np.asarray(shapely.polygons(shapely.linearrings(whole.astype(float), indices=ring_of), indices=of_polygon))
