"""DataConfig and AugmentConfig: which files a run learns from, and how they are varied. No heavy imports here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pspnet.config.base import Fraction, Positive, Settings
from pspnet.errors import ConfigError

Seed = Annotated[int, Field(ge=0)]
PositiveRange = tuple[Annotated[float, Field(gt=0.0)], Annotated[float, Field(gt=0.0)]]


class DataConfig(Settings):
    """A data set and its splits. The default needs no download: generated scenes."""

    title = "data"

    format: str = Field(
        "scenes",
        description="Layout of the files: scenes (generated), folder, camvid, ade20k, voc, cityscapes, ...; "
        "a wrong name lists all.",
    )
    root: Path | None = Field(
        None, description="Folder of the data set, or a CSV file of pairs. None: generated scenes."
    )
    train_splits: tuple[str, ...] = Field(
        ("train",), min_length=1, description="Parts of the data set that are trained on; several are put end to end."
    )
    val_split: str | None = Field(
        "val",
        description="Part that is validated on while training. None: no validation, all parts may be trained on, and the "
        "last weights are the result.",
    )
    ground_resolution: float | None = Field(
        None,
        ge=0.0,
        description="Metres of a pixel's side, for images from above that have no place on the Earth; 0: nobody knows. None: "
        "photographs, whose size in pixels is their scale (a raster's grid tells its own).",
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Settings of the layout, such as classes, decode or bands of a folder, or "
        "count, size and seed of the scenes. An unknown one is refused with the list of those there are.",
    )
    val_options: dict[str, Any] = Field(
        default_factory=dict, description="Settings that differ for the validation part, such as a smaller count."
    )

    cache: Literal["off", "memory", "disk"] = Field(
        "off",
        description="Keeps decoded training pictures for the length of the run: in memory, or in files of a temporary "
        "folder. Pays where decoding holds the network up.",
    )
    cache_folder: Path | None = Field(
        None, description="Where cache = disk makes its folder. None: where the system has its temporary files."
    )

    @field_validator("train_splits", mode="before")
    @classmethod
    def _one_is_enough(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        if self.root is None and self.format != "scenes":
            raise ConfigError(f"root is missing with format = {self.format}: give the folder of the data set")
        if self.root is not None and self.format == "scenes":
            raise ConfigError(
                f"root = {self.root} with format = scenes: scenes are generated. "
                "Set format to folder, camvid, ... or leave root out"
            )
        if self.val_split in self.train_splits:
            raise ConfigError(
                f"val_split = {self.val_split} is one of train_splits = {self.train_splits}: a score on "
                "images that were trained on says nothing. Name another part"
            )
        return self


class AugmentConfig(Settings):
    """How training images are varied, in the order of the fields; each step has its own switch.

    The defaults are the paper's steps with semseg's probabilities. The order of the chain: size, rotation, blur,
    mirror, crop; jitter, which the paper does not use, comes before the padding.
    """

    title = "augment"

    fit: tuple[Positive, Positive] | None = Field(
        None,
        description="Size before all else: the image is resized so that its longer and shorter side are at most "
        "these (px), as MMSegmentation does. None: as it is.",
    )
    scale: bool = Field(True, description="Random scale.")
    scale_range: PositiveRange = Field((0.5, 2.0), description="Least and greatest factor, drawn uniformly.")
    aspect: bool = Field(False, description="Random aspect ratio, at an unchanged area.")
    aspect_range: PositiveRange = Field((0.75, 1.3333), description="Least and greatest width over height, relative.")
    rotate: bool = Field(True, description="Random rotation; what comes in from outside is ignored.")
    rotate_range: tuple[float, float] = Field((-10.0, 10.0), description="Least and greatest angle in degrees.")
    rotate_probability: Fraction = Field(0.5, description="Share of the images that are rotated.")
    blur: bool = Field(True, description="Random Gaussian blur.")
    blur_range: PositiveRange = Field(
        (1.1, 1.1),
        description="Least and greatest standard deviation in px; 1.1 is what OpenCV takes for semseg's 5 x 5 kernel.",
    )
    blur_kernel: Positive = Field(5, description="Side of the blur's kernel in px, an odd number.")
    blur_probability: Fraction = Field(0.5, description="Share of the images that are blurred.")
    mirror: bool = Field(True, description="Random mirroring, left to right.")
    mirror_probability: Fraction = Field(0.5, description="Share of the images that are mirrored.")
    jitter: bool = Field(
        False, description="Random brightness, contrast, saturation and hue, each for half of the images."
    )
    jitter_brightness: Fraction = Field(
        0.125, description="Greatest shift of the brightness, as a share of the full range."
    )
    jitter_contrast_range: PositiveRange = Field((0.5, 1.5), description="Least and greatest factor of the contrast.")
    jitter_saturation_range: PositiveRange = Field(
        (0.5, 1.5), description="Least and greatest factor of the saturation (8-bit RGB images)."
    )
    jitter_hue: float = Field(
        36.0, ge=0.0, le=180.0, description="Greatest turn of the hue in degrees (8-bit RGB images)."
    )
    crop: tuple[Positive, Positive] | None = Field(
        (473, 473),
        description="Height and width in px of the random crop, or one number for both; smaller images are "
        "padded with the mean colour and ignored labels. None: the whole image.",
    )
    crop_max_class_share: float = Field(
        1.0,
        gt=0.0,
        le=1.0,
        description="A crop in which one class has at least this share of the labelled pixels is "
        "drawn again, at most ten times (MMSegmentation's cat_max_ratio: 0.75). 1: take the first.",
    )
    rare_crop_probability: Fraction = Field(
        0.0,
        description="Share of the crops that are placed on a pixel of a class drawn evenly among those in the "
        "image, so that rare classes are seen more often.",
    )

    @field_validator("crop", mode="before")
    @classmethod
    def _square(cls, value: object) -> object:
        return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _check(self) -> AugmentConfig:
        for name in (
            "scale_range",
            "aspect_range",
            "rotate_range",
            "blur_range",
            "jitter_contrast_range",
            "jitter_saturation_range",
        ):
            low, high = getattr(self, name)
            if low > high:
                raise ConfigError(f"{name} = ({low:g}, {high:g}): the least comes first")
        if self.blur_kernel % 2 == 0:
            raise ConfigError(f"blur_kernel = {self.blur_kernel}: a kernel has a middle; use an odd number")
        if self.crop is None and (self.rare_crop_probability or self.crop_max_class_share < 1):
            name = "rare_crop_probability" if self.rare_crop_probability else "crop_max_class_share"
            raise ConfigError(f"{name} = {getattr(self, name):g} with crop = None: there is no crop to place. Set crop")
        return self

    @classmethod
    def none(cls, crop: int | tuple[int, int] | None = 473) -> AugmentConfig:
        """No variation but the random crop, for the ablation of augmentation."""
        return cls(scale=False, rotate=False, blur=False, mirror=False, crop=crop)
