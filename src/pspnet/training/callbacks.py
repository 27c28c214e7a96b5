"""A hook for loggers and tools of your own: any function that takes a `TrainingEvent`. Nothing is subclassed.

def to_console(event: TrainingEvent) -> None:
    if event.kind == "validation":
        print(event.step, event.values["val_mean_iou"])

pspnet.train(config, callbacks=[to_console, Mlflow("streets")])

Every run logs to TensorBoard (`TensorBoard`, below) and metrics.csv by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pspnet.config.train import TrainConfig
from pspnet.errors import MissingExtraError
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


class Mlflow:
    """A callback that logs a run to MLflow: settings, curves, and the best model as an artifact.

    Args:
        experiment: Its name in MLflow; None: the one that is set already (MLFLOW_EXPERIMENT_NAME).
        artifact: Whether best.safetensors is handed in at the end.

    Raises MissingExtraError without mlflow. Where runs go is MLflow's own setting (MLFLOW_TRACKING_URI).
    """

    def __init__(self, experiment: str | None = None, artifact: bool = True) -> None:
        try:
            import mlflow
        except ImportError as error:
            raise MissingExtraError("this callback needs the library: pip install mlflow") from error
        self.mlflow, self.experiment, self.artifact = mlflow, experiment, artifact
        self.run: Any = None

    def __call__(self, event: TrainingEvent) -> None:
        if event.kind == "start":
            if self.experiment is not None:
                self.mlflow.set_experiment(self.experiment)
            self.run = self.mlflow.start_run(run_name=event.run_dir.name)
            # 500 characters is the most that MLflow keeps of a value
            settings = flat(event.config.model_dump(mode="json"))
            self.mlflow.log_params({name: str(value)[:500] for name, value in settings.items()})
        if event.values:
            self.mlflow.log_metrics(dict(event.values), step=event.step)
        if event.kind == "end" and self.run is not None:
            best = event.run_dir / "best.safetensors"
            if self.artifact and best.is_file():
                self.mlflow.log_artifact(str(best))
            self.mlflow.end_run()
            self.run = None


def flat(values: Mapping[str, Any], parent: str = "") -> dict[str, Any]:
    """{"model": {"encoder": "resnet18"}} -> {"model.encoder": "resnet18"}."""
    settings: dict[str, Any] = {}
    for name, value in values.items():
        settings |= flat(value, f"{parent}{name}.") if isinstance(value, Mapping) else {f"{parent}{name}": value}
    return settings
