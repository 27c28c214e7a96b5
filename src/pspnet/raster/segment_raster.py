"""A model applied to a whole raster: checks before the start, strips, overviews, polygons, and the renames at the end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.config.raster import RasterConfig
from pspnet.errors import ConfigError, OutputError, RasterError
from pspnet.files import Inputs, check_output, new_file, new_files
from pspnet.georaster.parts import parts_of
from pspnet.predict.segmenter import Segmenter
from pspnet.raster.geopackage import write_polygons
from pspnet.raster.pipeline import Run, classify
from pspnet.raster.progress import Progress, Watch
from pspnet.raster.reading import Block
from pspnet.raster.tile_store import KEPT, TileStore
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
    segmenter: Segmenter | str | Path,
    source: str | Path,
    target: str | Path,
    config: RasterConfig | None = None,
    *,
    inputs: Sequence[str | Path] = (),
    progress: Callable[[Progress], None] | None = None,
    **settings: Any,
) -> RasterReport:
    """Classifies every pixel of a raster into a cloud-optimised GeoTIFF on the same grid.

        segment_raster(seg, "city.tif", "landcover.tif", tile_px=1024, overlap_px=256)

    A run that ends early, however it ends, leaves TARGET.part and TARGET.journal; the same call goes on from there.

    Args:
        segmenter: A Segmenter, or what `Segmenter.load` takes.
        source: Anything GDAL opens, a URL as /vsicurl/https://... too.
        target: The map, a .tif. A file that exists is refused without overwrite, an input always.
        config: How the model is applied.
        inputs: Other files that must not be replaced.
        progress: Called a few times a second.
        settings: Fields of RasterConfig, put over `config`.

    Raises RasterError, ConfigError and OutputError.
    """
    segmenter = Segmenter.of(segmenter)
    config = (config or RasterConfig()).changed(**settings) if settings else config or RasterConfig()
    began = time.monotonic()
    check_targets(str(source), Path(target), config, [*segmenter.files, *inputs])
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
    placed = {} if run.source.area_or_point is None else {"AREA_OR_POINT": run.source.area_or_point}
    metadata = {
        "TIFFTAG_SOFTWARE": "pspnet",
        "CLASSES": json.dumps(run.bands.names),
        "SOURCE": Path(run.source.path).name,
        **placed,
    }
    number = 0
    _check_unchanged(run, store)
    # the map is the last to appear: its name stands for work that is done
    with new_files(target, overwrite=run.config.overwrite, durable=True, after=KEPT) as folder:
        whole = folder / target.name
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
        if polygons is not None:
            watch.stage("polygons")
            with new_file(polygons, overwrite=run.config.overwrite, durable=True, after=KEPT) as areas:
                number = write_polygons(whole, areas, run.bands.names, config.min_area_m2, run.cleaning())
                for stale in stale_files(polygons):
                    stale.unlink(missing_ok=True)
        for stale in stale_files(target):
            stale.unlink(missing_ok=True)
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


def check_targets(source: str, target: Path, config: RasterConfig, inputs: Sequence[str | Path] = ()) -> None:
    """Refuses outputs that cannot or must not be written: they exist, or are the raster, a part of it, or the area.

    inputs: what else is read, the model's file say. Raises ConfigError and OutputError.
    """
    if target.suffix.lower() not in (".tif", ".tiff"):
        raise ConfigError(f"'{target}': the map is a GeoTIFF; its name ends with .tif")
    used = Inputs([source, *parts_of(source), *([config.aoi] if isinstance(config.aoi, Path) else []), *inputs])
    outputs = [target]
    if config.polygons is not None:
        if config.polygons.absolute() == target.absolute():
            raise ConfigError(f"'{target}' would be the map and the polygons; give one of them another name")
        outputs.append(config.polygons)
    for path in outputs:
        check_output(path, inputs=used, overwrite=config.overwrite)
        for stale in dict.fromkeys([*stale_files(path), *([side_file(path)] if path == target else [])]):
            check_output(stale, inputs=used)
            if stale.exists() and not config.overwrite:
                raise OutputError(
                    f"'{stale}' exists; GDAL would take it for a part of '{path.name}'; choose another name, or replace "
                    "it with --overwrite"
                )
    for name in (".part", ".journal"):
        unfinished = target.with_name(target.name + name)
        if used.find(unfinished) is not None:
            raise ConfigError(f"'{unfinished}', where unfinished work is kept, is an input; give the map another name")


def _check_unchanged(run: Run, store: TileStore) -> None:
    """A map of two states of its raster would be wrong without a word."""
    if run.identity()["source_state"] != store.settings.get("source_state"):
        raise RasterError(
            f"'{run.source.path}', or a file that it is made of, changed while it was read. Make the map anew: "
            "repeat the command with overwrite (--overwrite)"
        )
