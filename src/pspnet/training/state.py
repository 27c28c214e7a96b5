"""What a run is at one moment: all that is saved in last.ckpt, and nothing else moves while a run trains."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pspnet.config.train import EarlyStopConfig, TrainConfig
from pspnet.nn.pspnet import PSPNet
from pspnet.training.activation_checkpointing import checkpoint_blocks
from pspnet.training.ema import AveragedModel
from pspnet.training.optimizer import build_optimizer, rate_factor, set_trainable

FORMAT = 2  # 1: what Lightning's Trainer wrote


class Clock:
    """Seconds of training, of validation and of waiting for data, over all resumed parts of a run."""

    def __init__(self) -> None:
        self.training = self.validation = self.waiting = 0.0
        self.images = self.validations = 0
        self._since: float | None = None  # when the part that runs now began

    def go(self) -> None:
        self._since = time.perf_counter()

    def stop(self) -> None:
        self.training, self._since = self.trained_s, None

    @property
    def trained_s(self) -> float:
        return self.training + (time.perf_counter() - self._since if self._since is not None else 0.0)

    @contextmanager
    def validating(self) -> Iterator[None]:
        self.stop()
        began = time.perf_counter()
        yield
        self.validation += time.perf_counter() - began
        self.validations += 1
        self.go()

    def to_dict(self) -> dict[str, float]:
        return {
            "training": self.trained_s,
            "validation": self.validation,
            "waiting": self.waiting,
            "images": self.images,
            "validations": self.validations,
        }

    def load(self, values: Mapping[str, float]) -> None:
        self.training, self.validation, self.waiting = values["training"], values["validation"], values["waiting"]
        self.images, self.validations = int(values["images"]), int(values["validations"])


@dataclass
class BestScore:
    """The best validation so far. score: of what is monitored, larger is better. without_gain: validations in a row.
    others: of what is monitored besides, by name: the best score and its step."""

    score: float = float("-inf")
    step: int = 0
    mean_iou: float = float("nan")
    without_gain: int = 0
    validated_step: int = 0
    others: dict[str, tuple[float, int]] = field(default_factory=dict)

    def update(
        self,
        score: float,
        mean_iou: float,
        step: int,
        stop: EarlyStopConfig | None,
        others: Mapping[str, float] | None = None,
    ) -> bool:
        """Takes in a validation's scores, larger is better; whether the first of them is the best one."""
        better, before = score > self.score, {name: best for name, (best, _) in self.others.items()}
        gains = [score - self.score, *(now - before.get(name, -math.inf) for name, now in (others or {}).items())]
        self.without_gain = 0 if stop and any(gain > stop.min_gain for gain in gains) else self.without_gain + 1
        self.validated_step = step
        better_others = {n: (now, step) for n, now in (others or {}).items() if now > before.get(n, -math.inf)}
        self.others = {**self.others, **better_others}
        if better:
            self.score, self.step, self.mean_iou = score, step, mean_iou
        return better


class TrainingState:
    """Networks, optimiser, position and scores of a run.

    step: updates of the weights. batches: of this device that went into the weights. Learning rates are a function of
    the step and random numbers one of the batch, so neither is saved.
    """

    def __init__(self, model: PSPNet, config: TrainConfig, device: torch.device) -> None:
        assert config.steps is not None  # a resolved config
        self.config, self.steps = config, config.steps
        if config.freeze_encoder and config.unfreeze_step is None:
            model.encoder.requires_grad_(False)
        self.model = model
        self.average = AveragedModel(model, config.ema) if config.ema is not None else None
        self.networks = nn.ModuleDict({"model": model})
        if self.average is not None:
            self.networks["averaged"] = self.average
        if config.channels_last:
            self.networks.to(memory_format=torch.channels_last)
        if config.activation_checkpointing:
            checkpoint_blocks(model.encoder)
        self.networks.to(device)
        self.step = self.batches = 0
        self.best = BestScore()
        self.clock = Clock()
        self.optimizer = build_optimizer(model, config.optimizer)
        self.loss_sums: dict[str, Tensor] = {}  # since the last line of metrics.csv, on the device
        self.loss_count = 0  # batches that went into the sums

    @property
    def best_model(self) -> PSPNet:
        """The network to validate and to keep: the average where there is one."""
        return self.model if self.average is None else self.average.model

    @property
    def finished(self) -> bool:
        """Whether no update is left: the last one is done, or early stopping has ended the run."""
        stop = self.config.early_stopping
        return self.step >= self.steps or (stop is not None and self.best.without_gain >= stop.patience)

    @property
    def encoder_trains(self) -> bool:
        begins = self.config.unfreeze_step
        return not self.config.freeze_encoder or (begins is not None and self.step >= begins)

    def rate_factor(self, step: int) -> float:
        return rate_factor(self.config.schedule, step, self.steps)

    @property
    def rate(self) -> float:
        """The encoder's learning rate in the latest update."""
        return self.config.optimizer.learning_rate * self.rate_factor(max(self.step - 1, 0))

    def training_mode(self) -> None:
        """Training mode for everything but a frozen encoder."""
        self.networks.train()
        if self.config.freeze_encoder:
            set_trainable(self.model.encoder, self.encoder_trains)

    def update_weights(self) -> None:
        """Takes the step that the gradients ask for, at this step's learning rates."""
        factor = self.rate_factor(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.model)
        self.step += 1

    def add_losses(self, losses: Mapping[str, Tensor]) -> None:
        """Counts one batch: its losses go into the next line of metrics.csv."""
        for name, value in losses.items():
            self.loss_sums[name] = self.loss_sums[name].to(value.device) + value if name in self.loss_sums else value
        self.loss_count += 1
        self.batches += 1

    def to_dict(self) -> dict[str, Any]:
        """Numbers and tensors only: reading them runs no code."""
        return {
            "format": FORMAT,
            "step": self.step,
            "batches_seen": self.batches,
            "state_dict": self.networks.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": asdict(self.best),
            "loss_sums": {name: value.cpu() for name, value in self.loss_sums.items()},
            "loss_count": self.loss_count,
            "callbacks": {"clock": self.clock.to_dict()},  # seconds: all that differs between a run and its repetition
        }

    def load(self, content: Mapping[str, Any]) -> None:
        """Takes over what `to_dict` gave, of this run."""
        if "pytorch-lightning_version" in content:
            content = from_lightning(content)
        self.step, self.batches = int(content["step"]), int(content["batches_seen"])
        self.networks.load_state_dict(content["state_dict"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.best = BestScore(**content["best"])
        self.loss_sums, self.loss_count = dict(content["loss_sums"]), int(content["loss_count"])
        self.clock.load(content["callbacks"]["clock"])


def from_lightning(content: Mapping[str, Any]) -> dict[str, Any]:
    """The state that a pspnet on Lightning's Trainer saved (2026-11 and before), as `TrainingState.load` wants it."""
    reporter = content["callbacks"]["Reporter"]
    best = dict(content["callbacks"].get("Validator", {}))
    if best:
        best = {"score": best.pop("best"), "mean_iou": best.pop("best_mean_iou"), "step": best.pop("best_step")} | best
    networks = {name: value for name, value in content["state_dict"].items() if not name.startswith("loss.")}
    return {
        "step": content["global_step"],
        "batches_seen": content["batches_seen"],
        "state_dict": networks,
        "optimizer": content["optimizer_states"][0],
        "best": best,
        "loss_sums": reporter["sums"],
        "loss_count": reporter["batches"],
        "callbacks": {"clock": reporter["clock"]},
    }
