"""Random but valid labels in each layout of files come back pixel for pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.transform import Affine

from pspnet.data.catalog import open_dataset
from pspnet.images import write_label, write_png
from pspnet.labels import IGNORE, LabelSpace
from support import fakes
from support.classified_tiles import SIZE, export

PUBLISHED = {
    "camvid": fakes.write_camvid,
    "ade20k": fakes.write_ade20k,
    "voc": fakes.write_voc,
    "cityscapes": fakes.write_cityscapes,
    "coco_stuff": fakes.write_coco_stuff,
    "loveda": fakes.write_loveda,
    "potsdam": fakes.write_isprs,
    "vaihingen": fakes.write_isprs,
}


def drawn(seed: int, shape: tuple[int, int], classes: int) -> np.ndarray:
    """Labels of which a fifth is ignored."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, shape).astype(np.uint8)
    labels[rng.random(shape) < 0.2] = IGNORE
    return labels


@pytest.mark.parametrize("name", PUBLISHED)
def test_random_labels_of_published_layouts_come_back(name: str, tmp_path: Path) -> None:
    PUBLISHED[name](tmp_path)
    dataset = open_dataset(name, tmp_path)
    sample, space = dataset[0], dataset.label_space
    assert sample.label_path is not None
    for seed in range(5):
        labels = drawn(seed, sample.image.shape[:2], space.num_classes)
        if name == "voc":
            write_label(sample.label_path, labels, space, codes=True)
        else:
            write_png(sample.label_path, space.encode(labels).astype(np.uint8))
        np.testing.assert_array_equal(dataset[0].labels, labels)


@given(
    seed=st.integers(0, 10**6),
    layout=st.sampled_from(["split_first", "images_first", "flat", "lists", "csv"]),
    decode=st.sampled_from(["codes", "colours"]),
    classes=st.integers(2, 20),
)
@settings(max_examples=15, deadline=None)
def test_random_folders_come_back(
    seed: int, layout: Any, decode: Any, classes: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Folders in every order, lists and CSVs, of any classes, codes and colours."""
    rng = np.random.default_rng(seed)
    codes = tuple(sorted(rng.choice(250, classes, replace=False).tolist()))
    space = LabelSpace(tuple(f"class {i}" for i in range(classes)), codes=codes, ignored_codes=(255,))
    root = tmp_path_factory.mktemp("folder")
    fakes.write_folder(root, {"train": 2, "val": 1}, space=space, layout=layout, decode=decode)
    split = "all" if layout == "flat" else "train"
    dataset = open_dataset("folder", root, split, decode=decode)
    assert len(dataset) == (3 if layout == "flat" else 2)
    for index in range(len(dataset)):
        path = dataset[index].label_path
        assert path is not None
        labels = drawn(seed + index, dataset[index].image.shape[:2], classes)
        if decode == "codes":
            write_png(path, space.encode(labels).astype(np.uint8))
        else:
            labels[labels == IGNORE] = 0  # a colour that no class has is refused, not ignored
            write_png(path, space.palette[labels])
        np.testing.assert_array_equal(dataset[index].labels, labels)


@given(
    seed=st.integers(0, 10**6),
    dtype=st.sampled_from(["uint8", "int16", "uint16", "int32", "float32"]),
    upward=st.booleans(),
    height=st.integers(20, 70),
    width=st.integers(20, 70),
)
@settings(max_examples=12, deadline=None)
def test_random_label_rasters_come_back(
    seed: int, dtype: str, upward: bool, height: int, width: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Labels of any type, north up or south up, whatever the windows."""
    root = tmp_path_factory.mktemp("raster")
    space = LabelSpace(("a", "b", "c"), codes=(1, 7, 100))
    labels = drawn(seed, (height, width), 3)
    transform = Affine(2, 0, 5e5, 0, 2 if upward else -2, 5.6e6)
    profile = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": 1,
        "crs": "EPSG:32631",
        "transform": transform,
    }
    for folder, pixels in (
        ("images", np.full((height, width), 9, np.uint8)),
        ("labels", space.encode(labels).astype(dtype)),
    ):
        (root / folder).mkdir()
        with rasterio.open(root / folder / "a.tif", "w", dtype=pixels.dtype, **profile) as file:
            file.write(pixels, 1)
    (root / "classes.csv").write_text("code,name,ignore\n1,a,0\n7,b,0\n100,c,0\n255,none,1\n")
    dataset = open_dataset("raster", root, "all", sampling="grid", window_px=32)
    together = np.full(labels.shape, 99, np.uint8)
    for index in range(len(dataset)):
        _, window = dataset.place(index)  # type: ignore[attr-defined]
        together[window.slices] = dataset[index].labels
    np.testing.assert_array_equal(together[together != 99], labels[together != 99])
    empty = labels[together == 99]  # windows without a label may be left out
    assert (empty == IGNORE).all()


def test_random_classified_tiles_come_back(tmp_path: Path) -> None:
    dataset = open_dataset("classified_tiles", export(tmp_path / "chips"), "all")
    codes = np.full(256, 0, np.uint8)
    codes[: dataset.label_space.num_classes] = dataset.label_space.codes
    for index in range(len(dataset)):
        path = dataset[index].label_path
        assert path is not None
        labels = drawn(index, (SIZE, SIZE), dataset.label_space.num_classes)
        with rasterio.open(path, "r+") as file:
            file.write(codes[labels], 1)
        np.testing.assert_array_equal(dataset[index].labels, labels)
