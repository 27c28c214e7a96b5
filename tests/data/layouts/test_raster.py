"""Training data from rasters: labels land on the image's grid from anywhere, gaps are ignored, splits do not touch."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import rasterio.features
import shapely
from pyproj import Transformer
from rasterio.transform import from_origin
from rasterio.warp import Resampling, calculate_default_transform, reproject

from pspnet.data.catalog import available_splits, open_dataset
from pspnet.data.doctor import check_dataset, check_splits
from pspnet.data.layouts.raster import RasterWindows
from pspnet.data.layouts.raster_blocks import blocks_of, divide
from pspnet.errors import ConfigError, DataError, ImageError, LabelError, RasterError
from pspnet.georaster.grids import Grid
from pspnet.georaster.labels import RasterLabels
from pspnet.georaster.vector_labels import VectorLabels
from pspnet.labels import IGNORE, LabelSpace
from support.rasters import SPACE, UTM, scene, write_raster

SIDE = 160
CLASSES = "code,name,red,green,blue\n10,water,0,80,220\n20,forest,10,120,20\n30,field,230,200,60\n"


def truth(side: int = SIDE) -> np.ndarray:
    """(side, side) labels 0..2: stripes, a disc and blocks, larger than a few pixels."""
    rows, columns = np.mgrid[:side, :side]
    labels = (columns // 20 % 2).astype(np.uint8)
    labels[(rows - 80) ** 2 + (columns - 70) ** 2 < 30**2] = 2
    return labels


def polygons_of(labels: np.ndarray, grid: Grid) -> list[tuple[Any, str]]:
    shapes = rasterio.features.shapes(labels.astype(np.uint8), transform=grid.transform)
    return [(shapely.geometry.shape(shape), SPACE.names[int(value)]) for shape, value in shapes]


def write_vectors(path: Path, shapes: list[tuple[Any, Any]], crs: str = UTM, field: str = "class") -> Path:
    geometries = np.array([shape for shape, _ in shapes], object)
    if crs != UTM:
        move = Transformer.from_crs(UTM, crs, always_xy=True)
        geometries = shapely.transform(geometries, lambda p: np.column_stack(move.transform(p[:, 0], p[:, 1])))
    values = np.array([value for _, value in shapes])
    pyogrio.raw.write(
        path,
        shapely.to_wkb(geometries),
        [values if values.dtype.kind in "if" else values.astype(object)],
        [field],
        geometry_type="Unknown",
        crs=crs,
        driver={".shp": "ESRI Shapefile", ".gpkg": "GPKG"}.get(path.suffix, "GeoJSON"),
    )
    return path


def make(root: Path, pixels: np.ndarray | None = None, **options: Any) -> Grid:
    """images/town.tif and classes.csv; the labels are each test's own."""
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    (root / "classes.csv").write_text(CLASSES)
    write_raster(root / "images" / "town.tif", scene(SIDE, SIDE) if pixels is None else pixels, **options)
    with rasterio.open(root / "images" / "town.tif") as file:
        return Grid(file.crs, file.transform, SIDE, SIDE)


def whole(dataset: RasterWindows) -> np.ndarray:
    """All labels of a data set of grid windows over one image, put together."""
    actual = np.full((SIDE, SIDE), 99, np.uint8)
    for index in range(len(dataset)):
        actual[dataset.place(index)[1].slices] = dataset[index].labels
    return actual


def codes(labels: np.ndarray) -> np.ndarray:
    return (labels * 10 + 10).astype(np.uint8)


def open_all(root: Path, **options: Any) -> RasterWindows:
    dataset = open_dataset("raster", root, "all", window_px=64, **options)
    assert isinstance(dataset, RasterWindows)
    return dataset


def test_a_label_raster_on_the_same_grid(tmp_path: Path) -> None:
    make(tmp_path)
    write_raster(tmp_path / "labels" / "town.tif", codes(truth())[None])
    dataset = open_all(tmp_path)
    np.testing.assert_array_equal(whole(dataset), truth())
    assert dataset.label_space.names == SPACE.names
    assert dataset.band_names == ("red", "green", "blue")
    sample = dataset[0]
    window = dataset.place(0)[1]
    np.testing.assert_array_equal(sample.image, scene(SIDE, SIDE)[:, *window.slices].transpose(1, 2, 0))
    assert dataset.grid(0).transform.c == 500_000 + 2 * window.left
    assert check_dataset(dataset).ok


