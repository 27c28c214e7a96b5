"""Whole rasters: streamed equals whole, any format, gaps, areas of interest, the file that comes out, wrong input."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.transform import Affine, from_origin
from rasterio.windows import Window
from rio_cogeo import cog_validate

from pspnet.config import RasterConfig
from pspnet.errors import ConfigError, OutputError, PspnetError, RasterError
from pspnet.raster import Progress, segment_raster
from pspnet.raster.writing import halve_labels, halve_shares
from support.rasters import SPACE, UTM, MoodyEngine, make_segmenter, read, scene, whole, write_raster
from support.windows import blended

SMALL: dict[str, Any] = {"tile_px": 48, "overlap_px": 12, "block_px": 32}


def expected(pixels: np.ndarray) -> np.ndarray:
    return whole(make_segmenter(len(pixels)), pixels).argmax(axis=0).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (20, 33), (48, 48), (49, 130), (150, 47), (131, 97)])
def test_streamed_labels_are_those_of_the_raster_seen_whole(tmp_path: Path, height: int, width: int) -> None:
    pixels = scene(height, width)
    report = segment_raster(make_segmenter(), write_raster(tmp_path / "in.tif", pixels), tmp_path / "out.tif", **SMALL)
    np.testing.assert_array_equal(read(tmp_path / "out.tif"), expected(pixels))
    assert report.data_share == 1.0
    assert sum(report.shares.values()) == pytest.approx(1.0)
    assert not list(tmp_path.glob("*.part")) + list(tmp_path.glob("*.journal")) + list(tmp_path.glob(".*"))


def test_blended_windows_are_those_of_the_stream(tmp_path: Path) -> None:
    pixels = scene(110, 75)
    segmenter = make_segmenter(engine=MoodyEngine())
    segment_raster(segmenter, write_raster(tmp_path / "in.tif", pixels), tmp_path / "out.tif", confidence=True, **SMALL)
    image = pixels.transpose(1, 2, 0)
    actual = blended(image, segmenter.probabilities, 3, 48, 12)
    np.testing.assert_array_equal(read(tmp_path / "out.tif"), actual.argmax(axis=0))
    np.testing.assert_array_equal(read(tmp_path / "out.tif", 2), np.round(actual.max(axis=0) * 100))


def tiled(path: Path, pixels: np.ndarray) -> str:
    return str(write_raster(path, pixels))


def striped(path: Path, pixels: np.ndarray) -> str:
    return str(write_raster(path, pixels, tiled=False, compress="lzw"))


def planes(path: Path, pixels: np.ndarray) -> str:
    return str(write_raster(path, pixels, interleave="band", bigtiff="yes"))


def cog(path: Path, pixels: np.ndarray) -> str:
    rasterio.shutil.copy(write_raster(path.with_name("plain.tif"), pixels), path, driver="COG", blocksize=128)
    return str(path)


def zipped(path: Path, pixels: np.ndarray) -> str:
    write_raster(path, pixels)
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
        archive.write(path, "inner.tif")
    return f"/vsizip/{path.with_suffix('.zip')}/inner.tif"


def quarters(path: Path, pixels: np.ndarray) -> str:
    """A mosaic of four files that touch, as in ../shared/data/geotiff/plain/rgb1..4.tif."""
    _, height, width = pixels.shape
    parts = []
    for top, bottom in ((0, 40), (40, height)):
        for left, right in ((0, 70), (70, width)):
            name = path.with_name(f"{top}_{left}.tif")
            write_raster(
                name,
                pixels[:, top:bottom, left:right],
                transform=from_origin(500_000 + 2 * left, 5_600_000 - 2 * top, 2, 2),
            )
            parts.append((name.name, top, left, bottom - top, right - left))
    return mosaic(path.with_suffix(".vrt"), height, width, parts)


def mosaic(path: Path, height: int, width: int, parts: list[tuple[str, int, int, int, int]], nodata: str = "") -> str:
    bands = ""
    for band, colour in enumerate(("Red", "Green", "Blue"), start=1):
        inner = "".join(
            f'<SimpleSource><SourceFilename relativeToVRT="1">{name}</SourceFilename><SourceBand>{band}</SourceBand>'
            f'<SrcRect xOff="0" yOff="0" xSize="{wide}" ySize="{high}"/>'
            f'<DstRect xOff="{left}" yOff="{top}" xSize="{wide}" ySize="{high}"/></SimpleSource>'
            for name, top, left, high, wide in parts
        )
        bands += (
            f'<VRTRasterBand dataType="Byte" band="{band}">{nodata}<ColorInterp>{colour}</ColorInterp>{inner}'
            "</VRTRasterBand>"
        )
    path.write_text(
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>{UTM}</SRS>'
        f"<GeoTransform>500000, 2, 0, 5600000, 0, -2</GeoTransform>{bands}</VRTDataset>"
    )
    return str(path)


@pytest.mark.parametrize("layout", [tiled, striped, planes, cog, zipped, quarters])
def test_every_layout_of_the_file_gives_the_same_map(tmp_path: Path, layout: Any) -> None:
    pixels = scene(100, 140)
    segment_raster(make_segmenter(), layout(tmp_path / "in.tif", pixels), tmp_path / "out.tif", **SMALL)
    np.testing.assert_array_equal(read(tmp_path / "out.tif"), expected(pixels))


def test_a_card_may_say_anything_about_its_model(tmp_path: Path) -> None:
    source = write_raster(tmp_path / "in.tif", scene(64, 64))
    segmenter = make_segmenter(provenance={"about": "a model of towns"})
    assert segment_raster(segmenter, source, tmp_path / "out.tif", tile_px=32, overlap_px=8).path.is_file()


def test_the_map_lies_where_the_raster_lies_and_is_cloud_optimised(tmp_path: Path) -> None:
    source = write_raster(tmp_path / "in.tif", scene(150, 200))
    segment_raster(make_segmenter(), source, tmp_path / "out.tif", **SMALL)
    with rasterio.open(source) as before, rasterio.open(tmp_path / "out.tif") as after:
        assert (after.crs, after.transform, after.shape) == (before.crs, before.transform, before.shape)
        assert after.count == 1
        assert after.nodata == 255
        assert after.overviews(1) == [2, 4, 8]
        assert after.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert [after.colormap(1)[i][:3] for i in range(3)] == list(SPACE.colours)
        assert after.descriptions == ("class",)
        assert after.tags()["TIFFTAG_SOFTWARE"] == "pspnet"
        assert json.loads(after.tags()["CLASSES"]) == {"0": "water", "1": "forest", "2": "field"}
        full = after.read(1)
    padded = np.pad(full, ((0, 0), (0, 0)), constant_values=255)
    with rasterio.open(tmp_path / "out.tif", overview_level=0) as half:
        np.testing.assert_array_equal(half.read(1), halve_labels(padded))
    assert cog_validate(str(tmp_path / "out.tif"), strict=True) == (True, [], [])
    root = ElementTree.parse(tmp_path / "out.tif.aux.xml").getroot()
    rows = [[cell.text for cell in row] for row in root.iter("Row")]
    assert [row[2] for row in rows] == ["water", "forest", "field"]
    assert [int(row[1] or 0) for row in rows] == np.bincount(full.ravel(), minlength=3).tolist()
    assert [c.text for c in root.iter("Category")] == ["water", "forest", "field"]


def test_overviews_take_the_most_frequent_label_and_the_mean_share() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(np.array([0, 1, 2, 255], np.uint8), (64, 64))
    small, shares = halve_labels(labels), halve_shares(labels)
    for row in range(32):
        for column in range(32):
            four = labels[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].ravel()
            known = four[four != 255]
            if not len(known):
                assert small[row, column] == shares[row, column] == 255
                continue
            counts = np.bincount(known)
            assert counts[small[row, column]] == counts.max()
            assert abs(float(shares[row, column]) - known.mean()) <= 0.5


def test_optional_bands(tmp_path: Path) -> None:
    pixels = scene(70, 90)
    report = segment_raster(
        make_segmenter(),
        write_raster(tmp_path / "in.tif", pixels),
        tmp_path / "out.tif",
        confidence=True,
        entropy=True,
        probabilities=True,
        unsure_below=0.6,
        **SMALL,
    )
    actual = whole(make_segmenter(), pixels)
    labels = np.where(actual.max(axis=0) < 0.6, 3, actual.argmax(axis=0))
    assert 0 < (labels == 3).mean() < 1
    assert report.shares["unsure"] == pytest.approx((labels == 3).mean())
    entropy = -(actual * np.log(actual)).sum(axis=0) / np.log(3)
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.descriptions == (
            "class",
            "confidence (%)",
            "entropy (%)",
            "probability of water (%)",
            "probability of forest (%)",
            "probability of field (%)",
        )
        bands = file.read()
        assert file.colormap(1)[3][:3] == (160, 160, 160)
    np.testing.assert_array_equal(bands[0], labels)
    for band, share in zip(bands[1:], [actual.max(axis=0), entropy, *actual], strict=True):
        np.testing.assert_allclose(band, share * 100, atol=0.51)
    assert cog_validate(str(tmp_path / "out.tif"), strict=True) == (True, [], [])


def test_codes_of_the_training_data_may_be_written(tmp_path: Path) -> None:
    pixels = scene(40, 40)
    segment_raster(
        make_segmenter(), write_raster(tmp_path / "in.tif", pixels), tmp_path / "out.tif", codes=True, **SMALL
    )
    np.testing.assert_array_equal(read(tmp_path / "out.tif"), SPACE.encode(expected(pixels)))
    assert json.loads(rasterio.open(tmp_path / "out.tif").tags()["CLASSES"])["20"] == "forest"


def test_nodata_alpha_and_nan_become_nodata(tmp_path: Path) -> None:
    pixels = scene(100, 100)
    hole = np.zeros((100, 100), bool)
    hole[30:80, 10:75] = True
    labels = np.where(hole, 255, expected(pixels))
    named = write_raster(tmp_path / "nodata.tif", np.where(hole, 0, pixels).astype(np.uint8), nodata=0)
    alpha = write_raster(
        tmp_path / "alpha.tif", np.concatenate([pixels, np.where(hole, 0, 255)[None]]).astype(np.uint8), alpha="yes"
    )
    nan = write_raster(
        tmp_path / "nan.tif", np.where(hole, np.nan, pixels).astype(np.float32), photometric="minisblack"
    )
    bare = write_raster(tmp_path / "bare.tif", np.where(hole, 0, pixels).astype(np.uint8))
    for source, nodata in ((named, None), (alpha, None), (nan, None), (bare, 0)):
        report = segment_raster(make_segmenter(), source, tmp_path / f"out_{source.name}", nodata=nodata, **SMALL)
        np.testing.assert_array_equal(read(report.path), labels)
        assert report.data_share == pytest.approx(1 - hole.mean())


def test_a_pixel_with_one_good_band_is_seen_with_the_mean_in_the_others(tmp_path: Path) -> None:
    pixels = scene(50, 50).astype(np.float32)
    holed = pixels.copy()
    holed[1, 10:20] = np.nan
    source = write_raster(tmp_path / "in.tif", holed)
    segment_raster(make_segmenter(), source, tmp_path / "out.tif", **SMALL)
    filled = np.where(np.isnan(holed), np.float32(100), holed)
    np.testing.assert_array_equal(read(tmp_path / "out.tif"), expected(filled))


def test_a_nodata_raster_is_not_looked_at(tmp_path: Path) -> None:
    segmenter = make_segmenter()
    source = write_raster(tmp_path / "in.tif", np.zeros((3, 100, 100), np.uint8), nodata=0)
    report = segment_raster(segmenter, source, tmp_path / "out.tif", **SMALL)
    assert segmenter.engine.computed == 0  # type: ignore[attr-defined]
    assert report.data_share == 0
    assert (read(tmp_path / "out.tif") == 255).all()


@pytest.mark.parametrize("kind", ["sparse", "mosaic"])
def test_a_huge_raster_that_is_mostly_empty_is_skipped_fast(tmp_path: Path, kind: str) -> None:
    side, pixels = 60_000, scene(300, 400)
    if kind == "sparse":
        source = str(tmp_path / "in.tif")
        with rasterio.open(
            source,
            "w",
            driver="GTiff",
            width=side,
            height=side,
            count=3,
            dtype="uint8",
            nodata=0,
            tiled=True,
            blockxsize=512,
            blockysize=512,
            SPARSE_OK="TRUE",
            compress="deflate",
            crs=UTM,
            transform=from_origin(500_000, 5_600_000, 2, 2),
            photometric="rgb",
        ) as file:
            file.write(pixels, window=Window(50_000, 30_000, 400, 300))
    else:
        write_raster(tmp_path / "part.tif", pixels)
        source = mosaic(
            tmp_path / "in.vrt", side, side, [("part.tif", 30_000, 50_000, 300, 400)], "<NoDataValue>0</NoDataValue>"
        )
    segmenter = make_segmenter()
    report = segment_raster(segmenter, source, tmp_path / "out.tif")
    assert segmenter.engine.computed <= 4  # type: ignore[attr-defined]  of 6,000 windows
    assert report.seconds < 20
    with rasterio.open(tmp_path / "out.tif") as file:
        actual = file.read(1, window=Window(49_999, 29_999, 402, 302))
        assert file.shape == (side, side)
    np.testing.assert_array_equal(actual, np.pad(expected(pixels), 1, constant_values=255))
    assert Path(tmp_path / "out.tif").stat().st_size < 2_000_000


def test_an_area_of_interest_cuts_the_grid_and_masks_outside(tmp_path: Path) -> None:
    pixels = scene(120, 160)
    source = write_raster(tmp_path / "in.tif", pixels)
    box = (500_000 + 2 * 30, 5_600_000 - 2 * 100, 500_000 + 2 * 90, 5_600_000 - 2 * 20)
    segment_raster(make_segmenter(), source, tmp_path / "box.tif", aoi=box, **SMALL)
    np.testing.assert_array_equal(read(tmp_path / "box.tif"), expected(pixels)[20:100, 30:90])
    with rasterio.open(tmp_path / "box.tif") as file:
        assert file.transform == from_origin(500_060, 5_599_960, 2, 2)
    # a triangle in another coordinate system
    shapely, pyproj = pytest.importorskip("shapely"), pytest.importorskip("pyproj")
    corners = np.array([(500_060, 5_599_800), (500_180, 5_599_800), (500_060, 5_599_960)], float)
    to_degrees = pyproj.Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    ring = np.column_stack(to_degrees.transform(*corners.T)).tolist()
    area = tmp_path / "area.geojson"
    area.write_text(
        json.dumps(
            {
                "type": "FeatureCollection",
                "features": [
                    {
                        "type": "Feature",
                        "properties": {},
                        "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
                    }
                ],
            }
        )
    )
    segment_raster(make_segmenter(), source, tmp_path / "triangle.tif", aoi=area, **SMALL)
    actual = read(tmp_path / "triangle.tif")
    rows, columns = np.mgrid[:80, :60]
    centres = shapely.points(500_061 + 2 * columns, 5_599_959 - 2 * rows)
    inside = shapely.contains(shapely.Polygon(corners), centres)
    edge = shapely.distance(shapely.boundary(shapely.Polygon(corners)), centres) < 0.01
    np.testing.assert_array_equal(
        np.where(edge, 0, actual), np.where(edge, 0, np.where(inside, expected(pixels)[20:100, 30:90], 255))
    )


def test_an_area_on_both_sides_of_180_degrees(tmp_path: Path) -> None:
    """A raster of 179 to 181 degrees, an area that is cut at 180 as RFC 7946 asks: both halves are classified."""
    corner = from_origin(179, 1, 1 / 32, 1 / 32)
    source = write_raster(tmp_path / "in.tif", scene(64, 64), crs="EPSG:4326", transform=corner)
    halves = [((179.5, -0.5), (180, 0.5)), ((-180, -0.5), (-179.5, 0.5))]
    rings = [[[[a, b], [c, b], [c, d], [a, d], [a, b]]] for (a, b), (c, d) in halves]
    area = tmp_path / "area.geojson"
    shape = {"type": "Feature", "properties": {}, "geometry": {"type": "MultiPolygon", "coordinates": rings}}
    area.write_text(json.dumps({"type": "FeatureCollection", "features": [shape]}))
    report = segment_raster(make_segmenter(), source, tmp_path / "out.tif", aoi=area, **SMALL)
    assert (report.height, report.width, report.data_share) == (32, 32, 1.0)


def test_areas_that_miss_or_are_empty_are_refused(tmp_path: Path) -> None:
    source = write_raster(tmp_path / "in.tif", scene(40, 40))
    with pytest.raises(RasterError, match="does not touch"):
        segment_raster(make_segmenter(), source, tmp_path / "out.tif", aoi=(2.9, 50.0, 3.0, 50.1), aoi_crs="EPSG:4326")
    with pytest.raises(RasterError, match=r"\(500000, 5599920, 500080, 5600000\).*in degrees\? .*aoi_crs=EPSG:4326"):
        segment_raster(make_segmenter(), source, tmp_path / "out.tif", aoi=(2.9, 50.0, 3.0, 50.6))
    with pytest.raises(RasterError, match=r"'EPSG:99999', which is no coordinate system"):
        segment_raster(make_segmenter(), source, tmp_path / "out.tif", aoi=(2.9, 50.0, 3.0, 50.6), aoi_crs="EPSG:99999")
    empty = tmp_path / "empty.geojson"
    empty.write_text('{"type": "FeatureCollection", "features": []}')
    with pytest.raises(RasterError, match="no polygon"):
        segment_raster(make_segmenter(), source, tmp_path / "out.tif", aoi=empty)
    with pytest.raises(ConfigError, match="left < right"):
        RasterConfig(aoi=(5, 0, 1, 1))
    assert not (tmp_path / "out.tif").exists()


def test_rotated_and_geographic_grids_are_kept(tmp_path: Path) -> None:
    pixels = scene(50, 60)
    rotated = Affine.translation(500_000, 5_600_000) @ Affine.rotation(30) @ Affine.scale(2, -2)
    for name, options in (
        ("rotated", {"transform": rotated}),
        ("degrees", {"crs": "EPSG:4326", "transform": from_origin(-115.3, 36.2, 2.7e-6, 2.7e-6)}),
    ):
        source = write_raster(tmp_path / f"{name}.tif", pixels, **options)
        segment_raster(make_segmenter(), source, tmp_path / f"{name}_out.tif", **SMALL)
        with rasterio.open(source) as before, rasterio.open(tmp_path / f"{name}_out.tif") as after:
            assert after.transform.almost_equals(before.transform, 1e-12)
            assert after.crs == before.crs == CRS.from_user_input(options.get("crs", UTM))
            np.testing.assert_array_equal(after.read(1), expected(pixels))


def test_a_raster_without_a_coordinate_system_is_mapped_with_a_warning(tmp_path: Path) -> None:
    source = write_raster(tmp_path / "in.tif", scene(40, 40), crs=None, transform=Affine.identity())
    with pytest.warns(UserWarning, match="no coordinate system"):
        segment_raster(make_segmenter(), source, tmp_path / "out.tif", **SMALL)
    np.testing.assert_array_equal(read(tmp_path / "out.tif"), expected(scene(40, 40)))


def test_bands_are_found_by_name_by_colour_or_taken_in_order(tmp_path: Path) -> None:
    pixels = scene(40, 40)
    swapped = write_raster(tmp_path / "bgr.tif", np.concatenate([pixels[::-1], pixels[:1]]), photometric="minisblack")
    with rasterio.open(swapped, "r+") as file:
        file.descriptions = ("Blue", "Green", "Red", "NIR")
    segment_raster(make_segmenter(), swapped, tmp_path / "named.tif", **SMALL)
    np.testing.assert_array_equal(read(tmp_path / "named.tif"), expected(pixels))
    plain = write_raster(tmp_path / "four.tif", np.concatenate([pixels, pixels[:1]]), photometric="minisblack")
    with pytest.warns(UserWarning, match=r"taken as red, green, blue"):
        segment_raster(make_segmenter(), plain, tmp_path / "guessed.tif", **SMALL)
    np.testing.assert_array_equal(read(tmp_path / "guessed.tif"), expected(pixels))
    segment_raster(make_segmenter(), plain, tmp_path / "chosen.tif", bands=(3, 2, 1), **SMALL)
    np.testing.assert_array_equal(read(tmp_path / "chosen.tif"), expected(pixels[::-1]))
    single = write_raster(tmp_path / "one.tif", pixels[:1])
    with pytest.raises(RasterError, match=r"1 band besides alpha.*reads 3: red, green, blue"):
        segment_raster(make_segmenter(), single, tmp_path / "no.tif")
    with pytest.raises(RasterError, match="no band 7"):
        segment_raster(make_segmenter(), plain, tmp_path / "no.tif", bands=(1, 2, 7))


def test_values_unlike_the_training_are_told_with_both_ranges(tmp_path: Path) -> None:
    deep = write_raster(tmp_path / "deep.tif", scene(40, 40).astype(np.uint16) * 40)
    with pytest.warns(UserWarning, match=r"uint16.*trained on 0 to 255"):
        segment_raster(make_segmenter(), deep, tmp_path / "deep_out.tif", **SMALL)
    small = write_raster(tmp_path / "small.tif", scene(40, 40).astype(np.float32) / 255)
    with pytest.warns(UserWarning, match="float32.*cannot be trusted"):
        segment_raster(make_segmenter(), small, tmp_path / "small_out.tif", **SMALL)


def test_files_that_exist_are_refused_without_overwrite(tmp_path: Path) -> None:
    source = write_raster(tmp_path / "in.tif", scene(40, 40))
    (tmp_path / "out.tif").write_text("dear")
    with pytest.raises(OutputError, match="exists"):
        segment_raster(make_segmenter(), source, tmp_path / "out.tif", **SMALL)
    assert (tmp_path / "out.tif").read_text() == "dear"
    segment_raster(make_segmenter(), source, tmp_path / "out.tif", overwrite=True, **SMALL)
    np.testing.assert_array_equal(read(tmp_path / "out.tif"), expected(scene(40, 40)))
    with pytest.raises(OutputError, match="is an input"):
        segment_raster(make_segmenter(), source, source, overwrite=True)


@pytest.mark.parametrize(("target", "word"), [("out.png", "ends with .tif"), ("file/out.tif", "not a folder")])
def test_targets_that_cannot_be_are_refused_before_the_start(tmp_path: Path, target: str, word: str) -> None:
    source = write_raster(tmp_path / "in.tif", scene(40, 40))
    (tmp_path / "file").touch()
    with pytest.raises(PspnetError, match=word):
        segment_raster(make_segmenter(), source, tmp_path / target)


def test_inputs_that_are_none_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "text.tif").write_text("no raster")
    for name in ("text.tif", "missing.tif"):
        with pytest.raises(RasterError, match=name):
            segment_raster(make_segmenter(), tmp_path / name, tmp_path / "out.tif")
    complex_file = write_raster(tmp_path / "complex.tif", np.ones((3, 8, 8), np.complex64), photometric="minisblack")
    with pytest.raises(RasterError, match="complex numbers"):
        segment_raster(make_segmenter(), complex_file, tmp_path / "out.tif")


def test_settings_that_contradict_are_refused() -> None:
    for settings, word in (
        ({"overlap_px": 600}, "half of the tile"),
        ({"aoi_crs": "EPSG:4326"}, "without a box"),
        ({"min_area_m2": 9.0}, "without polygons"),
        ({"polygons": "a.shp"}, "GeoPackage"),
        ({"block_px": 100}, "multiple of 16"),
        ({"tile": 4}, "tile"),
    ):
        with pytest.raises(ConfigError, match=word):
            RasterConfig(**settings)


def test_progress_is_told_to_the_end(tmp_path: Path) -> None:
    reports: list[Progress] = []
    source = write_raster(tmp_path / "in.tif", scene(100, 100))
    segment_raster(make_segmenter(), source, tmp_path / "out.tif", progress=reports.append, **SMALL)
    assert reports[-1].stage == "overviews"
    segmenting = [p for p in reports if p.stage == "segmenting"]
    assert segmenting[-1].done_px == segmenting[-1].total_px == 10_000
    assert segmenting[-1].seconds_left == 0
    assert segmenting[-1].megapixels_per_s > 0


@pytest.mark.slow
def test_the_real_quarters_give_the_map_of_the_scene(tmp_path: Path, shared: Path) -> None:
    """rgb1..4.tif overlap or touch; their mosaic is the scene, but for rows and columns that no quarter has."""
    plain = shared / "data" / "geotiff" / "plain"
    shutil.copy(plain / "RGB.byte.tif", tmp_path / "scene.tif")
    segment_raster(make_segmenter(), tmp_path / "scene.tif", tmp_path / "scene_map.tif", tile_px=256, overlap_px=64)
    with rasterio.open(tmp_path / "scene_map.tif") as file:
        scene_map, grid = file.read(1), file.transform
    for number in (1, 2, 3, 4):
        segment_raster(
            make_segmenter(), plain / f"rgb{number}.tif", tmp_path / f"{number}.tif", tile_px=256, overlap_px=64
        )
        with rasterio.open(tmp_path / f"{number}.tif") as file:
            column, row = (round(v) for v in ~grid @ file.transform @ (0, 0))
            part = file.read(1)
        np.testing.assert_array_equal(part, scene_map[row : row + part.shape[0], column : column + part.shape[1]])


def test_what_an_earlier_map_left_beside_is_no_part_of_the_new_one(tmp_path: Path) -> None:
    """A mask of the same name would hide the new map's pixels, overviews would show the old one's."""
    source = write_raster(tmp_path / "a.tif", scene(64, 64))
    target = tmp_path / "map.tif"
    write_raster(target, scene(64, 64))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="NO"), rasterio.open(target, "r+") as file:
        file.write_mask(np.zeros((64, 64), np.uint8))
    assert (tmp_path / "map.tif.msk").exists()
    target.unlink()
    with pytest.raises(OutputError, match=r"map\.tif\.msk' exists; GDAL would take it for a part"):
        segment_raster(make_segmenter(), source, target, tile_px=64, overlap_px=16)
    segment_raster(make_segmenter(), source, target, tile_px=64, overlap_px=16, overwrite=True)
    with rasterio.open(target) as file:
        assert (file.dataset_mask() == 255).all()
