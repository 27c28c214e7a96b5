"""A run's folder: all that a run leaves, and all that another program needs to watch it.

config.yaml         the resolved TrainConfig: what was derived from the data is written down
state.json          process id, status, step, time left; renewed about once a second
metrics.csv         a line every few steps and one for each validation
class_iou.csv       a line for each validation: IoU of every class
scores_best.json    scores of the best validation: per class, confusion matrix, worst images
scores_last.json    the same of the latest one
pictures/           predictions at each validation: image, labels, prediction, mistakes
tensorboard/        the curves for TensorBoard
last.ckpt           everything needed to go on (weights, optimiser, position)
previous.ckpt       the state before that one, for a disk that damages a file
best.safetensors    the model that scored best: what `train` returns
last.safetensors    the model after the last step
summary.json        what the run took and reached, written at its end
"""

from __future__ import annotations

import csv
import io
import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from pspnet.config.base import read_yaml, with_overrides
from pspnet.config.train import TrainConfig
from pspnet.errors import ConfigError, OutputError, TrainingError
from pspnet.files import locked, not_through_links, write_text, writing
from pspnet.machine import at_work

# settings that a resumed run may be given anew: none of them changes a number
MAY_CHANGE = ("data.root", "data.cache", "data.cache_folder", "workers", "checkpoint_minutes", "checkpoint_every")
LOADERS_END_S = 8.0  # the loading processes of a killed run hold its lock until they find that they are alone (5 s)
Status = Literal["preparing", "running", "validating", "finished", "interrupted", "failed"]
COLUMNS = (
    "step",
    "epoch",
    "seconds",
    "loss",
    "loss_pixel",
    "loss_auxiliary",
    "loss_image",
    "loss_points",
    "learning_rate",
    "images_per_s",
    "data_waiting",
    "val_loss",
    "val_mean_iou",
    "val_mean_accuracy",
    "val_pixel_accuracy",
    "val_mean_f1",
    "val_mean_dice",
    "val_frequency_weighted_iou",
)