def test_a_window_that_is_drawn_twice_is_no_copy(tmp_path: Path) -> None:
    make(tmp_path)
    write_raster(tmp_path / "labels" / "town.tif", codes(truth())[None])
    options: dict[str, Any] = {
        "window_px": 64,
        "block_px": 64,
        "windows": 12,
    }  # a block holds one window: it comes again
    dataset = open_dataset("raster", tmp_path, "train", **options)
    assert len({dataset[index].image.tobytes() for index in range(12)}) < 12
    assert "repeated" not in {fault.kind for fault in check_splits("raster", tmp_path, ["train"], options).faults}


def test_label_rasters_of_another_resolution_extent_and_nodata(tmp_path: Path) -> None:
    make(tmp_path)
    # four label pixels for each image pixel, only the middle part, nodata 0 in a corner of it
    fine = codes(truth()).repeat(2, axis=0).repeat(2, axis=1)[60:280, 40:300]
    fine[:20, :20] = 0
    write_raster(
        tmp_path / "labels" / "town.tif",
        fine[None],
        nodata=0,
        transform=from_origin(500_000 + 40, 5_600_000 - 60, 1, 1),
    )
    expected = np.full((SIDE, SIDE), IGNORE, np.uint8)
    expected[30:140, 20:150] = truth()[30:140, 20:150]
    expected[30:40, 20:30] = IGNORE
    with pytest.warns(UserWarning, match="2 times smaller"):
        np.testing.assert_array_equal(whole(open_all(tmp_path)), expected)


def test_label_rasters_in_degrees_are_gdals_own_nearest_warp(tmp_path: Path) -> None:
    grid = make(tmp_path)
    transform, width, height = calculate_default_transform(UTM, "EPSG:4326", SIDE, SIDE, *grid.bounds, resolution=2e-6)
    degrees = np.zeros((height, width), np.uint8)
    reproject(
        codes(truth()),
        degrees,
        src_transform=grid.transform,
        src_crs=UTM,
        dst_transform=transform,
        dst_crs="EPSG:4326",
        resampling=Resampling.nearest,
    )
    write_raster(tmp_path / "labels" / "town.tif", degrees[None], crs="EPSG:4326", transform=transform, nodata=0)
    with pytest.warns(UserWarning, match=r"times smaller.*may vanish"):
        actual = whole(open_all(tmp_path))
    inner = np.s_[2:-2, 2:-2]
    assert (actual[inner] == truth()[inner]).mean() > 0.99  # label pixels are a tenth of the image's: borders agree
    assert set(np.unique(actual[inner])) <= {0, 1, 2}


@pytest.mark.parametrize(
    ("name", "crs"),
    [("town.geojson", "EPSG:4326"), ("town.gpkg", UTM), ("town.gpkg", "EPSG:3857"), ("town.shp", "EPSG:32632")],
)
def test_vectors_of_any_coordinate_system(tmp_path: Path, name: str, crs: str) -> None:
    grid = make(tmp_path)
    write_vectors(tmp_path / "labels" / name, polygons_of(truth(), grid), crs)
    dataset = open_all(tmp_path)
    actual = whole(dataset)
    assert (actual != truth()).mean() < (0.002 if crs != UTM else 1e-9)
    assert check_dataset(dataset).ok


def test_background_area_and_what_nobody_labelled(tmp_path: Path) -> None:
    make(tmp_path)
    house = shapely.box(500_040, 5_599_800, 500_100, 5_599_900)
    write_vectors(tmp_path / "labels" / "town.gpkg", [(house, "field")])
    write_vectors(tmp_path / "area.gpkg", [(shapely.box(500_000, 5_599_760, 500_200, 5_600_000), "x")])
    burned = np.zeros((SIDE, SIDE), bool)
    burned[50:100, 20:50] = True
    np.testing.assert_array_equal(whole_or_ignore(open_all(tmp_path)), np.where(burned, 2, IGNORE))
    np.testing.assert_array_equal(whole(open_all(tmp_path, background="water")), np.where(burned, 2, 0))
    labelled = np.zeros((SIDE, SIDE), bool)
    labelled[:120, :100] = True
    actual = whole_or_ignore(open_all(tmp_path, background="water", area="area.gpkg"))
    np.testing.assert_array_equal(actual, np.where(labelled, np.where(burned, 2, 0), IGNORE))


