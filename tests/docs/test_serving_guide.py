"""docs/serving.md runs: its curl lines in a shell, its Python as it stands, against a real server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command

from pspnet.cli import app
from pspnet.data.catalog import open_dataset
from pspnet.images import image_size, read_palette
from pspnet.server.problems import KINDS
from support.guides import blocks
from support.paths import ROOT
from support.services import Running, serving

PAGE = ROOT / "docs" / "serving.md"


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    with serving("scenes", "--threads", "1") as running:
        running.wait_for("ready")
        yield running


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a generated scene called photo.jpg."""
    Image.fromarray(np.asarray(open_dataset("scenes", None, "val", count=1, size=96)[0].image)).save(
        tmp_path / "photo.jpg"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_lines_run(served: Running, folder: Path) -> None:
    ((_, script),) = blocks(PAGE, "sh")
    assert script.count("curl -sf") >= 10
    done = subprocess.run(
        ["sh", "-eu", "-c", script], env={"URL": served.url, "PATH": "/usr/bin:/bin"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert read_palette(folder / "labels.png") is not None
    assert image_size(folder / "overlay.png")[0] > 96  # the legend
    assert json.loads((folder / "polygons.json").read_text())["features"]
    rle = json.loads((folder / "rle.json").read_text())
    assert {segment["class"] for segment in rle["segments"]} <= {"road", "car"}
    assert "confidence_png" in rle
    assert '"status":"ready"' in done.stdout
    assert "pspnet_requests_total" in done.stdout


def test_the_python_runs(served: Running, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ((_, code),) = blocks(PAGE, "python")
    names: dict[str, object] = {"URL": served.url}
    exec(compile(code, str(PAGE), "exec"), names)
    assert (folder / "overlay.png").stat().st_size > 1000
    assert names["picture"].shape == (96, 96, 3)  # type: ignore[attr-defined]
    assert names["boats"]["type"] == "FeatureCollection"  # type: ignore[index]
    assert "sky" in capsys.readouterr().out


def test_the_page_names_what_there_is() -> None:
    text = PAGE.read_text(encoding="utf-8")
    options = {name for parameter in get_command(app).commands["serve"].params for name in parameter.opts}
    shown = set(re.findall(r"--[a-z][a-z-]+", text)) - {"--data-binary"}
    assert shown <= options
    numbers = {int(number) for row in re.findall(r"^\| ([0-9, ]+) \|", text, flags=re.M) for number in row.split(",")}
    assert numbers == {status for status, _ in KINDS.values()} - {405, 499, 500}  # of those three no caller need know
