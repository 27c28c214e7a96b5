"""A raster that is small enough to be read at once: a chip, or one image of a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import ImageError, MissingExtraError, RasterError, require
from pspnet.georaster.bands import BandInfo
from pspnet.georaster.grids import BandReader, Grid, grid_of, open_raster
from pspnet.images.bands import is_raster
from pspnet.images.pages import geo_tags
from pspnet.tiling import Window


@contextmanager
def image_raster(path: str | Path) -> Iterator[Any]:
    """A raster opened as an image: what is wrong with it, now or while it is read, is an ImageError naming the file."""
    try:
        with open_raster(str(path)) as dataset:
            yield dataset
    except RasterError as error:
        raise ImageError(str(error)) from error
    except require("rasterio.errors", "raster").RasterioIOError as error:
        raise ImageError(
            f"'{path}' cannot be read: {error.__cause__ or error}. Copy or export it again, or remove it"
        ) from error


def read_bands(path: str | Path) -> BandInfo:
    """What a raster says of its bands. Raises ImageError naming the file."""
    with image_raster(path) as dataset:
        return BandInfo.of(dataset)


def read_grid(path: str | Path) -> Grid:
    """Where a raster lies. Raises ImageError naming the file."""
    with image_raster(path) as dataset:
        return grid_of(dataset)


def grid_in(path: str | Path) -> Grid | None:
    """Where an image file lies on the Earth; None where it does not say so by itself: no GeoTIFF and no raster, no grid or
    coordinate system, or no library that reads it."""
    if not (geo_tags(path).placed or is_raster(path)):
        return None
    with suppress(RasterError, MissingExtraError), open_raster(str(path)) as dataset:
        grid = grid_of(dataset)
        return None if grid.crs is None or grid.transform.is_identity else grid
    return None


def read_whole(path: str | Path, numbers: Sequence[int]) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """(bands, h, w) in the file's own type, and (h, w) bool where there is data, or None where everywhere.

    Gaps hold the mean of what the band has. Raises ImageError naming the file.
    """
    with image_raster(path) as dataset:
        if max(numbers) > dataset.count:
            raise ImageError(f"'{path}' has {dataset.count} bands, the first image has {max(numbers)} or more")
        reader = BandReader(dataset, numbers, [0.0] * len(numbers))
        pixels, valid = reader.read(Window(0, 0, dataset.height, dataset.width))
    if valid is not None and valid.any():
        for plane in pixels:
            plane[~valid] = plane[valid].mean()
    return pixels, valid