def whole_or_ignore(dataset: RasterWindows) -> np.ndarray:
    actual = whole(dataset)
    actual[actual == 99] = IGNORE  # windows that no label touches are left out
    return actual


def test_self_intersections_third_dimension_and_small_on_large(tmp_path: Path) -> None:
    make(tmp_path)
    large = shapely.box(500_000, 5_599_680, 500_320, 5_600_000)
    bow = shapely.Polygon([(500_040, 5_599_800), (500_080, 5_599_840), (500_080, 5_599_800), (500_040, 5_599_840)])
    high = shapely.force_3d(shapely.box(500_200, 5_599_700, 500_240, 5_599_740), 12.0)
    assert not bow.is_valid
    write_vectors(tmp_path / "labels" / "town.gpkg", [(high, "forest"), (bow, "field"), (large, "water")])
    actual = whole(open_all(tmp_path))
    counts = np.bincount(actual.ravel(), minlength=3)
    assert counts[1] == 20 * 20
    assert abs(counts[2] - 200) <= 10  # two triangles, half of a 20 x 20 px square
    assert counts.sum() == SIDE * SIDE


@pytest.mark.parametrize("crs", [UTM, "EPSG:4326"])
def test_lines_and_points_have_a_width_on_the_ground(tmp_path: Path, crs: str) -> None:
    """In degrees, too, a road of 10 m is 10 m wide from north to south and from west to east."""
    step = {UTM: 1.0, "EPSG:4326": 1 / 111_320}[crs]
    centre = {UTM: (500_000.0, 5_600_000.0), "EPSG:4326": (10.0, 60.0)}[crs]
    wide = step if crs == UTM else step * 2  # at 60 degrees north a degree of longitude is half as long
    (tmp_path / "images").mkdir()
    (tmp_path / "classes.csv").write_text(CLASSES)
    write_raster(
        tmp_path / "images" / "town.tif", scene(SIDE, SIDE), crs=crs, transform=from_origin(*centre, wide, step)
    )
    x, y = centre
    cross = [
        (shapely.LineString([(x + 80 * wide, y), (x + 80 * wide, y - 160 * step)]), "field"),
        (shapely.LineString([(x, y - 40 * step), (x + 160 * wide, y - 40 * step)]), "forest"),
    ]
    geometries = shapely.to_wkb(np.array([shape for shape, _ in cross], object))
    pyogrio.raw.write(
        tmp_path / "roads.geojson",
        geometries,
        [np.array([c for _, c in cross], object)],
        ["class"],
        geometry_type="LineString",
        crs=crs,
        driver="GeoJSON",
    )
    with pytest.raises(ConfigError, match="give width_m"):
        open_all(tmp_path, labels="roads.geojson", background="water")
    actual = whole(open_all(tmp_path, labels="roads.geojson", background="water", width_m=10))
    assert (actual[120] == 2).sum() == pytest.approx(10, abs=1)
    assert (actual[:, 20] == 1).sum() == pytest.approx(10, abs=1)


def test_nodata_in_the_image_is_ignored_and_filled_with_the_mean(tmp_path: Path) -> None:
    pixels = scene(SIDE, SIDE).astype(np.float32)
    pixels[:, 40:90, 100:] = np.nan
    make(tmp_path, pixels)
    write_raster(tmp_path / "labels" / "town.tif", codes(truth())[None])
    dataset = open_all(tmp_path)
    expected = truth()
    expected[40:90, 100:] = IGNORE
    np.testing.assert_array_equal(whole(dataset), expected)
    images = np.stack([dataset[i].image[0, 0] for i in range(len(dataset))])
    assert np.isfinite(images).all()
    filled = np.full((SIDE, SIDE, 3), np.nan)
    for index in range(len(dataset)):
        filled[dataset.place(index)[1].slices] = dataset[index].image
    np.testing.assert_allclose(filled[60, 120], dataset.statistics.mean, rtol=1e-6)
    valid_pixels = pixels[:, np.isfinite(pixels[0])].astype(float)
    np.testing.assert_allclose(dataset.statistics.mean, valid_pixels.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(dataset.statistics.std, valid_pixels.std(axis=1), rtol=1e-4)
    assert dataset.statistics.low == tuple(valid_pixels.min(axis=1))


def test_statistics_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path)
    write_raster(tmp_path / "labels" / "town.tif", codes(truth())[None])
    files = sorted(tmp_path.rglob("*"))
    first = open_all(tmp_path).statistics
    assert sorted(tmp_path.rglob("*")) == files  # they are kept in the cache, not in somebody's data
    monkeypatch.setattr("pspnet.data.layouts.raster_tables._measure", lambda *_: pytest.fail("measured again"))
    assert open_all(tmp_path).statistics == first


