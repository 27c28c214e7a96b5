"""The learning-rate finder: a short run with a growing rate shows where learning is fastest (Smith 2017)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pspnet.config.train import TrainConfig
from pspnet.errors import TrainingError
from pspnet.files import check_output, new_file
from pspnet.losses import build_loss
from pspnet.training.batches import run_batches
from pspnet.training.initial_weights import first_model
from pspnet.training.optimizer import build_optimizer
from pspnet.training.process import random_numbers_put_back
from pspnet.training.resolve import DataSets, data_of, resolve
from pspnet.training.step import TrainingStep

LOWEST, HIGHEST = 1e-6, 1.0  # of the encoder's rate; the head learns head_lr_factor times as fast
SMOOTHING = 0.9  # of the running mean of the losses
DIVERGED = 4.0  # the search ends when the smoothed loss is this many times its lowest


@dataclass(frozen=True)
class RateSearch:
    """rates, losses: (n,), the rates tried and the smoothed loss of each. suggestion: a value for learning_rate."""

    rates: NDArray[np.float64]
    losses: NDArray[np.float64]
    suggestion: float


def search_rate(config: TrainConfig, data: DataSets | None, steps: int, plot: Path | None) -> RateSearch:
    """See `pspnet.training.find_learning_rate`."""
    sets = data_of(config, data)
    if plot is not None:
        inputs = [path for path in (config.data.root, config.init_from) if path is not None]
        check_output(plot, inputs=[*inputs, *sets.train.sources()])  # before the search, not after
    # each batch alone, at its whole size and as it is: the loss is to follow from the rate
    plain = {"accumulate": 1, "mixup": 0.0, "progressive_resizing": (), "compile": False}
    config = resolve(config.changed(steps=steps, epochs=None, devices=1, **plain), sets)
    with random_numbers_put_back():
        rates, losses = _sweep(config, sets, steps)
    smoothed = smooth(losses)
    search = RateSearch(rates, smoothed, suggest(rates, smoothed))
    if plot is not None:
        draw_search(search, plot)
    return search


def _sweep(config: TrainConfig, data: DataSets, steps: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(rates, losses) until `steps` or until the loss runs away."""
    device = torch.device(config.device)
    model = first_model(config, data.train.label_space)[0].to(device).train()
    step = TrainingStep(model, config, build_loss(config.loss, config.model.num_classes), rank=0).to(device)
    optimizer = build_optimizer(model, config.optimizer)
    base = [group["lr"] / config.optimizer.learning_rate for group in optimizer.param_groups]
    rates, losses, lowest, mean = [], [], math.inf, 0.0
    for number, batch in enumerate(run_batches(config, data.train)):
        rate = LOWEST * (HIGHEST / LOWEST) ** (number / max(steps - 1, 1))
        for group, factor in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = rate * factor
        total, _ = step(batch, number)
        value = float(total.detach())
        if not math.isfinite(value):
            break
        rates.append(rate)
        losses.append(value)
        mean = SMOOTHING * mean + (1 - SMOOTHING) * value
        current = mean / (1 - SMOOTHING ** (number + 1))
        lowest = min(lowest, current)
        if number > steps // 10 and current > DIVERGED * lowest:
            break
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()
    if len(rates) < 5:
        raise TrainingError(
            f"the loss is not finite after {len(rates)} steps at a rate of {LOWEST:g}: look at the data"
        )
    return np.array(rates), np.array(losses)


def smooth(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """The running mean with SMOOTHING, its start corrected: one batch's loss says little."""
    smoothed, mean = np.empty_like(losses), 0.0
    for i, value in enumerate(losses):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * value
        smoothed[i] = mean / (1 - SMOOTHING ** (i + 1))
    return smoothed


def suggest(rates: NDArray[np.float64], smoothed: NDArray[np.float64]) -> float:
    """The rate at which the smoothed loss falls fastest per factor of the rate, before its lowest point."""
    end = max(int(np.argmin(smoothed)) + 1, 3)
    slope = np.gradient(smoothed[:end], np.log(rates[:end]))
    return float(rates[int(np.argmin(slope))])


def draw_search(search: RateSearch, path: Path) -> None:
    """Loss over rate with the suggestion marked, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(search.rates, search.losses)
    index = int(np.argmin(np.abs(search.rates - search.suggestion)))
    axes.plot([search.suggestion], [search.losses[index]], "o", label=f"suggestion: {search.suggestion:.2g}")
    axes.set(xscale="log", xlabel="learning rate of the encoder", ylabel="loss, smoothed")
    axes.legend()
    with new_file(path) as part:
        figure.savefig(part)
