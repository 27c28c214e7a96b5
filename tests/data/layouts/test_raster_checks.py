"""What the grids and files of a data set of rasters tell when it is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.transform import Affine, from_origin

from pspnet.data.catalog import open_dataset
from pspnet.data.doctor import check_splits
from pspnet.errors import DataError
from pspnet.labels import IGNORE
from support.rasters import scene, write_raster

HERE = (500_000, 5_600_000)


def town(root: Path, pixels: np.ndarray | None = None, **labels: Any) -> Path:
    """An image of 64 px of 2 m and its label raster, which options change."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    write_raster(root / "images/a.tif", scene(64, 64) if pixels is None else pixels)
    codes = labels.pop("codes", np.kron(np.arange(16).reshape(4, 4) % 3, np.ones((16, 16), int)))
    write_raster(root / "labels/a.tif", codes.astype(np.uint8)[None], **labels)
    (root / "classes.csv").write_text("code,name\n0,water\n1,forest\n2,field\n")
    return root


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (
            {"transform": from_origin(HERE[0] + 1, HERE[1] - 0.5, 2, 2)},
            r"between the pixels.*\+0\.50 px to the right, \+0\.25 px down.*gdal_edit",
        ),
        ({"transform": from_origin(*HERE, 8, 8), "codes": np.eye(16)}, r"4 times larger.*labels.a\.tif.*as coarse"),
        ({"transform": from_origin(*HERE, 1, 1), "codes": np.eye(128)}, r"2 times smaller.*may vanish"),
        ({"nodata": 0}, r"call 0 \(water\) 'no data'.*-unsetnodata"),
    ],
)
def test_label_rasters_on_another_grid_and_with_nodata(labels: dict[str, Any], words: str, tmp_path: Path) -> None:
    root = town(tmp_path, **labels)
    with pytest.warns(UserWarning, match=words):
        dataset = open_dataset("raster", root, "all", window_px=64)
    assert len(dataset)


@pytest.mark.parametrize(
    "labels",
    [
        {},
        {"transform": from_origin(HERE[0] - 20, HERE[1] + 4, 2, 2)},
        {"nodata": 200},
        {"transform": Affine(2, 0, HERE[0] + 0.02, 0, -2, HERE[1])},
    ],
)
def test_label_rasters_on_the_same_grid_are_not_told(labels: dict[str, Any], tmp_path: Path) -> None:
    open_dataset("raster", town(tmp_path, **labels), "all", window_px=64)  # warnings are errors in these tests


def test_oblong_pixels_far_from_the_equator(tmp_path: Path) -> None:
    north = {"crs": "EPSG:4326", "transform": from_origin(10, 65, 1e-4, 1e-4)}
    town(tmp_path, **north)
    write_raster(tmp_path / "images/a.tif", scene(64, 64), **north)
    with pytest.warns(UserWarning, match=r"oblong pixels of 4\.7\d m x 11\.1 m.*gdalwarp"):
        open_dataset("raster", tmp_path, "all", window_px=64)


def test_files_that_are_left_out_are_counted(tmp_path: Path) -> None:
    root = town(tmp_path)
    for name in ("b.sid", "c.sid"):
        (root / "images" / name).write_bytes(b"MrSID")
    (root / "labels/b.tif").write_bytes((root / "labels/a.tif").read_bytes())
    with pytest.warns(UserWarning) as caught:  # noqa: PT030 - two of them
        open_dataset("raster", root, "all", window_px=64)
    texts = [str(one.message) for one in caught]
    assert "2 .sid files are left out" in texts[0]
    assert "1 label files have no image" in texts[1]
    assert "b.tif" in texts[1]


def test_rows_of_a_csv_without_a_split(tmp_path: Path) -> None:
    """They were in no part at all (rasters), or in training and validation both (pictures)."""
    town(tmp_path)
    row = "images/a.tif,labels/a.tif"
    for format, header in (("raster", "image,labels,split"), ("folder", "image,label,split")):
        (tmp_path / "pairs.csv").write_text(f"{header}\n{row},train\n{row},val\n{row},\n")
        with pytest.raises(DataError, match=r"pairs\.csv': 1 of 3 rows have no split \(row 3\)"):
            open_dataset(format, tmp_path / "pairs.csv", "train")


