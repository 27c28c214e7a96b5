"""The state of a run in its folder: when it is saved, whole or not at all, and read with its checksum compared.

last.ckpt is the newest state and previous.ckpt the one before: it is taken where the newest cannot be read.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pspnet.config.train import TrainConfig
from pspnet.errors import TrainingError
from pspnet.files import new_file
from pspnet.training.run_folder import RunFolder
from pspnet.training.state import FORMAT, TrainingState
from pspnet.training.step import diverged


class StateSaver:
    """Saves the state every few steps or minutes, and when it is told to. A state lies after an update, never within."""

    def __init__(self, folder: RunFolder, config: TrainConfig) -> None:
        self.folder, self.config = folder, config
        self.saved_step = -1  # that the file holds
        self.saved_at = time.monotonic()

    @property
    def late(self) -> bool:
        """Whether the file is older than a state may be. Clocks of several processes may say different things."""
        return time.monotonic() - self.saved_at > 60 * self.config.checkpoint_minutes

    def due(self, step: int) -> bool:
        every = self.config.checkpoint_every
        return every is not None and step % every == 0

    def save(self, state: TrainingState, first: bool = True) -> bool:
        """Writes last.ckpt in the first process, unless this step's is there already; whether it did.

        Raises TrainingError instead of saving broken weights, OutputError where it cannot be written.
        """
        if state.step == self.saved_step:
            return False
        check_finite(state)
        if first:
            write_state(self.folder, state.to_dict())
        self.saved_step, self.saved_at = state.step, time.monotonic()
        return True


def check_finite(state: TrainingState) -> None:
    """Raises TrainingError when the latest loss or a weight is not a finite number."""
    loss = state.loss_sums.get("loss")
    broken = loss is not None and not bool(torch.isfinite(loss).all())
    if broken or not all(bool(torch.isfinite(p).all()) for p in state.model.parameters()):
        raise diverged(state.config, state.step)


def write_state(folder: RunFolder, content: dict[str, Any]) -> None:
    """Puts a state in the place of last.ckpt, which becomes previous.ckpt. Raises OutputError; last.ckpt stays then."""
    last, previous = folder.last_state, folder.previous_state
    previous.unlink(missing_ok=True)  # now, so that a disk needs room for two states and not for three
    after = "The state that was saved before is still there" if last.exists() else ""
    with new_file(last, durable=True, after=after, also=(RuntimeError,)) as part:
        try:
            with part.open("wb") as file:
                # beside the clock: with it, all that differs between a run and its repetition
                checked = content["callbacks"] | {"digest": digest(content)}
                torch.save(content | {"callbacks": checked}, file)
        except RuntimeError as error:  # torch's writer hides the system's reason behind one of its own
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None
        if last.exists():
            try:
                os.link(last, previous)  # so that last.ckpt is there at every moment
            except OSError:  # a file system without hard links
                os.replace(last, previous)


def read_state(folder: RunFolder) -> tuple[dict[str, Any] | None, str]:
    """The newest state that can be read, None where nothing was saved yet; and what is to be said about it.

    Raises TrainingError where none of the files that are there can be read.
    """
    problems: list[str] = []
    for path in (folder.last_state, folder.previous_state):
        if path.exists():
            try:
                state = read_state_file(path)
            except TrainingError as error:
                problems.append(str(error))
                continue
            return state, f"{problems[0]}. Going on from {path.name}, the state before" if problems else ""
    if problems:
        raise TrainingError(f"{'; '.join(problems)}. Remove it to start the run again from its beginning")
    return None, ""


def read_state_file(path: Path) -> dict[str, Any]:
    """The state, on the CPU; only numbers and tensors are read, no code runs.

    Raises TrainingError when the file is damaged or altered: what was read must have the digest that it names.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged archive or pickle makes torch raise
        raise TrainingError(f"'{path}' cannot be read: {' '.join(str(error).split())[:300]}") from error
    if not isinstance(state, dict) or "batches_seen" not in state:
        raise TrainingError(f"'{path}' cannot be read: it is not the state of a pspnet run")
    if "pytorch-lightning_version" in state:  # format 1 had no digest
        return state
    if state.get("format") != FORMAT:
        raise TrainingError(
            f"'{path}' cannot be read: its format is {state.get('format')!r}, this pspnet's is {FORMAT}"
        )
    callbacks = state.get("callbacks")
    stored_digest = callbacks.pop("digest", None) if isinstance(callbacks, dict) else None
    if stored_digest != digest(state):
        raise TrainingError(
            f"'{path}' cannot be read: it was altered or damaged, its checksum does not fit its content"
        )
    return state


def digest(content: Any) -> str:
    """SHA-256 over nested dicts and lists of numbers, texts and tensors: names, types, shapes and every bit."""
    sha = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, Tensor):
            flat = value.detach().cpu().contiguous().reshape(-1)
            sha.update(f"tensor {value.dtype} {tuple(value.shape)} ".encode())
            sha.update(flat.view(torch.uint8).numpy().data)
        elif isinstance(value, Mapping):
            sha.update(f"dict {len(value)} ".encode())
            for key, inner in value.items():
                sha.update(f"{key!r} ".encode())
                add(inner)
        elif isinstance(value, (list, tuple)):
            sha.update(f"list {len(value)} ".encode())
            for inner in value:
                add(inner)
        else:
            sha.update(f"{value!r} ".encode())

    add(content)
    return sha.hexdigest()
