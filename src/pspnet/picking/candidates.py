"""Candidates for labelling: photographs, and square tiles of rasters, each with features and the model's uncertainty."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pspnet.config.raster import RasterConfig
from pspnet.errors import ConfigError, PspnetError, RasterError
from pspnet.georaster.grids import Grid, grid_of, open_raster
from pspnet.images import is_raster
from pspnet.predict import scale
from pspnet.predict.engines import TorchEngine
from pspnet.predict.segmenter import Segmenter
from pspnet.predict.windows import WHOLE_PIXELS, as_float
from pspnet.raster.reading import views
from pspnet.raster.source import examine
from pspnet.tiling import Window

RASTER_SUFFIXES = (".tif", ".tiff", ".vrt", ".img", ".jp2")
LEAST_DATA = 0.5  # a tile with less of it is left out


@dataclass(frozen=True)
class Candidate:
    """feature: (C,) of unit length. shares: (K,) the mean probability of each class, 1 together. doubts: (K,) the same, each
    pixel weighted by its entropy, 0 (certain) to 1 (any class alike). window, grid: a raster's tile, in pixels of the file
    and on the Earth; None for photographs."""

    path: Path
    feature: NDArray[np.float32]
    shares: NDArray[np.float32]
    doubts: NDArray[np.float32]
    window: Window | None = None
    grid: Grid | None = None

    @property
    def uncertainty(self) -> float:
        """The mean entropy of the probabilities, 0 (certain) to 1 (any class alike)."""
        return min(float(self.doubts.sum()), 1.0)


def look_at(
    segmenter: Segmenter, paths: Sequence[Path], tile_px: int, failures: dict[str, str]
) -> Iterator[tuple[Path, list[Candidate]]]:
    """The candidates of each file: one, or a raster's tiles. What cannot be read goes to `failures` with the reason.

    Raises ConfigError for an exported model, which has no features.
    """
    if not isinstance(segmenter.engine, TorchEngine):
        raise ConfigError(f"a model that runs on {segmenter.engine.name} shows no features; give its checkpoint")
    for path in paths:
        try:
            candidates = _tiles(segmenter, path, tile_px) if is_map(path) else [_photograph(segmenter, path)]
        except PspnetError as error:
            failures[str(path)], candidates = str(error), []
        yield path, candidates


def is_map(path: Path) -> bool:
    """Whether a file is looked at in tiles: it has a place on the Earth, or bands that no photograph has."""
    if path.suffix.lower() not in RASTER_SUFFIXES:
        return False
    try:
        with open_raster(str(path)) as dataset:
            return dataset.crs is not None or is_raster(path)
    except RasterError:
        return False  # reading it as a picture tells why


def _photograph(segmenter: Segmenter, path: Path) -> Candidate:
    pixels = segmenter.read(path)
    height, width = segmenter.seen_size(pixels.shape[:2])
    smaller = min((WHOLE_PIXELS / (height * width)) ** 0.5, 1.0)
    size = max(1, int(height * smaller)), max(1, int(width * smaller))
    return Candidate(path, *described(segmenter, as_float(scale.at_size(pixels, size)), None))


def _tiles(segmenter: Segmenter, path: Path, tile_px: int) -> list[Candidate]:
    config = RasterConfig(tile_px=tile_px, overlap_px=0)
    source = examine(path, config, segmenter.card, segmenter.mean)
    candidates = []
    for view in views(source, tile_px, 0, range(-(-source.crop.height // tile_px)), 256, None):
        if view.pixels is None or (view.valid is not None and view.valid.mean() < LEAST_DATA):
            continue
        window = Window(
            source.crop.top + view.rows.start, source.crop.left + view.columns.start, *view.pixels.shape[1:]
        )
        description = described(segmenter, np.ascontiguousarray(view.pixels, np.float32), view.valid)
        with open_raster(str(path)) as dataset:
            grid = grid_of(dataset).part(window)
        candidates.append(Candidate(path, *description, window, grid))
    return candidates


def described(
    segmenter: Segmenter, pixels: NDArray[np.float32], valid: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """(bands, h, w) -> the feature, shares and doubts of a Candidate, the latter two where the pixels are valid."""
    assert isinstance(segmenter.engine, TorchEngine)
    feature, probabilities = segmenter.engine.describe(pixels[None], segmenter.card.temperature)
    classes, height, width = probabilities.shape
    counted = np.ones((height, width), bool)
    if valid is not None:
        rows = np.arange(height) * valid.shape[0] // height
        columns = np.arange(width) * valid.shape[1] // width
        counted = valid[np.ix_(rows, columns)] if valid[np.ix_(rows, columns)].any() else counted
    visible = probabilities[:, counted]  # (K, pixels)
    entropy = -(visible * np.log(np.maximum(visible, 1e-12))).sum(0) / np.log(max(classes, 2))
    length = max(float(np.linalg.norm(feature)), 1e-12)
    shares, doubts = visible.mean(1), (visible * entropy).mean(1)
    return np.asarray(feature / length, np.float32), np.asarray(shares, np.float32), np.asarray(doubts, np.float32)
