"""What every layout's data sets are, whatever their files: names, bands, faults, places, and how damage is told."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pspnet.data.catalog import LAYOUTS, available_splits, open_dataset
from pspnet.data.dataset import Dataset
from pspnet.data.doctor import check_dataset
from pspnet.data.faults import Fault
from pspnet.data.paired_files import PairedFiles
from pspnet.errors import ConfigError, DataError
from pspnet.georaster.bands import BandInfo
from pspnet.georaster.grids import Grid
from pspnet.images import write_png
from pspnet.labels import IGNORE
from support import fakes
from support.annotation_tools import TOOLS
from support.classified_tiles import export
from support.rasters import scene, write_raster


def write_rasters(root: Path) -> None:
    for split in ("train", "val"):
        for part in ("images", "labels"):
            (root / split / part).mkdir(parents=True)
        write_raster(root / split / "images/a.tif", scene(64, 64, seed=len(split)))
        labels = np.kron(np.arange(16).reshape(4, 4) % 3, np.ones((16, 16))).astype(np.uint8)
        labels[:9, :9] = 255
        write_raster(root / split / "labels/a.tif", labels[None])
    (root / "classes.csv").write_text("code,name\n0,water\n1,forest\n2,field\n")


WRITERS: dict[str, Callable[[Path], object]] = {
    "scenes": lambda root: None,
    "folder": fakes.write_folder,
    "raster": write_rasters,
    "classified_tiles": export,
    "camvid": fakes.write_camvid,
    "ade20k": fakes.write_ade20k,
    "voc": fakes.write_voc,
    "cityscapes": fakes.write_cityscapes,
    "coco": fakes.write_coco,
    "coco_stuff": fakes.write_coco_stuff,
    "loveda": fakes.write_loveda,
    "potsdam": fakes.write_isprs,
    "vaihingen": fakes.write_isprs,
    **{
        name: lambda root, write=TOOLS[name][0]: write(root, [(0, 1, 1, 9, 9), (1, 20, 4, 30, 18)])
        for name in ("labelme", "yolo_polygons", "label_studio", "roboflow_masks", "cvat_masks", "cvat_xml")
    },
}
OPTIONS: dict[str, dict[str, Any]] = {"scenes": {"count": 3, "size": 48}, "raster": {"window_px": 32}}
IGNORES = set(WRITERS) - {"scenes", *TOOLS}  # fakes with a corner that does not count


def opened(name: str, root: Path, **options: Any) -> Dataset:
    WRITERS[name](root)
    split = TOOLS[name][1] if name in TOOLS else "train"
    return open_dataset(name, None if name == "scenes" else root, split, **OPTIONS.get(name, {}), **options)


def test_every_layout_is_tried_here() -> None:
    assert set(WRITERS) == set(LAYOUTS)


@pytest.mark.parametrize("name", WRITERS)
def test_a_data_set_says_what_it_is(name: str, tmp_path: Path) -> None:
    dataset = opened(name, tmp_path)
    assert isinstance(dataset, Dataset)
    assert dataset.name
    assert len(dataset) > 0
    assert all(isinstance(fault, Fault) and fault.severity == "warning" for fault in dataset.faults)
    assert len(dataset.band_names) == dataset.bands
    assert all(dataset.band_names)
    assert len(dataset.band_numbers) in (0, dataset.bands)
    assert dataset.band_info is None or isinstance(dataset.band_info, BandInfo)
    assert (dataset.band_info is None) == (not dataset.band_numbers)
    assert len(set(dataset.label_space.names)) == dataset.label_space.num_classes > 1
    names, ignored = set(), 0
    for index in range(len(dataset)):
        sample, faults = dataset.inspect(index)
        assert faults == []
        assert sample is not None
        assert sample.labels is not None
        assert sample.image.shape == (*sample.labels.shape, dataset.bands)
        assert sample.labels.dtype == np.uint8
        known = sample.labels != IGNORE
        assert (sample.labels[known] < dataset.label_space.num_classes).all()
        ignored += int((~known).sum())
        names.add(sample.name)
        again = dataset[index]
        np.testing.assert_array_equal(again.image, sample.image)
        np.testing.assert_array_equal(again.labels, sample.labels)
        files = {sample.image_path, sample.label_path} - {None}
        assert files <= set(dataset.sources())
        assert dataset.grid(index) is None or isinstance(dataset.grid(index), Grid)
    assert len(names) == len(dataset)
    assert (ignored > 0) == (name in IGNORES)
    assert all(path.is_file() for path in dataset.sources())
    moved = pickle.loads(pickle.dumps(dataset))  # to the processes that decode
    np.testing.assert_array_equal(moved[0].image, dataset[0].image)
    if name != "scenes":
        assert set(available_splits(name, tmp_path)) >= {"train"}


@pytest.mark.parametrize("name", sorted(set(WRITERS) - {"scenes"}))
def test_a_damaged_image_is_named(name: str, tmp_path: Path) -> None:
    dataset = opened(name, tmp_path)
    sample = dataset[0]
    path = sample.image_path or next(iter(dataset.sources()))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3])
    report = check_dataset(dataset)
    assert not report.ok
    assert any(path.name in str(fault) for fault in report.errors)
    anew = pickle.loads(pickle.dumps(dataset))  # without GDAL's open files and what it remembers of them
    with pytest.raises(DataError, match=path.name):
        [anew[index] for index in range(len(anew))]


@pytest.mark.parametrize("name", sorted(set(WRITERS) - {"scenes", "raster", "classified_tiles"}))
def test_every_layout_of_images_reads_them_as_it_is_told(name: str, tmp_path: Path) -> None:
    """bands, dtype, exif and full_scale are options of each: here a 12-bit camera's picture, turned half by EXIF."""
    dataset = opened(name, tmp_path)
    assert isinstance(dataset, PairedFiles)
    pair = dataset.pairs[0]
    height, width = dataset[0].image.shape[:2]
    values = (np.arange(height * width).reshape(height, width) % 3000).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 3
    deep = pair.image.with_suffix(".png")
    pair.image.unlink()
    if deep != pair.image:  # some readers know the name from a list
        write_png(deep, values)
    Image.fromarray(values).save(pair.image if deep == pair.image else deep, format="PNG", exif=exif)
    if deep != pair.image:
        deep.rename(pair.image)
    split = TOOLS[name][1] if name in TOOLS else "train"

    def read(**options: Any) -> np.ndarray:
        again = open_dataset(name, tmp_path, split, **options)
        return again[[pair.name for pair in again.pairs].index(pair.name)].image[..., 0]  # type: ignore[attr-defined]

    turned = values[::-1, ::-1]
    np.testing.assert_array_equal(read(dtype="native"), turned)
    np.testing.assert_array_equal(read(dtype="native", exif=False), values)
    np.testing.assert_array_equal(read(full_scale=6000), np.round(turned * (255 / 6000)).astype(np.uint8))
    with pytest.raises(ConfigError, match="option full_scale = 0"):
        read(full_scale=0)
