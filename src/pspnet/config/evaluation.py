"""EvaluationConfig: how a model is scored on a data set."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from pspnet.config.base import Settings
from pspnet.config.protocol import find_protocol


class EvaluationConfig(Settings):
    """How a model is scored. The defaults give mean IoU and accuracies of whole images, with intervals."""

    title = "evaluation"

    protocol: str | None = Field(
        None,
        description="How an image is predicted. None: as the model's card says. whole, slide, semseg-ss, semseg-ms, mmseg-whole, mmseg-slide, "
        "mmseg-ms, mmseg-slide-ms, caffe-ss, caffe-ms; NAME@DATASET (ade20k, voc, cityscapes, ...) takes a data set's sizes.",
    )
    absent: Literal["exclude", "zero"] = Field(
        "exclude",
        description="Classes that occur neither in labels nor in predictions: left out of the means "
        "(MMSegmentation) or counted as 0 (semseg).",
    )
    batch_size: int = Field(4, ge=1, description="Windows, or whole images of one size, that the network sees at once.")
    resamples: int = Field(
        1000, ge=0, description="Bootstrap resamples of the images for confidence intervals; 0: no intervals."
    )
    level: float = Field(0.95, gt=0.0, lt=1.0, description="Share of the resamples that an interval holds.")
    seed: int = Field(0, description="Seed of the resamples.")
    boundary: bool = Field(
        False, description="Scores on object borders too: boundary IoU, and IoU of the pixels near a border."
    )
    boundary_ratio: float = Field(
        0.02, gt=0.0, le=0.5, description="Width of boundary IoU's band as a share of the image's diagonal."
    )
    border_px: tuple[int, ...] = Field(
        (1, 3, 5, 10), description="Distances in px from a border of the labels within which IoU is computed."
    )
    calibration: bool = Field(
        False, description="Whether confidence means what it says: expected calibration error and reliability."
    )
    instances: bool = Field(
        False,
        description="Cityscapes' four scores: class and category IoU, and iIoU, which weighs each object alike. "
        "Needs a data set with instances.",
    )

    @field_validator("protocol")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None:
            find_protocol(value)
        return value
