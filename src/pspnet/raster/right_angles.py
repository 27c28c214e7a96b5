"""Right angles for the outlines of buildings, in a map whose areas still meet without overlap or gap.

Each outline is drawn anew along its own main direction. Where it comes to lie over a neighbour, the neighbour is cut; what it
leaves goes to the neighbour with the longest border along it:

    ground  |  house          ground  |  house
        ____|                         |
       |      house      ->           |  house
       |____                          |
    ground  |  house          ground  |  house
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import require

Geometries = NDArray[Any]
LIKENESS = 0.7  # intersection over union that right angles must keep; else the outline stays as it is
TOLERANCE_PX = 1.5  # stairs of pixels are one pixel deep
LEAST_PX = 1e-6  # areas below, in pixels, are rounding
ON_A_LINE_PX = 1e-6
POLYGON = 3  # shapely's number of the type


def squared(
    polygons: Geometries, chosen: NDArray[np.bool_], tolerance_px: float = TOLERANCE_PX
) -> tuple[Geometries, NDArray[np.int64]]:
    """(polygons, the index of each in what was given): a neighbour that is cut in two becomes two.

    polygons: (N,), a coverage: neighbours share their borders, corner by corner. chosen: (N,), those that get right angles.
    An outline that right angles do not fit stays as it was, and is cut like any neighbour.
    """
    shapely = require("shapely", "raster")
    shapes = polygons.copy()
    for index in np.flatnonzero(chosen).tolist():
        shapes[index] = square(polygons[index], tolerance_px)
    drawn = chosen & ~shapely.equals_exact(shapes, polygons)
    _fit(shapes, drawn, polygons)
    houses, others = np.flatnonzero(drawn), np.flatnonzero(~drawn)
    grown = _left_over(polygons, shapes, houses, others)
    cutters = _near(polygons[others], shapes[houses])
    parts: list[Geometries] = []
    origin: list[NDArray[np.int64]] = []
    for index in houses.tolist():
        pieces = _pieces(shapely.union_all([shapes[index], *grown[index]])) if index in grown else shapes[[index]]
        parts.append(pieces)
        origin.append(np.full(len(pieces), index))
    for number, index in enumerate(others.tolist()):
        shape = polygons[index]
        if index in grown:  # the pieces first: added one by one, each would cost what the whole neighbour costs
            shape = shapely.union(shape, shapely.disjoint_subset_union_all(grown[index]))
        if number in cutters:
            shape = shapely.difference(shape, shapely.disjoint_subset_union_all(shapes[houses[cutters[number]]]))
            # corners where pixels' stairs crossed a straight side; without preserving topology small areas vanish
            shape = shapely.simplify(shape, ON_A_LINE_PX)
        pieces = _pieces(shape)
        parts.append(pieces)
        origin.append(np.full(len(pieces), index))
    order = np.argsort(np.concatenate(origin), kind="stable")
    return np.concatenate(parts)[order], np.concatenate(origin)[order]


def _near(shapes: Geometries, others: Geometries) -> dict[int, list[int]]:
    """For each shape that touches others, by number: their numbers."""
    near: dict[int, list[int]] = defaultdict(list)
    for number, other in zip(*require("shapely", "raster").STRtree(others).query(shapes, "intersects"), strict=True):
        near[int(number)].append(int(other))
    return near


def _fit(shapes: Geometries, drawn: NDArray[np.bool_], polygons: Geometries) -> None:
    """Cuts drawn outlines at the map's end and at larger ones; one that would fall apart gets its old outline again."""
    shapely = require("shapely", "raster")
    whole = shapely.coverage_union_all(polygons)
    shapely.prepare(whole)
    houses = np.flatnonzero(drawn)
    near = _near(shapes[houses], shapes[houses])
    size = shapely.area(shapes)
    rank = np.empty(len(shapes), np.int64)
    rank[np.argsort(-size, kind="stable")] = np.arange(len(shapes))
    for number in np.argsort(rank[houses]):
        index = houses[number]
        larger = [shapes[o] for o in houses[near[int(number)]] if drawn[o] and rank[o] < rank[index]]
        shape = shapes[index]
        if not shapely.covers(whole, shape):
            shape = shapely.intersection(shape, whole)
        if larger:
            shape = shapely.difference(shape, shapely.union_all(larger))
        pieces = _pieces(shape)
        if len(pieces) == 1 and pieces[0].area >= LIKENESS * size[index]:
            shapes[index] = pieces[0]
        else:
            shapes[index], drawn[index] = polygons[index], False


