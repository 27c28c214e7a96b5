"""Splits whose images differ, and labels that cannot be each picture's own: told once, with the values."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from rasterio.transform import from_origin

from pspnet.data.catalog import open_dataset
from pspnet.data.doctor import check_splits
from pspnet.errors import ConfigError
from pspnet.images import write_png
from support.fakes import fake_pair, write_folder, write_grey
from support.rasters import scene, write_raster


def kinds(format: str, root: Path, **options: object) -> dict[str, str]:
    return {fault.kind: str(fault) for fault in check_splits(format, root, options=options).warnings}


@pytest.mark.parametrize(
    ("size", "words"), [((40, 56), ""), ((120, 160), "val have 160 x 120 pixels, those of train 56 x 40")]
)
def test_photographs_of_another_size(size: tuple[int, int], words: str, tmp_path: Path) -> None:
    space = write_folder(tmp_path, {"train": 3})
    image, labels = fake_pair(space, 5, size)
    write_png(tmp_path / "val/images/a.png", image)
    write_grey(tmp_path / "val/labels/a.png", space.encode(labels))
    assert words in kinds("folder", tmp_path).get("sizes", "")
    assert ("sizes" in kinds("folder", tmp_path)) == bool(words)


def test_grey_photographs_in_one_split_alone(tmp_path: Path) -> None:
    space = write_folder(tmp_path, {"train": 3})
    image, labels = fake_pair(space, 5)
    write_png(tmp_path / "val/images/a.png", image[..., :1])
    write_grey(tmp_path / "val/labels/a.png", space.encode(labels))
    assert "most images of val are stored as L, those of train as RGB" in kinds("folder", tmp_path)["mode"]


def test_rasters_of_another_resolution(tmp_path: Path) -> None:
    for number, (split, metres) in enumerate((("train", 2), ("val", 0.5))):
        for part in ("images", "labels"):
            (tmp_path / split / part).mkdir(parents=True)
        corner = from_origin(500_000 + 5000 * number, 5_600_000, metres, metres)
        write_raster(tmp_path / split / "images/a.tif", scene(64, 64, seed=number), transform=corner)
        write_raster(tmp_path / split / "labels/a.tif", np.tri(64, dtype=np.uint8)[None], transform=corner)
    (tmp_path / "classes.csv").write_text("code,name\n0,water\n1,field\n")
    assert "val have pixels of 0.5 m, those of train pixels of 2 m" in kinds("raster", tmp_path, window_px=32)["sizes"]


def test_floating_point_series_of_two_scales(tmp_path: Path) -> None:
    """0..1 and 0..255 are told apart by a picture's largest value: a dark one among bright ones is stretched."""
    write_folder(tmp_path, {"train": 3, "val": 1})
    for split, top in (("train", 250.0), ("val", 0.9)):
        for path in (tmp_path / split / "images").iterdir():
            path.unlink()
            grey = np.linspace(0, top, 40 * 56, dtype=np.float32).reshape(1, 40, 56)
            write_raster(path.with_suffix(".tif"), grey, crs=None, transform=from_origin(0, 0, 1, 1), tiled=False)
    assert "as if 1 were white, others by 255" in kinds("folder", tmp_path)["depth"]
    assert "depth" not in kinds("folder", tmp_path, full_scale=255)


def test_pictures_that_no_list_names(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": 4, "val": 2}, layout="lists")
    (tmp_path / "train.txt").write_text("train_000\ntrain_001\n")
    assert "2 of 6 pictures are in none of the lists, such as 'train_002'" in kinds("folder", tmp_path)["left_out"]


def test_one_mask_for_different_pictures(tmp_path: Path) -> None:
    """A script that wrote the last mask for all, or a CSV that names one for all."""
    write_folder(tmp_path, {"train": 4, "val": 1})
    masks = sorted((tmp_path / "train/labels").iterdir())
    for path in masks[1:]:
        path.write_bytes(masks[0].read_bytes())
    assert (
        "train: 4 different pictures have the same labels, pixel for pixel" in kinds("folder", tmp_path)["same_labels"]
    )


def test_a_table_of_a_split_that_says_otherwise(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "val/classes.csv").write_text((tmp_path / "classes.csv").read_text())
    assert len(open_dataset("folder", tmp_path, "val"))
    (tmp_path / "val/classes.csv").write_text("code,name\n0,tree\n1,ground\n2,house\n")
    with pytest.raises(ConfigError, match=r"val.classes\.csv' has other classes or codes than the table in"):
        open_dataset("folder", tmp_path, "val")


def test_accents_that_a_mac_takes_apart(tmp_path: Path) -> None:
    """é is one character in the image's name and two in the label's: they look alike, and are one name."""
    space = write_folder(tmp_path, {"train": 1})
    image, labels = fake_pair(space, 5)
    write_png(tmp_path / "train/images/caf\u00e9.png", image)
    write_grey(tmp_path / "train/labels/cafe\u0301.png", space.encode(labels))
    assert len(open_dataset("folder", tmp_path)) == 2


def test_a_fault_of_a_file_is_told_once(tmp_path: Path) -> None:
    """Each window of a raster meets it; a way out for those who have probabilities, or a band of confidence beside."""
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    write_raster(tmp_path / "images/a.tif", scene(64, 64))
    (tmp_path / "classes.csv").write_text("code,name\n0,water\n1,field\n")
    for labels, words in (
        (np.random.default_rng(0).random((1, 64, 64), np.float32), "holds fractions.*the most probable"),
        (np.ones((2, 64, 64), np.uint8), "has 2 bands.*gdal_translate -b 1"),
    ):
        write_raster(tmp_path / "labels/a.tif", labels)
        (fault,) = check_splits("raster", tmp_path, options={"window_px": 16}).errors
        assert re.search(words, str(fault))


def test_numbers_of_objects_without_a_table(tmp_path: Path) -> None:
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    write_raster(tmp_path / "images/a.tif", scene(64, 64))
    write_raster(tmp_path / "labels/a.tif", (np.arange(64 * 64) // 64).reshape(1, 64, 64).astype(np.uint8))
    with pytest.warns(UserWarning, match="hold 64 different values, and no class table names them.*instances"):
        open_dataset("raster", tmp_path, "all", window_px=64)
