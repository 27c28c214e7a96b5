"""The whole tree of commands as a stranger reads it: sentences, examples, one word for one thing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from pspnet.cli import app
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
SAME_KIND = ("--overwrite", "--device", "--split", "--protocol", "--format", "--out")


def test_one_word_is_one_kind_of_value() -> None:
    kinds: dict[str, set[str]] = {}
    for command in ALL.values():
        for parameter in command.params:
            for word in parameter.opts:
                if word in SAME_KIND:
                    kinds.setdefault(word, set()).add("flag" if getattr(parameter, "is_flag", False) else "value")
    assert {word: sorted(found) for word, found in kinds.items() if len(found) > 1} == {}


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
    told = json.loads(subprocess.run([*run, "doctor", "--json"], capture_output=True, text=True, check=True).stdout)
    assert told["devices"][0] == "cpu"
    assert {one["name"]: one["works"] for one in told["abilities"]}["train"] is True
