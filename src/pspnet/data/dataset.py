"""What a data set is: a numbered list of samples, each an image with its label map."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pspnet.data.faults import Fault, fault_of
from pspnet.errors import ConfigError, DataError
from pspnet.labels import LabelSpace

if TYPE_CHECKING:
    from pspnet.georaster.bands import BandInfo
    from pspnet.georaster.grids import Grid


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


Ground = tuple[str, "Grid"]  # what messages call a piece of ground, and where it lies


@runtime_checkable
class Dataset(Protocol):
    """Any data set: every layout in this package, every view of one, and a class of a user's own.

    A class of your own needs label_space, bands, `__len__` and `__getitem__`; derive it from Dataset and the rest has
    the defaults below. Where it does not, `as_dataset` supplies them.

    name: what messages call it. band_names: one for each band; empty where nobody named them. band_numbers: theirs in the
    files, from 1; empty for photographs. band_info: what the first raster says of its bands, None for photographs. full_scale: what is
    white in deep photographs that are read as 8 bits, None where nobody said it. faults: what its listing found wrong,
    before any file was decoded.
    """

    label_space: LabelSpace
    bands: int
    name: str = ""
    band_names: tuple[str, ...] = ()
    band_numbers: tuple[int, ...] = ()
    band_info: BandInfo | None = None
    full_scale: int | None = None
    faults: tuple[Fault, ...] = ()

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample:
        """Decodes sample `index`, 0 <= index < len. Raises ImageError or LabelError naming the file."""
        ...

    def grid(self, index: int) -> Grid | None:
        """Where sample `index` lies on the Earth; None where it has no place."""
        return None

    def ground(self) -> Sequence[Ground]:
        """The ground that samples are taken from, as far as it is known without reading one: names and grids."""
        return ()

    def sources(self) -> Iterable[Path]:
        """The files that samples are read from, as far as they are known without reading one."""
        return ()

    def inspect(self, index: int) -> tuple[Sample | None, list[Fault]]:
        """Sample `index` and every fault of its files; the sample is None where there is one."""
        try:
            return self[index], []
        except DataError as error:
            return None, [fault_of(error, f"sample {index}")]


@runtime_checkable
class GivenDataset(Protocol):
    """What a class of a user's own must have; `as_dataset` supplies the rest. Every Dataset has it."""

    label_space: LabelSpace
    bands: int

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


def as_dataset(given: GivenDataset) -> Dataset:
    """`given` itself where it has all that a Dataset has, else `given` with the defaults of what it lacks.

    The one door for data sets of a user's own: behind it nobody asks what a data set can do. Raises ConfigError for what
    is no data set at all: a list of pairs, a loader.
    """
    lacking = [name for name in ("label_space", "bands", "__len__", "__getitem__") if not hasattr(given, name)]
    if lacking:
        raise ConfigError(
            f"a {type(given).__name__} is no data set: it has no {', '.join(lacking)}. Derive a class from pspnet.data.Dataset "
            "that says its classes (label_space = LabelSpace(names)) and bands, and whose samples are Sample(image, labels, name)"
        )
    return given if isinstance(given, Dataset) else _Completed(given)


class _Completed(Dataset):
    """A class of a user's own, completed (a Dataset)."""

    def __init__(self, given: Any) -> None:
        self.given = given
        self.label_space, self.bands = given.label_space, given.bands
        self.name = str(getattr(given, "name", "") or type(given).__name__)
        self.band_names = tuple(getattr(given, "band_names", None) or ())
        self.band_numbers = tuple(getattr(given, "band_numbers", None) or ())
        self.band_info = getattr(given, "band_info", None)
        self.full_scale = getattr(given, "full_scale", None)
        self.faults = tuple(getattr(given, "faults", ()))

    def __len__(self) -> int:
        return len(self.given)

    def __getitem__(self, index: int) -> Sample:
        sample: Sample = self.given[index]
        return sample

    def sources(self) -> Iterable[Path]:
        given_sources = getattr(self.given, "sources", None)
        return () if given_sources is None else given_sources()

    def ground(self) -> Sequence[Ground]:
        given_ground = getattr(self.given, "ground", None)
        return () if given_ground is None else given_ground()

    def grid(self, index: int) -> Grid | None:
        given_grid = getattr(self.given, "grid", None)
        return None if given_grid is None else given_grid(index)


def threads_will_read() -> None:
    """To be called before threads take samples.

    rasterio silences its "not georeferenced" warning around each call. Python's list of silenced warnings belongs to the
    process, so in threads one call's end would let another's warning out: it is silenced for good before they begin. Who
    needs a place on the Earth says so in an error of its own.
    """
    warnings.filterwarnings("ignore", message="Dataset has no geotransform")
