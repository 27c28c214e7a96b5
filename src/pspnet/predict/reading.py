"""A picture as a model wants it: a file, an image of Pillow's or an array -> (H, W, bands) in the model's own range.

Rasters (GeoTIFFs and their kin) are read by the names and numbers of the card's bands; photographs with their orientation
applied, palettes, greyscale and alpha as `pspnet.images` says. What the card contradicts is refused or told here.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pspnet.errors import ConfigError, ImageError, RasterError
from pspnet.georaster.bands import OF_PHOTOGRAPHS, BandInfo, find_bands
from pspnet.georaster.ground import resolution_m
from pspnet.georaster.whole import grid_in, read_bands, read_whole
from pspnet.images import is_raster, pixels_of_pillow, read_image, scale_of, stores_deep, with_bands
from pspnet.images.opacity import MEASURED, WAY_OUT, is_measured
from pspnet.images.pages import further_pictures, geo_tags, nodata_doubt
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
        if is_raster(image):
            met, pixels = _raster(card, image)
        else:
            met, pixels = Met(name, resolution=_resolution(card, image)), _photograph(card, bands, image)
    else:
        met, pixels = Met(name), _array(card, bands, image)
    doubtful = pixels.dtype != np.uint8 or card.value_range != (0.0, 255.0)
    tell(card, met.valued(pixels) if doubtful else met)
    return pixels


def _resolution(card: ModelCard, path: str | Path) -> float | None:
    """Metres of a file's pixels, where the model knows its own and the file says where it lies."""
    grid = grid_in(path) if card.ground_resolution else None
    return None if grid is None else resolution_m(grid)


def _photograph(card: ModelCard, bands: int, path: str | Path) -> NDArray[Any]:
    if bands not in (1, 3, 4):
        raise ConfigError(f"the model reads {bands} bands; image files have 1, 3 or 4. For rasters: pspnet raster")
    plain = card.band_names in OF_PHOTOGRAPHS.values() or all(re.fullmatch(r"band_\d+", n) for n in card.band_names)
    # trained on bands with names: an alpha channel is no near infrared, and blue may come first
    order = () if plain else _numbers(card, BandInfo.of_photograph(str(path)))
    pixels = read_image(path, bands=None, dtype=_kind(card), full_scale=card.full_scale)
    _tell_photograph(card, bands, path, pixels)
    return np.ascontiguousarray(
        with_bands(pixels, bands) if plain else with_bands(pixels, 3)[..., [n - 1 for n in order]]
    )


def _tell_photograph(card: ModelCard, bands: int, path: str | Path, pixels: NDArray[Any]) -> None:
    """Warns of what a photograph's file says or holds that reading it as a picture passes over."""
    if further := further_pictures(path):
        warnings.warn(f"'{path}' holds {further}; the first picture is read", stacklevel=CALLER + 1)
    if nodata := nodata_doubt(geo_tags(path), pixels):
        text = f"'{path}' {nodata}; here each pixel counts. `pspnet raster` leaves them out"
        warnings.warn(text, stacklevel=CALLER + 1)
    _tell_opacity(bands, f"'{path}'", pixels)
    if _kind(card) == "uint8" and card.full_scale is None and stores_deep(path):
        _tell_scale(card, f"'{path}'", read_image(path, bands=None, dtype="native"))


def _tell_opacity(bands: int, name: str, pixels: NDArray[Any]) -> None:
    if pixels.shape[2] == 4 != bands and is_measured(pixels[..., 3]):
        warnings.warn(f"{name} {MEASURED}. {WAY_OUT}", stacklevel=CALLER + 1)


def _tell_scale(card: ModelCard, name: str, stored: NDArray[Any]) -> None:
    """Warns where deep pixels become 8 bits by their own largest value, which is not how the training read them."""
    if _kind(card) != "uint8" or card.full_scale is not None or stored.dtype.kind == "f" or stored.dtype.itemsize == 1:
        return
    if scale_of(stored) < np.iinfo(np.uint16).max:
        warnings.warn(
            f"{name} has more than 8 bits, and {scale_of(stored)} is taken for white by its own largest value: the model's card "
            "does not say what was white in training. Train with the option full_scale, or scale such pictures alike first",
            stacklevel=CALLER + 1,
        )


def _kind(card: ModelCard) -> Literal["uint8", "native"]:
    """How photographs are read: in 8 bits where the model was trained on them."""
    return "uint8" if card.value_range[1] <= 255 else "native"


def _array(card: ModelCard, bands: int, image: Image.Image | NDArray[Any]) -> NDArray[Any]:
    if isinstance(image, Image.Image):
        _tell_scale(card, "the image", pixels_of_pillow(image, bands=None, dtype="native"))
        image = pixels_of_pillow(image, bands=None, dtype=_kind(card), full_scale=card.full_scale)
        if bands in (1, 3, 4):
            _tell_opacity(bands, "the image", image)
            image = with_bands(image, bands)
    if isinstance(image, np.ma.MaskedArray) and np.ma.getmaskarray(image).any():
        raise ImageError(
            f"a masked array hides {np.ma.getmaskarray(image).mean():.1%} of its values, and a network reads them all. Fill them "
            "first, such as image.filled(image.mean()), or give the file to `pspnet raster`, which leaves such pixels out"
        )
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or 0 in pixels.shape or pixels.dtype.kind not in "uif":
        raise ImageError(
            f"an array of shape {np.shape(image)} and type {pixels.dtype} is no image; give (H, W) or (H, W, C)"
        )
    if bands == 3 and pixels.shape[2] in (1, 4):
        _tell_opacity(bands, "the image", pixels)
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
    met = replace(Met(str(path)).stored(info, numbers), resolution=_resolution(card, path))
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
