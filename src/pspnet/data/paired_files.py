"""Data sets that are pairs of files: an image, and a label map that a decoder turns into 0..K-1 and 255."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pspnet.data.dataset import Dataset, Ground, Sample
from pspnet.data.faults import Fault, fault_of
from pspnet.data.image_files import ImageReading, image_files
from pspnet.data.matching import Pair
from pspnet.errors import ConfigError, DataError, LabelError, parsing
from pspnet.georaster.grids import Grid
from pspnet.georaster.whole import grid_in
from pspnet.images import read_label, read_labels
from pspnet.labels import IGNORE, Colour, LabelSpace

LabelDecoder = Callable[[Path, str, LabelSpace], NDArray[np.uint8]]  # (label file, the pair's name, classes) -> labels


def decode_codes(path: Path, name: str, label_space: LabelSpace) -> NDArray[np.uint8]:
    """A label file whose pixels are the class table's codes (grey values or palette indices)."""
    return read_labels(path, label_space, "codes")


def decode_colours(path: Path, name: str, label_space: LabelSpace) -> NDArray[np.uint8]:
    """A label file whose pixels are the class table's colours."""
    return read_labels(path, label_space, "colours")


DECODERS: Mapping[str, LabelDecoder] = {"codes": decode_codes, "colours": decode_colours}


def decoder(name: str, label_space: LabelSpace) -> LabelDecoder:
    """The decoder called "codes" or "colours". Raises ConfigError for another name, or where colours are ambiguous."""
    if name not in DECODERS:
        raise ConfigError(f"decode = {name!r}: labels hold {' or '.join(DECODERS)}")
    if name == "colours":
        owner: dict[Colour, str] = {}
        for class_name, colour in zip(label_space.names, label_space.colours, strict=True):
            if colour in owner:
                raise ConfigError(
                    f"decode = 'colours': {owner[colour]} and {class_name} both have the colour {colour}; "
                    "give each class its own in the class table"
                )
            owner[colour] = class_name
    return DECODERS[name]


class PairedFiles(Dataset):
    """A data set of pairs (a Dataset). `faults` holds what was wrong with the listing: pairs that lack a half, ...

    reading: how images are read; `read_as` gives the same data set read in another way. What is nodata in a raster is IGNORE in its labels.
    """

    def __init__(
        self,
        name: str,
        pairs: Sequence[Pair],
        label_space: LabelSpace,
        *,
        decode: LabelDecoder = decode_codes,
        reading: ImageReading = ImageReading(),
        faults: Iterable[Fault] = (),
    ) -> None:
        self.name = name
        self.pairs = tuple(pairs)
        self.label_space = label_space
        self._read_as(reading)
        self.faults = tuple(faults)
        self.decode = decode

    def read_as(self, reading: ImageReading) -> PairedFiles:
        """A copy whose images are read in another way. Raises ConfigError and ImageError, as `image_files`."""
        other = copy.copy(self)
        other._read_as(reading)
        return other

    def _read_as(self, reading: ImageReading) -> None:
        self.images = image_files([pair.image for pair in self.pairs[:1]], reading)
        self.bands, self.band_names = self.images.bands, self.images.band_names
        self.band_numbers, self.band_info = self.images.band_numbers, self.images.band_info
        self.full_scale = self.images.full_scale

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        pair = self.pairs[index]
        image, valid = self.images.read(pair.image)
        labels = self._labels(pair)
        if labels is not None and labels.shape != image.shape[:2]:
            raise _size_error(pair, image.shape[:2], labels.shape)
        if labels is not None and valid is not None:
            labels[~valid] = IGNORE
        return Sample(image, labels, pair.name, pair.image, pair.label)

    def _labels(self, pair: Pair) -> NDArray[np.uint8] | None:
        if pair.label is None:
            return None
        with parsing(pair.label, LabelError):
            return self.decode(pair.label, pair.name, self.label_space)

    def grid(self, index: int) -> Grid | None:
        return grid_in(self.pairs[index].image)

    def ground(self) -> list[Ground]:
        grids = ((str(pair.image), grid_in(pair.image)) for pair in self.pairs)
        return [(name, grid) for name, grid in grids if grid is not None]

    def sources(self) -> Iterable[Path]:
        return (path for pair in self.pairs for path in (pair.image, pair.label) if path is not None)

    def inspect(self, index: int) -> tuple[Sample | None, list[Fault]]:
        pair, faults = self.pairs[index], []
        image = valid = labels = None
        try:
            image, valid = self.images.read(pair.image)
        except DataError as error:
            faults.append(fault_of(error, str(pair.image)))
        try:
            labels = self._labels(pair)
        except DataError as error:
            faults.append(fault_of(error, str(pair.label)))
        # a file with a wrong code may have a wrong size too: both are told at once
        size = labels.shape if labels is not None else _stored_size(pair)
        if image is not None and size is not None and size != image.shape[:2]:
            faults.append(fault_of(_size_error(pair, image.shape[:2], size), str(pair.label)))
        if image is None or faults:
            return None, faults
        if labels is not None and valid is not None:
            labels[~valid] = IGNORE
        return Sample(image, labels, pair.name, pair.image, pair.label), []


def _stored_size(pair: Pair) -> tuple[int, ...] | None:
    """(height, width) of a label file whose content was refused; None where it is not even a picture."""
    try:
        return read_label(pair.label).shape[:2] if pair.label else None
    except DataError:
        return None


def _size_error(pair: Pair, image: tuple[int, ...], label: tuple[int, ...]) -> LabelError:
    turned = (
        "They are turned against each other. Where labels were drawn on the pixels as stored, set the option exif to "
        "false; else draw them on the picture as a viewer shows it"
        if image == label[::-1]
        else "Resize the labels by nearest neighbour, or find the image they were drawn on"
    )
    return LabelError(
        f"'{pair.label}' is {label[1]} x {label[0]} px, its image '{pair.image}' is {image[1]} x {image[0]} px"
        f" (width x height). {turned}"
    )
