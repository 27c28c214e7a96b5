"""The demo's plan, its three networks, and what each of them reached."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pspnet.data.scenes import Scenes
from pspnet.metrics import Scores
from pspnet.nn import PSPNet
from pspnet.predict.engines import pick_device


@dataclass(frozen=True)
class DemoPlan:
    """The demo's settings, chosen so that the whole takes about 3 minutes on two cores without bfloat16."""

    seed: int = 0
    size_px: int = 128
    steps: int = 430
    batch_size: int = 8
    train_scenes: int = 1600
    val_scenes: int = 40
    test_scenes: int = 160
    learning_rate: float = 0.015


@dataclass(frozen=True)
class Contender:
    """One of the three networks: a name and its pyramid."""

    key: str
    title: str
    bins: tuple[int, ...]


CONTENDERS = (
    Contender("fcn", "FCN", ()),
    Contender("one_bin", "One bin", (1,)),
    Contender("pspnet", "PSPNet", (1, 2, 3, 6)),
)


@dataclass(frozen=True)
class DemoOutcome:
    """What a network reached. predictions: (N, size, size) uint8, one for each test scene. curve: lines of metrics.csv."""

    contender: Contender
    scores: Scores
    predictions: NDArray[np.uint8]
    curve: list[dict[str, float]]
    seconds: float
    model: PSPNet


@dataclass(frozen=True)
class DemoReport:
    """Everything the demo found. outcomes: in the order of CONTENDERS. labels: (N, size, size) of the test scenes."""

    plan: DemoPlan
    test: Scenes
    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    outcomes: tuple[DemoOutcome, ...]
    seconds: float
    page: Path

    @property
    def fcn(self) -> DemoOutcome:
        return self.outcomes[0]

    @property
    def pspnet(self) -> DemoOutcome:
        return self.outcomes[-1]


@torch.inference_mode()
def predict(model: PSPNet, images: NDArray[np.uint8], batch_size: int = 16) -> NDArray[np.uint8]:
    """(N, H, W, 3) uint8 -> (N, H, W) uint8 labels."""
    device = pick_device("auto")
    model = model.to(device).eval()
    predictions = []
    for first in range(0, len(images), batch_size):
        batch = torch.from_numpy(images[first : first + batch_size]).to(device).permute(0, 3, 1, 2).float()
        predictions.append(model(batch).argmax(1).to(torch.uint8).cpu().numpy())
    return np.concatenate(predictions)
