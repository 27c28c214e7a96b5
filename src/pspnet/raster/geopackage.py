"""The areas of a map as polygons in a GeoPackage, streamed: memory holds a strip and the areas that still go on."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pspnet.errors import RasterError, require
from pspnet.georaster.grids import Grid, grid_of, open_raster
from pspnet.outlines.corners import Outlines
from pspnet.outlines.polygonize import Tracer
from pspnet.predict.windows import ahead
from pspnet.raster.label_strips import label_strips
from pspnet.raster.outline_cleaning import Cleaning, Polygons, upright_pixels
from pspnet.raster.sieve import Sieve

BATCH = 20_000  # polygons that are written at once
FIELDS = ("class", "value", "area_m2", "confidence_pct")


def write_polygons(
    path: Path, target: Path, names: Mapping[int, str], min_area_m2: float = 0.0, cleaning: Cleaning | None = None
) -> int:
    """Writes the regions (4 neighbours) of a map of labels and confidence; returns their number.

    names: pixel value -> class. Fields: class, value, area on the ground in square metres (in the plane where the map
    has no coordinate system or a local one), mean confidence in per cent. Borders of neighbours coincide exactly. Areas below
    min_area_m2 are merged into their neighbours first. cleaning: what makes outlines smoother; it needs all polygons in
    memory at once, some 2 kB each. Raises RasterError where the file cannot be written, ConfigError for a class of
    `cleaning` that the map has not.
    """
    with open_raster(str(path)) as dataset:
        grid = grid_of(dataset)
    sieve = None
    if min_area_m2 > 0:
        sieve = Sieve(min_area_m2)
        for strip in label_strips(path):
            sieve.look(strip)
        sieve.decide()
    writer = _Writer(target, grid, names)
    collected: list[Polygons] = []
    ended = ahead(_ended(path, sieve), 1)
    try:
        for outlines in ended:
            if not len(outlines.label):
                continue
            if cleaning is None:
                writer.add(Polygons.of(outlines, grid.to_map))
            else:
                collected.append(Polygons.of(outlines, upright_pixels))
    finally:
        ended.close()
    if collected and cleaning is not None:
        writer.add(cleaning.clean(Polygons.join(collected), grid))
    return writer.finish()


def _ended(path: Path, sieve: Sieve | None) -> Generator[Outlines, None, None]:
    """Areas as they end, from top to bottom."""
    tracer = Tracer()
    for strip in label_strips(path):
        if sieve is not None:
            strip = sieve.clean(strip)
        yield tracer.feed(strip.top, strip.left, strip.labels, strip.confidence, strip.areas)
    yield tracer.finish()


class _Writer:
    """Collects finished areas and writes them in batches to one layer."""

    def __init__(self, target: Path, grid: Grid, names: Mapping[int, str]) -> None:
        self.target, self.grid = target, grid
        self.names = np.full(256, "", object)
        self.names[list(names)] = list(names.values())
        self.waiting: list[tuple[Any, ...]] = []
        self.count = self.pending = 0
        self.begun = False
        target.unlink(missing_ok=True)

    def add(self, polygons: Polygons) -> None:
        shapely = require("shapely", "raster")
        self.waiting.append(
            (
                shapely.to_wkb(polygons.geometry),
                self.names[polygons.label],
                polygons.label.astype(np.int32),
                polygons.area_m2,
                polygons.confidence,
            )
        )
        self.pending += len(polygons.label)
        if self.pending >= BATCH:
            self._write()

    def finish(self) -> int:
        if self.pending or not self.begun:
            self._write()
        return self.count

    def _write(self) -> None:
        pyogrio = require("pyogrio", "raster")
        empty: Any = (np.zeros(0, object), np.zeros(0, object), np.zeros(0, np.int32), np.zeros(0), np.zeros(0))
        columns = [np.concatenate(parts) for parts in zip(*(self.waiting or [empty]), strict=True)]
        crs = None if self.grid.crs is None else self.grid.crs.to_wkt()
        try:
            with warnings.catch_warnings():  # that the raster has no coordinate system was told before the work
                warnings.filterwarnings("ignore", message="'crs' was not provided")
                pyogrio.raw.write(
                    self.target,
                    columns[0],
                    columns[1:],
                    list(FIELDS),
                    layer="areas",
                    driver="GPKG",
                    geometry_type="Polygon",
                    crs=crs,
                    append=self.begun,
                )
        except Exception as error:  # whatever GDAL refuses, a full disk say
            raise RasterError(
                f"'{self.target}' cannot be written: {error}. The map is kept; repeat the command to make the polygons"
            ) from error
        self.count += self.pending
        self.waiting, self.pending, self.begun = [], 0, True
