"""The four first hours run from their notebooks, made short; the notebooks are those of the guides."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from support.guides import GuideRunner
from support.paths import ROOT
from support.peers import recording, save, state_of

EXAMPLES, GUIDES = ROOT / "examples", sorted((ROOT / "docs" / "first-hours").glob("*.md"))
TINY = ["workers=0", "pictures=0", "precision=fp32", "device=cpu"]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_a_notebook_is_its_guide(guide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    from notebooks import written  # type: ignore[import-not-found]

    assert (EXAMPLES / f"{guide.stem}.ipynb").read_text(encoding="utf-8") == written(guide), (
        "run python tools/notebooks.py"
    )


def run_notebook(name: str, runner: GuideRunner) -> dict[str, Any]:
    """Every cell of code in turn; returns the names that they leave. What makes it short must still be in it."""
    cells = json.loads((EXAMPLES / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        code = "".join(cell["source"])
        if cell["cell_type"] == "code":
            shell = code.startswith("!")
            runner.run("sh" if shell else "python", "\n".join(line.removeprefix("!") for line in code.splitlines()))
    assert runner.unused == set()
    return runner.names


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_student(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # tests/demo/test_run.py runs the demo
    names = run_notebook("student", GuideRunner(stand_ins={"pspnet demo --out demo": lambda: None}))
    assert (names["answer"](names["features"], names["pooled"]) == names["result"].labels).mean() > 0.999
    printed = capsys.readouterr().out
    unchanged, swapped = (int(share) for share in re.findall(r"(\d+)% of the hulls as in this scene", printed))
    assert unchanged > 60 > 40 > swapped  # the claim of the page: whose averages are given decides


@pytest.mark.slow
def test_the_engineer(folder: Path) -> None:
    names = run_notebook("engineer", GuideRunner(replaced={"count=40": "count=6", "count=24": "count=8"}))
    assert names["result"].labels.shape == (128, 128)
    assert json.loads((folder / "compared" / "comparison.json").read_text())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_analyst(folder: Path) -> None:
    quick = ["augmentation.crop=64", "steps=2", "val_every=2", "batch_size=2", "model.input_scale=0.5", *TINY]
    runner = GuideRunner(
        {"pspnet train": quick, "pspnet raster": ["--tile", "128", "--overlap", "32", "--device", "cpu"]}
    )
    names = run_notebook("analyst", runner)
    assert set(names["patches"]["class"]) <= {"water", "land", "road", "building"}
    with rasterio.open(folder / "landcover.tif") as land_cover:
        assert set(np.unique(land_cover.read(1))) <= {0, 1, 2, 3}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_researcher(folder: Path) -> None:
    state = state_of(recording("semseg")[0])
    save(folder / "train_epoch_100.pth", {"epoch": 100, "state_dict": {f"module.{n}": v for n, v in state.items()}})
    quick = ["steps=2", "val_every=2", "data.options.count=4", "data.val_options.count=2", *TINY]
    quick += ["data.options.size=64", "model.decoder_channels=8", "batch_size=2"]
    runner = GuideRunner(
        {"pspnet train": quick, "pspnet ablate": ["data.options.count=4", "data.val_options.count=2", *quick]},
        {
            "count=60": "count=3",
            "count=20": "count=2",
            "--source semseg --classes ade20k": "--source semseg --no-check",
        },
    )
    run_notebook("researcher", runner)
    assert "B1236+AVE+DR" in (folder / "ablation" / "tables.md").read_text()
    assert json.loads((folder / "compared" / "comparison.json").read_text())
