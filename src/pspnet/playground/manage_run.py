"""What can be done with a run besides starting it: take its settings again, rename it, delete it, download its models."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pspnet.config.differences import flattened
from pspnet.errors import ConfigError, TrainingError, require
from pspnet.playground import charts
from pspnet.playground.context import Context
from pspnet.playground.run_queue import plain_words
from pspnet.playground.uploads import upload_folder
from pspnet.training.run_folder import RunFolder

gr = require("gradio", "playground")

CHECKPOINTS = ("best.safetensors", "last.safetensors", "config.yaml", "metrics.csv")


def run_settings(context: Context, name: str | None) -> dict[str, Any]:
    """What a run was started with, as nested settings. Raises TrainingError for a run without a config or recipe."""
    from pspnet.config.base import read_yaml

    path = context.runs.path(name or "")
    folder = RunFolder(path)
    source = folder.config if folder.config.is_file() else path / "recipe.yaml"
    try:
        values = dict(read_yaml(source))
    except Exception as error:  # whatever somebody wrote there
        raise TrainingError(f"the settings of the run '{name}' cannot be read: {error}") from error
    for name_field in ("run_dir", "name"):
        values.pop(name_field, None)
    return values


def rename(context: Context, name: str | None, new: str) -> str:
    """Gives a run that is not at work another name. Raises ConfigError and TrainingError."""
    state = context.runs.state(name or "")
    if state.active or state.status == "queued":
        raise TrainingError(f"the run '{name}' is {state.status}; stop it first")
    new = new.strip()
    if not new or Path(new).name != new or new.startswith(".") or "\0" in new or len(new.encode()) > 150:
        raise ConfigError(f"new name = {new!r}: a run's name is a folder's name, without '/'")
    target = context.runs.folder / new
    if target.exists():
        raise ConfigError(f"new name = '{new}': there is such a run already; choose another name")
    with plain_words(state.path):
        state.path.rename(target)
    return new


def delete(context: Context, name: str | None, confirmed: bool) -> None:
    """Removes a run's folder with its models. sure: whoever asks has said so a second time."""
    state = context.runs.state(name or "")
    if state.active or state.status == "queued":
        raise TrainingError(f"the run '{name}' is {state.status}; stop it first")
    if not confirmed:
        raise ConfigError(
            f"tick 'delete it for good' first: the models of '{name}' go with it, and nothing brings them back"
        )
    with plain_words(state.path):
        shutil.rmtree(state.path)


def checkpoints(context: Context, name: str | None) -> list[str]:
    """Copies of a run's models and tables that the page may hand out. Raises TrainingError where there is none yet."""
    path = context.runs.path(name or "")
    files = [path / file for file in CHECKPOINTS if (path / file).is_file() and context.roots.holds(path / file)]
    if not any(file.suffix == ".safetensors" for file in files):
        raise TrainingError(f"the run '{name}' has no model yet: it writes one at its first validation")
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=upload_folder()))
    with plain_words(folder):
        return [str(shutil.copy(file, folder / f"{path.name}-{file.name}")) for file in files]


def left_over(values: Mapping[str, Any], known: Sequence[str]) -> str:
    """Settings that no component asks for, as lines of name=value."""
    flat = flattened({key: value for key, value in values.items() if key not in ("data", "model")}, "")
    return "\n".join(f"{name}={_written(value)}" for name, value in flat.items() if name not in known)


def _written(value: Any) -> str:
    return "null" if value is None else str(value).replace("True", "true").replace("False", "false")


def what_it_was(values: Mapping[str, Any], name: str) -> str:
    """A line that says whose settings the form holds now."""
    data = values.get("data") or {}
    where = data.get("root") or data.get("format") or "generated scenes"
    return charts.note(f"The settings of {name} stand in the places Model and Train; its data ({where}) is chosen.")
