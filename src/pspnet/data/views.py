"""Data sets made of other data sets: joined, a choice of samples, kept in memory or on disk, with other class names.

One base hands on everything that a data set has, so that no view forgets the names of the bands, the faults of the
listing or a sample's place on the Earth. A view says which sample of which part stands behind each of its own; that is
all that the rest follows from. Caching pays where decoding holds the network up: large JPEGs, rasters, many epochs;
augmentation still runs every time.
"""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pspnet.data.dataset import Dataset, GivenDataset, Ground, Sample, as_dataset
from pspnet.data.faults import Fault
from pspnet.errors import ConfigError, DataError, OutputError
from pspnet.files import own_folder, write_bytes

if TYPE_CHECKING:
    from pspnet.georaster.grids import Grid

Cache = Literal["off", "memory", "disk"]
MEMORY_FRACTION = 0.6  # of what is free; the rest is the network's


class View(Dataset):
    """Samples of one or more data sets. `locate` is the one thing that a view must say; one part is looked through."""

    def __init__(self, parts: Sequence[GivenDataset]) -> None:
        self.parts = tuple(as_dataset(part) for part in parts)
        first = self.parts[0]
        self.label_space, self.bands = first.label_space, first.bands
        self.name = ", ".join(dict.fromkeys(part.name for part in self.parts))
        self.band_names, self.band_numbers, self.band_info = first.band_names, first.band_numbers, first.band_info
        self.full_scale = first.full_scale
        self.faults = tuple(fault for part in self.parts for fault in part.faults)

    def locate(self, index: int) -> tuple[Dataset, int]:
        """The part that sample `index` comes from, and its number there."""
        return self.parts[0], index

    def __len__(self) -> int:
        return len(self.parts[0])

    def __getitem__(self, index: int) -> Sample:
        part, number = self.locate(index)
        return part[number]

    def grid(self, index: int) -> Grid | None:
        part, number = self.locate(index)
        return part.grid(number)

    def ground(self) -> list[Ground]:
        return [piece for part in self.parts for piece in part.ground()]

    def sources(self) -> Iterable[Path]:
        return (path for part in self.parts for path in part.sources())

    def inspect(self, index: int) -> tuple[Sample | None, list[Fault]]:
        part, number = self.locate(index)
        return part.inspect(number)


class Joined(View):
    """Data sets end to end. Raises ConfigError where their classes, bands or names of bands differ."""

    def __init__(self, parts: Sequence[GivenDataset]) -> None:
        super().__init__(parts)
        for what, values in (
            ("class tables", {part.label_space.names for part in self.parts}),
            ("numbers of bands", {part.bands for part in self.parts}),
            ("names of bands", {part.band_names for part in self.parts}),
        ):
            if len(values) > 1:
                raise ConfigError(
                    f"data.train_splits: the parts have different {what}: {_shortly(values)}; they cannot be put end to end"
                )
        self._places = [(part, number) for part in self.parts for number in range(len(part))]

    def locate(self, index: int) -> tuple[Dataset, int]:
        return self._places[index]

    def __len__(self) -> int:
        return len(self._places)


class Subset(View):
    """Some samples of a data set, by their numbers, in the order given."""

    def __init__(self, dataset: GivenDataset, indices: Sequence[int]) -> None:
        super().__init__([dataset])
        self.indices = list(indices)

    def locate(self, index: int) -> tuple[Dataset, int]:
        return self.parts[0], self.indices[index]

    def ground(self) -> list[Ground]:
        grids = ((f"sample {number} of {self.name}", self.parts[0].grid(number)) for number in self.indices)
        return [(name, grid) for name, grid in grids if grid is not None]

    def __len__(self) -> int:
        return len(self.indices)


def evenly(dataset: GivenDataset, count: int) -> Subset:
    """At most `count` samples, evenly spread over a data set."""
    return Subset(dataset, range(0, len(dataset), max(1, -(-len(dataset) // count))))


class Renamed(View):
    """A data set in which some classes have other names. names: by the class's code. Raises ConfigError for a code that
    no class has."""

    def __init__(self, dataset: GivenDataset, names: Mapping[int, str]) -> None:
        super().__init__([dataset])
        space = self.label_space
        unknown = sorted(set(names) - set(space.codes))
        if unknown:
            raise ConfigError(
                f"class_mapping names the value {unknown[0]}; the chips have {', '.join(map(str, space.codes))}"
            )
        self.label_space = replace(
            space, names=tuple(names.get(code, name) for code, name in zip(space.codes, space.names, strict=True))
        )


def cached(dataset: Any, cache: Cache, folder: Path | None = None) -> Any:
    """The same data set, decoded once; with cache "off" itself, a class of a user's own too. memory: all samples, now. disk: each one when it is first read, in a folder that
    is removed when the process ends; `folder` is where that one is made (None: the system's for temporary files)."""
    if cache == "off" or len(dataset) == 0:
        return dataset
    return InMemory(dataset) if cache == "memory" else OnDisk(dataset, folder)


class InMemory(View):
    """Every sample of a data set, decoded now. Loading processes that are forked share the memory.

    decoded: called after each sample. Raises ConfigError where the memory is too small.
    """

    def __init__(self, dataset: GivenDataset, decoded: Callable[[], None] = lambda: None) -> None:
        super().__init__([dataset])
        self.samples: list[Sample] = []
        for index in range(len(dataset)):
            self.samples.append(self.parts[0][index])
            if index == 0:
                self._check_memory(self.samples[0])
            decoded()

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def _check_memory(self, first: Sample) -> None:
        needed = (first.image.nbytes + (0 if first.labels is None else first.labels.nbytes)) * len(self)
        free = _free_bytes()
        if free is not None and needed > MEMORY_FRACTION * free:
            raise ConfigError(
                f"cache = memory: {len(self)} decoded samples like the first need {needed / 2**30:.1f} GiB, and "
                f"{free / 2**30:.1f} GiB are free. Use cache = disk, or off"
            )


class OnDisk(View):
    """Samples of a data set, decoded, in a folder of this process. All loading processes share it."""

    def __init__(self, dataset: GivenDataset, folder: Path | None = None) -> None:
        super().__init__([dataset])
        try:
            self.folder = own_folder(folder or tempfile.gettempdir(), "decoded")
        except OutputError as error:
            raise DataError(f"cache = disk: {error}") from error
        weakref.finalize(self, _remove, self.folder, os.getpid())

    def __getitem__(self, index: int) -> Sample:
        path = self.folder / f"{index}.pickle"
        try:
            return _read(path)
        except FileNotFoundError:
            sample = super().__getitem__(index)
        with suppress(OutputError):  # the disk is full: this sample is decoded again next time
            write_bytes(path, pickle.dumps(sample, protocol=5))
        return sample


def _shortly(values: set[Any]) -> str:
    return " and ".join(sorted(str(value)[:80] for value in values)[:3])


def _read(path: Path) -> Sample:
    with path.open("rb") as file:  # a file of this very run, in a folder that only its user may open
        sample: Sample = pickle.load(file)
    return sample


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked loading process ends before the run does
        shutil.rmtree(folder, ignore_errors=True)


def _free_bytes() -> int | None:
    try:
        available = next(
            line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable")
        )
        return int(available.split()[1]) * 1024
    except (OSError, StopIteration):
        return None
