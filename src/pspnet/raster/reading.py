"""Windows of a raster, one after the other, read ahead of the network; places without data are skipped unread."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import RasterError, require
from pspnet.georaster.grids import BandReader
from pspnet.predict.windows import WindowView
from pspnet.raster.area_of_interest import inside
from pspnet.raster.source import RasterSource
from pspnet.tiling import Span, Window, spans

Block = tuple[int, int, int, int]  # first row and column, height and width, in pixels of the file


def views(
    source: RasterSource, tile_px: int, overlap_px: int, numbers: range, cache_mb: int, unreadable: set[Block] | None
) -> Generator[WindowView, None, None]:
    """The windows of `source.crop` that may hold data, in these rows of windows; the last of each row always.

    unreadable: blocks that cannot be decoded are added to it and become nodata; None: they raise RasterError. Decoded
    blocks are kept in `cache_mb` megabytes, so that overlapping windows decode each block once.
    """
    rasterio = require("rasterio", "raster")
    columns = list(spans(source.crop.width, tile_px, overlap_px))
    starts, stops = np.array([c.start for c in columns]), np.array([c.stop for c in columns])
    # one decoding thread: with several, GDAL 3.10 reads a broken block as garbage from the second time on
    with (
        rasterio.Env(GDAL_CACHEMAX=cache_mb, GDAL_NUM_THREADS="1", GDAL_HTTP_MAX_RETRY=3, GDAL_HTTP_RETRY_DELAY=1),
        source.open() as dataset,
    ):
        reader = _Reader(source, dataset, unreadable)
        coverage = Coverage(dataset, reader.bands)
        for number, rows in enumerate(spans(source.crop.height, tile_px, overlap_px)):
            if number not in numbers:
                continue
            wanted = np.zeros(len(columns), bool)
            for left, right in coverage.columns(source.crop.top + rows.start, source.crop.top + rows.stop):
                wanted |= (starts < right - source.crop.left) & (stops > left - source.crop.left)
            for index in np.flatnonzero(wanted).tolist():
                yield reader.view(rows, columns[index])
            if not wanted[-1]:
                yield WindowView(rows, columns[-1], None)


class Coverage:
    """Where a raster may hold data, told by its directory alone: blocks that were never written, holes of a mosaic.

    It only speaks where what is missing reads as nodata; elsewhere everything may hold data.
    """

    def __init__(self, dataset: Any, bands: BandReader) -> None:
        self.dataset = dataset
        missing = [dataset.nodatavals[i - 1] or 0 for i in bands.indexes]  # what GDAL reads where nothing was written
        transparent = bands.alpha is not None and not dataset.nodatavals[bands.alpha - 1]
        reads_as_nodata = transparent or all(
            value is not None and (value == gap or (value != value and gap != gap))
            for value, gap in zip(bands.nodata, missing, strict=True)
        )
        kind = dataset.driver if reads_as_nodata else ""
        self.blocks = dataset.block_shapes[0] if kind == "GTiff" else None
        self.planes = dataset.indexes if kind == "GTiff" and dataset.interleaving.name == "band" else (1,)
        self.rects = _mosaic(Path(dataset.name)) if kind == "VRT" else None
        self.rows: dict[int, NDArray[np.bool_]] = {}

    def columns(self, top: int, bottom: int) -> list[tuple[int, int]]:
        """Parts (left, right) of the rows top..bottom-1 outside of which there is nothing, in pixels of the file."""
        if self.rects is not None:
            touching = self.rects[(self.rects[:, 0] < bottom) & (self.rects[:, 1] > top)]
            return [(int(left), int(right)) for left, right in np.unique(touching[:, 2:], axis=0)]
        if self.blocks is None:
            return [(0, self.dataset.width)]
        height, width = self.blocks
        needed = range(top // height, -(-bottom // height))
        self.rows = {row: self.rows[row] if row in self.rows else self._written(row) for row in needed}
        written: NDArray[np.bool_] = np.any(list(self.rows.values()), axis=0)
        changes = np.flatnonzero(np.diff(written, prepend=False, append=False)).reshape(-1, 2)
        return [(int(a) * width, int(b) * width) for a, b in changes]

    def _written(self, row: int) -> NDArray[np.bool_]:
        """Which blocks of a row of blocks are in the file."""
        assert self.blocks is not None
        count = -(-self.dataset.width // self.blocks[1])
        find = self.dataset.get_tag_item
        return np.array(
            [
                any(find(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=band) is not None for band in self.planes)
                for column in range(count)
            ],
            bool,
        )


def _mosaic(path: Path) -> NDArray[np.float64] | None:
    """(N, 4) top, bottom, left, right of a mosaic's parts; None for a VRT that computes something else, or that this
    parser cannot read: GDAL's takes more (a bare &, words for numbers), and then everything may hold data."""
    try:
        return _parts_of(ElementTree.parse(path).getroot()) if path.is_file() else None
    except Exception:  # whatever its text makes the parser raise
        return None


