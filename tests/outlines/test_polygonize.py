"""Polygons of a map: exact areas and borders, valid rings, the same however the map is cut, small areas merged."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio.features
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.transform import from_origin

from pspnet.georaster.grids import Grid
from pspnet.outlines.connected_components import connected
from pspnet.outlines.polygonize import Tracer
from pspnet.outlines.rings import polygons
from pspnet.raster import segment_raster
from pspnet.raster.geopackage import write_polygons
from pspnet.raster.label_strips import LabelStrip, label_strips
from pspnet.raster.sieve import Sieve
from support.rasters import SPACE, make_segmenter, read, scene, write_raster

MAPS = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.sampled_from([0, 1, 2, 255]))
CUTS = st.sets(st.integers(1, 11))
Found = list[tuple[int, shapely.Polygon, float, float]]


def cut(labels: np.ndarray, cuts: set[int]) -> list[LabelStrip]:
    """The map as strips that end at `cuts`; columns without data at the sides are left out, as the reader does."""
    edges = [0, *sorted(c for c in cuts if c < len(labels)), len(labels)]
    outlines = []
    for top, bottom in itertools.pairwise(edges):
        part = labels[top:bottom]
        there = np.flatnonzero((part != 255).any(axis=0))
        if len(there):
            part = part[:, there[0] : there[-1] + 1]
            confidence = np.where(part == 255, 255, part * 10 + 5).astype(np.uint8)
            columns = part.shape[1] if top % 2 else 1  # areas of each pixel, or of each row
            areas = np.full((bottom - top, columns), 4.0)
            outlines.append(LabelStrip(top, int(there[0]), part, confidence, areas))
    return outlines


def traced(strips: list[LabelStrip]) -> Found:
    tracer, parts = Tracer(), []
    for strip in strips:
        parts.append(tracer.feed(strip.top, strip.left, strip.labels, strip.confidence, strip.areas))
    parts.append(tracer.finish())
    grid = Grid(None, from_origin(0, 0, 1, 1), 100, 100)
    return [
        (int(label), polygon, float(pixels), float(confidence))
        for areas in parts
        for label, polygon, pixels, confidence in zip(
            areas.label, polygons(areas, grid.to_map), areas.pixels, areas.confidence, strict=True
        )
    ]


def reference(labels: np.ndarray) -> list[tuple[int, shapely.Polygon]]:
    """GDAL's own polygons of the whole map at once."""
    shapes = rasterio.features.shapes(
        labels.astype(np.int16), mask=labels != 255, connectivity=4, transform=from_origin(0, 0, 1, 1)
    )
    return [(int(value), shapely.geometry.shape(shape)) for shape, value in shapes]


def ordered(outlines: list[tuple[int, shapely.Polygon]]) -> list[tuple[int, str]]:
    return sorted(
        (label, shapely.normalize(shapely.remove_repeated_points(polygon)).wkt) for label, polygon in outlines
    )


@given(MAPS, CUTS)
@settings(max_examples=150, deadline=None)
def test_polygons_are_gdals_however_the_map_is_cut(labels: np.ndarray, cuts: set[int]) -> None:
    actual = traced(cut(labels, cuts))
    assert ordered([(label, polygon) for label, polygon, _, _ in actual]) == ordered(reference(labels))
    for label, polygon, pixels, confidence in actual:
        assert polygon.is_valid
        assert polygon.exterior.is_ccw
        assert polygon.area == pixels
        assert confidence == pixels * (label * 10 + 5)


def test_the_corner_where_holes_and_outline_meet() -> None:
    rows = ["000000", "011110", "010110", "011010", "011110", "000000", "110111", "101110"]
    labels = np.array([[int(v) for v in row] for row in rows], np.uint8)
    for cuts in (set(), set(range(1, 8))):
        actual = traced(cut(labels, cuts))
        assert ordered([(a, b) for a, b, _, _ in actual]) == ordered(reference(labels))
        assert all(polygon.is_valid for _, polygon, _, _ in actual)


@given(st.integers(1, 40), st.data())
@settings(max_examples=60, deadline=None)
def test_groups_are_those_of_a_slow_union(count: int, data: st.DataObject) -> None:
    pairs = data.draw(st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=60))
    slow = list(range(count))
    for a, b in pairs * count:
        slow[a] = slow[b] = min(slow[a], slow[b])
    a, b = np.array(pairs, np.int64).reshape(-1, 2).T
    assert connected(count, a, b).tolist() == slow


def sieved(labels: np.ndarray, cuts: set[int], least_px: float) -> np.ndarray:
    sieve, strips = Sieve(least_px * 4.0), cut(labels, cuts)
    for strip in strips:
        sieve.look(strip)
    sieve.decide()
    result = np.full_like(labels, 255)
    for strip in strips:
        clean = sieve.clean(strip)
        result[clean.top : clean.bottom, clean.left : clean.right] = clean.labels
    return result