def test_any_bands_and_type(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 2047, (6, SIDE, SIDE)).astype(np.uint16)
    make(tmp_path, pixels, photometric="minisblack")
    write_raster(tmp_path / "labels" / "town.tif", codes(truth())[None])
    dataset = open_all(tmp_path)
    assert dataset.bands == 6
    assert dataset[0].image.dtype == np.uint16
    assert dataset.band_names == tuple(f"band_{i}" for i in range(1, 7))
    chosen = open_all(tmp_path, bands=[4, 1])
    np.testing.assert_array_equal(chosen[0].image, dataset[0].image[..., [3, 0]])
    assert chosen.band_names == ("band_4", "band_1")
    with pytest.raises(ConfigError, match="bands 1 to 6"):
        open_all(tmp_path, bands=[7])


def test_train_and_val_share_no_ground(tmp_path: Path) -> None:
    make(tmp_path)
    write_raster(tmp_path / "labels" / "town.tif", codes(truth())[None])
    options: dict[str, Any] = {"window_px": 24, "block_px": 32, "val_share": 0.3}
    train = open_dataset("raster", tmp_path, "train", windows=120, **options)
    val = open_dataset("raster", tmp_path, "val", **options)
    assert isinstance(train, RasterWindows)
    assert isinstance(val, RasterWindows)
    covered, held = np.zeros((SIDE, SIDE), bool), np.zeros((SIDE, SIDE), bool)
    for dataset, mask in ((train, covered), (val, held)):
        for index in range(len(dataset)):
            mask[dataset.place(index)[1].slices] = True
    assert not (covered & held).any()
    assert held.mean() == pytest.approx(0.3, abs=0.05)
    assert covered.mean() > 0.55
    assert len(train) == 120
    assert len({train[i].name for i in range(120)}) == 120
    first, again = train[7], open_dataset("raster", tmp_path, "train", windows=120, **options)[7]
    np.testing.assert_array_equal(first.image, again.image)
    other = open_dataset("raster", tmp_path, "train", windows=120, seed=1, **options)
    assert any(
        (train[i].image.shape, train[i].image.tobytes()) != (other[i].image.shape, other[i].image.tobytes())
        for i in range(5)
    )
    assert available_splits("raster", tmp_path) == ("train", "val")


def test_blocks_without_labels_are_never_held_out() -> None:
    blocks = list(blocks_of(0, 100, 100, 10))
    labelled = [type(b)(b.image, b.window, 1.0 if b.window.top < 50 else 0.0) for b in blocks]
    for seed in range(10):
        val = divide(labelled, ["a"], "val", 0.2, seed)
        assert len(val) == 10
        assert all(block.labelled for block in val)
        assert len(divide(labelled, ["a"], "train", 0.2, seed)) == 90
    slivers = {b.window.height for b in blocks_of(0, 1030, 100, 256)}
    assert slivers == {256, 262}


def test_random_windows_look_for_labels(tmp_path: Path) -> None:
    make(tmp_path)
    spot = np.zeros((SIDE, SIDE), np.uint8)
    spot[100:110, 100:110] = 20
    write_raster(tmp_path / "labels" / "town.tif", spot[None], nodata=0)
    dataset = open_dataset("raster", tmp_path, "all", sampling="random", windows=20, window_px=32)
    shares = [float((dataset[i].labels != IGNORE).mean()) for i in range(20)]  # type: ignore[operator]
    assert np.mean([share > 0 for share in shares]) > 0.8  # a window at a random place has one chance in fifteen


def test_files_by_csv_and_by_folders(tmp_path: Path) -> None:
    make(tmp_path)
    write_raster(tmp_path / "labels" / "town.tif", codes(truth())[None])
    write_raster(tmp_path / "other.tif", scene(64, 64, seed=3))
    write_raster(tmp_path / "other_labels.tif", codes(truth()[:64, :64])[None])
    table = tmp_path / "pairs.csv"
    table.write_text("image,labels,split\nimages/town.tif,labels/town.tif,train\nother.tif,other_labels.tif,test\n")
    assert available_splits("raster", table) == ("train", "test")
    assert open_dataset("raster", table, "test", window_px=64)[0].labels.tolist() == truth()[:64, :64].tolist()  # type: ignore[union-attr]
    with pytest.raises(DataError, match="no split 'val'"):
        open_dataset("raster", table, "val")
    for split in ("train", "val"):
        (tmp_path / "divided" / split).mkdir(parents=True)
        for folder in ("images", "labels"):
            (tmp_path / "divided" / split / folder).symlink_to(tmp_path / folder)
    (tmp_path / "divided" / "classes.csv").write_text(CLASSES)
    assert available_splits("raster", tmp_path / "divided") == ("train", "val")
    assert len(open_dataset("raster", tmp_path / "divided", "val", window_px=160)) == 1


