"""One batch: to tensors, through the network, to the number that is minimised. Its random numbers are fixed by its place."""

from __future__ import annotations

import random
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pspnet.config.train import TrainConfig
from pspnet.errors import TrainingError
from pspnet.losses import SegmentationLoss, image_loss
from pspnet.nn.pointrend import labels_at_points
from pspnet.nn.pspnet import PSPNet, TrainOutputs
from pspnet.training.batches import Batch

Losses = dict[str, Tensor]  # parts of a loss by their column in metrics.csv, detached


class TrainingStep(nn.Module):
    """From a batch to its loss: what DistributedDataParallel wraps where several processes share a run.

    Random numbers inside the network (dropout, stochastic depth, points, mixup) are drawn from generators that are
    seeded anew for each batch from (seed, batch, rank). So nothing about generators needs to be stored, whatever else
    draws numbers between two batches, and a resumed run repeats the very same ones.
    """

    def __init__(self, model: PSPNet, config: TrainConfig, loss: SegmentationLoss, rank: int) -> None:
        super().__init__()
        self.model, self.loss = model, loss
        self.config, self.rank = config, rank
        # not assigned as a module: its parameters would be counted twice
        self._forward = torch.compile(model.forward_train) if config.compile else model.forward_train

    def forward(self, batch: Batch, number: int) -> tuple[Tensor, Losses]:
        """The loss and its parts. number: of the batch, counted over the whole run."""
        config = self.config
        seed_all(config.seed, number, self.rank)
        device = self.model.mean.device
        images, labels = to_tensors(batch, bool(config.channels_last), device)
        with autocast(config, device):
            if config.mixup and torch.rand(()).item() < config.mixup:
                total, parts = self._mixed(images, labels, number)
            else:
                total, parts = self._loss(self._outputs(images, number), labels)
        return total, parts | {"loss": total.detach()}

    def _outputs(self, images: Tensor, number: int) -> TrainOutputs:
        assert self.config.steps is not None
        progress = number // self.config.accumulate / self.config.steps  # in updates: one update sees one size
        outputs: TrainOutputs = self._forward(images, self.config.input_scale_at(progress))
        return outputs

    def _loss(self, outputs: TrainOutputs, labels: Tensor) -> tuple[Tensor, Losses]:
        return total_loss(outputs, labels, self.loss, self.config, self.model.config.align_corners)

    def _mixed(self, images: Tensor, labels: Tensor, number: int) -> tuple[Tensor, Losses]:
        """Mixup (Zhang et al. 2018, arXiv:1710.09412) for pixels: the pictures blend, the losses of both labels too."""
        fraction = float(np.random.beta(self.config.mixup_alpha, self.config.mixup_alpha))
        other = torch.randperm(len(images)).to(images.device)
        outputs = self._outputs(torch.lerp(images[other], images, fraction), number)
        total, parts = self._loss(outputs, labels)
        other_total, other_parts = self._loss(outputs, labels[other])
        mixed = {name: fraction * part + (1 - fraction) * other_parts[name] for name, part in parts.items()}
        return fraction * total + (1 - fraction) * other_total, mixed


def total_loss(
    outputs: TrainOutputs, labels: Tensor, loss: SegmentationLoss, config: TrainConfig, align_corners: bool
) -> tuple[Tensor, Losses]:
    """The sum that is minimised, and its parts (detached) by their column in metrics.csv.

    Pixel loss + auxiliary_weight x the auxiliary pixel loss (Zhao et al. 2017, sec. 3.3) or the image-level loss +
    points_weight x the loss at PointRend's points. labels: (B, H, W) int64.
    """
    total = loss(outputs.logits, labels)
    parts = {"loss_pixel": total.detach()}
    if outputs.auxiliary is not None:
        auxiliary = loss(outputs.auxiliary, labels)
        parts["loss_auxiliary"] = auxiliary.detach()
        total = total + config.auxiliary_weight * auxiliary
    if outputs.image_logits is not None:
        image = image_loss(outputs.image_logits, labels)
        parts["loss_image"] = image.detach()
        total = total + config.auxiliary_weight * image
    if outputs.points is not None:
        point_labels = labels_at_points(labels, outputs.points.coordinates, align_corners)
        points = loss(outputs.points.logits, point_labels)
        parts["loss_points"] = points.detach()
        total = total + config.points_weight * points
    return total, parts


def to_tensors(batch: Batch, channels_last: bool, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """(B, H, W, bands) of any number type -> float32 (B, bands, H, W), the memory's order as asked; labels int64."""
    images = batch.images.to(device, non_blocking=True).permute(0, 3, 1, 2).float()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return images.contiguous(memory_format=layout), batch.labels.to(device, non_blocking=True).long()


def autocast(config: TrainConfig, device: torch.device) -> AbstractContextManager[Any]:
    """The precision that a network runs in, in training and validation.

    Fabric's own mixed precision is not used: it rounds float images to bfloat16 before the network's first line, which
    subtracts their mean. No cache of cast weights: a weight that is used twice would add its gradients in bfloat16.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16", cache_enabled=False)


def seed_all(seed: int, batch: int, rank: int) -> None:
    """Sets every global random generator to a state that (seed, batch, rank) fixes."""
    words = np.random.SeedSequence([seed, batch, rank]).generate_state(3, np.uint64)
    torch.manual_seed(int(words[0] >> np.uint64(1)))
    np.random.seed(int(words[1] & np.uint64(0xFFFFFFFF)))
    random.seed(int(words[2]))


def diverged(config: TrainConfig, step: int) -> TrainingError:
    """What a run ends with when its numbers are no longer finite."""
    optimizer = config.optimizer
    return TrainingError(
        f"the loss is no longer a finite number at step {step}: training has diverged. Lower optimizer.learning_rate "
        f"({optimizer.learning_rate:g}; the head learns {optimizer.head_lr_factor:g} times as fast), add "
        "schedule.warmup_steps, or set clip to 1"
    )
