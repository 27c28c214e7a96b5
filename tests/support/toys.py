"""A data set of a dozen tiny pictures, the smallest run on it, and child processes: what the training tests share."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pspnet.config import AugmentConfig, ModelConfig, TrainConfig
from pspnet.data.dataset import Sample
from pspnet.labels import IGNORE, LabelSpace

NAMES = ("ground", "square", "stripe")


class Toys:
    """Ground with a square and a stripe in colours of their own, plus noise; a corner is ignored. A Dataset.

    uneven: three heights instead of one. on_read: called with the number of reads so far, to interfere.
    """

    bands = 3

    def __init__(
        self,
        count: int = 12,
        size: int = 40,
        seed: int = 0,
        uneven: bool = False,
        names: tuple[str, ...] = NAMES,
        on_read: Callable[[int], None] = lambda reads: None,
    ) -> None:
        self.count, self.size, self.seed, self.uneven, self.on_read = count, size, seed, uneven, on_read
        self.label_space = LabelSpace(names)
        self.reads = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        self.reads += 1
        self.on_read(self.reads)
        rng = np.random.default_rng([self.seed, index])
        height = self.size + (index % 3) * 5 if self.uneven else self.size
        labels = np.zeros((height, self.size), np.uint8)
        y, x = rng.integers(0, self.size - 16, 2)
        labels[y : y + 14, x : x + 14] = 1
        labels[rng.integers(0, self.size - 6) :][:5] = 2
        colours = np.array([[70, 90, 60], [200, 60, 50], [60, 70, 220]])
        image = (colours[labels] + rng.normal(0, 12, (*labels.shape, 3))).clip(0, 255).astype(np.uint8)
        labels[:3, :3] = IGNORE
        return Sample(image, labels, f"toy_{index:02d}")


def toy_model(**changes: Any) -> ModelConfig:
    values: dict[str, Any] = {
        "encoder": "resnet18",
        "encoder_options": {"depth": 3},
        "bins": (1, 2),
        "decoder_channels": 16,
    }
    return ModelConfig(**values | changes)


def toy_run(folder: Path, **changes: Any) -> TrainConfig:
    values: dict[str, Any] = {
        "run_dir": folder,
        "model": toy_model(),
        "augmentation": AugmentConfig(crop=33),
        "steps": 6,
        "batch_size": 2,
        "val_every": 3,
        "workers": 0,
        "pictures": 1,
        "log_every": 1,
        "precision": "fp32",
        "check_data": False,  # many tests count what is read
        "rare_classes": "off",
        "optimizer": {"learning_rate": 0.005},
    }
    return TrainConfig(**values | changes)


def in_child(work: Callable[[], Any], **environment: str) -> int:
    """Runs `work` in a forked process and returns its process id: a real process, without the seconds that imports take.

    It ends with 0, with the exit_code of what `work` raised, or with 99 and a traceback for an error without one.
    """
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        os.environ.update(environment)
        work()
        code = 0
    except BaseException as error:
        code = getattr(error, "exit_code", 99)
        if code == 99:
            traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(code)


def ended(child: int) -> int:
    """Waits for a child: its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
