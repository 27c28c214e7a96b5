"""Decoded samples kept for the length of a run, so that each file is decoded once and not once per epoch.

It pays where decoding holds the network up: large JPEGs, rasters, many epochs. Augmentation still runs every time.
"""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pspnet.data.dataset import Dataset, Sample
from pspnet.errors import ConfigError, DataError, OutputError
from pspnet.files import write_bytes

Cache = Literal["off", "memory", "disk"]
SHARE_OF_MEMORY = 0.6  # of what is free; the rest is the network's


def cached(dataset: Dataset, cache: Cache, folder: Path | None = None) -> Dataset:
    """The same data set, decoded once. memory: all samples, now. disk: each one when it is first read, in a folder that
    is removed when the process ends; `folder` is where that one is made (None: the system's for temporary files)."""
    if cache == "off" or len(dataset) == 0:
        return dataset
    return InMemory(dataset) if cache == "memory" else OnDisk(dataset, folder)


class InMemory:
    """Every sample of a data set, decoded (a Dataset). Loading processes that are forked share the memory."""

    def __init__(self, dataset: Dataset) -> None:
        self.label_space, self.bands = dataset.label_space, dataset.bands
        first = dataset[0]
        needed = (first.image.nbytes + (0 if first.labels is None else first.labels.nbytes)) * len(dataset)
        free = _free_bytes()
        if free is not None and needed > SHARE_OF_MEMORY * free:
            raise ConfigError(
                f"cache = memory: {len(dataset)} decoded samples like the first need {needed / 2**30:.1f} GiB, and "
                f"{free / 2**30:.1f} GiB are free. Use cache = disk, or off"
            )
        self.samples = [first, *(dataset[index] for index in range(1, len(dataset)))]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


class OnDisk:
    """Samples of a data set, decoded, in a folder of this process (a Dataset). All loading processes share it."""

    def __init__(self, dataset: Dataset, folder: Path | None = None) -> None:
        self.dataset, self.label_space, self.bands = dataset, dataset.label_space, dataset.bands
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            self.folder = Path(tempfile.mkdtemp(prefix="pspnet-decoded-", dir=folder))
        except OSError as error:
            raise DataError(
                f"cache = disk: no folder can be made in '{folder or tempfile.gettempdir()}' ({error})"
            ) from error
        weakref.finalize(self, _remove, self.folder, os.getpid())

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        path = self.folder / f"{index}.pickle"
        try:
            return _read(path)
        except FileNotFoundError:
            sample = self.dataset[index]
        with suppress(OutputError):  # the disk is full: this sample is decoded again next time
            write_bytes(path, pickle.dumps(sample, protocol=5))
        return sample


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
