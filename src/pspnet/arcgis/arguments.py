"""arcgis.learn's arguments: which have a counterpart here, what they mean, and why the others are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pspnet.config import LossConfig
from pspnet.config.train import Monitored
from pspnet.errors import ConfigError

BACKBONES = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnet269",
    "mobilenetv2",
    *(f"efficientnet_b{i}" for i in range(8)),
    "swin_tiny",
    "swin_small",
    "swin_base",
    "swin_large",
)
METRICS: dict[str, Monitored] = {
    "miou": "mean_iou",
    "accuracy": "pixel_accuracy",
    "valid_loss": "loss",
    "dice": "mean_dice",
    "f1": "mean_f1",
    "class_accuracy": "mean_accuracy",
    "weighted_iou": "frequency_weighted_iou",
}

# arguments of arcgis.learn that have no counterpart here, and why
NOT_SUPPORTED = {
    "dice_loss_average": "the Dice loss is averaged over classes; give dice_loss_fraction",
    "weighted_dice": "class_balancing weighs the cross entropy; Dice counts each class alike already",
    "callbacks": "they are fastai objects",
    "wandb": "runs are written as CSV and for TensorBoard",
}


def loss_settings(
    class_balancing: bool, focal_loss: bool, dice: float, ignored: Sequence[int], codes: Sequence[int]
) -> LossConfig:
    """The loss that these arguments ask for. ignored: pixel values that do not count, of the data's `codes`."""
    unknown = sorted(set(ignored) - set(codes))
    if unknown:
        raise ConfigError(f"ignore_classes names the value {unknown[0]}; there are {', '.join(map(str, codes))}")
    pixel = 1.0 - dice
    return LossConfig(
        cross_entropy=0.0 if focal_loss else pixel,
        focal=pixel if focal_loss else 0.0,
        dice=dice,
        class_weights="tempered" if class_balancing else "none",
        ignored_classes=tuple(list(codes).index(value) for value in ignored),
    )


def learning_rates(lr: float | slice | None) -> dict[str, float]:
    """OptimizerConfig's fields for fastai's `lr`: slice(a, b) is a for the encoder and b for the rest, slice(b) a tenth
    of b for the encoder; None leaves the defaults."""
    if not isinstance(lr, slice):
        return {} if lr is None else {"learning_rate": float(lr)}
    if lr.stop is None:
        raise ConfigError(f"lr = {lr}: give slice(encoder's rate, head's rate), or slice(rate)")
    low = lr.start if lr.start is not None else lr.stop / 10
    return {"learning_rate": float(low), "head_lr_factor": float(lr.stop / low)}


def metrics_of(monitor: str | Sequence[str]) -> tuple[Monitored, ...]:
    """What one or several metrics of arcgis.learn are called here."""
    names = [monitor] if isinstance(monitor, str) else [*monitor]
    for name in names:
        if name not in METRICS:
            raise ConfigError(f"monitor = {name!r}: {', '.join(METRICS)}")
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"monitor = {monitor!r}: one metric, or several different ones: {', '.join(METRICS)}")
    return tuple(METRICS[name] for name in names)


def refuse(given: Mapping[str, Any]) -> None:
    """Raises ConfigError for arguments that the classifier has not, with the reason where there is one."""
    for name, value in given.items():
        if name not in NOT_SUPPORTED:
            raise ConfigError(f"PSPNetClassifier has no argument {name!r}")
        raise ConfigError(f"{name} = {value!r} is not supported: {NOT_SUPPORTED[name]}")
