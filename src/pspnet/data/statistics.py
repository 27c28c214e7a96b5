"""What a data set is made of: band means and deviations, class shares, sizes. `pspnet data stats` prints it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pspnet.data.dataset import GivenDataset, Sample, as_dataset, threads_will_read
from pspnet.labels import IGNORE, LabelSpace

Progress = Callable[[int, int], None]  # (samples done, samples in all)
T = TypeVar("T")


@dataclass(frozen=True)
class Statistics:
    """Counts over all pixels of a data set.

    images, labelled: number of samples, and of those with labels. mean, std: (bands,), in the images' own units.
    class_pixels, class_images: (K,), pixels of each class and images that show it. ignored_pixels: labelled 255.
    height, width: (smallest, median, largest) in px.
    """

    label_space: LabelSpace
    images: int
    labelled: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_pixels: tuple[int, ...]
    class_images: tuple[int, ...]
    ignored_pixels: int
    height: tuple[int, int, int]
    width: tuple[int, int, int]

    @property
    def class_shares(self) -> tuple[float, ...]:
        """(K,) share of each class in the pixels that count; fractions that sum to 1 (zeros without labels)."""
        total = sum(self.class_pixels)
        return tuple(pixels / total if total else 0.0 for pixels in self.class_pixels)

    @property
    def ignored_share(self) -> float:
        """Share of the labelled images' pixels that do not count, 0..1."""
        total = sum(self.class_pixels) + self.ignored_pixels
        return self.ignored_pixels / total if total else 0.0


def dataset_statistics(
    dataset: GivenDataset, progress: Progress | None = None, workers: int | None = None
) -> Statistics:
    """Reads every sample once. Raises ImageError or LabelError for the first file that cannot be read.

    The result does not depend on `workers` (threads; None: one for each core).
    """
    samples = as_dataset(dataset)
    classes = samples.label_space.num_classes
    parts = list(map_samples(lambda index: _part(samples[index], classes), len(samples), progress, workers))
    if not parts:
        nothing = (0, 0, 0)
        zeros = (0,) * classes
        return Statistics(samples.label_space, 0, 0, (), (), zeros, zeros, 0, nothing, nothing)
    pixels = sum(part.height * part.width for part in parts)
    mean = np.sum([part.sums for part in parts], axis=0) / pixels
    # about the common mean, part by part, so that nothing cancels where values are large
    squares = np.sum(
        [
            part.squares + part.height * part.width * (part.sums / (part.height * part.width) - mean) ** 2
            for part in parts
        ],
        axis=0,
    )
    counts = np.array([part.counts for part in parts])
    return Statistics(
        label_space=samples.label_space,
        images=len(parts),
        labelled=sum(part.labelled for part in parts),
        mean=tuple(mean.tolist()),
        std=tuple(np.sqrt(squares / pixels).tolist()),
        class_pixels=tuple(counts[:, :-1].sum(axis=0).tolist()),
        class_images=tuple((counts[:, :-1] > 0).sum(axis=0).tolist()),
        ignored_pixels=int(counts[:, -1].sum()),
        height=_spread([part.height for part in parts]),
        width=_spread([part.width for part in parts]),
    )


def map_samples(
    work: Callable[[int], T], count: int, progress: Progress | None = None, workers: int | None = None
) -> Iterator[T]:
    """work(0), ..., work(count - 1) in order, computed by threads: decoding releases Python's lock."""
    threads_will_read()
    with ThreadPoolExecutor(max_workers=workers or os.cpu_count()) as pool:
        for done, result in enumerate(pool.map(work, range(count)), start=1):
            yield result
            if progress is not None:
                progress(done, count)


@dataclass(frozen=True)
class _Part:
    """One sample. sums: (bands,) of the values. squares: (bands,) of the squared differences from its own mean."""

    height: int
    width: int
    sums: NDArray[np.float64]
    squares: NDArray[np.float64]
    counts: NDArray[np.int64]
    labelled: bool


def _part(sample: Sample, num_classes: int) -> _Part:
    height, width, bands = sample.image.shape
    pixels = sample.image.reshape(-1, bands)
    if sample.image.dtype == np.uint8:  # exact, and several times faster than float64 arithmetic
        histogram = np.stack([np.bincount(pixels[:, band], minlength=256) for band in range(bands)])
        values = np.arange(256, dtype=np.float64)
        sums = histogram @ values
        squares = (histogram * (values - (sums / len(pixels))[:, None]) ** 2).sum(axis=1)
    else:
        wide = pixels.astype(np.float64)
        sums = wide.sum(axis=0)
        squares = ((wide - sums / len(pixels)) ** 2).sum(axis=0)
    counts = np.zeros(num_classes + 1, np.int64)
    if sample.labels is not None:
        class_counts = np.bincount(sample.labels.ravel(), minlength=IGNORE + 1)
        counts[:-1], counts[-1] = class_counts[:num_classes], class_counts[IGNORE]
    return _Part(height, width, sums, squares, counts, sample.labels is not None)


def _spread(values: list[int]) -> tuple[int, int, int]:
    return min(values), sorted(values)[len(values) // 2], max(values)
