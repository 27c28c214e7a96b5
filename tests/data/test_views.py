"""Views hand on everything; a cached data set decodes each sample once, in any number of processes, and leaves nothing."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

import pspnet.data.views as views
from pspnet.config import DataConfig
from pspnet.data.dataset import Dataset, Sample, as_dataset
from pspnet.data.faults import Fault
from pspnet.data.views import Cache, InMemory, Joined, OnDisk, Renamed, Subset, View, cached, evenly
from pspnet.errors import ConfigError, DataError, ImageError
from pspnet.georaster.grids import Grid
from pspnet.labels import LabelSpace
from pspnet.training.resolve import open_data
from support.rasters import scene, write_raster
from support.toys import Toys, ended, in_child


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_each_sample_is_decoded_once(cache: Cache, tmp_path: Path) -> None:
    toys = Toys(5, uneven=True)
    cache_view = cached(toys, cache, tmp_path)
    for _ in range(3):
        for index in (3, 0, 4, 1, 2):
            first, second = toys[index], cache_view[index]
            assert np.array_equal(first.image, second.image)
            assert np.array_equal(first.labels, second.labels)  # type: ignore[arg-type]
            assert first.name == second.name
    assert toys.reads == 15 + 5
    assert (len(cache_view), cache_view.bands, cache_view.label_space) == (5, 3, toys.label_space)
    del cache_view
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_off_is_the_data_set_itself() -> None:
    toys = Toys()
    assert cached(toys, "off") is toys


def test_processes_share_a_folder(tmp_path: Path) -> None:
    toys = Toys(4)
    cache_view = cached(toys, "disk", tmp_path)

    def read_all() -> None:
        for index in range(4):
            cache_view[index]

    assert ended(in_child(read_all)) == 0
    read_all()
    assert toys.reads == 0  # the child decoded them, and its end removed nothing


def test_too_much_for_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "_free_bytes", lambda: 20_000)
    with pytest.raises(ConfigError, match="cache = disk"):
        cached(Toys(12), "memory")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cache = disk"):
        OnDisk(Toys(), tmp_path / "file")


def test_a_run_uses_it() -> None:
    sets = open_data(DataConfig(options={"count": 4, "size": 64}, cache="memory"), check=False)
    assert isinstance(sets.train, views.InMemory)
    assert not isinstance(sets.val, views.InMemory)  # each validation picture is read a few times at most


class Own:
    """A user's own data set, with the least that one needs, and what it may have besides."""

    def __init__(self, **more: Any) -> None:
        self.label_space, self.bands = LabelSpace(("a", "b")), 4
        self.__dict__.update(more)

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Sample:
        if index == 2:
            raise ImageError("'2' is cut off")
        return Sample(np.full((4, 4, 4), index, np.uint8), np.zeros((4, 4), np.uint8), str(index))


class Whole(Own, Dataset):
    """The same, with everything that a Dataset has."""

    name, band_names = "own", ("nir", "red", "green", "blue")
    faults = (Fault("warning", "w", "f", "m", ""),)

    def __getitem__(self, index: int) -> Sample:
        return Sample(np.full((4, 4, 4), index, np.uint8), np.zeros((4, 4), np.uint8), str(index))

    def sources(self) -> tuple[Path, ...]:
        return Path("a.tif"), Path("b.tif")

    def grid(self, index: int) -> Grid:
        return Grid(None, from_origin(index, 0, 1, 1), 4, 4)


VIEWS: dict[str, tuple[Callable[[Dataset, Path], Dataset], list[int]]] = {
    "joined": (lambda data, folder: Joined([data, data]), [0, 1, 2, 0, 1, 2]),
    "subset": (lambda data, folder: Subset(data, [2, 0]), [2, 0]),
    "evenly": (lambda data, folder: evenly(data, 2), [0, 2]),
    "memory": (lambda data, folder: InMemory(data), [0, 1, 2]),
    "disk": (OnDisk, [0, 1, 2]),
    "renamed": (lambda data, folder: Renamed(data, {1: "c"}), [0, 1, 2]),
    "of a view": (lambda data, folder: Subset(Joined([InMemory(data), Renamed(data, {})]), [4]), [1]),
}


def test_every_view_is_tried_here() -> None:
    tried = {type(make(Whole(), Path())) for name, (make, _) in VIEWS.items() if name != "disk"} | {OnDisk}
    assert tried == {one for one in vars(views).values() if isinstance(one, type) and issubclass(one, View)} - {View}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_hands_on_everything(name: str, tmp_path: Path) -> None:
    data = Whole()
    view = VIEWS[name][0](data, tmp_path)
    numbers = VIEWS[name][1]
    assert isinstance(view, Dataset)
    assert [view[index].image[0, 0, 0] for index in range(len(view))] == numbers
    assert [view.grid(index).transform.c for index in range(len(view))] == numbers  # type: ignore[union-attr]
    assert [view.inspect(index)[0].name for index in range(len(view))] == [str(number) for number in numbers]  # type: ignore[union-attr]
    assert (view.bands, view.band_names) == (4, data.band_names)
    assert set(view.faults) == set(data.faults)
    assert set(view.sources()) == set(data.sources())
    assert view.label_space.names == (("a", "c") if name == "renamed" else ("a", "b"))
    assert "own" in view.name


def test_a_class_of_a_users_own_is_completed(tmp_path: Path) -> None:
    plain = as_dataset(Own())
    assert (plain.name, plain.band_names, plain.faults, plain.grid(0), list(plain.sources())) == (
        "Own",
        (),
        (),
        None,
        [],
    )
    assert [str(fault) for fault in plain.inspect(2)[1]] == ["'2' is cut off"]
    named = as_dataset(Own(band_names=["nir", "red", "green", "blue"]))
    for make in (
        cached(named, "disk", tmp_path),
        Joined([named, named]),
        Subset(Own(band_names=named.band_names), [0]),
    ):
        assert make.band_names == ("nir", "red", "green", "blue")
    assert as_dataset(named) is named


def test_parts_that_do_not_fit_are_not_joined() -> None:
    with pytest.raises(ConfigError, match=r"names of bands.*nir.* and .*red"):
        Joined([Own(band_names=("nir",) * 4), Own(band_names=("red",) * 4)])
    with pytest.raises(ConfigError, match="numbers of bands: 3 and 4"):
        Joined([Own(bands=3), Own()])


@pytest.mark.parametrize("how", ["memory", "disk", "joined"])
def test_a_run_keeps_the_names_of_bands(how: str, tmp_path: Path) -> None:
    """Near infrared, red and green; the card said red, green, blue where a view had forgotten the names."""
    for part in ("train", "more", "val"):
        for kind in ("images", "labels"):
            (tmp_path / part / kind).mkdir(parents=True)
        path = write_raster(tmp_path / f"{part}/images/a.tif", scene(64, 64), crs="EPSG:32631")
        with rasterio.open(path, "r+") as raster:
            raster.descriptions = ("NIR", "Red", "Green")
        write_raster(tmp_path / f"{part}/labels/a.tif", (scene(64, 64)[:1] > 128).astype(np.uint8), crs="EPSG:32631")
    config = DataConfig(
        format="raster",
        root=tmp_path,
        options={"window_px": 32},
        train_splits=("train", "more") if how == "joined" else ("train",),
        cache="off" if how == "joined" else how,  # type: ignore[arg-type]
        cache_folder=tmp_path / "cache",
    )
    assert open_data(config, check=False).train.band_names == ("nir", "red", "green")