def _left_over(
    polygons: Geometries, shapes: Geometries, houses: NDArray[np.int64], others: NDArray[np.int64]
) -> dict[int, list[Any]]:
    """What drawn outlines leave free, by the index of the neighbour that gets it."""
    shapely = require("shapely", "raster")
    neighbours = polygons[others]
    shapely.prepare(neighbours)
    tree, near = shapely.STRtree(neighbours), _near(polygons[houses], shapes[houses])
    grown: dict[int, list[Any]] = defaultdict(list)
    for number, index in enumerate(houses):
        for piece in _pieces(shapely.difference(polygons[index], shapely.union_all(shapes[houses[near[number]]]))):
            points, length = _outside(piece)
            which, candidate = tree.query(points)
            inside = shapely.intersects(neighbours[candidate], points[which])
            borders = np.bincount(candidate[inside], weights=length[which[inside]], minlength=1)
            if borders.any():
                grown[int(others[borders.argmax()])].append(piece)
            else:  # houses alone, at the map's end: it stays with its own
                grown[int(index)].append(piece)
    return grown


def _outside(piece: Any) -> tuple[Geometries, NDArray[np.float64]]:
    """(a point just outside the middle of each side, the sides' lengths)."""
    shapely = require("shapely", "raster")
    corners = shapely.get_coordinates(shapely.geometry.polygon.orient(piece).exterior)
    side = np.diff(corners, axis=0)
    length = np.hypot(*side.T)
    away = np.column_stack([side[:, 1], -side[:, 0]]) / np.maximum(length, 1e-12)[:, None]
    return shapely.points(corners[:-1] + side / 2 + 0.01 * away), length


def _pieces(shape: Any) -> Geometries:
    """The polygons of a geometry, without slivers that rounding leaves."""
    shapely = require("shapely", "raster")
    parts = shapely.get_parts(shape)
    return np.asarray(parts[(shapely.get_type_id(parts) == POLYGON) & (shapely.area(parts) > LEAST_PX)], object)


def square(polygon: Any, tolerance_px: float = TOLERANCE_PX) -> Any:
    """A polygon with right angles in its own main direction; as it was where that would be another shape."""
    shapely = require("shapely", "raster")
    angle = _main_direction(shapely.get_coordinates(shapely.get_exterior_ring(polygon)))
    upright = _turned(polygon, -angle)
    rings = [_right_angled(ring, tolerance_px) for ring in (upright.exterior, *upright.interiors)]
    if rings[0] is None:
        return polygon
    drawn = _turned(shapely.Polygon(rings[0], [ring for ring in rings[1:] if ring is not None]), angle)
    if not drawn.is_valid or drawn.is_empty:
        return polygon
    union = shapely.union(drawn, polygon).area
    return drawn if shapely.intersection(drawn, polygon).area >= LIKENESS * union else polygon


def _main_direction(points: NDArray[np.float64]) -> float:
    """Angle in radians, -45 to 45 degrees, of the sides of the smallest rectangle around a ring."""
    shapely = require("shapely", "raster")
    rectangle = shapely.minimum_rotated_rectangle(shapely.MultiPoint(points))
    corners = shapely.get_coordinates(rectangle)
    if len(corners) < 4:
        return 0.0
    x, y = corners[1] - corners[0]
    quarter = np.pi / 2
    return float((np.arctan2(y, x) + quarter / 2) % quarter - quarter / 2)


def _turned(geometry: Any, angle: float) -> Any:
    cosine, sine = np.cos(angle), np.sin(angle)
    turn = np.array([[cosine, sine], [-sine, cosine]])
    return require("shapely", "raster").transform(geometry, lambda points: points @ turn)


def _right_angled(ring: Any, tolerance_px: float) -> NDArray[np.float64] | None:
    """A ring of level and upright sides alternately; None where fewer than four are left.

    Sides that follow each other in one direction become one, at their mean by length; corners lie where two meet.
    """
    points = np.array(ring.simplify(tolerance_px).coords)[:-1]
    if len(points) < 4:
        return None
    side = np.roll(points, -1, axis=0) - points
    level = np.abs(side[:, 0]) >= np.abs(side[:, 1])
    turns = np.flatnonzero(level != np.roll(level, 1))
    if len(turns) < 4:
        return None
    lines = []  # (level?, its y or x)
    for start, stop in zip(turns, np.roll(turns, -1), strict=True):
        group = np.arange(start, stop if stop > start else stop + len(points)) % len(points)
        axis = 1 if level[start] else 0
        middle = points[group, axis] + side[group, axis] / 2
        weight = np.abs(side[group, 1 - axis])
        lines.append((bool(level[start]), float(np.average(middle, weights=weight) if weight.sum() else middle.mean())))
    corners = [
        (after, before) if is_level else (before, after)
        for (is_level, before), (_, after) in zip(lines, lines[1:] + lines[:1], strict=True)
    ]
    return np.array(corners)