def test_classes_come_from_the_labels_where_there_is_no_table(tmp_path: Path) -> None:
    grid = make(tmp_path)
    (tmp_path / "classes.csv").unlink()
    write_vectors(tmp_path / "labels" / "town.gpkg", polygons_of(truth(), grid))
    assert open_all(tmp_path).label_space.names == ("field", "forest", "water")
    (tmp_path / "labels" / "town.gpkg").unlink()
    write_raster(tmp_path / "labels" / "town.tif", codes(truth())[None])
    assert open_all(tmp_path).label_space == LabelSpace(("class_10", "class_20", "class_30"), (), (10, 20, 30))
    with rasterio.open(tmp_path / "labels" / "town.tif", "r+") as file:
        file.update_tags(CLASSES=json.dumps({"10": "water", "20": "forest", "30": "field"}))
    assert open_all(tmp_path).label_space.names == SPACE.names


def test_wrong_labels_are_named(tmp_path: Path) -> None:
    grid = make(tmp_path)
    target = tmp_path / "labels" / "town.gpkg"
    write_vectors(target, [*polygons_of(truth(), grid), (shapely.box(*grid.bounds), "swamp")])
    with pytest.raises(LabelError, match=r"town.gpkg.*'swamp' \(1 features\).*water, forest, field"):
        open_all(tmp_path)
    open_all(tmp_path, ignored=["swamp"])
    with pytest.raises(RasterError, match="no field 'kind'; it has: class"):
        open_all(tmp_path, class_field="kind")
    target.unlink()
    write_raster(
        tmp_path / "labels" / "town.tif", codes(truth())[None], transform=from_origin(600_000, 5_600_000, 2, 2)
    )
    with pytest.raises(LabelError, match="does not overlap"):
        open_all(tmp_path)
    write_raster(tmp_path / "labels" / "town.tif", np.full((1, SIDE, SIDE), 34, np.uint8))
    dataset = open_all(tmp_path)
    with pytest.raises(LabelError, match=r"code 34"):
        dataset[0]
    assert not check_dataset(dataset).ok
    write_raster(tmp_path / "labels" / "town.tif", np.full((1, SIDE, SIDE), 10.5, np.float32))
    with pytest.raises(LabelError, match="fractions"):
        open_all(tmp_path)[0]
    (tmp_path / "labels" / "town.tif").unlink()
    with pytest.raises(DataError, match=r"town.tif' has no labels"):
        open_all(tmp_path)
    write_vectors(target, polygons_of(truth(), grid), crs=UTM)
    write_raster(tmp_path / "images" / "town.tif", scene(SIDE, SIDE), crs=None)
    with pytest.raises(RasterError, match="coordinate system"):
        open_all(tmp_path)
    with pytest.raises(ConfigError, match="sampling"):
        open_all(tmp_path, sampling="sometimes")


def test_a_broken_image_is_a_fault_of_its_samples(tmp_path: Path) -> None:
    make(tmp_path, compress="lzw")
    write_raster(tmp_path / "labels" / "town.tif", codes(truth())[None])
    with rasterio.open(tmp_path / "images" / "town.tif") as file:
        offset = int(file.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))
    with open(tmp_path / "images" / "town.tif", "r+b") as raw:
        raw.seek(offset)
        raw.write(b"\xff" * 60)
    dataset = open_all(tmp_path)
    with pytest.raises(ImageError, match=r"town.tif' cannot be read at rows 0 to 63"):
        dataset[0]
    report = check_dataset(dataset)
    assert len(report.errors) == 1


def test_a_data_set_goes_to_another_process(tmp_path: Path) -> None:
    grid = make(tmp_path)
    write_vectors(tmp_path / "labels" / "town.gpkg", polygons_of(truth(), grid))
    dataset = open_all(tmp_path)
    before = dataset[3]
    after = pickle.loads(pickle.dumps(dataset))[3]
    np.testing.assert_array_equal(before.image, after.image)
    np.testing.assert_array_equal(before.labels, after.labels)


