"""Training data from rasters: images of any bands and type, labels as rasters or vectors of any coordinate system.

    ROOT/images/*.tif, ROOT/labels/*                   labels by the images' names: NAME.tif, NAME.gpkg, NAME.geojson ...
    ROOT/images/*.tif, ROOT/labels.gpkg                or one label file for all (option labels)
    ROOT/train/images, ROOT/train/labels, ROOT/val/... or one folder for each split
    ROOT is a CSV: image,labels[,split]                or any files, paths relative to the CSV
    ROOT is one raster                                 with the option labels
    ROOT/classes.csv                                   code,name,red,green,blue[,ignore]; without it the labels tell

Without split folders and without a split column, blocks of the ground are divided between train and val.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pspnet.config.data import Seed
from pspnet.data.dataset import Dataset, Sample
from pspnet.data.layouts.folder import existing
from pspnet.data.layouts.raster_blocks import Block, block_side, blocks_of, divide, grid_windows, random_window
from pspnet.data.layouts.raster_checks import tell_gaps, tell_grids
from pspnet.data.layouts.raster_files import choose_bands, find_files, raster_splits
from pspnet.data.layouts.raster_tables import BandStatistics, band_statistics, classes_of
from pspnet.errors import ConfigError, DataError, ImageError, LabelError, RasterError, require
from pspnet.georaster.grids import BandReader, Grid, OpenRasters
from pspnet.georaster.labels import LabelSource, RasterLabels, bounds_in, box_text
from pspnet.georaster.vector_labels import VectorLabels, refuse_missed
from pspnet.georaster.vectors import is_vector
from pspnet.georaster.whole import read_bands, read_grid
from pspnet.images.label_images import Holds
from pspnet.labels import IGNORE, LabelSpace
from pspnet.tiling import Window

MIN_LABELLED = 0.02  # share of a random window's pixels that must have a label; else another place is drawn
ATTEMPTS = 20

__all__ = ["RasterWindows", "raster", "raster_splits"]


def raster(
    root: Path,
    split: str = "train",
    *,
    images: str = "images",
    labels: str = "labels",
    classes: str | Path | None = None,
    decode: Holds = "codes",
    class_field: str = "class",
    layer: str | None = None,
    feature_class: str | None = None,
    background: str | None = None,
    area: str | None = None,
    ignored: Sequence[str] = (),
    width_m: float = 0.0,
    bands: Sequence[int] | None = None,
    nodata: float | None = None,
    window_px: int = 512,
    windows: int | None = None,
    sampling: Literal["auto", "random", "grid"] = "auto",
    block_px: int | None = None,
    val_share: float = 0.2,
    seed: Seed = 0,
) -> RasterWindows:
    """Opens a split. images, labels: folders or files below the root. classes: a table; None: classes.csv, or what the
    labels hold. decode: label rasters hold the table's "codes" or its "colours". class_field, layer, feature_class,
    background, area, ignored, width_m: how vectors become labels, as VectorLabels.
    bands: their numbers, from 1; None: all but alpha. nodata: overrides the files'.

    window_px: side of a sample. windows: how many random ones; None: as many as cover the ground twice. sampling: random
    windows for training, a grid of windows otherwise, or always one of them. block_px: side of the blocks that are
    divided between train and val (None: about 5 x 5 a raster). seed: decides both.
    Raises DataError, LabelError and RasterError naming the file, ConfigError for settings that cannot be.
    """
    for name, value, least in (("window_px", window_px, 1), ("windows", windows, 1), ("block_px", block_px, window_px)):
        if value is not None and value < least:
            raise ConfigError(f"{name} = {value}: at least {least}")
    if not 0 < val_share < 1:
        raise ConfigError(f"val_share = {val_share}: a share between 0 and 1, such as 0.2")
    if sampling not in ("auto", "random", "grid"):
        raise ConfigError(f"sampling = {sampling!r}: auto, random or grid")
    root = existing(root)
    files, divided = find_files(root, split, images, labels)
    base = root if root.is_dir() else root.parent
    space = classes_of(
        [label for _, label in files], base, classes, class_field, layer, feature_class, background, ignored, decode
    )
    rasters = []
    for image, label in files:
        grid = read_grid(image)
        source: LabelSource
        if is_vector(label):
            source = VectorLabels(
                label,
                grid.crs,
                space,
                class_field=class_field,
                feature_class=feature_class,
                background=background,
                area=None if area is None else base / area,
                ignored=ignored,
                width_m=width_m,
                layer=layer,
            )
        else:
            source = RasterLabels(label, space, decode)
            if not source.touches(grid):
                raise LabelError(
                    f"'{label}' {box_text(bounds_in(source.grid, grid.crs, str(label)))} does not overlap "
                    f"'{image}' {box_text(grid.bounds)}: left, bottom, right, top, both in the image's "
                    "coordinate system"
                )
        rasters.append((image, grid, source))
    refuse_missed(rasters, files)
    tell_grids(rasters)
    return RasterWindows(
        rasters,
        space,
        None if divided else split,
        split,
        bands,
        nodata,
        window_px,
        windows,
        random=sampling == "random" or (sampling == "auto" and split == "train"),
        block_px=block_px,
        val_share=val_share,
        seed=seed,
    )


class RasterWindows(Dataset):
    """Windows of labelled rasters (a Dataset). What is nodata in an image is IGNORE in the labels and holds the band's
    mean in the image. `band_names` are the file's; `grid(index)` is a window's place on the Earth."""

    def __init__(
        self,
        rasters: Sequence[tuple[Path, Grid, LabelSource]],
        label_space: LabelSpace,
        part: str | None,
        name: str,
        bands: Sequence[int] | None,
        nodata: float | None,
        window_px: int,
        windows: int | None,
        *,
        random: bool,
        block_px: int | None,
        val_share: float,
        seed: int,
    ) -> None:
        self.label_space, self.name, self.seed, self.window_px, self.nodata = label_space, name, seed, window_px, nodata
        self.images = [image for image, _, _ in rasters]
        self.grids = [grid for _, grid, _ in rasters]
        self.labels = [source for _, _, source in rasters]
        self.indexes, self.band_names = choose_bands(self.images, bands)  # of each image: files order them differently
        self.band_numbers = self.indexes[0]
        tell_gaps(self.images, self.indexes, nodata)
        self.bands = len(self.band_names)
        self.band_info = read_bands(self.images[0])
        self.statistics: BandStatistics = band_statistics(self.images, self.indexes, nodata)
        self._open = OpenRasters()
        names = [image.name for image in self.images]
        blocks = [
            Block(number, block.window, self._look(number, block.window))
            for number, grid in enumerate(self.grids)
            for block in blocks_of(
                number, grid.height, grid.width, block_px or block_side(grid.height, grid.width, window_px)
            )
            if self.labels[number].touches(grid.part(block.window))
        ]
        self.blocks = blocks if part is None else divide(blocks, names, part, val_share, seed)
        if not self.blocks:
            raise DataError(
                f"{self.images[0].name} ({name}): no labelled ground is left for this split. "
                "Give a smaller block_px, more images, or an own folder for each split"
            )
        self.windows: list[tuple[int, Window]] | None = None
        if not random:
            self.windows = [
                (block.image, window)
                for block in self.blocks
                for window in grid_windows(block, window_px)
                if self.labels[block.image].touches(self.grids[block.image].part(window))
            ]
        worth = np.array([block.worth for block in self.blocks])
        worth = (
            worth if worth.sum() else np.ones(len(worth))
        )  # nothing was seen from afar; any block may hold something
        self._shares = np.cumsum(worth / worth.sum())
        ground = sum(block.window.height * block.window.width for block in self.blocks)
        self.count = (
            len(self.windows) if self.windows is not None else windows or max(1, round(2 * ground / window_px**2))
        )

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.count:
            raise IndexError(index)
        number, window = self.place(index)
        image, valid = self._read(number, window)
        labels = self._labels(number, window)
        if valid is not None:
            labels[~valid] = IGNORE
        stem = self.images[number].stem
        if sum(path.stem == stem for path in self.images) > 1:
            stem = f"{number}_{stem}"
        name = f"{stem}_{window.top}_{window.left}" + (f"_{index}" if self.windows is None else "")
        return Sample(image.transpose(1, 2, 0), labels, name)

    def place(self, index: int) -> tuple[int, Window]:
        """The image's number and the window of sample `index`; the same at every call."""
        if self.windows is not None:
            return self.windows[index]
        rng = np.random.default_rng([self.seed, index])
        tried: list[tuple[float, int, Window]] = []
        while len(tried) < ATTEMPTS:
            block = self.blocks[
                min(int(np.searchsorted(self._shares, rng.random(), side="right")), len(self.blocks) - 1)
            ]
            window = random_window(block, self.window_px, rng)
            share = 0.0
            if self.labels[block.image].touches(self.grids[block.image].part(window)):
                labels = self._labels(block.image, window)
                _, valid = self._read(block.image, window)
                share = float(((labels != IGNORE) if valid is None else (labels != IGNORE) & valid).mean())
            tried.append((share, block.image, window))
            if share >= MIN_LABELLED:
                break
        best = max(tried, key=lambda one: one[0])
        return best[1], best[2]

    def _look(self, number: int, window: Window) -> float:
        """Share of a block's pixels with data and a label, at 32 x 32 places (labels) and 3 x 3 places (data)."""
        part = self.grids[number].part(window)
        a, b, c, d, e, f = part.transform[:6]
        side = 32
        x, y = window.width / side, window.height / side
        coarse = Grid(part.crs, type(part.transform)(a * x, b * y, c, d * x, e * y, f), side, side)
        try:
            share = float((self.labels[number].read(coarse) != IGNORE).mean())
        except LabelError:  # reported by the sample that it belongs to
            share = 1.0
        places = [
            Window(window.top + int(i * (window.height - 1)), window.left + int(j * (window.width - 1)), 1, 1)
            for i in (0.1, 0.5, 0.9)
            for j in (0.1, 0.5, 0.9)
        ]
        return share * float(np.mean([self._has_data(number, piece) for piece in places]))

    def _has_data(self, number: int, window: Window) -> bool:
        try:
            return self._read(number, window)[1] is None
        except ImageError:
            return True

    def sources(self) -> Iterable[Path]:
        return (*self.images, *(Path(source.path) for source in self.labels))

    def ground(self) -> list[tuple[str, Grid]]:
        return [(str(self.images[b.image]), self.grids[b.image].part(b.window)) for b in self.blocks]

    def grid(self, index: int) -> Grid:
        number, window = self.place(index)
        return self.grids[number].part(window)

    def _labels(self, number: int, window: Window) -> NDArray[np.uint8]:
        try:
            return self.labels[number].read(self.grids[number].part(window))
        except RasterError as error:
            raise LabelError(str(error)) from error

    def _read(self, number: int, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        errors = require("rasterio.errors", "raster")
        path = str(self.images[number])
        try:
            dataset = self._open.get(path)
            return BandReader(dataset, self.indexes[number], self.statistics.mean, self.nodata).read(window)
        except (errors.RasterioIOError, RasterError) as error:
            raise ImageError(
                f"'{path}' cannot be read at rows {window.top} to {window.bottom - 1}, columns {window.left} to "
                f"{window.right - 1}: {error.__cause__ or error}. Copy it again or take it out"
            ) from error
