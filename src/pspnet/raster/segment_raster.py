"""A model applied to a whole raster: checks before the start, strips, overviews, polygons, and the renames at the end."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.config.raster import RasterConfig
from pspnet.errors import ConfigError, RasterError
from pspnet.predict.segmenter import Segmenter
from pspnet.raster.geopackage import write_polygons
from pspnet.raster.pipeline import Run, classify
from pspnet.raster.progress import Progress, Watch
from pspnet.raster.reading import Block
from pspnet.raster.tile_store import TileStore
from pspnet.raster.writing import build_overviews, side_file, stale_files, write_map


@dataclass(frozen=True)
class RasterReport:
    """What a run made. shares: class -> share of the pixels with data; unreadable: blocks of the input left out."""

    path: Path
    polygons: Path | None
    height: int
    width: int
    data_share: float
    shares: dict[str, float]
    seconds: float
    resumed_rows: int = 0
    polygon_count: int = 0
    unreadable: list[Block] = field(default_factory=list)


def segment_raster(
    segmenter: Segmenter,
    source: str | Path,
    target: str | Path,
    config: RasterConfig | None = None,
    *,
    progress: Callable[[Progress], None] | None = None,
    **settings: Any,
) -> RasterReport:
    """Classifies every pixel of a raster into a cloud-optimised GeoTIFF on the same grid.

        segment_raster(seg, "city.tif", "landcover.tif", tile_px=1024, overlap_px=256)

    source: anything GDAL opens, a URL as /vsicurl/https://... too. settings: fields of RasterConfig, put over `config`.
    A run that ends early, however it ends, leaves TARGET.part and TARGET.journal; the same call goes on from there.
    progress: called a few times a second. Raises RasterError and ConfigError; a file that exists is refused without
    overwrite.
    """
    config = (config or RasterConfig()).changed(**settings) if settings else config or RasterConfig()
    began = time.monotonic()
    check_targets(str(source), Path(target), config)
    run = Run.of(segmenter, source, config)
    store = TileStore(Path(target), config.block_px, run.identity(), config.overwrite)
    try:
        resumed = int(store.state.get("rows", 0))
        watch = Watch(progress, run.width, run.height, resumed)
        classify(run, store, range(run.height), watch)
        return finish(run, store, watch, began, resumed)
    finally:
        store.close()


def finish(run: Run, store: TileStore, watch: Watch, began: float, resumed: int) -> RasterReport:
    """Overviews, the file, polygons, and the renames that make them appear, from a store that holds every tile."""
    target, polygons, config = store.target, run.config.polygons, run.config
    watch.stage("overviews")
    levels = build_overviews(store, run.height, run.width, config.compression_level)
    counts: NDArray[np.int64] = np.array(store.state["counts"], np.int64)
    whole = target.with_name(f".{target.name}.unfinished.tif")
    areas = None if polygons is None else polygons.with_name(f".{polygons.name}.unfinished.gpkg")
    placed = {} if run.source.area_or_point is None else {"AREA_OR_POINT": run.source.area_or_point}
    metadata = {
        "TIFFTAG_SOFTWARE": "pspnet",
        "CLASSES": json.dumps(run.bands.names),
        "SOURCE": Path(run.source.path).name,
        **placed,
    }
    number = 0
    try:
        write_map(
            whole,
            store,
            levels,
            run.source.grid,
            run.bands.descriptions,
            run.bands.names,
            run.bands.colours,
            counts,
            metadata,
        )
        if areas is not None and polygons is not None:
            watch.stage("polygons")
            number = write_polygons(whole, areas, run.bands.names, config.min_area_m2)
            for stale in stale_files(polygons):
                stale.unlink(missing_ok=True)
            os.replace(areas, polygons)
        for stale in stale_files(target):
            stale.unlink(missing_ok=True)
        os.replace(side_file(whole), side_file(target))
        os.replace(whole, target)
    finally:
        for path in (whole, side_file(whole), *([areas] if areas else [])):
            path.unlink(missing_ok=True)
    store.discard()
    pixels = {name: int(counts[value]) for value, name in run.bands.names.items()}
    known = sum(pixels.values())
    return RasterReport(
        target,
        polygons,
        run.height,
        run.width,
        known / (run.height * run.width),
        {name: count / max(known, 1) for name, count in pixels.items()},
        time.monotonic() - began,
        resumed,
        number,
        [(a, b, c, d) for a, b, c, d in store.state.get("unreadable", [])],
    )


def check_targets(source: str, target: Path, config: RasterConfig) -> None:
    if target.suffix.lower() not in (".tif", ".tiff"):
        raise ConfigError(f"'{target}': the map is a GeoTIFF; its name ends with .tif")
    for path in (target, config.polygons):
        if path is None:
            continue
        if path.exists() and Path(source).exists() and path.samefile(source):
            raise ConfigError(f"'{path}' is the input itself; give the map another name")
        there = [one for one in (path, *stale_files(path)) if one.exists()]
        if there and not config.overwrite:
            beside = "" if there[0] == path else f"; GDAL would take it for a part of '{path.name}'"
            raise RasterError(
                f"'{there[0]}' exists{beside}; choose another name, or replace it with overwrite (--overwrite)"
            )
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise RasterError(f"'{path}' cannot be written: '{folder}' is not a folder that you may write to")
