"""The program as a stranger meets it: help, exit codes, messages without tracebacks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

from pspnet import LabelSpace, ModelConfig, PSPNet, Segmenter
from pspnet.cli import _run, app
from pspnet.errors import CheckpointError
from pspnet.weights.checkpoint import ModelCard


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = ModelConfig(encoder="resnet18", num_classes=3, encoder_options={"depth": 3}, bins=(1, 2))
    seg = Segmenter(PSPNet(config), ModelCard(LabelSpace(("sea", "land", "sky"))), device="cpu")
    return seg.save(tmp_path_factory.mktemp("model") / "tiny.safetensors")


def run(*arguments: str | Path) -> int:
    return _run([str(a) for a in arguments], debug=False)


def commands() -> list[list[str]]:
    """Every command, those of groups too."""
    lines_of_options: list[list[str]] = []

    def walk(command: object, path: list[str]) -> None:
        for name, below in getattr(command, "commands", {}).items():
            lines_of_options.append([*path, name])
            walk(below, [*path, name])

    walk(get_command(app), [])
    return lines_of_options


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_every_command_explains_itself(path: list[str]) -> None:
    shown = CliRunner().invoke(app, [*path, "--help"])
    assert shown.exit_code == 0
    assert len(shown.output.splitlines()) > 5
    command = get_command(app)
    for name in path:
        command = command.commands[name]
    silent = [parameter.name for parameter in command.params if not (getattr(parameter, "help", "") or "").strip()]
    assert silent == [], "each argument and option needs a sentence"


def test_segment_writes_labels_overlay_and_summary(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)).save(tmp_path / "a.png")
    assert run("segment", model, tmp_path / "a.png", "--out", tmp_path / "out") == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a.png", "a_overlay.jpg", "summary.json"}
    assert "1 of 1 images parsed" in capsys.readouterr().out
    (tmp_path / "bad.png").write_bytes(b"no image")
    assert run("segment", "--model", model, tmp_path / "a.png", tmp_path / "bad.png", "--out", tmp_path / "out") == 1
    assert "bad.png" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["segment", "MODEL"], 2, "no image given"),
        (["segment", "MODEL", "nowhere.jpg"], 1, "nowhere.jpg"),
        (["segment", "nothere", "MODEL"], 1, "neither a file nor a model"),
        (["segment", "MODEL", "MODEL", "--opacity", "3"], 2, "opacity"),
        (["segmet"], 2, "segment"),
    ],
)
def test_wrong_use_is_told_in_words(
    model: Path, arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*[str(model) if a == "MODEL" else a for a in arguments]) == code
    stderr = capsys.readouterr().err
    assert words in stderr
    assert "Traceback" not in stderr


def test_a_cut_off_checkpoint_is_told(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(model.read_bytes()[:1000])
    assert run("segment", cut, cut) == 1
    stderr = capsys.readouterr().err
    assert "cut off" in stderr
    assert "Traceback" not in stderr
    with pytest.raises(CheckpointError):  # with --debug the error itself comes through, for its traceback
        _run(["segment", str(cut), str(cut)], debug=True)


def test_the_program_is_a_real_process() -> None:
    done = subprocess.run([sys.executable, "-m", "pspnet", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "segment" in done.stdout
