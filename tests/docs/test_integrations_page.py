"""docs/integrations.md runs: its commands and its Python as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command

from pspnet import Segmenter
from pspnet.cli import app
from pspnet.data.catalog import open_dataset
from pspnet.integrations.label_studio import read_configuration
from support.deepness import DeepnessReader
from support.foreign import write_foreign
from support.guides import GuideRunner
from support.hub_server import Hub, here
from support.other_programs import use_cvat, use_fiftyone, use_supervision
from support.paths import ROOT
from support.rasters import read, write_raster

PAGE = ROOT / "docs" / "integrations.md"


def section(title: str) -> str:
    """The text below a heading."""
    text = PAGE.read_text(encoding="utf-8")
    return re.split(r"^## ", text.split(f"## {title}\n", 1)[1], maxsplit=1, flags=re.M)[0]


def block(title: str, language: str) -> str:
    """The one block of a section in this language."""
    (match,) = re.findall(rf"^```{language}\n(.*?)^```", section(title), flags=re.M | re.S)
    return match


def commands(script: str) -> None:
    """Runs the lines as `pspnet` would."""
    GuideRunner().run("sh", script)


hub = pytest.fixture(here)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_other_peoples_onnx_files(folder: Path) -> None:
    title = "Other people's ONNX files on rasters"
    write_foreign(folder / "unet.onnx")
    (folder / "unet.yaml").write_text(block(title, "yaml"))
    write_raster(folder / "city.tif", np.random.default_rng(0).integers(0, 256, (3, 70, 90), dtype=np.uint8))
    commands(block(title, "sh"))
    np.testing.assert_array_equal(read(folder / "map.tif"), read(folder / "map2.tif"))
    assert len(np.unique(read(folder / "map.tif"))) == 3


@pytest.mark.slow  # tests/exporting/test_deepness.py is the quick one
def test_deepness(folder: Path) -> None:
    commands(block("QGIS: Deepness", "sh"))
    assert DeepnessReader(folder / "scenes.onnx").classes == list(Segmenter.load("scenes").classes)


def test_the_hub(folder: Path, hub: Hub) -> None:
    names: dict[str, Any] = {}
    exec(block("The Hugging Face hub", "python"), names)
    assert names["url"] == f"{hub.url}/someone/scenes"
    assert names["model"].classes == names["again"].classes == names["seg"].classes


@pytest.fixture
def photo(folder: Path) -> Path:
    scene = np.asarray(open_dataset("scenes", None, "val", count=1, size=96)[0].image)
    Image.fromarray(scene).save(folder / "photo.jpg")
    return folder / "photo.jpg"


def test_label_studio(capsys: pytest.CaptureFixture[str]) -> None:
    exec(block("Label Studio", "python"), {})
    classes = Segmenter.load("scenes").classes
    assert tuple(read_configuration(capsys.readouterr().out, classes).labels) == classes
    options = {name for parameter in get_command(app).commands["serve"].params for name in parameter.opts}
    assert set(re.findall(r"--[a-z-]+", section("Label Studio"))) <= options


def test_cvat(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    use_cvat(monkeypatch)
    exec(block("CVAT", "python"), {})
    assert "skyscraper" in capsys.readouterr().out


def test_supervision(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_supervision(monkeypatch)
    names: dict[str, Any] = {}
    exec(block("supervision", "python"), names)
    assert len(names["sure"]) >= 1


def test_fiftyone(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_fiftyone(monkeypatch)

    class Sample(dict[str, Any]):
        filepath = str(photo)
        saved = False

        def save(self) -> None:
            self.saved = True

    samples = Samples([Sample()])
    exec(block("FiftyOne", "python"), {"dataset": samples})
    assert samples[0].saved
    assert samples.saved
    assert set(np.unique(samples[0]["pspnet"].mask)) <= set(samples.mask_targets["pspnet"]) | {0}


class Samples(list[Any]):
    """As much of a fiftyone.Dataset as the example uses."""

    saved = False

    def __init__(self, samples: list[Any]) -> None:
        super().__init__(samples)
        self.mask_targets: dict[str, dict[int, str]] = {}

    def save(self) -> None:
        self.saved = True
