"""docs/rasters.md, executed: every command and every line of Python, on rasters in the likeness of published ones.

Training is shortened and windows are made small, by the changes listed here; everything else is run as it is written.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import torch

from pspnet.data.catalog import open_dataset
from pspnet.labels import IGNORE
from support.guides import GuideRunner, blocks
from support.paths import ROOT
from support.towns import CLASSES, make_streets, make_suburb, make_town

GUIDE = ROOT / "docs" / "rasters.md"
QUICK = {  # first words of a command -> what is added
    "pspnet train": [
        "data.options.window_px=64",
        "steps=6",
        "batch_size=4",
        "augmentation.crop=64",
        "model.input_scale=1",
        "model.encoder_options.depth=3",
        "model.output_stride=8",
        "model.decoder_channels=8",
        "model.pyramid_options.fusion_channels=16",
        "schedule.warmup_steps=1",
        "optimizer.learning_rate=0.01",
        "val_every=6",
        "workers=0",
        "pictures=0",
        "precision=fp32",
    ],
    "pspnet evaluate": ["--option", "window_px=64", "--device", "cpu"],
    "pspnet raster": ["--tile", "96", "--overlap", "32", "--device", "cpu"],
    "pspnet data check": ["--option", "window_px=64"],
    "pspnet data stats": ["--option", "window_px=64"],
}
SHORTER = {  # in the Python
    "window_px=256": "window_px=48",
    "chip_size=224, batch_size=8": "chip_size=48, batch_size=2",
    "model.fit(20, lr=0.001)": "model.fit(1, lr=0.001, training={'steps': None, 'workers': 0, 'pictures': 0})",
    "pyramid_sizes=(1, 2, 3, 6)": "pyramid_sizes=(1, 2), model_options={'encoder_options': {'depth': 3}, 'decoder_channels': 8}",
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    make_town(tmp_path / "town")
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.chdir(tmp_path)
    runner = GuideRunner(QUICK, SHORTER)
    for language, code in blocks(GUIDE, "sh", "python"):
        runner.run(language, code)
    assert runner.unused == set()  # what is shortened is still in the guide
    check_what_the_guide_promises(tmp_path)


def check_what_the_guide_promises(folder: Path) -> None:
    with (
        rasterio.open(folder / "town" / "images" / "west.tif") as source,
        rasterio.open(folder / "landcover.tif") as output,
    ):
        assert (output.crs, output.transform, output.shape) == (source.crs, source.transform, source.shape)
        assert output.count == 2  # polygons ask for the confidence
        assert json.loads(output.tags()["CLASSES"]) == {"0": "field", "1": "houses", "2": "water"}
        labels = output.read(1)
    assert set(np.unique(labels)) <= {0, 1, 2}
    _, _, _, (names, areas) = pyogrio.raw.read(folder / "landcover.gpkg", columns=["class", "area_m2"])
    assert set(names) <= {"field", "houses", "water"}
    # on the ground: UTM's plane is 0.06 % smaller there
    assert areas.sum() == pytest.approx(labels.size * 1.00005**2, rel=1e-3)
    assert areas.min() >= 20
    with rasterio.open(folder / "part.tif") as part:
        assert "unsure" in json.loads(part.tags()["CLASSES"]).values()
    summary = json.loads((folder / "maps" / "summary.json").read_text())
    assert len(summary["done"]) == 2
    with rasterio.open(folder / "west_classes.tif") as coded, rasterio.open(folder / "again.tif") as again:
        assert json.loads(coded.tags()["CLASSES"]) == {"1": "field", "2": "houses", "3": "water"}
        assert again.count == 1


def test_hand_drawn_polygons_in_degrees_land_on_the_grid(tmp_path: Path) -> None:
    make_town(tmp_path)
    dataset = open_dataset("raster", tmp_path, "all", labels="landuse.gpkg", window_px=96)
    assert sorted(dataset.label_space.names) == sorted(CLASSES)
    shares = np.zeros(256)
    for index in range(len(dataset)):
        sample = dataset[index]
        assert sample.image.dtype == np.float64
        assert sample.labels is not None
        shares += np.bincount(sample.labels.ravel(), minlength=256)
        for name, nir in (("water", 60), ("field", 900), ("houses", 560)):  # the colour says whether the label is right
            inside = sample.image[sample.labels == dataset.label_space.index(name)][:, 3]
            assert np.size(inside) == 0 or abs(np.median(inside) - nir) < 80
    assert shares[IGNORE] / shares.sum() == pytest.approx(0.1, abs=0.02)  # the south, which nobody labelled


def test_outlines_and_centre_lines_become_labels(tmp_path: Path) -> None:
    suburb, streets = make_suburb(tmp_path / "suburb"), make_streets(tmp_path / "streets")
    buildings = open_dataset(
        "raster",
        suburb / "pan.tif",
        "all",
        labels="buildings.geojson",
        feature_class="building",
        background="ground",
        window_px=128,
    )
    labels = buildings[0].labels
    assert labels is not None
    assert (labels == buildings.label_space.index("building")).sum() == 3 * 16 * 16
    assert (labels[:, :10] == IGNORE).all()  # nodata in the image
    roads = open_dataset(
        "raster",
        streets / "pan.tif",
        "all",
        labels="roads.geojson",
        feature_class="road",
        background="ground",
        width_m=6,
        window_px=128,
    )
    labels = roads[0].labels
    assert labels is not None
    across = (labels[:, 100] == roads.label_space.index("road")).sum()  # one road, six metres of 0.30 m
    assert across == pytest.approx(6 / (2.7e-6 * 111_320), abs=2)
