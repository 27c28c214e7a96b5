"""LossConfig: what training minimises, as a weighted sum of named losses. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pspnet.config.base import Settings
from pspnet.errors import ConfigError

Weight = Annotated[float, Field(ge=0.0)]


class LossConfig(Settings):
    """A weighted sum of losses on the logits; the default is plain cross entropy, as in the paper."""

    title = "loss"

    cross_entropy: Weight = Field(1.0, description="Weight of the cross entropy per pixel (the paper's loss).")
    focal: Weight = Field(
        0.0, description="Weight of the focal loss (Lin et al. 2017): cross entropy that fades where a pixel is right."
    )
    dice: Weight = Field(
        0.0,
        description="Weight of 1 - soft Dice, averaged over the classes in the batch: small classes count as much "
        "as large ones.",
    )
    lovasz: Weight = Field(
        0.0,
        description="Weight of the Lovasz-softmax loss (Berman et al. 2018), a stand-in for 1 - mean IoU. Use it "
        "together with cross entropy.",
    )
    ohem: Weight = Field(
        0.0, description="Weight of the cross entropy of hard pixels only (online hard example mining)."
    )
    focal_gamma: float = Field(
        2.0, ge=0.0, description="Focal loss: how fast easy pixels fade; 0 is plain cross entropy."
    )
    label_smoothing: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="Share of a label that is spread evenly over all classes, in cross_entropy "
        "and in ohem. 0.1 guards against noisy labels.",
    )
    ohem_threshold: float = Field(
        0.7, gt=0.0, le=1.0, description="A pixel is hard when the probability of its label is below this."
    )
    ohem_min_share: float = Field(
        0.1, gt=0.0, le=1.0, description="Share of a batch's counted pixels that is kept at least, the hardest first."
    )
    class_weights: Literal["none", "inverse", "tempered"] | tuple[Weight, ...] = Field(
        "none",
        description="How much a pixel of each class counts: 'inverse' to the class's share of the training "
        "pixels, 'tempered' by its logarithm (gentler: start here), or one number for each class.",
    )
    ignored_classes: tuple[Annotated[int, Field(ge=0, le=254)], ...] = Field(
        (), description="Indices of classes whose pixels do not count, as if they were not labelled."
    )
    reduction: Literal["valid", "all"] = Field(
        "valid",
        description="What the sum over pixels is divided by: 'valid' the pixels that count (semseg), 'all' "
        "every pixel, ignored ones too (MMSegmentation).",
    )

    @property
    def is_plain_cross_entropy(self) -> bool:
        """Whether cross entropy is the only term, and a label is one class: then it has a cheaper way."""
        others = self.focal, self.dice, self.lovasz, self.ohem, self.label_smoothing
        return bool(self.cross_entropy) and not any(others)

    @field_validator("class_weights", mode="before")
    @classmethod
    def _name_the_modes(cls, value: object) -> object:
        if isinstance(value, str) and value not in ("none", "inverse", "tempered"):
            raise ConfigError(f"{value!r} is unknown; use none, inverse, tempered or one number for each class")
        return value

    @model_validator(mode="after")
    def _check(self) -> LossConfig:
        terms = ("cross_entropy", "focal", "dice", "lovasz", "ohem")
        if not any(getattr(self, term) for term in terms):
            raise ConfigError(f"every loss has weight 0: give one of {', '.join(terms)} a weight above 0")
        return self
