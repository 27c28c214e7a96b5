"""ForeignModel: what an ONNX file of another project does not say about itself. No heavy imports here."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from pspnet.config.base import Positive, Settings
from pspnet.errors import ConfigError

Numbers = tuple[float, ...]


class ForeignModel(Settings):
    """An ONNX graph of another project: its bands, normalisation, classes and output.

    The network sees (value / divide - mean) / std, band by band. Nothing of this can be read from a graph, and a wrong guess
    gives a wrong map without a word; so each is asked for.
    """

    title: ClassVar[str] = "about the ONNX file"

    classes: tuple[str, ...] | str = Field(
        description="Names of the classes in the order of the output: [water, forest], a class table (CSV, JSON), or "
        "ade20k, voc, cityscapes ..."
    )
    bands: tuple[str, ...] = Field(
        min_length=1,
        description="Names of the bands in the order of the input: [red, green, blue, nir]; band_3 means the third of the file.",
    )
    divide: float = Field(
        gt=0, description="What the file's values are divided by first: 255 for 8-bit images, 10000, or 1."
    )
    mean: Numbers = Field(
        description="Subtracted after the division, for each band; one number serves all. 0: nothing is."
    )
    std: Annotated[Numbers, Field(min_length=1)] = Field(
        description="Divides after that, for each band; one number serves all. 1: nothing is done."
    )
    output: Literal["logits", "probabilities", "labels"] = Field(
        description="What comes out: logits (before softmax or sigmoid), probabilities (after it), or labels (integers)."
    )
    value_range: tuple[float, float] | None = Field(
        None,
        description="Lowest and highest value of the rasters trained on. None: 0 to divide, where divide is not 1.",
    )
    axes: Literal["channels_first", "channels_last"] | None = Field(
        None, description="(B, bands, H, W), or (B, H, W, bands). None: as the graph's own sizes say."
    )
    align_corners: bool | None = Field(
        None, description="Where the output is coarser than the input: how it is resized (PyTorch's align_corners)."
    )
    multiple_px: Positive = Field(
        1, description="The input's sides must be a multiple of this many pixels; the edge is repeated to get there."
    )
    ground_resolution: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Metres of a pixel's side that it was trained on. None: not known."
    )

    @field_validator("mean", "std", mode="before")
    @classmethod
    def _one_number(cls, value: object) -> object:
        return (value,) if isinstance(value, (int, float)) else value

    @model_validator(mode="after")
    def _check(self) -> ForeignModel:
        for name in ("mean", "std"):
            given = getattr(self, name)
            if len(given) not in (1, len(self.bands)):
                raise ConfigError(
                    f"{name} has {len(given)} values for {len(self.bands)} bands: one for each, or one for all"
                )
        if min(self.std) <= 0:
            raise ConfigError(f"std = {self.std}: above 0")
        if self.value_range is None and self.divide == 1:
            raise ConfigError(
                "value_range is missing: with divide = 1 nothing tells which values the model was trained on; give "
                "value_range=[lowest,highest]"
            )
        return self

    @property
    def trained_range(self) -> tuple[float, float]:
        """Lowest and highest value that the model knows."""
        return self.value_range or (0.0, self.divide)

    @property
    def normalisation(self) -> tuple[Numbers, Numbers]:
        """(mean, std) of each band in the file's own units: (value - mean) / std is what the network sees."""
        count = len(self.bands)
        mean, std = (values * count if len(values) == 1 else values for values in (self.mean, self.std))
        return tuple(m * self.divide for m in mean), tuple(s * self.divide for s in std)
