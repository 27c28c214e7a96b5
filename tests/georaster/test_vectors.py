"""Vector labels as other programs write them: layers, empty values, collapsed shapes, encodings, swapped coordinates."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import shapely
from rasterio.crs import CRS
from rasterio.transform import Affine

from pspnet.data import open_dataset
from pspnet.errors import DataError, LabelError, RasterError
from pspnet.georaster.vectors import field_values, read_features
from support.rasters import scene, write_raster

UTM = CRS.from_epsg(32631)
WEST, NORTH = 500_000, 5_600_000


def houses(count: int = 3) -> list[Any]:
    return [shapely.box(WEST + 20 + 50 * i, NORTH - 60, WEST + 50 + 50 * i, NORTH - 20) for i in range(count)]


def write(path: Path, shapes: list[Any], values: Any = None, **options: Any) -> Path:
    column = np.arange(len(shapes)) if values is None else np.array(values, object)
    settings = {"geometry_type": "Polygon", "crs": "EPSG:32631", **options}
    pyogrio.raw.write(path, shapely.to_wkb(np.array(shapes, object)), [column], ["class"], **settings)
    return path


def town(folder: Path) -> Path:
    (folder / "images").mkdir(parents=True)
    write_raster(folder / "images/a.tif", scene(96, 96))
    return folder


def test_a_file_of_several_layers_asks_which(tmp_path: Path) -> None:
    root = town(tmp_path)
    path = write(root / "survey.gpkg", [shapely.box(WEST, NORTH - 192, WEST + 192, NORTH)], layer="outline")
    write(path, houses(), layer="buildings", append=True)
    options: dict[str, Any] = {"labels": "survey.gpkg", "feature_class": "building", "background": "ground"}
    with pytest.raises(RasterError, match=r"survey\.gpkg.*2 layers: outline, buildings"):
        open_dataset("raster", root, "all", window_px=96, **options)
    labels = open_dataset("raster", root, "all", window_px=96, layer="buildings", **options)[0].labels
    assert labels.mean() == pytest.approx(3 * 15 * 20 / 96**2)
    with pytest.raises(RasterError, match=r"no layer 'roads'; it has: outline, buildings"):
        read_features(path, None, layer="roads")
    assert len(read_features(f"{path}|layername=buildings", UTM).geometries) == 3


def test_a_file_geodatabase_is_a_label_file_though_it_is_a_folder(tmp_path: Path) -> None:
    root = town(tmp_path)
    (root / "labels").mkdir()
    write(root / "labels/a.gdb", houses(), ["water", "field", "water"], driver="OpenFileGDB", layer="land")
    dataset = open_dataset("raster", root, "all", window_px=96)
    assert dataset.label_space.names == ("field", "water")
    assert set(np.unique(dataset[0].labels)) == {0, 1, 255}


def test_features_without_value_or_geometry_are_counted_and_are_no_class(tmp_path: Path) -> None:
    root = town(tmp_path)
    shapes = [*houses(3), None]
    write(root / "land.gpkg", shapes, ["water", None, " ", "field"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dataset = open_dataset("raster", root, "all", labels="land.gpkg", window_px=96)
    texts = " ".join(str(warning.message) for warning in caught)
    assert "1 feature has no geometry" in texts
    assert "2 features have no value in the field 'class'" in texts
    assert dataset.label_space.names == ("water",)
    assert (dataset[0].labels == 0).sum() == 15 * 20


def test_numbers_with_gaps_stay_whole_numbers(tmp_path: Path) -> None:
    root = town(tmp_path)
    pyogrio.raw.write(
        root / "land.gpkg",
        shapely.to_wkb(np.array(houses(), object)),
        [np.array([1, 2, 0])],
        ["class"],
        field_mask=[np.array([False, False, True])],
        geometry_type="Polygon",
        crs="EPSG:32631",
    )
    with pytest.warns(UserWarning, match="1 features have no value"):
        assert open_dataset("raster", root, "all", labels="land.gpkg", window_px=96).label_space.names == ("1", "2")


def test_collapsed_polygons_are_left_out_and_bow_ties_are_not(tmp_path: Path) -> None:
    line = shapely.Polygon([(WEST, NORTH - 20), (WEST + 30, NORTH - 20), (WEST, NORTH - 20), (WEST, NORTH - 20)])
    tie = shapely.Polygon([(WEST, NORTH), (WEST + 20, NORTH - 20), (WEST + 20, NORTH), (WEST, NORTH - 20)])
    path = write(tmp_path / "land.gpkg", [line, tie, *houses(1)])
    with pytest.warns(UserWarning, match="1 feature has no area"):
        actual = read_features(path, UTM).geometries
    assert len(actual) == 2
    assert (shapely.get_dimensions(actual) == 2).all()
    assert shapely.area(actual[0]) == pytest.approx(200)


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
@pytest.mark.parametrize("said", ["nothing", "the wrong one"])
def test_umlauts_of_a_shapefile_whatever_it_says_of_them(tmp_path: Path, encoding: str, said: str) -> None:
    path = write(tmp_path / "land.shp", houses(2), ["Gewässer", "Wald"], encoding="UTF-8")
    table = path.with_suffix(".dbf")
    raw = table.read_bytes()
    if encoding == "cp1252":
        wide, narrow = "Gewässer".encode(), "Gewässer".encode("cp1252")
        raw = raw.replace(wide, narrow.ljust(len(wide)))
    table.write_bytes(raw)
    if said == "nothing":
        path.with_suffix(".cpg").unlink()
    elif encoding == "cp1252":
        path.with_suffix(".cpg").write_text("UTF-8")
    assert field_values(path, "class") == ["Gewässer", "Wald"]


def test_labels_that_miss_every_image_are_refused_and_swapped_ones_named(tmp_path: Path) -> None:
    root = town(tmp_path)
    options: dict[str, Any] = {"labels": "houses.gpkg", "feature_class": "building", "background": "ground"}
    swapped = [shapely.transform(house, lambda p: p[:, ::-1]) for house in houses()]
    write(root / "houses.gpkg", swapped)
    with pytest.raises(LabelError, match=r"does not overlap.*latitude before longitude"):
        open_dataset("raster", root, "all", window_px=96, **options)
    (root / "houses.gpkg").unlink()
    write(root / "houses.gpkg", [shapely.box(0, 0, 1, 1)])
    with pytest.raises(LabelError, match=r"does not overlap.*Look at the coordinate systems"):
        open_dataset("raster", root, "all", window_px=96, **options)


def test_rasters_of_complex_numbers_and_palettes_are_refused_before_training(tmp_path: Path) -> None:
    root = town(tmp_path)
    (root / "labels").mkdir()
    write_raster(root / "labels/a.tif", np.ones((1, 96, 96), np.uint8))
    write_raster(root / "images/a.tif", np.ones((1, 96, 96), np.complex64))
    with pytest.raises((RasterError, DataError), match="complex"):
        open_dataset("raster", root, "all", window_px=96)


def crossing(root: Path, west: float) -> Path:
    """An image of 2 x 2 degrees at the equator, and two houses of a degree that meet at 180 degrees."""
    (root / "images").mkdir(parents=True)
    write_raster(
        root / "images/a.tif", scene(64, 64), crs="EPSG:4326", transform=Affine(1 / 32, 0, west, 0, -1 / 32, 1)
    )
    return root


@pytest.mark.parametrize("west", [179.0, -181.0])
@pytest.mark.parametrize("kind", ["vectors", "raster"])
def test_labels_on_both_sides_of_180_degrees(kind: str, west: float, tmp_path: Path) -> None:
    """An image of 179 to 181 degrees (or -181 to -179), labels of -180 to 180: each half has its label."""
    root = crossing(tmp_path, west)
    if kind == "vectors":
        halves = [shapely.box(179, -0.5, 180, 0.5), shapely.box(-180, -0.5, -179, 0.5)]
        write(root / "labels.geojson", halves, ["house"] * 2, crs="EPSG:4326")
        dataset = open_dataset("raster", root, "all", window_px=64, labels="labels.geojson", background="ground")
        assert dataset[0].labels.sum() == 64 * 32
        return
    (root / "classes.csv").write_text("code,name\n1,east\n2,west\n")
    codes = np.full((1, 20, 360), 1, np.uint8)
    codes[..., :180] = 2  # western longitudes
    write_raster(root / "labels.tif", codes, crs="EPSG:4326", transform=Affine(1, 0, -180, 0, -1, 10))
    with pytest.warns(UserWarning, match="32 times larger"):
        dataset = open_dataset("raster", root, "all", window_px=64, labels="labels.tif")
    labels = dataset[0].labels
    assert labels is not None
    assert (labels[:, :32] == 0).all()
    assert (labels[:, 32:] == 1).all()


def test_images_of_0_to_360_degrees(tmp_path: Path) -> None:
    root = crossing(tmp_path, 200)
    write(root / "labels.geojson", [shapely.box(-160, -0.5, -159, 0.5)], ["house"], crs="EPSG:4326")
    dataset = open_dataset("raster", root, "all", window_px=64, labels="labels.geojson", background="ground")
    assert dataset[0].labels.sum() == 32 * 32


def test_features_drawn_across_180_degrees_are_told(tmp_path: Path) -> None:
    """From 179 to -179 without a cut, one covers everything but two degrees."""
    path = write(tmp_path / "a.geojson", [shapely.box(-179, -1, 179, 1), shapely.box(3, 0, 4, 1)], crs="EPSG:4326")
    for crs in (CRS.from_epsg(4326), CRS.from_epsg(3857)):
        with pytest.warns(UserWarning, match=r"a\.geojson': 1 feature reaches more than half around.*-wrapdateline"):
            read_features(path, crs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_features(write(tmp_path / "b.geojson", [shapely.box(3, 0, 4, 1)], crs="EPSG:4326"), UTM)
        halves = shapely.MultiPolygon([shapely.box(179, 0, 180, 1), shapely.box(-180, 0, -179, 1)])
        read_features(
            write(tmp_path / "c.gpkg", [halves], crs="EPSG:4326", geometry_type="MultiPolygon"), CRS.from_epsg(4326)
        )