@pytest.mark.slow
def test_real_buildings_and_roads(shared: Path, tmp_path: Path) -> None:
    """What is burned here is what the data set's makers burned, up to pixels on an outline."""
    spacenet = shared / "data" / "geotiff" / "spacenet"
    with rasterio.open(spacenet / "atlanta_buildings_label.tif") as file:
        grid, codes = Grid(file.crs, file.transform, file.height, file.width), file.read(1)
    space = LabelSpace(("ground", "building"))
    burned = VectorLabels(
        spacenet / "atlanta_buildings.geojson", grid.crs, space, feature_class="building", background="ground"
    ).read(grid)
    assert (burned != codes).mean() < 0.001
    np.testing.assert_array_equal(RasterLabels(spacenet / "atlanta_buildings_label.tif", space).read(grid), codes)
    with rasterio.open(spacenet / "vegas_roads_label.tif") as file:
        grid, codes = Grid(file.crs, file.transform, file.height, file.width), file.read(1)
    roads = VectorLabels(
        spacenet / "vegas_roads.geojson",
        grid.crs,
        LabelSpace(("ground", "road")),
        feature_class="road",
        background="ground",
        width_m=4,
    ).read(grid)
    overlap = ((roads == 1) & (codes == 1)).sum() / ((roads == 1) | (codes == 1)).sum()
    assert overlap > 0.3  # another width than theirs, the same place
    dataset = open_dataset(
        "raster",
        spacenet / "atlanta_pan.tif",
        "train",
        labels="atlanta_buildings.geojson",
        feature_class="building",
        background="ground",
        window_px=256,
    )
    assert dataset[0].image.shape == (256, 256, 1)


def labelled(root: Path, values: np.ndarray, **options: Any) -> None:
    """images/town.tif with labels/town.tif, and no class table."""
    make(root)
    (root / "classes.csv").unlink()
    write_raster(root / "labels" / "town.tif", values, **options)


def test_a_mask_of_0_and_255_without_a_table_is_two_classes(tmp_path: Path) -> None:
    labelled(tmp_path, (truth() == 2)[None] * np.uint8(255))
    dataset = open_all(tmp_path)
    assert (dataset.label_space.names, dataset.label_space.codes) == (("class_0", "class_255"), (0, 255))
    np.testing.assert_array_equal(whole(dataset), truth() == 2)


def test_255_among_other_values_without_a_table_is_ignored_with_a_word(tmp_path: Path) -> None:
    labelled(tmp_path, np.where(truth() == 2, 255, truth())[None].astype(np.uint8))
    with pytest.warns(UserWarning, match="hold 255 beside 2 other values"):
        assert open_all(tmp_path).label_space.codes == (0, 1)


def test_labels_in_colours_are_asked_about_and_read(tmp_path: Path) -> None:
    """The red band happens to hold 0, 1, 2: three bands alone raise the question."""
    colours = np.array([(0, 0, 255), (1, 200, 0), (2, 60, 60)], np.uint8)
    labelled(tmp_path, colours[truth()].transpose(2, 0, 1), photometric="rgb")
    with pytest.raises(LabelError, match=r"town.tif' is a colour image \(2 colours in 3 bands"):
        open_all(tmp_path)
    with pytest.raises(ConfigError, match=r"has no classes\.csv that says which colour"):
        open_all(tmp_path, decode="colours")
    rows = "".join(f"{i},{name},{r},{g},{b}\n" for i, (name, (r, g, b)) in enumerate(zip("abc", colours, strict=True)))
    (tmp_path / "classes.csv").write_text("code,name,red,green,blue\n" + rows)
    with pytest.raises(LabelError, match=r"\d of them in the class table"):
        open_all(tmp_path)[0]
    np.testing.assert_array_equal(whole(open_all(tmp_path, decode="colours")), truth())


def test_whole_numbers_with_a_decimal_point_and_grey_in_three_bands(tmp_path: Path) -> None:
    labelled(tmp_path, truth()[None].astype(np.float32))
    np.testing.assert_array_equal(whole(open_all(tmp_path)), truth())
    write_raster(tmp_path / "labels" / "town.tif", np.repeat(truth()[None], 3, 0))
    np.testing.assert_array_equal(whole(open_all(tmp_path)), truth())