@given(MAPS, CUTS, st.integers(1, 6))
@settings(max_examples=150, deadline=None)
def test_no_small_area_with_a_neighbour_is_left(labels: np.ndarray, cuts: set[int], least: int) -> None:
    result = sieved(labels, cuts, least)
    np.testing.assert_array_equal(result, sieved(labels, set(), least))  # however it is cut
    np.testing.assert_array_equal(result == 255, labels == 255)
    regions = reference(result)
    for _, polygon in regions:
        lonely = not any(polygon.intersection(other).length > 0 for _, other in regions if other is not polygon)
        assert polygon.area >= least or lonely
    if all(polygon.area >= least for _, polygon in reference(labels)):
        np.testing.assert_array_equal(result, labels)


def test_a_speck_goes_to_the_neighbour_with_the_longest_border() -> None:
    labels = np.array([[0, 0, 0, 0, 0], [0, 0, 2, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]], np.uint8)
    assert sieved(labels, {2}, 2)[1, 2] == 1  # two sides each: the larger neighbour
    labels[1, 3] = 0
    assert sieved(labels, set(), 2)[1, 2] == 0  # three sides against one


def test_specks_between_two_parts_of_a_class_unite_them() -> None:
    labels = np.zeros((3, 9), np.uint8)
    labels[:, 4] = 1
    np.testing.assert_array_equal(sieved(labels, {1}, 4), 0)


def test_the_geopackage_holds_the_map(tmp_path: Path) -> None:
    report = segment_raster(
        make_segmenter(),
        write_raster(tmp_path / "in.tif", scene(90, 70)),
        tmp_path / "out.tif",
        tile_px=48,
        overlap_px=12,
        block_px=32,
        polygons=tmp_path / "out.gpkg",
    )
    labels, confidence = read(tmp_path / "out.tif"), read(tmp_path / "out.tif", 2)
    info = pyogrio.read_info(tmp_path / "out.gpkg")
    assert info["features"] == report.polygon_count == len(reference(labels))
    assert "32631" in info["crs"]
    meta, _, wkb, (classes, values, areas, confidences) = pyogrio.raw.read(tmp_path / "out.gpkg")
    assert list(meta["fields"]) == ["class", "value", "area_m2", "confidence_pct"]
    geometry = shapely.from_wkb(wkb)
    assert shapely.is_valid(geometry).all()
    # on the ground: UTM is 0.04 % too short at its middle, which makes 0.08 % of an area
    np.testing.assert_allclose(areas, shapely.area(geometry) / 0.9996**2, rtol=1e-5)
    assert areas.sum() == pytest.approx(90 * 70 * 4 / 0.9996**2, rel=1e-5)
    assert [SPACE.names[v] for v in values] == classes.tolist()
    back = rasterio.features.rasterize(
        list(zip(geometry, range(1, len(geometry) + 1), strict=True)),
        labels.shape,
        transform=from_origin(500_000, 5_600_000, 2, 2),
        dtype="int32",
    )
    np.testing.assert_array_equal(values[back - 1], labels)
    for number in range(min(20, len(values))):
        assert confidences[number] == pytest.approx(confidence[back == number + 1].mean(), abs=0.006)


def test_areas_are_square_metres_in_any_coordinate_system(tmp_path: Path) -> None:
    pixels = np.full((4, 4), 0, np.uint8)[None].repeat(2, axis=0)
    degree = 1 / 3600
    for name, crs, size, transform, expected in (
        ("feet", "EPSG:2263", 1.0, (980_000, 200_000), 16 * 0.3048006096**2),
        # one second of arc at 60 degrees north: 30.94 m x 15.50 m on WGS 84
        ("degrees", "EPSG:4326", degree, (10, 60), 16 * 30.944 * 15.502),
        ("metres", "EPSG:32631", 10.0, (500_000, 5_600_000), 1600.0 / 0.9996**2),
        # a plane four times the ground at 60 degrees north, and a little more: the sphere of EPSG:3857 is no ellipsoid
        ("web", "EPSG:3857", 10.0, (1_196_685, 8_399_738), 401.34),
    ):
        path = write_raster(
            tmp_path / f"{name}.tif", pixels, crs=crs, nodata=255, transform=from_origin(*transform, size, size)
        )
        assert write_polygons(path, tmp_path / f"{name}.gpkg", {0: "all"}) == 1
        area = pyogrio.raw.read(tmp_path / f"{name}.gpkg", columns=["area_m2"])[3][0]
        assert area[0] == pytest.approx(expected, rel=1e-3)


def test_a_map_without_data_has_an_empty_layer(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "none.tif", np.full((2, 40, 40), 255, np.uint8), nodata=255)
    assert write_polygons(path, tmp_path / "none.gpkg", {0: "water"}) == 0
    assert pyogrio.read_info(tmp_path / "none.gpkg")["features"] == 0


def test_strips_cover_the_map_in_any_size(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (100, 80)).astype(np.uint8)
    labels[32:64] = 255
    path = write_raster(tmp_path / "map.tif", np.stack([labels, labels]), nodata=255, sparse_ok=True)
    for strip_px in (100, 1_000, 10**6):
        actual = np.full_like(labels, 255)
        for strip in label_strips(path, strip_px):
            assert strip.labels.size <= max(strip_px, 80)
            actual[strip.top : strip.bottom, strip.left : strip.right] = strip.labels
        np.testing.assert_array_equal(actual, labels)
