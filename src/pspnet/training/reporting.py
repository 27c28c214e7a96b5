"""What a run says while it works: progress bar, metrics.csv, TensorBoard, state.json, and the summary at its end."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from torch import Tensor

from pspnet.config.train import TrainConfig
from pspnet.terminal import PlainConsole
from pspnet.training.checkpoint import diverged
from pspnet.training.processes import agree_sum
from pspnet.training.run_folder import RunFolder
from pspnet.training.state import TrainingModule
from pspnet.training.validation import Validation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch.utils.tensorboard import SummaryWriter

LINE_EVERY_S = 20.0  # between two lines where no progress bar can be drawn


class Clock:
    """Seconds of training, of validation and of waiting for data, over all resumed parts of a run."""

    def __init__(self) -> None:
        self.training = self.validation = self.waiting = 0.0
        self.images = self.validations = 0
        self._since = time.perf_counter()
        self._running = False

    def go(self) -> None:
        self._since, self._running = time.perf_counter(), True

    def stop(self) -> None:
        if self._running:
            self.training += time.perf_counter() - self._since
        self._running = False

    @property
    def trained_s(self) -> float:
        return self.training + (time.perf_counter() - self._since if self._running else 0.0)

    @contextmanager
    def validating(self) -> Iterator[None]:
        self.stop()
        began = time.perf_counter()
        yield
        self.validation += time.perf_counter() - began
        self.validations += 1
        self.go()

    def to_dict(self) -> dict[str, float]:
        return {
            "training": self.trained_s,
            "validation": self.validation,
            "waiting": self.waiting,
            "images": self.images,
            "validations": self.validations,
        }

    def load(self, values: dict[str, float]) -> None:
        self.training, self.validation, self.waiting = values["training"], values["validation"], values["waiting"]
        self.images, self.validations = int(values["images"]), int(values["validations"])


class Reporter(pl.Callback):  # type: ignore[misc]
    """Writes what happens. Every process counts, the first one writes."""

    def __init__(self, folder: RunFolder, config: TrainConfig, samples: int, validations: int, quiet: bool) -> None:
        self.folder, self.settings, self.samples, self.quiet = folder, config, samples, quiet
        self.planned_validations = validations
        self.clock = Clock()
        self.console = PlainConsole(stderr=True)
        self.writer: SummaryWriter | None = None
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        self.best = float("nan")
        self.first = True  # whether this process writes
        self._sums: dict[str, Tensor] = {}  # of the losses since the last log line, on the device
        self._batches = 0  # that went into the sums
        self._line_at = time.monotonic()
        self._mark: tuple[int, float, float] = (0, 0.0, 0.0)  # images, seconds and waiting at the last log line
        self._latest: dict[str, float] = {}

    # the run's course

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        self.first = trainer.is_global_zero
        if self.first:
            self._open(trainer.global_step, pl_module, trainer.world_size)
        self.clock.go()
        self._mark = (self.clock.images, self.clock.trained_s, self.clock.waiting)

    def _open(self, step: int, module: TrainingModule, processes: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder.forget_after(step)
        self.writer = SummaryWriter(str(self.folder.tensorboard), purge_step=step + 1 if step else None)
        if not self.quiet and self.console.is_terminal:
            self.bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[figures]}", markup=False),
                console=self.console,
                transient=True,
            )
            self.task = self.bar.add_task("training", total=module.steps, completed=step, figures="")
            self.bar.start()
        self.folder.update_state("running", step=step, steps=module.steps, samples=self.samples)
        begins = f"goes on after step {step} of" if step else "takes"
        self.say(
            f"run {self.folder.path}: {self.samples} training images, {begins} {module.steps} steps of "
            f"{self.settings.batch_size * self.settings.accumulate} on {processes} x {self.settings.device}, "
            f"{self.settings.precision}, {self.settings.workers} loading"
        )

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, TrainingModule)
        if pl_module.batches_since_start == 0 and pl_module.loader is not None:
            # the first batch is waited for while the workers start: that is no step's time
            pl_module.loader.waited_s = 0.0
            self.clock.stop()
            self.clock.training = self._mark[1]
            self.clock.go()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, TrainingModule)
        for name, value in pl_module.latest.items():
            self._sums[name] = self._sums[name].to(value.device) + value if name in self._sums else value
        self._batches += 1
        if pl_module.batches_seen % self.settings.accumulate:
            return
        step = trainer.global_step
        self.clock.images += self.settings.batch_size * self.settings.accumulate
        assert pl_module.loader is not None
        self.clock.waiting += pl_module.loader.waited_s
        pl_module.loader.waited_s = 0.0
        if step % self.settings.log_every and step != pl_module.steps:
            self._show(trainer, pl_module)
            return
        values = {"learning_rate": pl_module.rate, **self._mean_losses(trainer)}
        if not math.isfinite(values["loss"]):
            raise diverged(pl_module, step)
        images, seconds, waiting = self._mark
        elapsed = max(self.clock.trained_s - seconds, 1e-9)
        values["images_per_s"] = (self.clock.images - images) / elapsed
        values["data_waiting"] = (self.clock.waiting - waiting) / elapsed
        self._mark = (self.clock.images, self.clock.trained_s, self.clock.waiting)
        self._latest = values
        self.record(trainer, pl_module, values)
        self._show(trainer, pl_module)

    def record(self, trainer: pl.Trainer, module: TrainingModule, values: dict[str, float]) -> None:
        """A line in metrics.csv and points in TensorBoard."""
        if self.writer is None:
            return
        step = trainer.global_step
        epoch = module.batches_seen * self.settings.batch_size / self.samples
        self.folder.append_metrics(step=step, epoch=epoch, seconds=self.seconds, **values)
        for name, value in values.items():
            self.writer.add_scalar(
                name.replace("val_", "validation/") if name.startswith("val_") else f"training/{name}", value, step
            )

    def _mean_losses(self, trainer: pl.Trainer) -> dict[str, float]:
        """The losses since the last log line, averaged over batches and processes."""
        names = sorted(self._sums)
        sums = agree_sum(trainer, [float(self._sums[name]) for name in names])
        count = self._batches * trainer.world_size
        self._sums, self._batches = {}, 0
        return {name: value / count for name, value in zip(names, sums, strict=True)}

    @property
    def seconds(self) -> float:
        return self.clock.trained_s + self.clock.validation

    def validating(self, done: int, images: int) -> None:
        """Shows how far a validation is."""
        if self.first:
            self.folder.update_state(validated_images=done, validation_images=images)
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, description=f"validating {done}/{images}")

    def validated(self, trainer: pl.Trainer, module: TrainingModule, found: Validation, best: float) -> None:
        """Logs a validation's scores."""
        scores = found.scores
        self.best = best
        values = {
            "val_loss": found.loss,
            "val_mean_iou": scores.mean_iou,
            "val_mean_accuracy": scores.mean_accuracy,
            "val_pixel_accuracy": scores.pixel_accuracy,
        }
        self.record(trainer, module, {name: value for name, value in values.items() if value == value})
        if not trainer.is_global_zero:
            return
        self.folder.update_state("running", now=True, val_mean_iou=scores.mean_iou, best_mean_iou=best)
        self.say(
            f"step {trainer.global_step}: validation mIoU {scores.mean_iou:.4f}, pixel accuracy "
            f"{scores.pixel_accuracy:.4f} (best mIoU {best:.4f})"
        )

    def time_left_s(self, step: int, steps: int) -> float:
        """Estimate from the run so far, validations included."""
        per_step = self.clock.trained_s / max(step, 1)
        ahead = max(self.planned_validations - self.clock.validations, 0)
        return per_step * (steps - step) + ahead * self.clock.validation / max(self.clock.validations, 1)

    # words

    def say(self, text: str) -> None:
        """A line on the terminal, above the bar."""
        if self.first and not self.quiet:
            (self.bar.console if self.bar is not None else self.console).print(text, highlight=False, soft_wrap=True)

    def _show(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        if not trainer.is_global_zero:
            return
        step, steps, latest = trainer.global_step, module.steps, self._latest
        left = self.time_left_s(step, steps)
        epoch = module.batches_seen * self.settings.batch_size / self.samples
        self.folder.update_state("running", False, step=step, steps=steps, eta_s=round(left, 1), epoch=epoch, **latest)
        figures = f"{duration(left)} left"
        if latest:
            figures = (
                f"{latest['images_per_s']:.1f} images/s  loss {latest['loss']:.3f}  "
                f"lr {latest['learning_rate']:.2g}  {figures}"
            )
        if self.best == self.best:
            figures += f"  mIoU {self.best:.3f}"
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, description="training", completed=step, figures=figures)
        elif time.monotonic() - self._line_at > LINE_EVERY_S:
            self._line_at = time.monotonic()
            self.say(f"step {step}/{steps}  {figures}")

    # ends

    def close(self) -> None:
        self.clock.stop()
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.close()

    def state_dict(self) -> dict[str, Any]:
        sums = {name: value.cpu() for name, value in self._sums.items()}
        return {"clock": self.clock.to_dict(), "best": self.best, "sums": sums, "batches": self._batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.clock.load(state_dict["clock"])
        self.best, self._sums, self._batches = float(state_dict["best"]), state_dict["sums"], state_dict["batches"]


@contextmanager
def counting(title: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Gives a function (done, total) that moves a bar on the terminal, where there is one."""
    console = PlainConsole(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda done, total: None
        return
    with Progress(
        TextColumn(title, markup=False), BarColumn(), MofNCompleteColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task(title)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def duration(seconds: float) -> str:
    """3725.0 -> '1:02:05'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
