"""What Lightning trains: one network, its loss, its optimiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from pspnet.config.train import TrainConfig
from pspnet.losses import SegmentationLoss
from pspnet.nn.pspnet import PSPNet, TrainOutputs
from pspnet.training.activation_checkpointing import checkpoint_blocks
from pspnet.training.batches import Batch, TimedLoader
from pspnet.training.ema import AveragedModel
from pspnet.training.optimizer import build_optimizer, build_scheduler, set_trainable
from pspnet.training.schedule import rate_factor
from pspnet.training.seeding import seed_all
from pspnet.training.step import to_tensors, total_loss

MakeLoader = Callable[[int, int, int], TimedLoader]  # (first batch, rank, number of processes)


class TrainingModule(pl.LightningModule):  # type: ignore[misc]
    """Trains `model` for `steps` updates as `config` says. `best` is the network to validate and keep.

    Random numbers inside the network (dropout, stochastic depth, points, mixup) are drawn from a generator that is
    seeded anew for each batch from (seed, batch, rank). So nothing about generators needs to be stored, whatever else
    draws numbers between two batches, and a resumed run repeats the very same ones.
    """

    def __init__(
        self, model: PSPNet, config: TrainConfig, loss: SegmentationLoss, steps: int, make_loader: MakeLoader
    ) -> None:
        super().__init__()
        self.model, self.settings, self.loss, self.steps = model, config, loss, steps
        self.averaged = AveragedModel(model, config.ema) if config.ema is not None else None
        self.make_loader = make_loader
        self.loader: TimedLoader | None = None
        self.batches_seen = 0  # batches of this device that went into the weights, over all resumed parts of the run
        self.batches_since_start = 0  # the same, in this process
        self.latest: dict[str, Tensor] = {}  # parts of the latest loss, by their column in metrics.csv
        if config.freeze_encoder and config.unfreeze_step is None:
            model.encoder.requires_grad_(False)
        if config.channels_last:
            self.to(memory_format=torch.channels_last)
        if config.activation_checkpointing:
            checkpoint_blocks(model.encoder)
        self._forward = torch.compile(model.forward_train) if config.compile else model.forward_train

    @property
    def best(self) -> PSPNet:
        return self.model if self.averaged is None else self.averaged.model

    def train_dataloader(self) -> TimedLoader:
        """The batches that are left, for this process. Lightning counts the ones before them as seen."""
        self.loader = self.make_loader(self.batches_seen, self.global_rank, self.trainer.world_size)
        return self.loader

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        seed_all(self.settings.seed, self.batches_seen, self.global_rank)
        images, labels = to_tensors(batch, bool(self.settings.channels_last))
        if self.settings.mixup and torch.rand(()).item() < self.settings.mixup:
            total = self._mixed_step(images, labels)
        else:
            total = self._total(self._outputs(images), labels)
        self.latest["loss"] = total.detach()
        self.batches_seen += 1
        self.batches_since_start += 1
        return total

    def _outputs(self, images: Tensor) -> TrainOutputs:
        over = self.batches_seen // self.settings.accumulate / self.steps  # updates: one sees one size
        outputs: TrainOutputs = self._forward(images, self.settings.input_scale_at(over))
        return outputs

    def _mixed_step(self, images: Tensor, labels: Tensor) -> Tensor:
        """Mixup (Zhang et al. 2018, arXiv:1710.09412) for pixels: the pictures blend, the losses of both labels too."""
        alpha = self.settings.mixup_alpha
        share = float(np.random.beta(alpha, alpha))
        other = torch.randperm(len(images)).to(images.device)
        outputs = self._outputs(torch.lerp(images[other], images, share))
        first = self._total(outputs, labels)
        parts = self.latest
        total = share * first + (1 - share) * self._total(outputs, labels[other])
        self.latest = {name: share * part + (1 - share) * self.latest[name] for name, part in parts.items()}
        return total

    def _total(self, outputs: TrainOutputs, labels: Tensor) -> Tensor:
        total, self.latest = total_loss(outputs, labels, self.loss, self.settings, self.model.config.align_corners)
        return total

    def configure_optimizers(self) -> dict[str, Any]:
        refused = self.settings.clip is not None and self.settings.precision == "bf16"
        optimizer = build_optimizer(self.model, self.settings.optimizer, False if refused else None)
        scheduler = build_scheduler(optimizer, self.settings.schedule, self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def optimizer_step(self, *args: Any, **options: Any) -> None:
        super().optimizer_step(*args, **options)
        if self.averaged is not None:
            self.averaged.update(self.model)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        optimizer.zero_grad(set_to_none=True)

    def on_train_start(self) -> None:
        self.training_mode()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        if self.settings.unfreeze_step is not None and self.global_step == self.settings.unfreeze_step:
            self.training_mode()

    def training_mode(self) -> None:
        """Training mode for everything but a frozen encoder."""
        self.train()
        if self.settings.freeze_encoder:
            set_trainable(self.model.encoder, self.unfrozen)

    @property
    def rate(self) -> float:
        """The encoder's learning rate in the latest update."""
        schedule, base = self.settings.schedule, self.settings.optimizer.learning_rate
        return base * rate_factor(schedule, max(self.global_step - 1, 0), self.steps)

    @property
    def unfrozen(self) -> bool:
        """Whether the encoder is trained at the current step."""
        begins = self.settings.unfreeze_step
        return not self.settings.freeze_encoder or (begins is not None and self.global_step >= begins)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["batches_seen"] = self.batches_seen

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        self.batches_seen = int(checkpoint["batches_seen"])