class RunFolder:
    """Names and writes the files of a run. Only the first process of a run writes."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.state = self.path / "state.json"
        self.metrics = self.path / "metrics.csv"
        self.class_iou = self.path / "class_iou.csv"
        self.pictures = self.path / "pictures"
        self.tensorboard = self.path / "tensorboard"
        self.last_state = self.path / "last.ckpt"
        self.previous_state = self.path / "previous.ckpt"
        self.best_model = self.path / "best.safetensors"
        self.last_model = self.path / "last.safetensors"
        self.summary = self.path / "summary.json"
        self._state: dict[str, Any] = {}
        self._state_written = 0.0

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """An existing run. Raises TrainingError where there is none."""
        folder = cls(path)
        if not folder.config.is_file():
            raise TrainingError(f"'{path}' holds no config.yaml; give the folder of a run, such as runs/NAME")
        with suppress(TrainingError):  # a run goes on without it
            folder._state = folder.read_state()
        return folder

    def check_new(self) -> None:
        """Raises TrainingError where the folder holds a run already."""
        if self.config.exists():
            raise TrainingError(
                f"'{self.path}' already holds a run. Continue it with: pspnet train --resume {self.path}, "
                "or give another run_dir"
            )

    def create(self, config: TrainConfig) -> None:
        """Makes the folder. Raises TrainingError where one is that holds a run."""
        self.check_new()  # again: another process may have been quicker
        write_text(self.config, config.to_yaml())
        self.preparing(config)

    def preparing(self, config: TrainConfig) -> None:
        """Says in state.json that this process begins with the run, or goes on with it."""
        self.update_state("preparing", now=True, started=round(time.time(), 3), message="", steps=config.steps)

    @contextmanager
    def owned(self) -> Iterator[None]:
        """This process alone writes the run. Raises TrainingError where another one is at work on it."""
        until = time.monotonic() + LOADERS_END_S
        with ExitStack() as held:
            while True:
                try:
                    held.enter_context(locked(self.state, f"run '{self.path}'"))
                    break
                except OutputError as error:
                    if error.__cause__ is not None:  # the system refused; nobody holds it
                        raise
                    if time.monotonic() > until:
                        raise TrainingError(
                            f"run '{self.path}' is being trained by another process (see {self.state.name} there). Stop "
                            "that one first, or give this run a run_dir of its own"
                        ) from error
                time.sleep(0.5)
            yield

    def read_config(self, settings: Sequence[str] = ()) -> TrainConfig:
        """The resolved config, with `settings` (name=value) over it. Raises ConfigError and TrainingError."""
        wrong = [text for text in settings if text.split("=")[0] not in MAY_CHANGE]
        if wrong:
            raise ConfigError(
                f"--resume with {wrong[0]}: a run goes on as it was set up. What may change is {', '.join(MAY_CHANGE)}"
            )
        config = TrainConfig.model_validate(with_overrides(read_yaml(self.config), list(settings)))
        if config.steps is None or config.val_every is None or not isinstance(config.devices, int):
            raise TrainingError(
                f"'{self.config}' is not what a run wrote there: steps, val_every or devices are missing"
            )
        return config

    def read_state(self) -> dict[str, Any]:
        """The latest state.json. Raises TrainingError when it is damaged."""
        try:
            return dict(json.loads(self.state.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise TrainingError(f"'{self.state}' cannot be read: {error}") from error

    def status(self) -> str:
        """The run's status, or "killed" where a process of this machine should be at work and is not."""
        state = self.read_state()
        try:
            working = (
                state["status"] in ("preparing", "running", "validating") and state["host"] == socket.gethostname()
            )
            killed = working and not at_work(int(state["pid"]), float(state["updated"]))
            return "killed" if killed else str(state["status"])
        except (KeyError, TypeError, ValueError) as error:
            raise TrainingError(f"'{self.state}' is damaged: {error!r} is missing or wrong") from error

    def update_state(self, status: Status | None = None, now: bool = False, **values: Any) -> None:
        """Changes state.json; it is written at once when the status changes, else at most once a second."""
        changed = status is not None and status != self._state.get("status")
        self._state.update(values)
        if status is not None:
            self._state["status"] = status
        if changed or now or time.time() - self._state_written > 1.0:
            self._state_written = time.time()
            fixed = {"pid": os.getpid(), "host": socket.gethostname(), "updated": round(self._state_written, 3)}
            self._write_state(json.dumps({**self._state, **fixed}, indent=1))

    def _write_state(self, text: str) -> None:
        try:
            write_text(self.state, text)
        except OutputError:
            # a full disk has no room for a second file, but the old one's room can be written over: a run that has
            # failed must not go on as "running" for those who watch it
            try:
                with open(self.state, "r+b", opener=not_through_links) as file:
                    file.write(text.encode())
                    file.truncate()
                return
            except OSError:
                pass
            raise

    def append_metrics(self, **values: float | int | None) -> None:
        """Adds a line to metrics.csv. Names are those of COLUMNS; what is left out stays empty."""
        unknown = values.keys() - set(COLUMNS)
        assert not unknown, unknown
        new = not self.metrics.exists()
        line = io.StringIO()
        writer = csv.DictWriter(line, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow({name: _number(value) for name, value in values.items() if value is not None})
        _append(self.metrics, line.getvalue())

    def read_metrics(self) -> list[dict[str, float]]:
        """The lines of metrics.csv, each with the columns that are not empty. A last line that is cut off is left out."""
        return _read_lines(self.metrics)

    def append_class_iou(self, step: int, names: Sequence[str], iou: Sequence[float]) -> None:
        """Adds a line to class_iou.csv: step, then the IoU (0..1) of each class; empty where a class has none (NaN)."""
        line = io.StringIO()
        writer = csv.writer(line, lineterminator="\n")
        if not self.class_iou.exists():
            writer.writerow(["step", *(name.replace("\n", " ") for name in names)])
        writer.writerow([step, *("" if value != value else _number(float(value)) for value in iou)])
        _append(self.class_iou, line.getvalue())

    def read_class_iou(self) -> list[dict[str, float]]:
        """The lines of class_iou.csv: step, and the IoU of each class that has one."""
        return _read_lines(self.class_iou)

    def forget_after(self, step: int) -> None:
        """Drops the lines of metrics.csv and class_iou.csv after `step`: a resumed run will write them again."""
        for path in (self.metrics, self.class_iou):
            if path.exists():
                # split at "\\n" alone: names of classes may hold what str.splitlines takes for an end
                header, *lines = [*io.StringIO(path.read_text(encoding="utf-8", errors="replace"))] or [""]
                whole = [line for line in lines if line.endswith("\n") and line.split(",", 1)[0].isdecimal()]
                earlier_lines = [line for line in whole if int(line.split(",", 1)[0]) <= step]
                lacking = _lacking(header) if path == self.metrics else 0
                if lacking:  # an earlier version wrote it
                    header = ",".join(COLUMNS) + "\n"
                    earlier_lines = [line[:-1] + "," * lacking + "\n" for line in earlier_lines]
                if header.startswith(",".join(COLUMNS) if path == self.metrics else "step,"):
                    write_text(path, "".join([header, *earlier_lines]))
                else:
                    path.unlink()  # it was damaged; a new one begins

    def scores(self, which: Literal["best", "last"]) -> Path:
        return self.path / f"scores_{which}.json"


def new_run_dir(config: TrainConfig, parent: str | Path = "runs") -> Path:
    """`config.run_dir`, or runs/NAME with the first free number."""
    if config.run_dir is not None:
        return config.run_dir
    name = config.name or "-".join((config.data.format, config.model.encoder, config.model.decoder))
    candidates = (Path(parent) / (name if n == 1 else f"{name}-{n}") for n in range(1, 10_000))
    return next(path for path in candidates if not path.exists())


def _lacking(header: str) -> int:
    """How many of metrics.csv's last columns its header has not; 0 where it is none of ours."""
    count = header.count(",") + 1
    return len(COLUMNS) - count if header == ",".join(COLUMNS[:count]) + "\n" and count > 2 else 0


def _append(path: Path, lines: str) -> None:
    with writing(path), open(path, "a", encoding="utf-8", opener=not_through_links) as file:
        file.write(lines)  # one write, so a reader sees whole lines


def _read_lines(path: Path) -> list[dict[str, float]]:
    """A CSV's whole lines, each with the columns that are not empty; lines that hold something else are left out."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    header, *rows = [*csv.reader(io.StringIO(text[: text.rfind("\n") + 1]))] or [[]]
    lines = []
    for row in rows:
        with suppress(ValueError):
            lines.append({name: float(value) for name, value in zip(header, row, strict=True) if value})
    return lines


def _number(value: float | int) -> str:
    return str(value) if isinstance(value, int) else f"{value:.9g}"