def test_near_infrared_that_is_called_opacity(tmp_path: Path) -> None:
    """GDAL calls the fourth of four 8-bit bands alpha unless it is told otherwise: NAIP, Planet, drones."""
    root = town(tmp_path)
    write_raster(root / "images/a.tif", scene(64, 64, bands=4), ALPHA="YES")
    with pytest.warns(UserWarning, match=r"a\.tif' calls band 4 opacity.*bands=\[1,2,3,4\].*-colorinterp_4 undefined"):
        dataset = open_dataset("raster", root, "all", window_px=64)
    assert dataset.bands == 3
    with rasterio.open(root / "images/a.tif", "r+") as file:
        file.write(np.eye(64, dtype=np.uint8)[None] * 90, [4])
    dataset = open_dataset("raster", root, "all", window_px=64, bands=[1, 2, 3, 4])  # warnings are errors here
    assert dataset.bands == 4
    assert (dataset[0].labels != IGNORE).all(), "a band that is named is no mask: its zeros are measurements"
    write_raster(root / "images/a.tif", scene(64, 64, bands=4), ALPHA="YES")
    faults = check_splits("folder", root, splits=("all",)).warnings
    assert [fault.kind for fault in faults if "opacity" in str(fault)] == ["measured_alpha"]


def test_training_and_validation_on_the_same_ground(tmp_path: Path) -> None:
    """Two dates of one place: the pictures differ, the ground does not."""
    for split, seed, east in (("train", 0, 0), ("val", 1, 64)):
        town(tmp_path / split, scene(64, 64, seed=seed))
        for folder in ("images", "labels"):
            path = tmp_path / split / folder / "a.tif"
            with rasterio.open(path, "r+") as file:
                file.transform = from_origin(HERE[0] + east, HERE[1], 2, 2)
    (tmp_path / "classes.csv").write_text((tmp_path / "train/classes.csv").read_text())
    texts = {fault.kind: str(fault) for fault in check_splits("raster", tmp_path, options={"window_px": 32}).warnings}
    assert "50% of the ground of val is trained on too (train)" in texts["ground"]
    assert "val/images/a.tif" in texts["ground"].replace("\\", "/")
    zone_32 = {"crs": "EPSG:32632", "transform": from_origin(75_090, 5_617_208, 2, 2)}  # of the same corner
    write_raster(tmp_path / "val/images/a.tif", scene(64, 64, seed=1), **zone_32)
    write_raster(tmp_path / "val/labels/a.tif", np.eye(64, dtype=np.uint8)[None], **zone_32)
    other_zone = check_splits("raster", tmp_path, options={"window_px": 32}).warnings
    assert any(fault.kind == "ground" for fault in other_zone), "also in another coordinate system"


def test_blocks_of_one_raster_share_no_ground(tmp_path: Path) -> None:
    report = check_splits("raster", town(tmp_path), options={"window_px": 16})
    assert "ground" not in {fault.kind for fault in report.warnings}


