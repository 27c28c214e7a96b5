"""One step: from a batch to tensors, from the network's outputs to the number that is minimised."""

from __future__ import annotations

import torch
from torch import Tensor

from pspnet.config.train import TrainConfig
from pspnet.losses import SegmentationLoss, image_loss
from pspnet.nn.pointrend import labels_at_points
from pspnet.nn.pspnet import TrainOutputs
from pspnet.training.batches import Batch


def total_loss(
    outputs: TrainOutputs, labels: Tensor, loss: SegmentationLoss, config: TrainConfig, align_corners: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum that is minimised, and its parts (detached) by their column in metrics.csv.

    Pixel loss + auxiliary_weight x the auxiliary pixel loss (P13) or the image-level loss (H18) + points_weight x the
    loss at PointRend's points. labels: (B, H, W) int64.
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
        there = labels_at_points(labels, outputs.points.coordinates, align_corners)
        points = loss(outputs.points.logits, there)
        parts["loss_points"] = points.detach()
        total = total + config.points_weight * points
    return total, parts


def to_tensors(batch: Batch, channels_last: bool) -> tuple[Tensor, Tensor]:
    """(B, H, W, bands) of any number type -> float32 (B, bands, H, W), the memory's order as asked; labels int64."""
    images = batch.images.permute(0, 3, 1, 2).float()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return images.contiguous(memory_format=layout), batch.labels.long()