def _parts_of(root: ElementTree.Element) -> NDArray[np.float64] | None:
    if root.get("subClass") is not None:
        return None
    rects = []
    for band in root.iter("VRTRasterBand"):
        if band.get("subClass") is not None:
            return None
        for part in band:
            if not part.tag.endswith("Source"):
                continue
            rectangle = part.find("DstRect")
            if part.tag not in ("SimpleSource", "ComplexSource") or rectangle is None:
                return None
            x, y, wide, high = (float(rectangle.get(key, "nan")) for key in ("xOff", "yOff", "xSize", "ySize"))
            rects.append((np.floor(y), np.ceil(y + high), np.floor(x), np.ceil(x + wide)))
    bounds: NDArray[np.float64] = np.array(rects, np.float64).reshape(-1, 4)
    return np.unique(bounds, axis=0) if np.isfinite(bounds).all() else None


class _Reader:
    """Reads one window after the other, in the thread that opened the dataset."""

    def __init__(self, source: RasterSource, dataset: Any, unreadable: set[Block] | None) -> None:
        self.source, self.dataset, self.unreadable = source, dataset, unreadable
        self.bands = source.reader(dataset)
        self.error = require("rasterio.errors", "raster").RasterioIOError

    def view(self, rows: Span, columns: Span) -> WindowView:
        crop = self.source.crop
        here = Window(rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start)
        window = Window(crop.top + here.top, crop.left + here.left, here.height, here.width)
        wanted = None if self.source.area is None else inside(self.source.area, self.source.grid.part(here))
        if wanted is not None and not wanted.any():
            return WindowView(rows, columns, None)
        try:
            pixels, valid = self.bands.read(window)
        except self.error as error:
            if self.unreadable is None:
                raise RasterError(
                    f"'{self.source.path}' cannot be read at rows {window.top} to {window.bottom - 1}, columns "
                    f"{window.left} to {window.right - 1}: {_reason(error)}. Copy the file again, or give skip_errors "
                    "(--skip-errors) to leave such blocks out; what was finished is kept and will be used"
                ) from error
            pixels, valid = self._around(window)
        if wanted is not None:
            valid = wanted if valid is None else valid & wanted
        if valid is not None and not valid.any():
            return WindowView(rows, columns, None)
        return WindowView(rows, columns, pixels, valid)

    def _around(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """As `BandReader.read`, block by block; blocks that cannot be decoded are noted and have no data."""
        assert self.unreadable is not None
        pixels: NDArray[Any] = np.empty((len(self.bands.indexes), window.height, window.width), self.bands.dtype)
        pixels[:] = self.bands.fill[:, None, None]
        valid = np.zeros((window.height, window.width), bool)
        high, wide = self.dataset.block_shapes[self.bands.indexes[0] - 1]
        for top in range(window.top // high * high, window.bottom, high):
            for left in range(window.left // wide * wide, window.right, wide):
                first, start = max(top, window.top), max(left, window.left)
                part = Window(
                    first, start, min(top + high, window.bottom) - first, min(left + wide, window.right) - start
                )
                try:
                    values, known = self.bands.read(part)
                except self.error:
                    self.unreadable.add(
                        (top, left, min(high, self.dataset.height - top), min(wide, self.dataset.width - left))
                    )
                    continue
                inner = Window(part.top - window.top, part.left - window.left, part.height, part.width).slices
                pixels[:, *inner] = values
                valid[inner] = True if known is None else known
        return pixels, valid


def _reason(error: Exception) -> str:
    """GDAL's own words: rasterio's 'Read failed. See previous exception for details.' has them as its cause."""
    return str(error.__cause__ or error).rstrip(".")
