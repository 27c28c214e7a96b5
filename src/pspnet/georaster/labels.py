"""Labels of a raster: another raster or a vector file, in any coordinate system, resolution and extent.

Both answer one question: which label has each pixel of a grid? A label raster is sampled at the pixels' centres; a
vector file is burned (vector_labels.py). What lies outside of it, or where it has no data, is IGNORE.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import LabelError, RasterError, require
from pspnet.georaster.grids import Grid, OpenRasters, colours_of, grid_of, is_lossy, turns_of
from pspnet.images.label_images import Holds, LabelPicture, labels_of, whole_numbers
from pspnet.labels import IGNORE, LabelSpace
from pspnet.tiling import Window


@runtime_checkable
class LabelSource(Protocol):
    """Labels that lie somewhere on the Earth, in the file `path`."""

    path: str
    label_space: LabelSpace

    def read(self, grid: Grid) -> NDArray[np.uint8]:
        """(grid.height, grid.width) labels 0..K-1 and IGNORE. Raises LabelError for codes without a class."""
        ...

    def touches(self, grid: Grid) -> bool:
        """Whether a label may lie on the grid; told without reading pixels."""
        ...


class RasterLabels:
    """A raster as labels. The nearest label pixel's value counts: labels are never mixed.

    holds: one band of the class table's codes, or its colours (three bands, or one with a palette).
    """

    def __init__(self, path: str | Path, label_space: LabelSpace, holds: Holds = "codes") -> None:
        self.path, self.label_space, self.holds, self._open = str(path), label_space, holds, OpenRasters()
        dataset = self._open.get(self.path)
        self.grid = grid_of(dataset)
        classes = dict(zip(label_space.codes, label_space.names, strict=True))
        nodata = dataset.nodata if holds == "codes" else None
        # what the class table calls a class and the file 'no data', such as "0 (background)"; "" for nothing
        self.hidden_class = f"{nodata:g} ({classes[nodata]})" if nodata in classes else ""
        kinds = {np.dtype(kind).kind for kind in dataset.dtypes}
        if not kinds <= set("iubf"):
            raise LabelError(f"'{self.path}' holds {dataset.dtypes[0]} values; labels are whole numbers")
        if dataset.subdatasets:
            inside = ", ".join(dataset.subdatasets[:4])
            raise LabelError(
                f"'{self.path}' holds several rasters, and labels are one; write the one that is meant: {inside}"
            )
        if is_lossy(dataset):
            raise LabelError(
                f"'{self.path}' is compressed in a way that alters values ({dataset.driver}); store labels without loss: GeoTIFF "
                "with DEFLATE or LZW"
            )

    def touches(self, grid: Grid) -> bool:
        bounds = bounds_in(self.grid, grid.crs, self.path)
        return any(_meet(bounds, turn.bounds) for turn in turns_of(grid))

    def read(self, grid: Grid) -> NDArray[np.uint8]:
        rasterio = require("rasterio", "raster")
        try:
            dataset = self._open.get(self.path)
            if grid.crs == self.grid.crs:
                values, known = _sampled(dataset, self.grid, grid)
                for turn in turns_of(grid)[1:]:
                    more, there = _sampled(dataset, self.grid, turn)
                    values[:, there & ~known] = more[:, there & ~known]
                    known |= there
            else:
                _same_kind(self.grid, grid, self.path)
                vrt = require("rasterio.vrt", "raster")
                with vrt.WarpedVRT(
                    dataset,
                    crs=grid.crs,
                    transform=grid.transform,
                    width=grid.width,
                    height=grid.height,
                    add_alpha=True,
                ) as warped:
                    values, known = warped.read(list(range(1, dataset.count + 1))), warped.dataset_mask() > 0
        except rasterio.errors.RasterioIOError as error:
            raise LabelError(f"'{self.path}' cannot be read: {error.__cause__ or error}. Copy it again") from error
        labels = np.full(known.shape, IGNORE, np.uint8)
        if known.any():
            picture = label_picture(dataset, values[:, known][:, None], self.path)
            labels[known] = labels_of(picture, self.label_space, self.holds, self.path)[0]
        return labels


def label_picture(dataset: Any, values: NDArray[Any], path: str) -> LabelPicture:
    """(bands, h, w) values of a raster as a label picture: one band of codes, with its palette, or three of colours; a
    further band is alpha. Raises LabelError for another number of bands, and for fractions."""
    if values.dtype.kind == "f":
        values = whole_numbers(values, path)
    kinds = colours_of(dataset)
    alpha = values[kinds.index("alpha")].astype(np.uint8) if "alpha" in kinds else None
    plain = values[[i for i, kind in enumerate(kinds) if kind != "alpha"]]
    if len(plain) == 1:
        palette = None
        if kinds[0] == "palette":
            colours = dataset.colormap(1)
            palette = np.array([colours.get(i, (0, 0, 0))[:3] for i in range(max(colours) + 1)], np.uint8)
        return LabelPicture(plain[0], alpha, palette)
    if len(plain) != 3:
        raise LabelError(
            f"'{path}' has {len(plain)} bands; labels are one band of codes, or three of colours. Is it an image? Or take "
            "the band with the codes: gdal_translate -b 1 IN.tif OUT.tif"
        )
    return LabelPicture(plain.transpose(1, 2, 0), alpha)


def _sampled(dataset: Any, own_grid: Grid, grid: Grid) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """(bands, h, w) values under the centres of a grid in the same coordinate system, and where there are any."""
    rows, columns = np.mgrid[: grid.height, : grid.width]
    # a centre that lies on a border between two label pixels up to rounding belongs to the one after it, everywhere
    x, y = own_grid.to_pixels(*grid.to_map(columns + 0.5, rows + 0.5))
    columns, rows = np.floor(x + 1e-6).astype(np.int64), np.floor(y + 1e-6).astype(np.int64)
    known = (rows >= 0) & (rows < own_grid.height) & (columns >= 0) & (columns < own_grid.width)
    values: NDArray[Any] = np.zeros((dataset.count, *known.shape), dataset.dtypes[0])
    if not known.any():
        return values, known
    top, left = int(rows[known].min()), int(columns[known].min())
    source_window = Window(top, left, int(rows[known].max()) - top + 1, int(columns[known].max()) - left + 1)
    around = ((source_window.top, source_window.bottom), (source_window.left, source_window.right))
    at = rows[known] - top, columns[known] - left
    values[:, known] = dataset.read(window=around)[:, at[0], at[1]]
    known[known] = dataset.read_masks(1, window=around)[at] > 0
    return values, known


def bounds_in(grid: Grid, crs: Any, name: str) -> tuple[float, float, float, float]:
    """A grid's bounds in another coordinate system."""
    if grid.crs == crs:
        return grid.bounds
    _same_kind(grid, Grid(crs, grid.transform, 1, 1), name)
    warp = require("rasterio.warp", "raster")
    left, bottom, right, top = warp.transform_bounds(grid.crs, crs, *grid.bounds)
    return left, bottom, right, top


def _same_kind(one: Grid, two: Grid, name: str) -> None:
    if (one.crs is None) != (two.crs is None):
        known, unknown = ("has one", "image has none") if two.crs is None else ("has none", "image has one")
        raise RasterError(
            f"'{name}' cannot be placed on its image: of a coordinate system, it {known}, the {unknown}. "
            "Give both the same"
        )


def _meet(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def box_text(bounds: tuple[float, float, float, float]) -> str:
    """A box in a message."""
    return "(" + ", ".join(f"{value:g}" for value in bounds) + ")"
