"""From finished pieces to the file: tiles as they fill up, overviews, palette, class names, then one rename."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from pspnet.georaster.grids import Grid
from pspnet.labels import Colour
from pspnet.raster.tiff import Level, georeference_tags, write_cog
from pspnet.raster.tile_store import Key, TileStore, writing_to
from pspnet.tiling import Window

NODATA = 255  # of every band: labels end at 254, shares at 100 per cent


class TileWriter:
    """Cuts pieces of any size into square tiles and stores each row of tiles as soon as it is full."""

    def __init__(
        self, store: TileStore, height: int, width: int, rows: range, bands: int, level: int, threads: int
    ) -> None:
        self.store, self.height, self.width, self.bands, self.level = store, height, width, bands, level
        self.rows = int(store.state.get("rows", rows.start))  # the first row of pixels that is not committed
        self.stop = rows.stop
        self.counts: NDArray[np.int64] = np.array(store.state.get("counts", [0] * 256), np.int64)
        self.open: dict[tuple[int, int], NDArray[np.uint8]] = {}  # (row, column) of the tile -> (bands, block, block)
        self.pool = ThreadPoolExecutor(threads)  # zlib releases the interpreter's lock

    def put(self, window: Window, values: NDArray[np.uint8]) -> None:
        """(bands, h, w) at a place in the map. Rows that are committed already, or not asked for, are left out."""
        block = self.store.block_px
        for row in range(max(window.top, self.rows) // block, -(-min(window.bottom, self.stop) // block)):
            for column in range(window.left // block, -(-window.right // block)):
                top, left = max(row * block, window.top), max(column * block, window.left)
                part = values[
                    :,
                    top - window.top : (row + 1) * block - window.top,
                    left - window.left : (column + 1) * block - window.left,
                ]
                tile = self.open.get((row, column))
                if tile is None:
                    tile = self.open[row, column] = np.full((self.bands, block, block), NODATA, np.uint8)
                y, x = top - row * block, left - column * block
                tile[:, y : y + part.shape[1], x : x + part.shape[2]] = part

    def finish(self, rows: int, **state: Any) -> None:
        """Everything above `rows` has been put: stores the full rows of tiles and commits them."""
        block = self.store.block_px
        full = rows if rows == self.height else min(rows, self.stop) // block * block
        if full <= self.rows:
            return
        done = sorted(key for key in self.open if key[0] * block < full)
        for (row, column), tile in ((key, self.open.pop(key)) for key in done):
            inner = tile[0, : self.height - row * block, : self.width - column * block]
            self.counts += np.bincount(inner.ravel(), minlength=256)
            planes = [band for band in range(self.bands) if (tile[band] != NODATA).any()]
            packed = self.pool.map(lambda band, tile=tile: zlib.compress(tile[band], self.level), planes)
            for band, data in zip(planes, packed, strict=True):
                self.store.put((0, band, row, column), data)
        self.rows = full
        self.store.commit(rows=full, counts=self.counts.tolist(), **state)

    def close(self) -> None:
        self.pool.shutdown()


def build_overviews(store: TileStore, height: int, width: int, effort: int) -> list[Level]:
    """Adds overviews until one tile holds the whole map; labels by mode, further bands by mean, of those with data.

    Works on the tiles that exist, four at a time. Returns all levels, full resolution first.
    """
    block, levels, number = store.block_px, [], 0
    levels.append(_level(store, number, height, width))
    while max(height, width) > block:
        number, height, width = number + 1, -(-height // 2), -(-width // 2)
        for band, row, column in sorted({(b, r // 2, c // 2) for b, r, c in levels[-1].tiles}):
            if (number, band, row, column) in store.places:  # made by a run that was killed at this point
                continue
            large = np.full((2 * block, 2 * block), NODATA, np.uint8)
            for i in (0, 1):
                for j in (0, 1):
                    tile = store.tile((number - 1, band, 2 * row + i, 2 * column + j))
                    if tile is not None:
                        large[i * block : (i + 1) * block, j * block : (j + 1) * block] = tile
            small = halve_labels(large) if band == 0 else halve_shares(large)
            store.put((number, band, row, column), zlib.compress(small.tobytes(), effort))
        store.commit()
        levels.append(_level(store, number, height, width))
    return levels


def halve_labels(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(2h, 2w) -> (h, w): of each 2 x 2, the value that occurs most often; nodata only where all four are."""
    a, b, c, d = labels[::2, ::2], labels[::2, 1::2], labels[1::2, ::2], labels[1::2, 1::2]
    first = np.where(a != NODATA, a, np.where(b != NODATA, b, np.where(c != NODATA, c, d)))
    majority = np.where((c == d) & (c != NODATA), c, first)
    majority = np.where(((b == c) | (b == d)) & (b != NODATA), b, majority)
    return np.where(((a == b) | (a == c) | (a == d)) & (a != NODATA), a, majority)


