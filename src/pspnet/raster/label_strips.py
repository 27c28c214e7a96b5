"""A map's rows, strip by strip: only where it has data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import require
from pspnet.georaster.grids import BandReader, grid_of, open_raster
from pspnet.georaster.ground import PixelAreas
from pspnet.raster.reading import Coverage
from pspnet.raster.writing import NODATA

STRIP_PX = 2_000_000  # pixels of a strip: enough for whole-array work, some 80 MB with all that is made of them


@dataclass(frozen=True)
class LabelStrip:
    """labels, confidence: (h, w) uint8 at (top, left) of the map. areas: square metres of each pixel, (h, w), or (h, 1)
    where the columns are alike."""

    top: int
    left: int
    labels: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    areas: NDArray[np.float64]

    @property
    def bottom(self) -> int:
        return self.top + self.labels.shape[0]

    @property
    def right(self) -> int:
        return self.left + self.labels.shape[1]


def label_strips(path: Path, strip_px: int = STRIP_PX) -> Iterator[LabelStrip]:
    """Strips of a map with labels in band 1 and confidence (%) in band 2; parts without data are left out."""
    rasterio = require("rasterio", "raster")
    with open_raster(str(path)) as dataset:
        # a row of both bands' blocks is read in several strips: it must stay decoded that long
        cache_mb = 32 + int(2.5e-6 * dataset.width * dataset.block_shapes[0][0])
    with rasterio.Env(GDAL_CACHEMAX=cache_mb), open_raster(str(path)) as dataset:
        grid = grid_of(dataset)
        areas = PixelAreas(grid)
        coverage = Coverage(dataset, BandReader(dataset, [1], [NODATA]))
        block = dataset.block_shapes[0][0]
        for first in range(0, grid.height, block):
            beyond = min(first + block, grid.height)
            parts = coverage.columns(first, beyond)
            if not parts:
                continue
            left, right = min(p[0] for p in parts), min(max(p[1] for p in parts), grid.width)
            rows = max(1, min(block, strip_px // (right - left)))
            for top in range(first, beyond, rows):
                bottom = min(top + rows, beyond)
                strip_window: Any = ((top, bottom), (left, right))
                labels, confidence = dataset.read([1, 2], window=strip_window)
                yield LabelStrip(top, left, labels, confidence, areas.read(top, bottom, left, right))
