"""A picture as a model wants it: a file, an image of Pillow's or an array -> (H, W, bands) in the model's own range.

Rasters (GeoTIFFs and their kin) are read by the names and numbers of the card's bands; photographs with their orientation
applied, palettes, greyscale and alpha as `pspnet.images` says. What the card contradicts is refused or told here.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pspnet.errors import ConfigError, ImageError, RasterError
from pspnet.georaster.bands import OF_PHOTOGRAPHS, BandInfo, find_bands
from pspnet.georaster.whole import read_bands, read_whole
from pspnet.images import is_raster, pixels_of_pillow, read_image, with_bands
from pspnet.images.pages import further_pictures
from pspnet.predict.conditions import Met, contradictions, tell
from pspnet.weights.checkpoint import ModelCard

CALLER = 5  # of a warning: photograph or raster, read_for, Segmenter.read, Segmenter.segment, whoever called that


def read_for(card: ModelCard, bands: int, image: str | Path | Image.Image | NDArray[Any]) -> NDArray[Any]:
    """(H, W, bands) in the range that the card tells. bands: how many the network takes.

    Arrays are (H, W) or (H, W, C), RGB. Raises ImageError for what is no image or not this model's, ConfigError for a
    photograph where the model reads other bands than photographs have.
    """
    name = str(image) if isinstance(image, (str, Path)) else ""
    if isinstance(image, (str, Path)):
        met, pixels = _raster(card, image) if is_raster(image) else (Met(name), _photograph(card, bands, image))
    else:
        met, pixels = Met(name), _array(card, bands, image)
    if pixels.dtype != np.uint8 or card.value_range != (0.0, 255.0):  # else there is nothing to doubt
        tell(card, met.valued(pixels))
    return pixels


def _photograph(card: ModelCard, bands: int, path: str | Path) -> NDArray[Any]:
    if bands not in (1, 3, 4):
        raise ConfigError(f"the model reads {bands} bands; image files have 1, 3 or 4. For rasters: pspnet raster")
    further = further_pictures(path)
    if further:
        warnings.warn(f"'{path}' holds {further}; the first picture is read", stacklevel=CALLER)
    if card.band_names in OF_PHOTOGRAPHS.values() or all(re.fullmatch(r"band_\d+", name) for name in card.band_names):
        return read_image(path, bands=cast(Literal[1, 3, 4], bands), dtype=_kind(card))
    # trained on bands with names: an alpha channel is no near infrared, and blue may come first
    order = _numbers(card, BandInfo.of_photograph(str(path)))
    return np.ascontiguousarray(read_image(path, bands=3, dtype=_kind(card))[..., [n - 1 for n in order]])


def _kind(card: ModelCard) -> Literal["uint8", "native"]:
    """How photographs are read: in 8 bits where the model was trained on them."""
    return "uint8" if card.value_range[1] <= 255 else "native"


def _array(card: ModelCard, bands: int, image: Image.Image | NDArray[Any]) -> NDArray[Any]:
    if isinstance(image, Image.Image):
        wanted = cast(Literal[1, 3, 4], bands) if bands in (1, 3, 4) else None
        image = pixels_of_pillow(image, bands=wanted, dtype=_kind(card))
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or 0 in pixels.shape or pixels.dtype.kind not in "uif":
        raise ImageError(
            f"an array of shape {np.shape(image)} and type {pixels.dtype} is no image; give (H, W) or (H, W, C)"
        )
    if bands == 3 and pixels.shape[2] in (1, 4):
        pixels = with_bands(pixels, 3)  # as for files
    if pixels.shape[2] != bands:
        raise ImageError(
            f"an image of {pixels.shape[2]} bands for a model of {bands} bands: {', '.join(card.band_names)}"
        )
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise ImageError("an image holds values that are not finite (NaN or infinity); replace them first")
    return pixels


def _raster(card: ModelCard, path: str | Path) -> tuple[Met, NDArray[Any]]:
    """A raster's bands that the model reads, by name and number. Raises ImageError where one is missing."""
    info = read_bands(path)
    numbers = _numbers(card, info)
    met = Met(str(path)).stored(info, numbers)
    unlike = contradictions(card, met)
    if unlike:
        raise ImageError(f"'{path}': {'; '.join(unlike)}")
    pixels, valid = read_whole(path, numbers)
    if valid is not None:
        warnings.warn(
            f"'{path}' has no data in {1 - valid.mean():.1%} of its pixels; their labels mean nothing. "
            "`pspnet raster` leaves them out",
            stacklevel=CALLER,
        )
    return met, np.ascontiguousarray(pixels.transpose(1, 2, 0))


def _numbers(card: ModelCard, info: BandInfo) -> tuple[int, ...]:
    try:
        return find_bands(info, card.band_names, card.band_numbers)
    except RasterError as error:
        raise ImageError(str(error)) from error