def halve_shares(shares: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(2h, 2w) -> (h, w): of each 2 x 2, the mean of those with data."""
    parts = np.stack([shares[i::2, j::2] for i in (0, 1) for j in (0, 1)])
    known = parts != NODATA
    count = known.sum(axis=0, dtype=np.uint16)
    total = np.where(known, parts, 0).sum(axis=0, dtype=np.uint16)
    return np.where(count > 0, (total + count // 2) // np.maximum(count, 1), NODATA).astype(np.uint8)


def write_map(
    path: Path,
    store: TileStore,
    levels: Sequence[Level],
    grid: Grid,
    descriptions: Sequence[str],
    names: Mapping[int, str],
    colours: Sequence[Colour],
    counts: NDArray[np.int64],
    metadata: Mapping[str, str],
) -> None:
    """Writes the GeoTIFF and, beside it, what GDAL keeps in a file of its own (.aux.xml): class names with counts.

    names: pixel value -> class; colours: of each value, from 0.
    """
    tags = georeference_tags(grid, descriptions, NODATA, metadata)
    with writing_to(path):
        write_cog(path, store.file, levels, len(descriptions), store.block_px, tags, colours)
        with open(path, "r+b") as file:
            os.fsync(file.fileno())
        side_file(path).write_text(attribute_table(names, colours, counts), encoding="utf-8")


def side_file(path: Path) -> Path:
    """Where GDAL looks for what does not fit in a TIFF."""
    return path.with_name(path.name + ".aux.xml")


def stale_files(path: Path) -> list[Path]:
    """What an earlier file of this name may have left beside it and GDAL or SQLite would take for the new one's: a mask
    that hides its pixels, overviews of other labels, a journal."""
    endings = ("-wal", "-shm", "-journal") if path.suffix.lower() == ".gpkg" else (".msk", ".ovr", ".msk.ovr")
    return [path.with_name(path.name + ending) for ending in endings]


def attribute_table(names: Mapping[int, str], colours: Sequence[Colour], counts: NDArray[np.int64]) -> str:
    """GDAL's raster attribute table and category names, as QGIS and ArcGIS read them from an .aux.xml file."""
    # name, type (0 whole number, 2 text), usage (5 value, 1 count, 2 name, 6 red, 7 green, 8 blue): gdal.h
    fields = [("Value", 0, 5), ("Count", 1, 1), ("Class", 2, 2), ("Red", 0, 6), ("Green", 0, 7), ("Blue", 0, 8)]
    lines = ["<PAMDataset>", '  <PAMRasterBand band="1">', '    <GDALRasterAttributeTable tableType="thematic">']
    for index, (title, kind, usage) in enumerate(fields):
        lines.append(
            f'      <FieldDefn index="{index}"><Name>{title}</Name><Type>{kind}</Type><Usage>{usage}</Usage>'
            "</FieldDefn>"
        )
    for index, (value, name) in enumerate(sorted(names.items())):
        row = [value, int(counts[value]), escape(name), *colours[value]]
        lines.append(f'      <Row index="{index}">' + "".join(f"<F>{cell}</F>" for cell in row) + "</Row>")
    lines += ["    </GDALRasterAttributeTable>", "    <CategoryNames>"]
    lines += [f"      <Category>{escape(names.get(value, ''))}</Category>" for value in range(max(names) + 1)]
    lines += ["    </CategoryNames>", "  </PAMRasterBand>", "</PAMDataset>", ""]
    return "\n".join(lines)


def _level(store: TileStore, number: int, height: int, width: int) -> Level:
    tiles = {_place(key): where for key, where in store.places.items() if key[0] == number}
    return Level(height, width, tiles)


def _place(key: Key) -> tuple[int, int, int]:
    return key[1], key[2], key[3]
