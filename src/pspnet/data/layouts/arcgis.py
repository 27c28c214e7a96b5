"""ArcGIS's "Classified Tiles": what Export Training Data For Deep Learning writes, read with all its oddities.

    images/000000000.tif (.png .jpg .mrf)  and a world file; images2/ where a second raster was exported too
    labels/000000000.tif                   class values; sometimes in folders named after classes
    map.txt                                pairs, with back-slashes, blanks, repetitions, in any order
    stats.txt, esri_accumulated_stats.json, esri_model_definition.emd     classes, sizes, statistics

The four text files are missing when the tool did not finish: the folders alone are enough. Value 0 is "no class" and is
ignored, unless the export lists a class with the value 0, or lists only one class: then 0 is its background.
Written from Esri's public descriptions and from published exports; no Esri code was read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.config.data import Seed
from pspnet.data.dataset import Dataset, Ground, Sample
from pspnet.data.layouts.arcgis_chips import Chip, divide, exports, pair_up
from pspnet.data.layouts.arcgis_classes import merged_classes
from pspnet.data.layouts.arcgis_metadata import TileMetadata, read_metadata
from pspnet.data.layouts.folder import existing, no_split
from pspnet.errors import DataError, ImageError, LabelError, RasterError, require
from pspnet.georaster.bands import BandInfo
from pspnet.georaster.grids import Grid, grid_of, open_raster
from pspnet.georaster.labels import label_picture
from pspnet.georaster.whole import read_bands, read_whole
from pspnet.images.label_images import labels_of
from pspnet.labels import IGNORE, LabelSpace, read_classes


def classified_tiles(
    root: Path,
    split: str = "train",
    *,
    more: Sequence[str] = (),
    classes: str | Path | None = None,
    background: str | None = None,
    bands: Sequence[int] | None = None,
    val_share: float = 0.2,
    seed: Seed = 0,
) -> ClassifiedTiles:
    """Opens an export, or a folder of exports. more: further exports, paths relative to the root's parent or absolute.

    classes: a table of your own; None: the export's. background: a name for value 0, which is then a class. bands:
    numbers from 1, of both rasters together; None: all but alpha. val_share: share of the ground that is "val"; chips of
    train and val never overlap. Raises DataError and LabelError naming the file, ConfigError for contradicting classes.
    """
    if split not in ("train", "val", "all"):
        raise no_split(root, split, ("train", "val", "all"))
    folders = exports(existing(root))
    for other in more:
        folders += exports(existing(root.parent / other))
    chips = [chip for folder in folders for chip in pair_up(folder)]
    metadata = {folder: read_metadata(folder) for folder in folders}
    if classes is not None:
        space = read_classes(classes)
        tables = dict.fromkeys(folders, space)
    else:
        space, tables = merged_classes(metadata, chips, background)
    chosen = chips if split == "all" else divide(chips, split, val_share, seed)
    if not chosen:
        raise DataError(
            f"'{root}' has {len(chips)} chips, which is too few to hold some out for {split}; use the split all"
        )
    return ClassifiedTiles(f"{root} ({split})", chosen, space, tables, metadata[folders[0]], bands)


def classified_tiles_splits(root: Path) -> tuple[str, ...]:
    """The splits of every export."""
    existing(root)
    return "train", "val"


class ClassifiedTiles(Dataset):
    """Chips with their labels (a Dataset). Nodata in a chip is IGNORE and holds the band's mean.

    tables: each export's own values; its classes are the data set's by name.
    """

    def __init__(
        self,
        name: str,
        chips: Sequence[Chip],
        label_space: LabelSpace,
        tables: Mapping[Path, LabelSpace],
        metadata: TileMetadata,
        bands: Sequence[int] | None,
    ) -> None:
        self.name, self.chips, self.label_space, self.metadata = name, list(chips), label_space, metadata
        self.tables = tables
        infos = [read_bands(path) for path in self.chips[0].images]
        together = [(file, band) for file, info in enumerate(infos) for band in info.plain]
        wanted = list(bands) if bands is not None else list(range(1, len(together) + 1))
        if not wanted or min(wanted) < 1 or max(wanted) > len(together):
            raise DataError(f"bands = {wanted}: '{self.chips[0].images[0]}' has the bands 1 to {len(together)}")
        self._first = infos
        self._places = [together[band - 1] for band in wanted]
        self.bands = len(wanted)
        self.band_numbers = tuple(wanted)
        self.band_info = infos[0]
        self.band_names = _band_names(metadata, infos, len(together), wanted)

    def __len__(self) -> int:
        return len(self.chips)

    def __getitem__(self, index: int) -> Sample:
        chip = self.chips[index]
        image, valid = self._image(chip)
        labels = self._labels(chip)
        if labels.shape != image.shape[:2]:
            raise LabelError(
                f"'{chip.label}' is {labels.shape[1]} x {labels.shape[0]} px, its image '{chip.images[0]}' "
                f"{image.shape[1]} x {image.shape[0]} px. Export the chip again or remove both"
            )
        if valid is not None:
            labels[~valid] = IGNORE
        return Sample(image, labels, chip.name, chip.images[0], chip.label)

    def sources(self) -> Iterable[Path]:
        return (path for chip in self.chips for path in (*chip.images, chip.label))

    def _labels(self, chip: Chip) -> NDArray[np.uint8]:
        folder_table = self.tables[chip.folder]
        labels = read_labels(chip.label, folder_table)
        if folder_table.names == self.label_space.names:
            return labels
        table = np.full(IGNORE + 1, IGNORE, np.uint8)
        table[: folder_table.num_classes] = [self.label_space.index(name) for name in folder_table.names]
        return table[labels]

    def ground(self) -> list[Ground]:
        grids = ((chip.name, self.grid(index)) for index, chip in enumerate(self.chips))
        return [(name, grid) for name, grid in grids if grid is not None and grid.crs is not None]

    def grid(self, index: int) -> Grid | None:
        with open_raster(str(self.chips[index].images[0])) as dataset:
            grid = grid_of(dataset)
        return None if grid.transform.is_identity else grid

    def _image(self, chip: Chip) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        planes: dict[tuple[int, int], NDArray[Any]] = {}
        valid: NDArray[np.bool_] | None = None
        for file, path in enumerate(chip.images):
            bands_read = sorted({band for f, band in self._places if f == file})
            if not bands_read:
                continue
            differences = self._first[file].differences(read_bands(path), bands_read)
            if differences:
                raise ImageError(
                    f"'{path}' has {' and '.join(differences)}, which '{self._first[file].path}', the first chip, has: their "
                    "values cannot be compared. Export the chips again in one go, or put them into an export of their own"
                )
            pixels, known = read_whole(path, bands_read)
            planes |= {(file, band): plane for band, plane in zip(bands_read, pixels, strict=True)}
            if known is not None:
                valid = known if valid is None else valid & known
        shapes = {plane.shape for plane in planes.values()}
        if len(shapes) > 1:
            raise ImageError(f"'{chip.images[-1]}' has another size than '{chip.images[0]}'")
        return np.stack([planes[position] for position in self._places], axis=-1), valid


def _band_names(
    metadata: TileMetadata, infos: Sequence[BandInfo], count: int, wanted: Sequence[int]
) -> tuple[str, ...]:
    """What the export calls its bands, else the chips themselves, else their numbers (`band_N`)."""
    given = [name.strip().lower() for name in metadata.band_names]
    # "Band_1" is a number, not a name: ArcGIS writes it where the raster has none
    if len(given) != count or len(set(given)) < count or all(re.fullmatch(r"band[_ ]?\d+", name) for name in given):
        given = [name for info in infos for name in (info.names[n - 1] for n in info.plain)]
    if len(set(given)) < count:
        given = [""] * count
    return tuple(given[band - 1] or f"band_{band}" for band in wanted)


def read_labels(path: Path, space: LabelSpace) -> NDArray[np.uint8]:
    """A label chip as 0..K-1 and IGNORE. Raises LabelError naming the file."""
    try:
        with open_raster(str(path)) as dataset:
            return labels_of(label_picture(dataset, dataset.read(), str(path)), space, "codes", str(path))
    except RasterError as error:
        raise LabelError(str(error)) from error
    except require("rasterio.errors", "raster").RasterioIOError as error:
        raise LabelError(f"'{path}' cannot be read: {error.__cause__ or error}") from error
