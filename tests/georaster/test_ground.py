"""Square metres and widths are the ground's, in every coordinate system."""

from __future__ import annotations

import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from rasterio.transform import Affine, from_origin

from pspnet.georaster.grids import Grid
from pspnet.georaster.ground import PixelAreas, pixel_sides_m, resolution_m, unit_metres, widened

FOOT = 'LOCAL_CS["site grid",UNIT["foot",0.3048],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'


def grid(crs: str | int | None, transform: Affine, side: int = 600) -> Grid:
    system = None if crs is None else rasterio.crs.CRS.from_user_input(crs)
    return Grid(system, transform, side, side)


def geodesic(where: Grid, row: int, column: int) -> float:
    """Area of a pixel by its corners on the ellipsoid, one at a time."""
    to_degrees = pyproj.Transformer.from_crs(where.crs.to_wkt(), 4326, always_xy=True)
    xs, ys = where.to_map([column, column + 1, column + 1, column], [row, row, row + 1, row + 1])
    lon, lat = to_degrees.transform(xs, ys)
    return abs(pyproj.Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)[0])


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        (3857, from_origin(1_196_000, 8_399_000, 10, 10)),
        (32631, from_origin(300_000, 5_600_000, 100, 100)),
        (3413, from_origin(-2_000_000, 2_000_000, 5000, 5000)),  # polar: no two columns alike
        (3035, from_origin(4_000_000, 3_000_000, 100, 100)),  # equal-area
        (32631, Affine.translation(500_000, 5_600_000) * Affine.rotation(30) * Affine.scale(50, -50)),
        (4326, from_origin(10, 60, 1e-3, 1e-3)),
    ],
)
def test_pixels_cover_what_they_do_on_the_ellipsoid(crs: int, transform: Affine) -> None:
    where = grid(crs, transform)
    areas = PixelAreas(where)
    for row, column in ((0, 0), (17, 599), (300, 311), (599, 3)):
        actual = areas.read(row, row + 1, column, column + 1)
        assert actual[0, 0] == pytest.approx(geodesic(where, row, column), rel=2e-5)


def test_areas_do_not_depend_on_how_the_map_is_cut() -> None:
    areas = PixelAreas(grid(32631, from_origin(300_000, 5_600_000, 100, 100)))
    whole = areas.read(0, 600, 0, 600)
    np.testing.assert_array_equal(areas.read(211, 300, 57, 430), whole[211:300, 57:430])


def test_a_plane_is_a_plane() -> None:
    transform = from_origin(1000, 2000, 2, 2)
    assert PixelAreas(grid(None, transform)).read(0, 2, 0, 9).tolist() == [[4.0], [4.0]]
    assert PixelAreas(grid(FOOT, transform)).read(0, 1, 0, 1)[0, 0] == pytest.approx(4 * 0.3048**2)
    assert unit_metres(rasterio.crs.CRS.from_wkt(FOOT)) == pytest.approx(0.3048)


@pytest.mark.parametrize(
    ("crs", "start", "step"),
    [(3857, (1_196_685, 8_399_738), 500), (32631, (500_000, 5_600_000), 500), (4326, (10, 60), 0.01)],
)
def test_a_road_is_as_wide_on_the_ground_as_it_should_be(crs: int, start: tuple[float, float], step: float) -> None:
    line = shapely.LineString([start, (start[0] + step, start[1] + step)])
    wide = widened(np.array([line]), 6.0, rasterio.crs.CRS.from_epsg(crs))[0]
    to_degrees = pyproj.Transformer.from_crs(crs, 4326, always_xy=True)

    def measure(shape: shapely.Geometry) -> tuple[float, float]:
        moved = shapely.transform(shape, lambda p: np.column_stack(to_degrees.transform(p[:, 0], p[:, 1])))
        area, length = pyproj.Geod(ellps="WGS84").geometry_area_perimeter(moved)
        return abs(area), length

    caps = np.pi * 9  # the round ends
    length = pyproj.Geod(ellps="WGS84").geometry_length(
        shapely.transform(line, lambda p: np.column_stack(to_degrees.transform(p[:, 0], p[:, 1])))
    )
    assert (measure(wide)[0] - caps) / length == pytest.approx(6.0, rel=0.01)


@pytest.mark.parametrize(
    "crs", ["EPSG:2263", "EPSG:2263+6360", "ESRI:102718"]
)  # New York, US feet; with heights in feet
@pytest.mark.parametrize("turn", [0, 30])
def test_a_rotated_grid_in_feet(crs: str, turn: int) -> None:
    """Areas, the size of pixels, their sides and widths are metres on the ground, whatever the map counts in."""
    foot = 1200 / 3937
    where = grid(crs, Affine.translation(990_000, 200_000) @ Affine.rotation(turn) @ Affine.scale(100, -50), 60)
    assert PixelAreas(where).read(0, 1, 0, 1)[0, 0] == pytest.approx(5000 * foot**2, rel=1e-4)
    assert resolution_m(where) == pytest.approx(foot * 5000**0.5, rel=1e-4)
    assert pixel_sides_m(where) == pytest.approx((100 * foot, 50 * foot), rel=1e-4)
    line = np.array([shapely.LineString([(990_000, 200_000), (991_000, 200_000)])], object)
    road = widened(line, 6.0, where.crs)
    assert shapely.area(road)[0] * foot**2 == pytest.approx(1000 * foot * 6 + np.pi * 9, rel=1e-3)


def test_sides_of_pixels_of_degrees() -> None:
    wide, high = pixel_sides_m(grid("EPSG:4326", from_origin(10, 60, 1e-4, 1e-4))) or (0, 0)
    assert high / wide == pytest.approx(2, rel=0.01)
    assert pixel_sides_m(grid(None, from_origin(0, 0, 1, 1))) is None
