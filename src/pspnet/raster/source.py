"""What is read: which bands of which raster, inside which area; checked before the first window."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.config.raster import RasterConfig
from pspnet.errors import ConfigError, RasterError, require
from pspnet.georaster.bands import BandInfo, alpha_doubt, find_bands, gap_doubts
from pspnet.georaster.grids import BandReader, Grid, colours_of, grid_of, open_raster
from pspnet.georaster.ground import PixelAreas, resolution_m
from pspnet.predict.conditions import Met, contradictions, tell
from pspnet.raster.area_of_interest import area_of_interest, on_grid, window_of
from pspnet.tiling import Window
from pspnet.weights.checkpoint import ModelCard

SAMPLES, SAMPLE_PX = 3, 256  # places along each side where values are looked at before the start, and their size


@dataclass(frozen=True)
class RasterSource:
    """A raster as one run reads it. Picklable: each thread and process opens it for itself.

    crop: the part that is worked on, in pixels of the file; grid: that part's place on the Earth. indexes: band
    numbers in the model's order. area: a shapely geometry in the grid's CRS outside of which nothing is written, or
    None. value_range: lowest and highest value seen in the samples, None where they held no data.
    """

    path: str
    crop: Window
    grid: Grid
    indexes: tuple[int, ...]
    fill: tuple[float, ...]
    nodata: float | None
    area: Any
    dtype: str
    value_range: tuple[float, float] | None
    area_or_point: str | None  # whether a pixel's value stands for its area or its middle, as the file says
    resampled: Grid | None = None  # the whole raster's pixels at another size; None: as they are

    @contextmanager
    def open(self) -> Iterator[Any]:
        """The dataset, resampled where the run asks for another resolution."""
        with open_raster(self.path) as dataset, resampled(dataset, self.resampled) as resampled_view:
            yield resampled_view

    def reader(self, dataset: Any) -> BandReader:
        return BandReader(dataset, self.indexes, self.fill, self.nodata)


def examine(
    path: str | Path,
    config: RasterConfig,
    card: ModelCard,
    fill: Sequence[float],
) -> RasterSource:
    """Opens a raster and finds out how to read it for the model of a card.

    fill: the model's mean of each band. Warns where the values are unlike those trained on, where bands had to be guessed, or where the file has no CRS. Raises RasterError where bands are missing or the area of interest is empty.
    """
    name = str(path)
    with open_raster(name) as file, resampled(file, _other_grid(file, config, card)) as dataset:
        grid = grid_of(dataset)
        info = BandInfo.of(file)
        indexes = find_bands(info, card.band_names, card.band_numbers, config.bands)
        alpha = "" if set(info.alpha) & set(indexes) else alpha_doubt(file)
        for doubt in (alpha, *gap_doubts(file, indexes, config.nodata)):
            if doubt:
                warnings.warn(f"'{name}' {doubt}", stacklevel=3)
        met = Met(name).stored(info, tuple(indexes))
        unlike = contradictions(card, met)
        if unlike:
            raise RasterError(f"'{name}': {'; '.join(unlike)}")
        if grid.crs is None:
            rpc = "it is placed by rational polynomial coefficients (RPC): gdalwarp -rpc IN.tif OUT.tif gives it a grid"
            plain = "If you know it, set it first: gdal_edit -a_srs EPSG:... FILE (or rio edit-info --crs)"
            warnings.warn(
                f"'{name}' has no coordinate system; the map will have none either. "
                + (rpc if file.rpcs is not None else plain),
                stacklevel=3,
            )
        if config.polygons is not None:
            PixelAreas(grid)  # a system in which areas cannot be told is found out before the work
        area = None if config.aoi is None else on_grid(area_of_interest(config.aoi, config.aoi_crs, grid.crs), grid)
        crop = Window(0, 0, grid.height, grid.width) if area is None else window_of(area, grid, name)
        # a box along the grid's own axes is the window itself: no pixel of the window lies outside
        is_box = isinstance(config.aoi, tuple) and config.aoi_crs is None and grid.transform.is_rectilinear
        source = RasterSource(
            name,
            crop,
            grid.part(crop),
            tuple(indexes),
            tuple(fill),
            config.nodata,
            None if is_box else area,
            str(np.result_type(*(dataset.dtypes[i - 1] for i in indexes))),
            None,
            file.tags().get("AREA_OR_POINT"),
            None if dataset is file else grid,
        )
        values = _sample(source, dataset)
    if config.resolution == "native":
        met = replace(met, resolution=resolution_m(grid))
    tell(card, met if values is None else met.valued(values))
    return replace(source, value_range=_range(values))


def _other_grid(dataset: Any, config: RasterConfig, card: ModelCard) -> Grid | None:
    """The grid at the resolution that the run asks for; None: the raster's own."""
    grid, trained = grid_of(dataset), card.ground_resolution or None
    if config.resolution == "native":
        return None
    wanted = trained if config.resolution == "trained" else config.resolution
    own_m = resolution_m(grid)
    if wanted is None:
        raise ConfigError("resolution = trained: the model does not say at which it was trained; give it in metres")
    if own_m is None:
        raise ConfigError(
            f"resolution = {config.resolution}: '{dataset.name}' has no coordinate system that tells the size of its pixels"
        )
    factor = float(wanted) / own_m
    if abs(factor - 1) < 0.01:
        return None
    height, width = max(1, round(grid.height / factor)), max(1, round(grid.width / factor))
    scale = type(grid.transform).scale(grid.width / width, grid.height / height)
    return Grid(grid.crs, grid.transform * scale, height, width)


@contextmanager
def resampled(dataset: Any, grid: Grid | None) -> Iterator[Any]:
    """A dataset on another grid of its own coordinate system: means where pixels grow, cubic where they shrink."""
    if grid is None:
        yield dataset
        return
    enums, vrt = require("rasterio.enums", "raster"), require("rasterio.vrt", "raster")
    coarser = grid.height < dataset.height
    method = enums.Resampling.average if coarser else enums.Resampling.cubic
    masked = any(enums.MaskFlags.per_dataset in flags for flags in dataset.mask_flag_enums)
    with vrt.WarpedVRT(
        dataset,
        crs=grid.crs,
        transform=grid.transform,
        height=grid.height,
        width=grid.width,
        resampling=method,
        add_alpha=masked and "alpha" not in colours_of(dataset),
    ) as view:
        yield view


def _sample(source: RasterSource, dataset: Any) -> NDArray[Any] | None:
    """(bands, n) values with data in small windows spread over the crop; None where there are none."""
    errors = require("rasterio.errors", "raster")
    reader, values = source.reader(dataset), []
    height, width = min(SAMPLE_PX, source.crop.height), min(SAMPLE_PX, source.crop.width)
    for row in np.linspace(0, source.crop.height - height, SAMPLES).astype(int):
        for column in np.linspace(0, source.crop.width - width, SAMPLES).astype(int):
            window = Window(source.crop.top + int(row), source.crop.left + int(column), height, width)
            try:
                pixels, valid = reader.read(window)
            except errors.RasterioIOError:  # a broken block is the run's to report, in its place
                continue
            valid_pixels = pixels.reshape(len(pixels), -1) if valid is None else pixels[:, valid]
            values.append(valid_pixels[:, ::7])
    sample: NDArray[Any] = np.concatenate(values, axis=1) if values else np.empty((1, 0))
    return sample if sample.size else None


def _range(values: NDArray[Any] | None) -> tuple[float, float] | None:
    return None if values is None else (float(np.percentile(values, 1)), float(np.percentile(values, 99)))
