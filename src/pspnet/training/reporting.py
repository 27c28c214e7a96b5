"""What a run says while it works: terminal, metrics.csv, state.json, and the callbacks."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from pspnet.config.train import MONITORED, TrainConfig
from pspnet.metrics import Scores
from pspnet.terminal import PlainConsole, duration
from pspnet.training.callbacks import Callback, TensorBoard, TrainingEvent
from pspnet.training.distributed import agree_sum
from pspnet.training.run_folder import RunFolder
from pspnet.training.state import TrainingState
from pspnet.training.step import diverged

SAID = ("mean_iou", "pixel_accuracy")  # of every validation
LINE_EVERY_S = 20.0  # between two lines where no progress bar can be drawn


class Reporter:
    """Tells what happens. Every process counts; only the first one, `first`, writes."""

    def __init__(
        self,
        folder: RunFolder,
        config: TrainConfig,
        samples: int,
        callbacks: Sequence[Callback],
        quiet: bool,
        first: bool,
    ) -> None:
        self.folder, self.config, self.samples, self.given = folder, config, samples, tuple(callbacks)
        self.callbacks: tuple[Callback, ...] = ()  # of a run that has started
        self.quiet, self.first = quiet or not first, first
        self.console = PlainConsole(stderr=True)
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        self._line_at = time.monotonic()
        self._mark = (0, 0.0, 0.0)  # images, seconds and waiting at the last log line
        self._latest: dict[str, float] = {}

    def start(self, state: TrainingState, processes: int) -> None:
        self._mark = (state.clock.images, state.clock.training, state.clock.waiting)
        if not self.first:
            return
        if not self.quiet and self.console.is_terminal:
            self.bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[figures]}", markup=False),
                console=self.console,
                transient=True,
            )
            self.task = self.bar.add_task("training", total=state.steps, completed=state.step, figures="")
            self.bar.start()
        self.folder.update_state("running", step=state.step, steps=state.steps, samples=self.samples)
        begins = f"goes on after step {state.step} of" if state.step else "takes"
        self.say(
            f"run {self.folder.path}: {self.samples} training images, {begins} {state.steps} steps of "
            f"{self.config.batch_size * self.config.accumulate} on {processes} x {self.config.device}, "
            f"{self.config.precision}, {self.config.workers} loading"
        )
        self.tell("start", state)

    def updated(self, fabric: Any, state: TrainingState, waited_s: float) -> None:
        """After an update of the weights; every `log_every` of them, and the last, is a line of metrics.csv."""
        clock = state.clock
        clock.images += self.config.batch_size * self.config.accumulate
        clock.waiting += waited_s
        if state.step % self.config.log_every == 0 or state.step == state.steps:
            values = {"learning_rate": state.rate, **self._mean_losses(fabric, state)}
            if not math.isfinite(values["loss"]):
                raise diverged(self.config, state.step)
            images, seconds, waiting = self._mark
            elapsed = max(clock.trained_s - seconds, 1e-9)
            values["images_per_s"] = (clock.images - images) / elapsed
            values["data_waiting"] = (clock.waiting - waiting) / elapsed
            self._mark = (clock.images, clock.trained_s, clock.waiting)
            self._latest = values
            self._record("log", state, values)
        if self.first:
            self._show(state)

    def _mean_losses(self, fabric: Any, state: TrainingState) -> dict[str, float]:
        """The losses since the last log line, averaged over batches and processes."""
        names = sorted(state.loss_sums)
        sums = agree_sum(fabric, [float(state.loss_sums[name]) for name in names])
        count = state.loss_count * fabric.world_size
        state.loss_sums, state.loss_count = {}, 0
        return {name: value / count for name, value in zip(names, sums, strict=True)}

    def _record(self, kind: Literal["log", "validation"], state: TrainingState, values: Mapping[str, float]) -> None:
        """A line in metrics.csv, and an event."""
        if not self.first:
            return
        seconds = state.clock.trained_s + state.clock.validation
        self.folder.append_metrics(step=state.step, epoch=self._epoch(state), seconds=seconds, **values)
        self.tell(kind, state, values)

    def _epoch(self, state: TrainingState) -> float:
        return state.batches * self.config.batch_size / self.samples

    def tell(
        self,
        kind: Literal["start", "log", "validation", "saved", "best", "end"],
        state: TrainingState,
        values: Mapping[str, float] | None = None,
    ) -> None:
        """Hands an event to every callback. A run that did not start has no end to tell of."""
        if kind == "start":
            self.callbacks = (TensorBoard(self.folder.tensorboard), *self.given)
        if self.first:
            event = TrainingEvent(kind, state.step, state.steps, self.folder.path, self.config, values or {})
            for callback in self.callbacks:
                callback(event)

    def validating(self, done: int, images: int) -> None:
        """Shows how far a validation is."""
        if self.first:
            self.folder.update_state("validating", validated_images=done, validation_images=images)
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, description=f"validating {done}/{images}")

    def validated(self, state: TrainingState, scores: Scores, loss: float) -> None:
        """A validation's scores."""
        values = {f"val_{name}": loss if name == "loss" else float(getattr(scores, name)) for name in MONITORED}
        self._record("validation", state, {name: value for name, value in values.items() if value == value})
        if not self.first:
            return
        best = state.best.mean_iou
        others = [
            f"{name.replace('_', ' ')} {values[f'val_{name}']:.4f}" for name in self.config.followed if name not in SAID
        ]
        self.folder.update_state("running", now=True, step=state.step, val_mean_iou=scores.mean_iou, best_mean_iou=best)
        self.say(
            f"step {state.step}: validation mIoU {scores.mean_iou:.4f}, pixel accuracy "
            f"{scores.pixel_accuracy:.4f}{''.join(f', {text}' for text in others)} (best mIoU {best:.4f})"
        )

    def time_left_s(self, state: TrainingState) -> float:
        """Estimate from the run so far, validations included."""
        assert self.config.val_every is not None
        clock = state.clock
        validations_left = max(-(-state.steps // self.config.val_every) - clock.validations, 0)
        per_step, per_validation = clock.trained_s / max(state.step, 1), clock.validation / max(clock.validations, 1)
        return per_step * (state.steps - state.step) + per_validation * validations_left

    def say(self, text: str) -> None:
        """A line on the terminal, above the bar."""
        if not self.quiet:
            console = self.bar.console if self.bar is not None else self.console
            console.print(text, highlight=False, soft_wrap=True, markup=False)

    def _show(self, state: TrainingState) -> None:
        step, steps = state.step, state.steps
        latest: dict[str, Any] = dict(self._latest)
        left = self.time_left_s(state)
        self.folder.update_state(
            "running", step=step, steps=steps, eta_s=round(left, 1), epoch=self._epoch(state), **latest
        )
        figures = f"{duration(left)} left"
        if latest:
            figures = (
                f"{latest['images_per_s']:.1f} images/s  loss {latest['loss']:.3f}  "
                f"lr {latest['learning_rate']:.2g}  {figures}"
            )
        if state.best.mean_iou == state.best.mean_iou:
            figures += f"  mIoU {state.best.mean_iou:.3f}"
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, description="training", completed=step, figures=figures)
        elif time.monotonic() - self._line_at > LINE_EVERY_S:
            self._line_at = time.monotonic()
            self.say(f"step {step}/{steps}  {figures}")

    def close(self, state: TrainingState) -> None:
        """The run has ended, in whichever way."""
        state.clock.stop()
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
        self.tell("end", state)
