"""`pspnet train` as a program on real photographs: killed, asked to stop, resumed, on two processes. Slow: real data."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from support.paths import ROOT

pytestmark = pytest.mark.slow

SMALL = [
    "model.encoder_options.depth=3",
    "model.input_scale=1.0",
    "augmentation.crop=[97,129]",
    "val_limit=4",
    "batch_size=4",
    "steps=12",
    "val_every=6",
    "log_every=1",
    "checkpoint_every=3",
    "pictures=2",
]


def start(shared: Path, run: Path, *settings: str) -> subprocess.Popen[str]:
    recipe = ROOT / "recipes" / "camvid_resnet18_half.yaml"
    arguments = [str(recipe), f"data.root={shared / 'data' / 'camvid'}", f"run_dir={run}", *SMALL, *settings]
    return program("train", *arguments)


def program(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pspnet", *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    out, err = process.communicate(timeout=600)
    assert process.returncode == code, f"{out}\n{err}"
    assert "Warning" not in err, err
    assert "Traceback" not in err, err
    return out + err


def wait_for_step(run: Path, step: int, process: subprocess.Popen[str]) -> None:
    for _ in range(3000):
        metrics = run / "metrics.csv"
        if metrics.exists() and len(metrics.read_text().splitlines()) > step:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError("no progress in five minutes")


def weights(run: Path) -> dict[str, Any]:
    return torch.load(run / "last.ckpt", weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from conftest import SHARED

    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not there")
    run = tmp_path_factory.mktemp("whole") / "run"
    finish(start(SHARED, run))
    return run


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_and_resumed_bit_for_bit(shared: Path, whole: Path, tmp_path: Path, number: int, code: int) -> None:
    run = tmp_path / "run"
    process = start(shared, run)
    wait_for_step(run, 5, process)
    process.send_signal(number)
    process.communicate(timeout=120)
    assert process.returncode == code
    if number != signal.SIGKILL:
        assert json.loads((run / "state.json").read_text())["status"] == "interrupted"
    finish(program("train", "--resume", str(run)))
    expected, resumed = weights(whole), weights(run)
    assert all(torch.equal(value, resumed[name]) for name, value in expected.items())
    assert (run / "scores_best.json").read_text() == (whole / "scores_best.json").read_text()


def test_two_processes_of_one_command(shared: Path, tmp_path: Path) -> None:
    """devices=2 starts the program a second time; SIGTERM to the first stops both; the run resumes."""
    run = tmp_path / "run"
    process = start(shared, run, "devices=2")
    wait_for_step(run, 5, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 143, err
    assert "stopped by SIGTERM after step" in err
    finish(program("train", "--resume", str(run)))
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["devices"], summary["steps"], summary["images"]) == (2, 12, 48)


def test_trained_and_evaluated(shared: Path, whole: Path) -> None:
    """The checkpoint of a run goes straight into an evaluation."""
    out = finish(
        program(
            "evaluate",
            str(whole / "best.safetensors"),
            "--data",
            str(shared / "data" / "camvid"),
            "--format",
            "camvid",
            "--split",
            "val",
            "--json",
            str(whole / "evaluated.json"),
        )
    )
    assert "bicyclist" in out
    assert (whole / "evaluated.json").exists()
