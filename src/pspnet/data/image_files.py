"""The images of a data set of files: photographs, or rasters of any bands, as the first file says.

All images of a data set have the bands of the first one, found by name in each; a file that lacks one, or whose numbers
mean something else (8 bits among 16, another scale), is an ImageError that names both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pspnet.errors import ConfigError, ImageError, RasterError
from pspnet.georaster.bands import OF_PHOTOGRAPHS, BandInfo, find_bands
from pspnet.georaster.whole import read_bands, read_whole
from pspnet.images import is_raster, read_image


@dataclass(frozen=True)
class ImageReading:
    """Options that every layout of image files takes.

    bands: of photographs 3 (RGB, also None), 1 or 4; of rasters a list of numbers, from 1, None: all. dtype: "uint8", or
    "native" to keep deep photographs as they are; rasters always are. exif: turn photographs as their EXIF orientation
    says; False where labels were drawn on the pixels as stored. full_scale: what is white in photographs of 16 bits or
    floating point that are read as 8 bits; None: told from each file's largest value.
    """

    bands: Literal[1, 3, 4] | Sequence[int] | None = None
    dtype: Literal["uint8", "native"] = "uint8"
    exif: bool = True
    full_scale: Annotated[int, Field(ge=1, le=65_535)] | None = None


Valid = NDArray[np.bool_] | None  # (H, W): where there is data; None: everywhere


@runtime_checkable
class ImageFiles(Protocol):
    """bands: how many. band_numbers: from 1, in the files; empty for photographs."""

    bands: int
    band_names: tuple[str, ...]
    band_numbers: tuple[int, ...]
    band_info: BandInfo | None  # of the first file; None for photographs
    full_scale: int | None  # the option

    def read(self, path: Path) -> tuple[NDArray[Any], Valid]:
        """(H, W, bands), and where there is data. Raises ImageError naming the file."""
        ...


class Photographs:
    """Files of images.read_image."""

    band_numbers: tuple[int, ...] = ()
    band_info: BandInfo | None = None

    def __init__(
        self, bands: Literal[1, 3, 4], dtype: Literal["uint8", "native"], exif: bool, full_scale: int | None = None
    ) -> None:
        self.bands: int = bands
        self.band_names: tuple[str, ...] = OF_PHOTOGRAPHS[bands]
        self._bands, self._dtype, self._exif, self.full_scale = bands, dtype, exif, full_scale

    def read(self, path: Path) -> tuple[NDArray[Any], Valid]:
        pixels = read_image(path, bands=self._bands, dtype=self._dtype, exif=self._exif, full_scale=self.full_scale)
        return pixels, None


class Rasters:
    """Rasters, in their own values. chosen: band numbers in the first file; None: all but alpha."""

    full_scale: int | None = None

    def __init__(self, first: BandInfo, chosen: Sequence[int] | None) -> None:
        self.first = first
        self.band_info: BandInfo | None = first
        self.band_numbers = tuple(chosen) if chosen is not None else first.plain
        if not self.band_numbers or min(self.band_numbers) < 1 or max(self.band_numbers) > first.count:
            raise ConfigError(f"bands = {list(self.band_numbers)}: '{first.path}' has the bands 1 to {first.count}")
        self.band_names = first.chosen(self.band_numbers)
        self.bands = len(self.band_numbers)

    def read(self, path: Path) -> tuple[NDArray[Any], Valid]:
        info = read_bands(path)
        try:
            numbers = (
                self.band_numbers
                if (info.names, info.alpha) == (self.first.names, self.first.alpha)
                else find_bands(info, self.band_names, self.band_numbers)
            )
        except RasterError as error:
            raise ImageError(f"{error} ('{self.first.path}', the first image, has them)") from error
        differences = self.first.differences(info, self.band_numbers)
        if differences:
            raise ImageError(
                f"'{path}' has {' and '.join(differences)}, which '{self.first.path}', the first image, has: their values "
                "cannot be compared. Convert one, or keep them in data sets of their own"
            )
        pixels, valid = read_whole(path, numbers)
        return np.ascontiguousarray(pixels.transpose(1, 2, 0)), valid


def image_files(paths: Sequence[Path], reading: ImageReading) -> ImageFiles:
    """How a data set's images are read, by the first of them. Raises ConfigError where `bands` is of the other kind."""
    bands = reading.bands
    if paths and is_raster(paths[0]):
        info = read_bands(paths[0])
        if isinstance(bands, int):
            have = ", ".join(f"{n} {info.names[n - 1]}".rstrip() for n in info.plain)
            raise ConfigError(
                f"bands = {bands}: '{paths[0]}' is a raster with the bands {have}. Leave bands out to train on all, or "
                "list their numbers, such as bands=[1,2,3]"
            )
        return Rasters(info, bands)
    if bands is not None and (not isinstance(bands, int) or bands not in (1, 3, 4)):
        raise ConfigError(f"bands = {bands!r}: a photograph is read with 1, 3 or 4; rasters take a list of numbers")
    return Photographs(3 if bands is None else bands, reading.dtype, reading.exif, reading.full_scale)
