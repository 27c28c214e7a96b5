"""What a data set is: a numbered list of samples, each an image with its label map."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pspnet.labels import LabelSpace


@dataclass(frozen=True)
class Sample:
    """One image and its labels, decoded.

    image: (H, W, bands), RGB order or the raster's band order, in its own dtype and value range (convention 1).
    labels: (H, W) uint8, 0..K-1 and 255 = ignore (convention 2); None where a data set has no labels.
    name: unique within the data set; a stem for output files, may contain '/'.
    """

    image: NDArray[Any]
    labels: NDArray[np.uint8] | None
    name: str
    image_path: Path | None = None
    label_path: Path | None = None


@runtime_checkable
class Dataset(Protocol):
    """Any data set. Every layout in this package and `open_dataset` gives one; a user's own class may be one too."""

    label_space: LabelSpace
    bands: int

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample:
        """Decodes sample `index`, 0 <= index < len. Raises ImageError or LabelError naming the file."""
        ...


def threads_will_read() -> None:
    """To be called before threads take samples.

    rasterio silences its "not georeferenced" warning around each call. Python's list of silenced warnings belongs to the
    process, so in threads one call's end would let another's warning out: it is silenced for good before they begin. Who
    needs a place on the Earth says so in an error of its own.
    """
    warnings.filterwarnings("ignore", message="Dataset has no geotransform")
