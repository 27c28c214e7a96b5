"""What a notebook shows: figures drawn where they are made, a table of the epochs, how far a data set has been read."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from pspnet.arcgis.arguments import METRICS
from pspnet.config.train import Monitored
from pspnet.data.dataset import Dataset, Sample
from pspnet.data.views import View
from pspnet.terminal import duration
from pspnet.training.callbacks import TrainingEvent


def shown(figure: Any) -> Any:
    """A figure, drawn below the cell where a notebook runs this; given back in any case."""
    display = sys.modules.get("IPython.display")
    if display is not None:
        display.display(figure)
    return figure


class EpochTable:
    """A callback that prints arcgis.learn's table: a row for each validation, with what is monitored marked by a star.

    epoch train_loss valid_loss* accuracy miou   dice   time
    1     0.6412     0.6021      0.7110   0.4312 0.5714 0:03
    """

    def __init__(self, monitored: Sequence[Monitored], chips: int) -> None:
        always = ("valid_loss", "accuracy", "miou", "dice")
        names = [*always, *(name for name, ours in METRICS.items() if ours in monitored and name not in always)]
        self.columns = {n + ("*" if METRICS[n] in monitored else ""): f"val_{METRICS[n]}" for n in names}
        self.chips, self._losses, self._since = chips, list[float](), time.monotonic()

    def __call__(self, event: TrainingEvent) -> None:
        if event.kind == "start":
            self._since = time.monotonic()
            print(self._row("epoch", "train_loss", *self.columns, "time"), flush=True)
        elif event.kind == "log":
            self._losses.append(event.values["loss"])
        elif event.kind == "validation":
            epoch = event.step * event.config.batch_size * event.config.accumulate / self.chips
            loss = sum(self._losses) / max(len(self._losses), 1)
            scores = [f"{event.values.get(column, float('nan')):.4f}" for column in self.columns.values()]
            print(
                self._row(f"{epoch:.3g}", f"{loss:.4f}", *scores, duration(time.monotonic() - self._since)), flush=True
            )
            self._losses, self._since = [], time.monotonic()

    def _row(self, *cells: str) -> str:
        widths = [max(len(title), 6) for title in ("epoch", "train_loss", *self.columns, "time")]
        return " ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def counted(dataset: Dataset) -> Dataset:
    """The same data set; how many of its samples have been read stands on a terminal's last line."""
    return _Counted(dataset) if sys.stderr.isatty() else dataset


class _Counted(View):
    def __init__(self, dataset: Dataset) -> None:
        super().__init__([dataset])
        self.read = 0

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        self.read += 1
        end = "\n" if self.read == len(self) else ""
        sys.stderr.write(f"\r{self.read} of {len(self)} chips{end}")
        return sample
