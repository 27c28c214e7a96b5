"""Functions that are told what happens in a run."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pspnet.errors import MissingExtraError
from pspnet.training import train
from pspnet.training.callbacks import Mlflow, TrainingEvent
from pspnet.training.run_folder import RunFolder
from support.toys import Toys, toy_run


def test_a_callback_is_told_what_metrics_csv_holds(tmp_path: Path) -> None:
    events: list[TrainingEvent] = []
    config = toy_run(tmp_path / "run", checkpoint_every=4)
    train(config, train_data=Toys(), val_data=Toys(3, seed=9), callbacks=[events.append], quiet=True)
    kinds = [event.kind for event in events]
    assert kinds[0] == "start"
    assert kinds[-1] == "end"
    assert (kinds.count("log"), kinds.count("validation")) == (6, 2)
    assert [event.step for event in events if event.kind == "saved"] == [4, 6]
    assert next(event.step for event in events if event.kind == "best") == 3
    valued = [event for event in events if event.values]
    for event, row in zip(valued, RunFolder(config.run_dir).read_metrics(), strict=True):
        assert (event.step, event.steps, event.run_dir) == (row["step"], 6, config.run_dir)
        assert event.values == pytest.approx({name: row[name] for name in event.values}, rel=1e-6)


def test_the_end_is_told_of_a_run_that_fails_too(tmp_path: Path) -> None:
    kinds: list[str] = []

    def fails(event: TrainingEvent) -> None:
        kinds.append(event.kind)
        if event.kind == "log":
            raise RuntimeError("the logger's server is gone")

    with pytest.raises(RuntimeError, match="server is gone"):
        train(toy_run(tmp_path / "run"), train_data=Toys(), callbacks=[fails], quiet=True)
    assert kinds == ["start", "log", "end"]
    assert RunFolder.open(tmp_path / "run").status() == "failed"


def test_mlflow_is_a_callback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings by their dotted names, curves by step, the best model at the end; MLflow's calls, recorded by a stand-in."""
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
    names = ("set_experiment", "start_run", "log_params", "log_metrics", "log_artifact", "end_run")
    recorded = {name: (lambda *a, _n=name, **k: calls.append((_n, a, k)) or _n) for name in names}
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(**recorded))
    log = Mlflow("toys")
    config = toy_run(tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best.safetensors").touch()
    for kind, step, values in (("start", 0, {}), ("log", 1, {"loss": 2.0}), ("saved", 1, {}), ("end", 6, {})):
        log(TrainingEvent(kind, step, 6, tmp_path / "run", config, values))  # type: ignore[arg-type]
    assert [name for name, *_ in calls] == [
        *("set_experiment", "start_run", "log_params", "log_metrics", "log_artifact", "end_run")
    ]
    params = calls[2][1][0]
    assert params["model.encoder"] == "resnet18"
    assert params["optimizer.learning_rate"] == "0.005"
    assert calls[3][1:] == (({"loss": 2.0},), {"step": 1})
    assert calls[4][1] == (str(tmp_path / "run" / "best.safetensors"),)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtraError, match="pip install mlflow"):
        Mlflow()
