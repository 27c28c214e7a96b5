"""RasterConfig: how a model is applied to whole rasters. No heavy imports here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pspnet.config.base import Positive, Settings
from pspnet.errors import ConfigError

Box = tuple[float, float, float, float]


class RasterConfig(Settings):
    """From a georeferenced raster to a land-cover map."""

    title = "raster"

    tile_px: Positive = Field(1024, description="Side of the windows that the network sees, in pixels.")
    overlap_px: int = Field(
        256, ge=0, description="Pixels that neighbouring windows share and blend; at most half of tile_px."
    )
    batch_size: Positive | None = Field(
        None, description="Windows that the network sees at once. None: 1 on a processor, 4 on a GPU."
    )
    bands: tuple[Positive, ...] | None = Field(
        None,
        description="Numbers of the raster's bands (the first is 1) in the order of the model's. None: by their "
        "names or colours where the file has them, else the first ones that are not alpha.",
    )
    nodata: float | None = Field(
        None, description="Value that means no data, where the file itself does not say. None: as the file says."
    )
    resolution: Literal["native", "trained"] | Annotated[float, Field(gt=0.0)] = Field(
        "native",
        description="Side of the pixels that the model sees, and of the map's, in metres: a number, 'trained' for what the "
        "model was trained on, 'native' for the raster's own.",
    )
    aoi: Path | Box | None = Field(
        None, description="Area of interest: a file of polygons, or a box (left, bottom, right, top)."
    )
    aoi_crs: str | None = Field(
        None, description="Coordinate system of the box, such as EPSG:4326. None: the raster's. A file has its own."
    )
    confidence: bool = Field(
        False,
        description="Adds a band with the probability of each pixel's class in per cent. Always on with polygons.",
    )
    entropy: bool = Field(
        False, description="Adds a band with the entropy of the probabilities, in per cent of its greatest value."
    )
    probabilities: bool = Field(False, description="Adds a band for each class with its probability in per cent.")
    unsure_below: Annotated[float, Field(gt=0.0, le=1.0)] | None = Field(
        None, description="Pixels whose probability is below this become the class 'unsure'. None: no such class."
    )
    codes: bool = Field(
        False,
        description="Writes the classes' codes of the training data instead of 0, 1, 2, ... in the model's order.",
    )
    polygons: Path | None = Field(None, description="A GeoPackage to write the classes' areas to, too.")
    min_area_m2: float = Field(
        0.0,
        ge=0.0,
        description="Smaller areas are merged into a neighbour before polygons are made, in square metres "
        "(square units of the raster where it has no coordinate system).",
    )
    simplify_m: float = Field(
        0.0,
        ge=0.0,
        description="Makes the stairs of pixels in the polygons' outlines straight: a corner goes where that moves less than a "
        "triangle of this side, in metres. Neighbours keep their common border. 0: every pixel's corner stays.",
    )
    fill_holes_m2: float = Field(
        0.0, ge=0.0, description="Fills holes of polygons below this area, in square metres; what lay in them goes."
    )
    regularize: tuple[str, ...] = Field(
        (),
        description="Classes whose polygons get right angles, such as building. Neighbours are cut and filled to fit.",
    )
    overwrite: bool = Field(
        False, description="Replaces files that exist, and discards the unfinished work of another run."
    )
    skip_errors: bool = Field(
        False,
        description="Blocks of the input that cannot be read become nodata and are listed, instead of ending the run.",
    )
    block_px: int = Field(512, ge=16, multiple_of=16, description="Side of the output's tiles in pixels.")
    compression_level: int = Field(
        6, ge=1, le=9, description="Effort of the output's compression (DEFLATE): 1 is fast, 9 small."
    )
    cache_mb: Positive = Field(128, description="Memory for the input's decoded blocks, in megabytes.")

    @field_validator("regularize", mode="before")
    @classmethod
    def _one_is_enough(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> RasterConfig:
        if self.overlap_px > self.tile_px // 2:
            raise ConfigError(
                f"overlap_px = {self.overlap_px} with tile_px = {self.tile_px}: at most half of the tile, "
                f"{self.tile_px // 2} px"
            )
        if self.bands is not None and not self.bands:
            raise ConfigError("bands is empty: name a band for each of the model's, or leave it out")
        if isinstance(self.aoi, tuple) and not (self.aoi[0] < self.aoi[2] and self.aoi[1] < self.aoi[3]):
            raise ConfigError(f"aoi = {self.aoi}: a box is (left, bottom, right, top) with left < right, bottom < top")
        if self.aoi_crs is not None and not isinstance(self.aoi, tuple):
            raise ConfigError(f"aoi_crs = {self.aoi_crs} without a box in aoi: a file of polygons has its own system")
        if self.min_area_m2 and self.polygons is None:
            raise ConfigError(
                f"min_area_m2 = {self.min_area_m2:g} without polygons: it only cleans polygons. "
                "Give polygons = FILE.gpkg too"
            )
        for name in ("simplify_m", "fill_holes_m2", "regularize"):
            if getattr(self, name) and self.polygons is None:
                raise ConfigError(f"{name} = {getattr(self, name)} without polygons: give polygons = FILE.gpkg too")
        if self.polygons is not None and self.polygons.suffix.lower() != ".gpkg":
            raise ConfigError(f"polygons = {self.polygons}: the file is a GeoPackage; its name ends with .gpkg")
        return self
