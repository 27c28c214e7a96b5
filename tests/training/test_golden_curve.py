"""A short run's losses and scores, recorded: the loop, the batches and the numbers are those of the day it was recorded.

Recorded with Lightning's Trainer at commit 36dfa3a on an x86 processor with AVX-512, one thread, float32. There the curve
repeats bit for bit. Elsewhere sums are rounded in another order: two other orders (two threads, channels last) departed by
8e-8 of a loss in these steps. What the bounds must catch: one step less of warm-up departs by 1e-2 of a loss, 5e-3 of a
validation loss and 6e-2 of mean IoU, an average that decays by 0.5 instead of 0.4 by 6e-3 and 4e-2.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from pspnet.config import TrainConfig
from pspnet.training import train
from pspnet.training.run_folder import RunFolder
from support.toys import toy_model

RECORD = Path(__file__).with_name("golden_curve.json")


def golden_run(folder: Path, **changes: object) -> TrainConfig:
    """Generated scenes, small, with everything in the loop that moves the numbers."""
    values = {
        "run_dir": folder,
        "model": toy_model(dropout=0.2, encoder_options={"depth": 3, "drop_path_rate": 0.2}),
        "data": {"format": "scenes", "options": {"count": 12, "size": 64}, "val_options": {"count": 4}},
        "augmentation": {"crop": (48, 48)},
        "optimizer": {"learning_rate": 0.02},
        "schedule": {"warmup_steps": 3},
        "batch_size": 4,
        "accumulate": 2,
        "clip": 1.0,
        "ema": 0.4,
        "mixup": 0.3,
        "progressive_resizing": ((0.5, 0.4),),
        "rare_classes": "off",  # it was recorded before `auto` was the default
        "steps": 12,
        "val_every": 4,
        "log_every": 1,
        "workers": 0,
        "pictures": 0,
        "precision": "fp32",
        "channels_last": False,
    }
    return TrainConfig.model_validate(values | changes)


def curve(folder: Path) -> dict[str, list[float]]:
    rows = RunFolder(folder).read_metrics()
    return {
        "loss": [row["loss"] for row in rows if "loss" in row],
        "learning_rate": [row["learning_rate"] for row in rows if "learning_rate" in row],
        "val_loss": [row["val_loss"] for row in rows if "val_loss" in row],
        "val_mean_iou": [row["val_mean_iou"] for row in rows if "val_mean_iou" in row],
    }


def test_the_recorded_curve(tmp_path: Path) -> None:
    train(golden_run(tmp_path / "run"), quiet=True)
    recorded = json.loads(RECORD.read_text())
    measured = curve(tmp_path / "run")
    assert {name: len(values) for name, values in measured.items()} == {
        "loss": 12,
        "learning_rate": 12,
        "val_loss": 3,
        "val_mean_iou": 3,
    }
    np.testing.assert_allclose(measured["learning_rate"], recorded["learning_rate"], rtol=1e-8)
    np.testing.assert_allclose(measured["loss"], recorded["loss"], rtol=1e-4)
    np.testing.assert_allclose(measured["val_loss"], recorded["val_loss"], rtol=1e-4)
    # a pixel at the border of two classes may fall to the other one
    np.testing.assert_allclose(measured["val_mean_iou"], recorded["val_mean_iou"], rtol=1e-2)
