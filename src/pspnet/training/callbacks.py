"""A hook for loggers and tools of your own: any function that takes an `TrainingEvent`.

def to_mlflow(event: TrainingEvent) -> None:
    if event.kind == "start":
        mlflow.log_params({"encoder": event.config.model.encoder})
    mlflow.log_metrics(event.values, step=event.step)

pspnet.train(config, callbacks=[to_mlflow])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pspnet.config.train import TrainConfig
from pspnet.files import writing


@dataclass(frozen=True)
class TrainingEvent:
    """What happens in a run, told in its first process.

    kind: "start"; "log", every `log_every` updates; "validation"; "saved", a state for a resume; "best", a new
    best.safetensors; "end", also of a run that was stopped or failed. step: updates done, of `steps`. values: numbers by
    their column in metrics.csv, with "log" and "validation". What a callback raises ends the run.
    """

    kind: Literal["start", "log", "validation", "saved", "best", "end"]
    step: int
    steps: int
    run_dir: Path
    config: TrainConfig
    values: Mapping[str, float] = field(default_factory=dict)


Callback = Callable[[TrainingEvent], Any]


class TensorBoard:
    """The curves for TensorBoard: a callback that every run has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writer: Any = None

    def __call__(self, event: TrainingEvent) -> None:
        with writing(self.folder):
            if event.kind == "start":
                from torch.utils.tensorboard import SummaryWriter

                # points after the step that a run goes on from are hidden: it will write them again
                self.writer = SummaryWriter(str(self.folder), purge_step=event.step + 1 if event.step else None)
            elif event.kind == "end" and self.writer is not None:
                self.writer.close()
                self.writer = None
            for name, value in event.values.items():
                kind, short = ("validation", name[4:]) if name.startswith("val_") else ("training", name)
                self.writer.add_scalar(f"{kind}/{short}", value, event.step)
