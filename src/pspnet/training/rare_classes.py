"""Help for rare classes, from the training data's class shares: class weights and crops that look for them.

A class is rare where it has less than a fifth of an equal share of the labelled pixels: below 1.8 % with 11 classes. What a
user sets is never changed, and what is chosen is said.
"""

from __future__ import annotations

from collections.abc import Sequence

from pspnet.config.train import TrainConfig

RARE = 0.2  # of an equal share, 1 / K
CROP_PROBABILITY = 0.5  # of the crops are placed on a class drawn evenly from those in the image


def rare_classes(shares: Sequence[float]) -> list[int]:
    """Classes that occur and are rare, the rarest first. shares: (K,) fractions of the labelled pixels.

    >>> rare_classes([0.5, 0.45, 0.04, 0.01, 0.0])      # below 4 %; the last never occurs, so nothing helps it
    [3]
    """
    limit = RARE / len(shares)
    return sorted((k for k, share in enumerate(shares) if 0 < share < limit), key=lambda k: shares[k])


def with_help(config: TrainConfig, shares: Sequence[float], names: Sequence[str]) -> tuple[TrainConfig, str]:
    """The config with class weights and class-aware crops as `rare_classes` asks for them, and a sentence on what was chosen."""
    rare = rare_classes(shares)
    if not rare:
        return config, f"rare classes: none below {RARE / len(shares):.1%} of the labelled pixels; nothing is changed"
    listed = ", ".join(f"{names[k]} {shares[k]:.2%}" for k in rare[:6]) + (", ..." if len(rare) > 6 else "")
    wanted = {"auto": ("weights", "crops")}.get(config.rare_classes, (config.rare_classes,))
    chosen, left = [], []
    if "weights" in wanted:
        if "class_weights" in config.loss.model_fields_set:
            left.append("loss.class_weights")
        else:
            config = config.changed(loss=config.loss.changed(class_weights="tempered"))
            chosen.append("loss.class_weights=tempered")
    if "crops" in wanted:
        if config.augmentation.crop is None or "rare_crop_probability" in config.augmentation.model_fields_set:
            left.append("augmentation.rare_crop_probability" if config.augmentation.crop else "augmentation.crop=none")
        else:
            crops = config.augmentation.changed(rare_crop_probability=CROP_PROBABILITY)
            config = config.changed(augmentation=crops)
            chosen.append(f"augmentation.rare_crop_probability={CROP_PROBABILITY:g}")
    message = f"rare classes: {listed}. Chosen: {', '.join(chosen) or 'nothing'}"
    message += f"; as you set it: {', '.join(left)}" if left else ""
    return config, message + " (rare_classes=off switches this off)"
