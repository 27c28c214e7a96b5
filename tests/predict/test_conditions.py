"""A card compared with what it meets: each contradiction is refused, each doubt told, at every door alike."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from pspnet.adaptation import adapt_batch_norm, calibrate
from pspnet.data.dataset import Dataset, Sample
from pspnet.data.faults import Fault
from pspnet.errors import ConfigError, ImageError, RasterError
from pspnet.evaluation import evaluate, predict_dataset
from pspnet.explorer import explore
from pspnet.georaster.bands import BandInfo
from pspnet.georaster.grids import Grid
from pspnet.labels import LabelSpace
from pspnet.predict.conditions import Met, contradictions, doubts, label_translation, protocol_of, size_doubt
from pspnet.predict.segmenter import Segmenter
from pspnet.raster import segment_raster
from pspnet.training.resolve import DataSets, resolve
from pspnet.weights.checkpoint import ModelCard
from support.rasters import SPACE, UTM, make_segmenter, scene, write_raster
from support.toys import toy_run

DEEP = ModelCard(SPACE, value_range=(0.0, 10_000.0), pixel_type="uint16", ground_resolution=10.0)
EIGHT = ModelCard(SPACE, pixel_type="uint8")


@pytest.mark.parametrize(
    ("card", "dtype", "low", "high", "doubted"),
    [
        (EIGHT, "uint8", 0, 9, False),  # a picture of the night
        (EIGHT, "float32", 0, 200, False),
        (EIGHT, "float32", 0, 1, True),
        (EIGHT, "uint16", 0, 300, True),
        (EIGHT, "uint16", 0, 4000, True),
        (EIGHT, "float32", -3, 3, True),
        (EIGHT, "int16", -200, 200, True),
        (DEEP, "uint16", 200, 4000, False),
        (DEEP, "uint8", 3, 250, True),
        (DEEP, "float32", 0, 0.7, True),
        (DEEP, "int16", -900, 6000, False),  # the lowest percentile of water
        (DEEP, "uint16", 0, 60_000, True),
        (replace(DEEP, value_range=(0.0, 4095.0)), "uint8", 0, 255, True),  # a twentieth of the range, and no more
        (replace(DEEP, pixel_type=""), "uint8", 0, 255, True),
    ],
)
def test_values_unlike_those_trained_on(card: ModelCard, dtype: str, low: float, high: float, doubted: bool) -> None:
    actual = doubts(card, Met("a.tif", dtype=dtype, low=low, high=high))
    assert bool(actual) == doubted
    if doubted:
        assert f"({dtype}) holds values from {low:g} to {high:g}; the model was trained on" in actual[0]


def test_stored_values() -> None:
    reflectance = replace(DEEP, band_scales=(0.0001,) * 3, band_offsets=(-0.1,) * 3)
    same = Met("a.tif", scales=(0.0001,) * 3, offsets=(-0.1,) * 3)
    assert not contradictions(reflectance, same) + doubts(reflectance, same)
    (other,) = contradictions(reflectance, replace(same, offsets=(0.0,) * 3))
    assert "scale 0.0001 and offset 0, those trained on with scale 0.0001 and offset -0.1" in other
    assert "gdal_edit -scale" in other
    silent = Met("a.tif", scales=(1.0,) * 3, offsets=(0.0,) * 3)
    assert not contradictions(reflectance, silent)
    assert "says no scale and offset" in doubts(reflectance, silent)[0]
    trained_silent = replace(DEEP, band_scales=(1.0,) * 3, band_offsets=(0.0,) * 3)
    assert "a scale of 0.0001 and an offset of -0.1" in doubts(trained_silent, same)[0]
    assert not doubts(DEEP, same)  # an old card knows nothing


def test_size_and_resolution() -> None:
    assert not doubts(DEEP, Met("a.tif", resolution=14.0))
    assert "has pixels of 0.5 m; the model was trained on pixels of 10 m" in doubts(DEEP, Met("a", resolution=0.5))[0]
    photographs = replace(EIGHT, trained_size=(300, 400))
    assert size_doubt(photographs, (310, 400)) == size_doubt(EIGHT, (1, 1)) == ""
    assert "looked at with 1200 x 900 pixels, the model was trained at 400 x 300" in size_doubt(
        photographs, (900, 1200)
    )


def test_an_old_card_gets_the_sizes_of_its_data_set() -> None:
    city = replace(EIGHT, label_space=LabelSpace.named("cityscapes"), protocol="semseg-ss")
    with pytest.warns(UserWarning, match="so semseg-ss@cityscapes is taken"):
        assert protocol_of(city).base_px == (2048,)
    assert protocol_of(city, "semseg-ss").base_px == (512,)
    assert protocol_of(replace(city, protocol="semseg-ss@cityscapes")).base_px == (2048,)
    assert protocol_of(replace(city, label_space=LabelSpace.named("ade20k"))).base_px == (512,)


def test_labels_of_another_order() -> None:
    ours, theirs = LabelSpace(("a", "b", "c")), LabelSpace(("c", "a", "b"))
    table = label_translation(ours, theirs)
    assert table is not None
    assert table[:3].tolist() == [2, 0, 1]
    assert table[255] == 255
    assert label_translation(ours, ours) is None


class Tile(Dataset):
    """Two labelled windows of a raster that says all that a data set may say."""

    label_space, bands = SPACE, 3
    band_names, band_numbers = ("red", "green", "blue"), (1, 2, 3)

    def __init__(
        self, dtype: str = "uint16", scale: float = 1.0, names: tuple[str, ...] = band_names, **size: Any
    ) -> None:
        self.name, self.dtype, self.band_names, self.metres = "tiles", dtype, names, size.get("metres", 10.0)
        self.band_info = BandInfo("a.tif", names, (), (dtype,) * 3, (scale,) * 3, (0.0,) * 3, False)

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Sample:
        top = 200 if self.dtype == "uint8" else 6000
        image = np.random.default_rng(index).integers(0, top, (40, 40, 3)).astype(self.dtype)
        return Sample(image, (image[..., 0] % 3).astype(np.uint8), f"tile_{index}")

    def grid(self, index: int) -> Grid:
        crs = rasterio.crs.CRS.from_string(UTM)
        return Grid(crs, Affine(self.metres, 0, 5e5, 0, -self.metres, 5.6e6), 40, 40)


def init_from(segmenter: Segmenter, dataset: Dataset, folder: Path) -> None:
    segmenter.save(folder / "m.safetensors", overwrite=True)
    resolve(toy_run(folder / "run", init_from=folder / "m.safetensors"), DataSets.given(dataset, None))


DOORS: dict[str, Callable[[Segmenter, Dataset, Path], object]] = {
    "evaluate": lambda segmenter, dataset, folder: evaluate(segmenter, dataset),
    "predict_dataset": lambda segmenter, dataset, folder: predict_dataset(segmenter, dataset, lambda *_: None),
    "explore": lambda segmenter, dataset, folder: explore(
        segmenter, dataset, folder / "page.html", examples=1, overwrite=True
    ),
    "calibrate": lambda segmenter, dataset, folder: calibrate(segmenter, dataset),
    "adapt": lambda segmenter, dataset, folder: adapt_batch_norm(segmenter, dataset),
    "init_from": init_from,
}


@pytest.mark.parametrize("door", DOORS)
def test_every_door_compares(door: str, tmp_path: Path) -> None:
    card = {
        "value_range": (0.0, 10_000.0),
        "pixel_type": "uint16",
        "band_scales": (0.01,) * 3,
        "band_offsets": (0.0,) * 3,
    }
    segmenter = make_segmenter(ground_resolution=10.0, **card)
    segmenter = Segmenter(segmenter.model, segmenter.card, device="cpu", precision="fp32")
    meet = DOORS[door]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        meet(segmenter, Tile(scale=0.01), tmp_path)
    with pytest.raises(ConfigError, match=r"scale 0\.1 and offset 0, those trained on with scale 0\.01"):
        meet(segmenter, Tile(scale=0.1), tmp_path)
    with pytest.raises(ConfigError, match="its bands are blue, green, red, the model reads red, green, blue"):
        meet(segmenter, Tile(scale=0.01, names=("blue", "green", "red")), tmp_path)
    with pytest.warns(UserWarning, match="tiles") as caught:
        meet(segmenter, Tile("uint8", metres=0.2), tmp_path)
    words = " ".join(str(one.message) for one in caught)
    assert "'tiles' (uint8) holds values from" in words
    assert "'tiles' has pixels of 0.2 m" in words
    assert "'tiles' says no scale and offset" in words
    if door == "init_from":  # the check of the run tells it
        return
    partial = Tile(scale=0.01)
    partial.faults = (Fault("warning", "left_out", "a.json", "3 of 9 pictures are left out", "Annotate them"),)
    with pytest.warns(UserWarning, match="3 of 9 pictures are left out"):
        meet(segmenter, partial, tmp_path)


def test_files_and_rasters_compare(tmp_path: Path) -> None:
    card = {"value_range": (0.0, 255.0), "pixel_type": "uint8", "band_scales": (0.5,) * 3, "band_offsets": (0.0,) * 3}
    segmenter = make_segmenter(**card)
    path = write_raster(tmp_path / "a.tif", scene(64, 64), photometric="minisblack")
    with rasterio.open(path, "r+") as file:
        file.scales = (0.25,) * 3
    with pytest.raises(RasterError, match=r"scale 0\.25 and offset 0, those trained on with scale 0\.5"):
        segment_raster(segmenter, path, tmp_path / "map.tif")
    with pytest.raises(ImageError, match=r"scale 0\.25 and offset 0, those trained on with scale 0\.5"):
        segmenter.read(path)
    with pytest.warns(
        UserWarning, match=r"the image \(uint16\) holds values from .* trained on uint8 values of 0 to 255"
    ):
        segmenter.read(np.full((8, 8, 3), 900, np.uint16))
