"""Outlines that a surveyor accepts: shared borders stay shared, small holes go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pspnet.errors import ConfigError
from pspnet.raster import segment_raster
from pspnet.raster.geopackage import write_polygons
from pspnet.raster.outline_cleaning import Cleaning, fill_holes, simplify, with_junctions
from support.rasters import make_segmenter, outlines, scene, write_raster


@given(arrays(np.uint8, st.tuples(st.integers(2, 12), st.integers(2, 12)), elements=st.integers(0, 3)))
@settings(max_examples=60, deadline=None)
def test_simplified_neighbours_neither_overlap_nor_gape(labels: np.ndarray) -> None:
    shapes, _ = outlines(labels)
    joined = with_junctions(shapes)
    assert shapely.coverage_is_valid(joined)
    np.testing.assert_array_equal(shapely.area(joined), shapely.area(shapes))
    simple = simplify(shapes, 1.0)
    assert shapely.is_valid(simple).all()
    assert shapely.area(simple).sum() == pytest.approx(shapely.union_all(simple).area)
    assert shapely.get_num_coordinates(simple).sum() <= shapely.get_num_coordinates(joined).sum()


def test_small_holes_are_filled_and_what_lay_in_them_is_gone() -> None:
    labels = np.zeros((20, 20), np.uint8)
    labels[3:5, 3:5] = 1  # 4 pixels, of two classes
    labels[4, 4] = 2
    labels[10:16, 10:16] = 1  # 36 pixels
    filled, left = fill_holes(outlines(labels)[0], np.full(4, 10.0))
    assert left.sum() == 2
    assert sorted(shapely.area(filled).tolist()) == [36.0, 364.0]
    assert shapely.area(filled).sum() == shapely.union_all(filled).area == 400


def test_a_map_with_cleaned_polygons(tmp_path: Path) -> None:
    labels = np.zeros((64, 64), np.uint8)
    labels[20:40, 10:40] = 1
    labels[30, 20] = 2
    path = write_raster(tmp_path / "map.tif", np.stack([labels, np.full_like(labels, 90)]), photometric="minisblack")
    names = {0: "ground", 1: "building", 2: "speck"}
    cleaning = Cleaning.of(3.0, 10.0, ("building",), names)
    assert write_polygons(path, tmp_path / "out.gpkg", names, cleaning=cleaning) == 2
    _, _, wkb, (classes, _, areas, _) = pyogrio.raw.read(tmp_path / "out.gpkg")
    house = shapely.from_wkb(wkb)[classes.tolist().index("building")]
    with rasterio.open(path) as file:
        left, top = file.transform * (10, 20)
    assert house.equals(shapely.box(left, top - 40, left + 60, top))
    assert areas[classes.tolist().index("building")] == pytest.approx(60 * 40 / 0.9996**2, rel=1e-4)
    with pytest.raises(ConfigError, match="regularize = roof: the map has the classes water, forest, field"):
        segment_raster(
            make_segmenter(),
            write_raster(tmp_path / "a.tif", scene(64, 64)),
            tmp_path / "b.tif",
            polygons=tmp_path / "b.gpkg",
            regularize="roof",
        )
    with pytest.raises(ConfigError, match="simplify_m"):
        segment_raster(make_segmenter(), tmp_path / "a.tif", tmp_path / "b.tif", simplify_m=1.0)
