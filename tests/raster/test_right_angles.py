"""Right angles where they belong, and a map without overlap or gap around them."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio import features

from pspnet.raster.outline_cleaning import with_junctions
from pspnet.raster.right_angles import square, squared
from support.rasters import UP, outlines


@pytest.mark.parametrize("degrees", [0, 20, 45, 71])
def test_a_house_of_pixels_becomes_a_house_of_right_angles(degrees: float) -> None:
    house = shapely.affinity.rotate(
        shapely.union(shapely.box(30, -60, 70, -30), shapely.box(30, -80, 45, -60)), degrees
    )
    labels = features.rasterize([(house, 1)], (110, 110), transform=UP)
    stairs = max(outlines(labels)[0], key=lambda shape: shape.intersection(house).area)
    squared = square(stairs)
    assert squared.intersection(house).area / squared.union(house).area > 0.94
    sides = np.diff(shapely.get_coordinates(squared.exterior), axis=0)
    assert len(sides) == 6
    turns = (sides * np.roll(sides, 1, axis=0)).sum(axis=1) / np.linalg.norm(sides, axis=1) ** 2
    np.testing.assert_allclose(turns, 0, atol=1e-9)


def test_what_is_no_house_stays_as_it_is() -> None:
    crescent = shapely.Point(0, 0).buffer(40).difference(shapely.Point(15, 0).buffer(38))
    assert square(crescent).equals(crescent)


def assert_a_map(shapes: np.ndarray, before: np.ndarray) -> None:
    """Valid, without overlap, and over the same ground."""
    assert shapely.is_valid(shapes).all()
    assert (shapely.get_type_id(shapes) == 3).all()
    ground = shapely.union_all(before)
    assert shapely.area(shapes).sum() == pytest.approx(shapely.union_all(shapes).area, abs=1e-4)
    assert shapely.union_all(shapes).symmetric_difference(ground).area == pytest.approx(0, abs=1e-4)


@given(arrays(np.uint8, st.tuples(st.integers(3, 14), st.integers(3, 14)), elements=st.sampled_from([0, 1, 1, 1, 2])))
@settings(max_examples=60, deadline=None)
def test_nothing_overlaps_or_gapes_whatever_lies_side_by_side(labels: np.ndarray) -> None:
    shapes, values = outlines(labels)
    shapes = with_junctions(shapes)
    drawn, origin = squared(shapes, values == 1)
    assert_a_map(drawn, shapes)
    assert set(origin.tolist()) <= set(range(len(shapes)))


def test_a_turned_house_cuts_and_fills_what_lies_around_it() -> None:
    house = shapely.affinity.rotate(shapely.box(30, -60, 70, -30), 20)
    labels = features.rasterize([(house, 1)], (90, 100), transform=UP)
    labels[:, 50:][labels[:, 50:] == 0] = 2  # ground of two kinds, to the left and to the right
    shapes, values = outlines(labels)
    drawn, origin = squared(with_junctions(shapes), values == 1)
    assert_a_map(drawn, shapes)
    (drawn_house,) = drawn[values[origin] == 1]
    assert shapely.get_num_coordinates(drawn_house) == 5
    assert drawn_house.intersection(house).area / drawn_house.union(house).area > 0.96
    others = values[origin] != 1
    assert abs(shapely.area(drawn[others]).sum() - shapely.area(shapes[values != 1]).sum()) < 30
    # where pixels' stairs were, the neighbours now have the house's straight sides
    assert shapely.get_num_coordinates(drawn[others]).sum() < 30


def test_houses_wall_to_wall_and_at_the_maps_end() -> None:
    labels = np.zeros((30, 40), np.uint8)
    labels[5:20, 0:12] = 1
    labels[6:19, 12:25] = 3
    labels[7:18, 25:33] = 1
    labels[18, 27] = 1  # a step out of the third one's wall
    shapes, values = outlines(labels)
    drawn, origin = squared(with_junctions(shapes), np.isin(values, (1, 3)))
    assert_a_map(drawn, shapes)
    sizes = sorted(shapely.area(drawn[values[origin] != 0]).round(3))
    assert sizes[1:] == [169.0, 180.0]
    assert shapely.bounds(drawn).min(axis=0)[0] >= 0


def test_a_strip_that_a_house_cuts_becomes_two() -> None:
    labels = np.zeros((30, 60), np.uint8)
    labels[10:20, 20:40] = 1
    labels[20, :] = 2
    labels[20, 28:32] = 1  # a door step on the strip: the straight wall leaves it, or takes it
    shapes, values = outlines(labels)
    drawn, origin = squared(with_junctions(shapes), values == 1)
    assert_a_map(drawn, shapes)
    assert set(values[origin].tolist()) == {0, 1, 2}
