"""Saving the state of a run so that it continues bit for bit, and never leaving only half a file."""

from __future__ import annotations

import pickle
import signal
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins.io import CheckpointIO

from pspnet.config.train import TrainConfig
from pspnet.errors import RunInterrupted, TrainingError
from pspnet.files import new_file
from pspnet.training.processes import agree
from pspnet.training.run_folder import RunFolder
from pspnet.training.signals import Interruption
from pspnet.training.state import TrainingModule

ASK_EVERY = 8  # updates between two questions to the other GPUs: each makes this one wait for its own queue


class StateFile(CheckpointIO):  # type: ignore[misc]
    """A run's state as one file: written beside the old one, brought to the disk, then put in its place."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        target = Path(path)
        with new_file(target, durable=True, after="The state that was saved before is still there") as part:
            torch.save(checkpoint, part)

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: Any = None) -> dict[str, Any]:
        return read_state_file(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink()


def read_state_file(path: Path) -> dict[str, Any]:
    """The state, on the CPU; only numbers and tensors are read, no code runs. Raises TrainingError when it is damaged."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise TrainingError(
            f"'{path}' cannot be read: {error}. Remove it to start the run again from its beginning"
        ) from error
    if not isinstance(state, dict) or "batches_seen" not in state:
        raise TrainingError(f"'{path}' is not the state of a pspnet run")
    return state


class Keeper(pl.Callback):  # type: ignore[misc]
    """Saves the state every few steps or minutes, at the end, and when the user wants to stop.

    It acts after an update of the weights, and after the validation that belongs to it: a saved state never lies
    between the batches of one update.
    """

    def __init__(self, folder: RunFolder, config: TrainConfig, interruption: Interruption) -> None:
        self.folder, self.settings, self.interruption = folder, config, interruption
        self.saved_step = 0
        self.saved_at = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.interruption.install()  # Lightning has put its own SIGTERM handler in place
        if self.folder.last_state.exists():
            self.saved_step = trainer.global_step
        self.saved_at = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, TrainingModule)
        if pl_module.batches_seen % self.settings.accumulate:
            return
        step = trainer.global_step
        every = self.settings.checkpoint_every
        last = step >= pl_module.steps or trainer.should_stop
        wish = late = 0
        if trainer.world_size == 1 or trainer.strategy.root_device.type == "cpu" or step % ASK_EVERY == 0:
            late = int(time.monotonic() - self.saved_at > 60 * self.settings.checkpoint_minutes)
            wish, late = agree(trainer, self.interruption.signal or 0, late)
        if last or wish or late or (every is not None and step % every == 0):
            self.save(trainer, pl_module)
        if wish and not last:
            raise interrupted(wish, step, pl_module.steps, self.folder)

    def save(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        """Writes last.ckpt, unless this step's is there already. Raises TrainingError instead of saving broken weights."""
        if trainer.global_step == self.saved_step:
            return
        check_finite(module, trainer.global_step)
        trainer.save_checkpoint(self.folder.last_state)
        self.saved_step, self.saved_at = trainer.global_step, time.monotonic()


def interrupted(number: int, step: int, steps: int, folder: RunFolder) -> RunInterrupted:
    """What a run ends with when it was asked to stop."""
    name = signal.Signals(number).name
    return RunInterrupted(
        f"stopped by {name} after step {step} of {steps}. Go on with: pspnet train --resume {folder.path}", number
    )


def check_finite(module: TrainingModule, step: int) -> None:
    """Raises TrainingError when the latest loss or a weight is not a finite number."""
    loss = module.latest.get("loss")
    broken = loss is not None and not bool(torch.isfinite(loss).all())
    if broken or not all(bool(torch.isfinite(p).all()) for p in module.model.parameters()):
        raise diverged(module, step)


def diverged(module: TrainingModule, step: int) -> TrainingError:
    """What a run ends with when its numbers are no longer finite."""
    optimizer = module.settings.optimizer
    return TrainingError(
        f"the loss is no longer a finite number at step {step}: training has diverged. Lower optimizer.learning_rate "
        f"({optimizer.learning_rate:g}; the head learns {optimizer.head_lr_factor:g} times as fast), add "
        "schedule.warmup_steps, or set clip to 1"
    )
