"""Which samples form a batch: a function of (seed, position), so a run can start again anywhere and repeat nothing.

The samples of all epochs form one endless stream, each epoch a new permutation. Batch t is the t-th piece of the stream:
every batch is full, every sample occurs once per epoch, and an epoch's end needs no special case. The loop sees
one long epoch, which also lets the workers run on where an epoch ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from pspnet.config.train import TrainConfig
from pspnet.data.dataset import Dataset, GivenDataset, Sample
from pspnet.data.transforms import Augmentation
from pspnet.errors import ConfigError, DataError, PspnetError

Place = tuple[int, int]  # (epoch, index of the sample)
Vary = Callable[[Sample, int, int, int], tuple[NDArray[Any], NDArray[np.uint8]]]  # as data.transforms.Augmentation


@dataclass(frozen=True)
class BatchPlan:
    """The stream of samples and how devices share it.

    samples: size of the data set. batch_size: images of one batch over all devices. steps: batches in the whole run.
    Device `rank` of `world_size` takes every world_size-th image of a batch.
    """

    samples: int
    batch_size: int
    steps: int
    seed: int
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise DataError("the training split holds no sample; see: pspnet data check")
        if self.batch_size % self.world_size:
            raise ConfigError(
                f"batch_size = {self.batch_size} with {self.world_size} devices: each device needs the same number of "
                f"images. Use a multiple of {self.world_size}"
            )

    def batch(self, step: int) -> list[Place]:
        """(epoch, index) of each image that this device sees in batch `step`."""
        first = step * self.batch_size
        return [self.place(position) for position in range(first + self.rank, first + self.batch_size, self.world_size)]

    def place(self, position: int) -> Place:
        """The sample at a position of the stream."""
        epoch, position_in_epoch = divmod(position, self.samples)
        return epoch, int(_order(self.samples, self.seed, epoch)[position_in_epoch])


@lru_cache(maxsize=4)
def _order(samples: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(samples)


class PlanSampler:
    """The batches of a plan from batch `start` on."""

    def __init__(self, plan: BatchPlan, start: int = 0) -> None:
        self.plan, self.start = plan, start

    def __iter__(self) -> Iterator[list[Place]]:
        return (self.plan.batch(step) for step in range(self.start, self.plan.steps))

    def __len__(self) -> int:
        return self.plan.steps - self.start


class Batch(NamedTuple):
    """images: (B, H, W, bands) in the data's own dtype (`step.to_tensors` makes them float). labels: (B, H, W) uint8."""

    images: Tensor
    labels: Tensor


class TrainingSamples(TorchDataset[Any]):
    """A data set by (epoch, index), varied by `vary`, a function of the sample and (seed, epoch, index) alone.

    So a run does not depend on the number of workers. What pspnet raises on purpose comes back as a value: a worker's
    exception would reach the user as a page of traceback instead of its one line.
    """

    def __init__(self, dataset: GivenDataset, vary: Vary, seed: int) -> None:
        self.dataset, self.vary, self.seed = dataset, vary, seed

    def __getitem__(self, position: Place) -> tuple[Tensor, Tensor] | PspnetError:
        epoch, index = position
        try:
            image, labels = self.vary(self.dataset[index], self.seed, epoch, index)
        except PspnetError as error:
            return error
        return torch.from_numpy(np.ascontiguousarray(image)), torch.from_numpy(np.ascontiguousarray(labels))


def collate(samples: Sequence[tuple[Tensor, Tensor] | PspnetError]) -> Batch | PspnetError:
    """Stacks samples of one size. The first error among them is the result."""
    images: list[Tensor] = []
    labels: list[Tensor] = []
    for sample in samples:
        if isinstance(sample, PspnetError):
            return sample
        images.append(sample[0])
        labels.append(sample[1])
    sizes = sorted({tuple(label.shape) for label in labels})
    if len(sizes) > 1:
        return DataError(
            f"a batch holds images of unlike sizes, {sizes[0]} and {sizes[-1]} (height, width): set augmentation.crop"
        )
    return Batch(torch.stack(images), torch.stack(labels))


class TimedLoader(DataLoader[Any]):
    """A DataLoader that knows for how long it was waited for and raises the errors that workers hand back."""

    waited_s = 0.0

    def take_waited_s(self) -> float:
        """Seconds waited since this was asked before."""
        seconds, self.waited_s = self.waited_s, 0.0
        return seconds

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        batches = super().__iter__()
        while True:
            started = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            finally:
                self.waited_s += time.perf_counter() - started
            if isinstance(batch, PspnetError):
                raise batch
            yield batch


def run_batches(
    config: TrainConfig, dataset: Dataset, start: int = 0, rank: int = 0, world_size: int = 1
) -> TimedLoader:
    """The batches of a resolved config's run from batch `start` on, for one of its processes."""
    assert config.steps is not None
    assert config.workers is not None
    batches = config.steps * config.accumulate
    plan = BatchPlan(len(dataset), config.batch_size, batches, config.seed, rank, world_size)
    vary = Augmentation(config.augmentation, config.model.normalisation[0])
    samples = TrainingSamples(dataset, vary, config.seed)
    return training_loader(samples, plan, start, config.workers, config.device == "cuda")


def training_loader(
    samples: TrainingSamples, plan: BatchPlan, start: int, workers: int, pin_memory: bool
) -> TimedLoader:
    """The batches of `plan` from batch `start` on."""
    return TimedLoader(
        samples,
        batch_sampler=PlanSampler(plan, start),
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        prefetch_factor=4 if workers else None,
        worker_init_fn=quiet_worker,
        generator=torch.Generator().manual_seed(plan.seed),  # else every iterator would draw from the run's own stream
    )


def quiet_worker(_: int) -> None:
    """A worker is one thread, and leaves Ctrl-C and SIGTERM to the process that must write a checkpoint first."""
    import signal

    import cv2

    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # a scheduler's SIGTERM reaches the whole group; a second one is the loader's own, for a worker that hangs
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
