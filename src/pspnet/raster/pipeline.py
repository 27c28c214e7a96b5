"""A model applied to rows of a raster: windows are read, seen, blended and written at the same time.

Three threads: one reads (GDAL), one computes and blends, this one cuts tiles, compresses and writes. Memory
holds a few windows, the last rows of a row of windows, and one row of tiles: O(width x tile), whatever the height.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.config.raster import RasterConfig
from pspnet.errors import ConfigError
from pspnet.georaster.parts import state_of
from pspnet.machine import give_memory_back
from pspnet.predict.segmenter import Segmenter
from pspnet.predict.windows import ahead, blended_pieces
from pspnet.raster.outline_cleaning import Cleaning
from pspnet.raster.output_bands import MapBands
from pspnet.raster.progress import Watch
from pspnet.raster.reading import Block, views
from pspnet.raster.source import RasterSource, examine
from pspnet.raster.tile_store import TileStore
from pspnet.raster.writing import TileWriter
from pspnet.tiling import Window, spans

Values = NDArray[np.uint8]
# settings that do not change a map's pixels: unfinished work may be continued with others
FREE = {
    "overwrite",
    "skip_errors",
    "cache_mb",
    "batch_size",
    "min_area_m2",
    "polygons",
    "simplify_m",
    "fill_holes_m2",
    "regularize",
}


@dataclass(frozen=True)
class Run:
    """One raster, one model, one map."""

    segmenter: Segmenter
    source: RasterSource
    config: RasterConfig
    bands: MapBands

    @classmethod
    def of(cls, segmenter: Segmenter, source: str | Path, config: RasterConfig) -> Run:
        """Looks at the raster. Raises RasterError and ConfigError as `examine` and `MapBands.of` do."""
        card, config = segmenter.card, fitted(config, segmenter)
        source_facts = examine(source, config, card, segmenter.mean)
        run = cls(segmenter, source_facts, config, MapBands.of(config, card.label_space))
        run.cleaning()  # a class that the map has not is found out before the work
        return run

    def cleaning(self) -> Cleaning | None:
        """What is done to the polygons; None where they stay as the pixels are."""
        config = self.config
        return Cleaning.of(config.simplify_m, config.fill_holes_m2, config.regularize, self.bands.names)

    @property
    def height(self) -> int:
        return self.source.grid.height

    @property
    def width(self) -> int:
        return self.source.grid.width

    def identity(self) -> dict[str, Any]:
        """What decides a map's pixels. Unfinished work of a run with another identity is never continued."""
        local = Path(self.source.path)
        crop, area = self.source.crop, self.source.area
        return {
            "source": str(local.absolute()) if local.is_file() else self.source.path,
            "source_state": state_of(self.source.path),
            "crop": [crop.top, crop.left, crop.height, crop.width],
            "bands": list(self.source.indexes),
            "area": None if area is None else hashlib.sha256(area.wkb).hexdigest(),
            "with_confidence": self.bands.confidence,
            "model": self.segmenter.fingerprint(),
            **self.config.model_dump(mode="json", exclude=FREE | {"bands", "confidence"}),
        }


def fitted(config: RasterConfig, segmenter: Segmenter) -> RasterConfig:
    """The settings as a graph of another project wants them: windows of the one size that it takes, where it takes one only.

    Raises ConfigError for windows that it cannot take, and for a confidence that a graph without probabilities has not.
    """
    about = segmenter.card.provenance.get("about")  # of a foreign graph its settings; of models of ours a sentence
    if isinstance(about, Mapping) and about.get("output") == "labels":
        asked = [name for name in ("confidence", "entropy", "probabilities", "unsure_below") if getattr(config, name)]
        if asked:
            raise ConfigError(f"{asked[0]}: this model gives labels without probabilities; leave it out")
    fixed: tuple[int, int] | None = getattr(segmenter.engine, "fixed_px", None)
    if fixed is None:
        return config
    if fixed[0] != fixed[1]:
        raise ConfigError(f"the model takes images of {fixed[1]} x {fixed[0]} px only; windows of a raster are square")
    if "tile_px" not in config.model_fields_set:
        overlap = config.overlap_px if "overlap_px" in config.model_fields_set else min(256, fixed[0] // 4)
        return config.changed(tile_px=fixed[0], overlap_px=overlap)
    if config.tile_px > fixed[0]:
        raise ConfigError(f"tile_px = {config.tile_px}: the model takes images of {fixed[0]} x {fixed[0]} px only")
    return config


def classify(run: Run, store: TileStore, rows: range, watch: Watch) -> TileWriter:
    """Stores the tiles of these rows of the map, from where the store's last commit ended.

    rows: whole rows of tiles; the last may end with the map. Raises RasterError for what cannot be read or written.
    """
    unreadable: set[Block] = {(a, b, c, d) for a, b, c, d in store.state.get("unreadable", [])}
    writer = TileWriter(
        store,
        run.height,
        run.width,
        rows,
        len(run.bands.descriptions),
        run.config.compression_level,
        threads=min(4, os.cpu_count() or 1),
    )
    pieces = _pieces(run, range(writer.rows, rows.stop), unreadable)
    try:
        for window, values in pieces:
            if values is not None:
                writer.put(window, values)
            if window.right == run.width:
                writer.finish(window.bottom, unreadable=sorted(unreadable))
                give_memory_back()  # without this, 9,000 rows of windows of 20 MB left 120 MB of holes in the heap
            watch.saw(window)
    finally:
        pieces.close()
        writer.close()
    return writer


def _pieces(run: Run, rows: range, unreadable: set[Block]) -> Generator[tuple[Window, Values | None], None, None]:
    """Finished rectangles that touch these rows, (bands, h, w) or None without data, from top to bottom.

    The row of windows before the first is computed, too: its last pixels are blended into the first ones needed.
    """
    config = run.config
    batch = config.batch_size or run.segmenter.batch_windows
    lines = spans(run.height, config.tile_px, config.overlap_px)
    needed = [i for i, line in enumerate(lines) if line.core_stop > rows.start and line.core_start < rows.stop]
    if not needed:  # a run that was stopped while it finished the file
        return
    read = views(
        run.source,
        config.tile_px,
        config.overlap_px,
        range(max(needed[0] - 1, 0), needed[-1] + 1),
        config.cache_mb,
        unreadable if config.skip_errors else None,
    )

    def seen() -> Generator[tuple[Window, Values | None], None, None]:
        windows = ahead(read, 2 * batch)
        try:
            for piece in blended_pieces(windows, run.segmenter.window_probabilities, config.overlap_px, batch):
                if piece.probabilities is None or piece.core.bottom <= rows.start:
                    yield piece.core, None
                    continue
                done = piece.core, run.bands.reduce(piece.probabilities, piece.valid)
                del piece  # its probabilities need not wait in memory for the next window's
                yield done
        finally:
            windows.close()

    pieces = ahead(seen(), 8)
    try:
        for window, values in pieces:
            if window.bottom > rows.start:
                yield window, values
    finally:
        pieces.close()
