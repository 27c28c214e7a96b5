"""What the doctor notes of one sample: its faults, and what only the comparison with others can judge."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pspnet.data.dataset import Dataset, Sample
from pspnet.data.faults import Fault
from pspnet.data.fingerprints import Fingerprint, fingerprint
from pspnet.data.sample_check import sample_faults
from pspnet.data.stored_files import oddities_of
from pspnet.errors import DataError, ImageError
from pspnet.images import (
    IMAGE_SUFFIXES,
    LABEL_SUFFIXES,
    image_mode,
    is_raster,
    may_be_transparent,
    read_image,
    read_label_picture,
    read_palette,
    scale_of,
    stores_deep,
)
from pspnet.labels import IGNORE, LabelSpace


@dataclass(frozen=True)
class SampleFacts:
    """What one sample tells. file, label: the paths, or the sample's name. stored: a picture of its own, not a window
    that was drawn from a raster or a scene. size: (height, width). classes: (K,) pixels; ignored: pixels of 255. palette: code of each colour that
    the label file's palette gives to one present code alone. full_scale: what became white of a deep image, 0 for others.
    transparent: pixels that the label file calls transparent, of those with no label and of those that count as a class.
    label_digest: of the labels, 0 where they are of one value or none. oddities: of the image file, by kind."""

    faults: list[Fault]
    file: str = ""
    label: str = ""
    print: Fingerprint | None = None
    digest: int = 0
    stored: bool = False
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    classes: NDArray[np.int64] | None = None
    ignored: int = 0
    palette: dict[tuple[int, int, int], int] = field(default_factory=dict)
    full_scale: int = 0
    transparent: tuple[int, int] = (0, 0)
    label_digest: int = 0
    oddities: dict[str, str] = field(default_factory=dict)


def facts_of(dataset: Dataset, index: int) -> SampleFacts:
    sample, faults = dataset.inspect(index)
    faults = faults or sample_faults(dataset, index, sample)
    if sample is None or faults:
        return SampleFacts(faults)
    space, counts = dataset.label_space, None
    if sample.labels is not None:
        counts = np.bincount(sample.labels.ravel(), minlength=IGNORE + 1)
    return SampleFacts(
        faults,
        str(sample.image_path or sample.name),
        str(sample.label_path or sample.name),
        fingerprint(sample.image),
        hash((sample.image.shape, sample.image.tobytes())),
        sample.image_path is not None,
        (sample.image.shape[0], sample.image.shape[1]),
        _mode(sample),
        None if counts is None else counts[: space.num_classes],
        0 if counts is None else int(counts[IGNORE]),
        _palette_codes(sample.label_path, np.flatnonzero(counts[: space.num_classes]), space)
        if counts is not None
        else {},
        _full_scale(sample),
        _transparent(sample),
        0 if sample.labels is None or not np.ptp(sample.labels) else hash(sample.labels.tobytes()),
        oddities_of(sample),
    )


def _palette_codes(path: Path | None, present: NDArray[np.int64], space: LabelSpace) -> dict[tuple[int, int, int], int]:
    if path is None or path.suffix.lower() not in LABEL_SUFFIXES:
        return {}
    with suppress(DataError):  # a raster that only GDAL reads
        palette = read_palette(path)
        codes = [space.codes[index] for index in present.tolist()]
        if palette is not None and max(codes, default=0) < len(palette):
            colours = [tuple(palette[code].tolist()) for code in codes]
            return {colour: code for colour, code in zip(colours, codes, strict=True) if colours.count(colour) == 1}
    return {}


def _full_scale(sample: Sample) -> int:
    """The 16-bit value that became 255 by the file's own depth; 0 where nothing was scaled."""
    path = sample.image_path
    if path is None or sample.image.dtype != np.uint8 or path.suffix.lower() not in IMAGE_SUFFIXES:
        return 0
    with suppress(DataError):
        if stores_deep(path):
            pixels = read_image(path, bands=None, dtype="native")
            scale = scale_of(pixels)
            scaled_by_file = np.round(pixels.max() * (255.0 / scale)) == sample.image.max()
            return scale if scaled_by_file else 0  # else the option full_scale said what is white
    return 0


def _transparent(sample: Sample) -> tuple[int, int]:
    path, labels = sample.label_path, sample.labels
    if path is None or labels is None or path.suffix.lower() not in LABEL_SUFFIXES:
        return 0, 0
    with suppress(DataError):
        alpha = read_label_picture(path).alpha if may_be_transparent(path) else None
        if alpha is not None and alpha.shape == labels.shape:
            ignored = (alpha == 0) & (labels == IGNORE)
            return int(ignored.sum()), int((alpha == 0).sum() - ignored.sum())
    return 0, 0


def _mode(sample: Sample) -> str:
    """How the image is stored: Pillow's word for a photograph, bands and type for a raster; "" without a file."""
    if sample.image_path is None:
        return ""
    if not is_raster(sample.image_path):
        with suppress(ImageError):  # a format of GDAL's alone
            return image_mode(sample.image_path)
    return f"{sample.image.shape[2]} bands of {sample.image.dtype}"