def test_photographs_with_a_place_are_compared_too(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "labels").mkdir(exist_ok=True)
        write_raster(
            tmp_path / f"images/{number}.tif",
            scene(64, 64, seed=number),
            transform=from_origin(HERE[0] + 100 * number, HERE[1], 2, 2),
        )
        write_raster(
            tmp_path / f"labels/{number}.tif", (np.arange(64 * 64).reshape(1, 64, 64) // 500 % 3).astype(np.uint8)
        )
    (tmp_path / "classes.csv").write_text("code,name\n0,water\n1,forest\n2,field\n")
    dataset = open_dataset("folder", tmp_path, "all")
    grid = dataset.grid(1)
    assert grid is not None
    assert grid.bounds[0] == HERE[0] + 100
    assert "ground" in {fault.kind for fault in check_splits("folder", tmp_path).warnings}


def test_ground_without_data_counts_only_where_it_has_a_label(tmp_path: Path) -> None:
    pixels = scene(64, 64)
    pixels[:, :32] = 0
    town(tmp_path)
    write_raster(tmp_path / "images/a.tif", pixels, nodata=0)
    faults = {fault.kind: str(fault) for fault in check_splits("folder", tmp_path, splits=("all",)).warnings}
    assert "calls 0 'no data', which 50.0%" in faults["nodata"]
    codes = np.ones((1, 64, 64), np.uint8)
    codes[:, :32] = IGNORE
    codes[:, 40:] = 2
    write_raster(tmp_path / "labels/a.tif", codes)
    assert "nodata" not in {fault.kind for fault in check_splits("folder", tmp_path, splits=("all",)).warnings}


def test_a_black_collar_that_nothing_calls_no_data(tmp_path: Path) -> None:
    pixels = scene(64, 64)
    pixels[:, :, :20] = 0
    town(tmp_path, pixels)
    with pytest.warns(UserWarning, match=r"holds 0 in all bands in some 31% .*-a_nodata 0 FILE, or nodata = 0"):
        open_dataset("raster", tmp_path, "all", window_px=64)
    open_dataset("raster", tmp_path, "all", window_px=64, nodata=0)  # said: no warning


def test_nodata_in_a_file_of_altered_values(tmp_path: Path) -> None:
    """JPEG makes 1 and 2 of 0 along the border: a seam of dark pixels that count."""
    pixels = scene(64, 64)
    pixels[:, :, :20] = 0
    town(tmp_path)
    write_raster(tmp_path / "images/a.tif", pixels, nodata=0, compress="JPEG", photometric="ycbcr")
    with pytest.warns(UserWarning, match=r"a nodata value and a compression that alters values.*nearblack -setmask"):
        open_dataset("raster", tmp_path, "all", window_px=64)


def test_images_on_which_no_feature_lies(tmp_path: Path) -> None:
    """One file of houses for three images: two that nobody looked through would be all background."""
    for number in range(3):
        (tmp_path / "images").mkdir(exist_ok=True)
        corner = from_origin(HERE[0] + 1000 * number, HERE[1], 2, 2)
        write_raster(tmp_path / f"images/{number}.tif", scene(64, 64, seed=number), transform=corner)
    house = shapely.box(HERE[0] + 20, HERE[1] - 80, HERE[0] + 90, HERE[1] - 20)
    pyogrio.raw.write(
        tmp_path / "labels.gpkg",
        shapely.to_wkb(np.array([house], object)),
        [np.array(["house"], object)],
        ["class"],
        geometry_type="Polygon",
        crs="EPSG:32631",
    )
    with pytest.warns(
        UserWarning, match=r"no feature of .*labels\.gpkg' lies on 2 of 3 images, such as .*1\.tif.*area = FILE"
    ):
        open_dataset("raster", tmp_path, "all", window_px=64, labels="labels.gpkg", background="ground")


def test_tiles_of_one_name_in_sub_folders(tmp_path: Path) -> None:
    town(tmp_path)
    for number, side in enumerate("ns"):
        for part in ("images", "labels"):
            (tmp_path / part / side).mkdir()
            corner = from_origin(HERE[0] + 1000 * number, HERE[1], 2, 2)
            pixels = scene(64, 64, seed=number) if part == "images" else np.full((1, 64, 64), number, np.uint8)
            write_raster(tmp_path / part / side / "t.tif", pixels, transform=corner)
    for part in ("images", "labels"):
        (tmp_path / part / "a.tif").unlink()
    dataset = open_dataset("raster", tmp_path, "all", window_px=64, sampling="grid")
    assert [int(dataset[index].labels.max()) for index in range(2)] == [0, 1]


def test_what_opening_tells_is_in_the_report(tmp_path: Path) -> None:
    """The page and the API show the report of the check, where a warning of Python's is seen by nobody."""
    town(tmp_path, transform=from_origin(HERE[0] + 1, HERE[1] - 0.5, 2, 2))
    report = check_splits("raster", tmp_path, options={"window_px": 32})  # warnings are errors here
    (fault,) = [fault for fault in report.warnings if fault.kind == "opening"]
    assert "lie between the pixels of their image" in str(fault)
