"""The whole tree of commands as a stranger reads it: sentences, examples, one word for one thing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from pspnet.cli import _run, app
from pspnet.cli.help import GROUPS, first_sentence

ROOT_COMMAND = typer.main.get_command(app)


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for name, below in command.commands.items():
            yield from commands(below, (*path, name))
    else:
        yield " ".join(path), command


ALL = dict(commands(ROOT_COMMAND))


@pytest.mark.parametrize("name", ALL)
def test_a_command_explains_itself(name: str) -> None:
    command = ALL[name]
    text = command.help or ""
    assert len(first_sentence(text)) > 15, "a sentence that says what it does"
    assert f"pspnet {name}" in text, "an example that can be copied"
    for parameter in command.params:
        if parameter.name not in ("help", "install_completion", "show_completion"):
            assert getattr(parameter, "help", None), f"{parameter.name} has no explanation"


# an option means the same thing wherever it stands
SAME_KIND = ("--json", "--scores", "--overwrite", "--device", "--split", "--protocol", "--format", "--out")


def test_one_word_is_one_kind_of_value() -> None:
    kinds: dict[str, set[str]] = {}
    for command in ALL.values():
        for parameter in command.params:
            for word in parameter.opts:
                if word in SAME_KIND:
                    kinds.setdefault(word, set()).add("flag" if getattr(parameter, "is_flag", False) else "value")
    assert {word: sorted(spellings) for word, spellings in kinds.items() if len(spellings) > 1} == {}


def test_every_command_stands_under_a_heading() -> None:
    grouped = {name for names in GROUPS.values() for name in names}
    assert grouped == {name.split()[0] for name in ALL}
    shown = subprocess.run(
        [sys.executable, "-m", "pspnet", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert not any(line.endswith("...") for line in shown.splitlines()[1:])
    assert [line for line in shown.splitlines() if re.fullmatch(r"More:", line)] == []
    assert all(re.search(rf"^  {name}\s", shown, flags=re.M) for name in grouped)


def test_version_and_doctor() -> None:
    import pspnet

    run = [sys.executable, "-m", "pspnet"]
    assert subprocess.run([*run, "--version"], capture_output=True, text=True).stdout.strip() == pspnet.__version__
    report = json.loads(subprocess.run([*run, "doctor", "--json"], capture_output=True, text=True, check=True).stdout)
    assert report["devices"][0] == "cpu"
    assert {one["name"]: one["works"] for one in report["abilities"]}["train"] is True


@pytest.mark.parametrize("name", ALL)
def test_examples_work_from_a_wheel(name: str) -> None:
    """A wheel has recipes by name, and no folder of them; models by the names that come along in it."""
    assert "recipes/" not in (ALL[name].help or "")


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["segmen", "scenes"],
        ["data", "nonsense"],
        ["segment", "--nonsense"],
        ["info", "scenes", "--batch", "x"],
    ],
)
def test_wrong_words_end_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(words, debug=False) == 2
    assert capsys.readouterr().err


@pytest.mark.parametrize("command", ["segment", "evaluate", "explore", "calibrate", "adapt"])
def test_a_missing_model_is_named_before_what_else_is_missing(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = {
        "segment": [str(tmp_path / "missing.jpg")],
        "calibrate": [str(tmp_path / "out.safetensors"), "--data", str(tmp_path / "none")],
        "adapt": [str(tmp_path / "none"), str(tmp_path / "out.safetensors")],
    }.get(command, ["--data", str(tmp_path / "none")])
    for model in ("camvid-smal", str(tmp_path / "no.safetensors")):
        assert _run([command, model, *rest], debug=False) == 1
        stderr = capsys.readouterr().err
        assert model in stderr
        assert "missing.jpg" not in stderr
