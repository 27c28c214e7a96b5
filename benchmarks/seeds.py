"""What the trials over several seeds share: rows that a stopped run finds again, a training scored, gains with intervals."""

from __future__ import annotations

import json
import math
import shutil
import time
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365}  # two-sided, by degrees of freedom


class Rows:
    """A list of rows in a JSON file, written anew with each row."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else []

    def has(self, **values: Any) -> bool:
        return any(all(row[name] == value for name, value in values.items()) for row in self.rows)

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        self.path.write_text(json.dumps(self.rows, indent=1))

    def by_seed(self, score: str = "mean_iou", **values: Any) -> dict[int, float]:
        """Seed -> score of the rows with these values that have one, in the order of the seeds."""
        chosen = [row for row in self.rows if all(row[name] == value for name, value in values.items())]
        return {
            row["seed"]: row[score] for row in sorted(chosen, key=lambda row: row["seed"]) if row[score] is not None
        }


def scores_of_training(
    values: dict[str, Any], settings: list[str], val: Any, device: str, folder: Path
) -> dict[str, Any]:
    """Trains a recipe (with settings over it) in a folder that is removed, and scores its best model: per cent, and seconds."""
    from pspnet import Segmenter, train
    from pspnet.config import EvaluationConfig, TrainConfig
    from pspnet.config.base import with_overrides
    from pspnet.evaluation import assess

    shutil.rmtree(folder, ignore_errors=True)
    began = time.perf_counter()
    config = TrainConfig.model_validate(with_overrides(values | {"run_dir": str(folder)}, settings))
    best = train(config, quiet=True)
    scores = assess(Segmenter.load(best, device=device), val, EvaluationConfig(resamples=0)).scores
    shutil.rmtree(folder, ignore_errors=True)
    return {
        "mean_iou": 100 * float(scores.mean_iou),
        "pixel_accuracy": 100 * float(scores.pixel_accuracy),
        "iou": [100 * float(value) for value in scores.iou],
        "seconds": round(time.perf_counter() - began, 1),
    }


def each(scores: dict[int, float]) -> str:
    return ", ".join(f"{score:.1f}" for score in scores.values())


def gains(scores: dict[int, float], base: dict[int, float]) -> list[float]:
    """Of the seeds that both have."""
    return [score - base[seed] for seed, score in scores.items() if seed in base]


def interval(differences: list[float]) -> str:
    """Mean and 95 % interval (Student's t); of fewer than two, what there is."""
    if len(differences) < 2:
        return ", ".join(f"{value:+.1f}" for value in differences)
    mean, half = fmean(differences), T95[len(differences) - 1] * stdev(differences) / math.sqrt(len(differences))
    return f"{mean:+.1f} ({mean - half:+.1f} to {mean + half:+.1f})"
