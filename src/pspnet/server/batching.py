"""Dynamic batching: what waits is grouped by model and size, and the group of the longest waiting image goes next.

One thread computes. While it does, requests gather; when it is free it takes up to `max_batch` images of one bucket. So
batches are large exactly when there is much to do, and a lone request waits for nobody: the thread lingers, for
`batch_wait_ms` at most, only while other requests are known to be on their way.

An image larger than a batch may be is computed alone, in windows, and given up between windows when nobody waits for it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.machine import memory_trimmer
from pspnet.predict.segmenter import Segmenter
from pspnet.predict.windows import WHOLE_PIXELS, as_float, windowed_labels
from pspnet.server.settings import ServerSettings

Bucket = tuple[str, int, int]  # model, height, width


@dataclass
class Found:
    """labels: (H, W) uint8. confidence: (H, W) float32 or None. batch: images computed together. Times in seconds."""

    labels: NDArray[np.uint8]
    confidence: NDArray[np.float32] | None
    batch: int
    waited_s: float
    computed_s: float


@dataclass(eq=False)
class BatchJob:
    """One image in the queue. pixels: (H, W, bands). deadline: of time.monotonic()."""

    model: str
    segmenter: Segmenter
    pixels: NDArray[Any]
    confidence: bool
    deadline: float
    future: Future[Found] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)

    @property
    def size(self) -> int:
        return self.pixels.shape[0] * self.pixels.shape[1]

    def unwanted(self) -> bool:
        return self.future.cancelled() or time.monotonic() > self.deadline


class GivenUp(Exception):  # noqa: N818 - nobody's error
    """An image was left unfinished because its request had ended."""


class Batcher:
    """Takes jobs from any thread; computes them in its own.

    expecting: how many requests are about to send a job. on_batch: called with (model, images, pixels, seconds).
    """

    def __init__(
        self,
        settings: ServerSettings,
        expecting: Callable[[], int] = lambda: 0,
        on_batch: Callable[[str, int, int, float], None] = lambda model, images, pixels, seconds: None,
    ) -> None:
        self.settings, self.expecting, self.on_batch = settings, expecting, on_batch
        self.buckets: dict[Bucket, deque[BatchJob]] = {}
        self.changed = threading.Condition()
        self.stopping = False
        self.thread = threading.Thread(target=self._run, name="pspnet-batches", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def stop(self) -> None:
        """Finishes what was submitted, then ends."""
        with self.changed:
            self.stopping = True
            self.changed.notify()
        if self.thread.is_alive():
            self.thread.join()

    def submit(self, job: BatchJob) -> Future[Found]:
        """The job's future. Cancel it when nobody waits any more."""
        with self.changed:
            if self.stopping:
                raise RuntimeError("the batcher has stopped")
            self.buckets.setdefault(self._bucket(job), deque()).append(job)
            self.changed.notify()
        return job.future

    def waiting(self) -> int:
        with self.changed:
            return sum(len(jobs) for jobs in self.buckets.values())

    def _bucket(self, job: BatchJob) -> Bucket:
        step = self.settings.bucket_px
        height, width = job.pixels.shape[:2]
        return (job.model, -(-height // step) * step, -(-width // step) * step)

    def _run(self) -> None:
        trim = memory_trimmer()
        while True:
            bucket, jobs = self._next()
            if not jobs:
                return
            self._compute(bucket, jobs)
            del jobs  # or the last batch's images would be kept until the next one
            trim()

    def _next(self) -> tuple[Bucket, list[BatchJob]]:
        """The next batch; an empty one means the end."""
        with self.changed:
            while not self.buckets:
                if self.stopping:
                    return ("", 0, 0), []
                self.changed.wait()
            bucket = min(self.buckets, key=lambda key: self.buckets[key][0].since)
            limit = self._limit(bucket)
            until = time.monotonic() + self.settings.batch_wait_ms / 1000
            while len(self.buckets[bucket]) < limit and self.expecting() > 0 and not self.stopping:
                left = until - time.monotonic()
                if left <= 0 or not self.changed.wait(left):
                    break
            waiting = self.buckets[bucket]
            jobs = [waiting.popleft() for _ in range(min(limit, len(waiting)))]
            if not waiting:
                del self.buckets[bucket]
            return bucket, jobs

    def _limit(self, bucket: Bucket) -> int:
        pixels = bucket[1] * bucket[2]
        if pixels > WHOLE_PIXELS:
            return 1
        return max(1, min(self.settings.max_batch, int(self.settings.batch_megapixels * 1e6) // pixels))

    def _compute(self, bucket: Bucket, jobs: list[BatchJob]) -> None:
        """Fulfils every job's future, whatever happens."""
        jobs = [job for job in jobs if not job.unwanted()]
        if not jobs:
            return
        began = time.monotonic()
        try:
            results = compute(jobs, bucket[1], bucket[2])
        except GivenUp:
            return
        except Exception as error:  # belongs to the requests, not to this thread
            if len(jobs) > 1:  # perhaps too much memory for all at once; then each alone
                for job in jobs:
                    self._compute(bucket, [job])
                return
            with contextlib.suppress(Exception):  # the future may have been cancelled in the meantime
                jobs[0].future.set_exception(error)
            return
        seconds = time.monotonic() - began
        self.on_batch(bucket[0], len(jobs), sum(job.size for job in jobs), seconds)
        for job, (labels, confidence) in zip(jobs, results, strict=True):
            with contextlib.suppress(Exception):
                job.future.set_result(Found(labels, confidence, len(jobs), began - job.since, seconds))


def compute(
    jobs: list[BatchJob], height: int, width: int
) -> list[tuple[NDArray[np.uint8], NDArray[np.float32] | None]]:
    """Labels and confidence of images of one model, each padded by its edge to (height, width) and cut again."""
    segmenter, confidence = jobs[0].segmenter, any(job.confidence for job in jobs)
    if len(jobs) == 1 and jobs[0].size > WHOLE_PIXELS:
        return [_compute_windows(jobs[0])]
    images = np.stack([as_float(_padded(job.pixels, height, width)) for job in jobs])
    labels, image_certainty = segmenter.labels(images, confidence)
    results = []
    for index, job in enumerate(jobs):
        part = (index, slice(job.pixels.shape[0]), slice(job.pixels.shape[1]))
        certainty = image_certainty[part] if image_certainty is not None and job.confidence else None
        results.append((np.ascontiguousarray(labels[part]), certainty))
    return results


def _padded(pixels: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    below, right = height - pixels.shape[0], width - pixels.shape[1]
    return pixels if not below and not right else np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="edge")


def _compute_windows(job: BatchJob) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
    """As `Segmenter.segment` does for large images, but given up when the request has ended."""

    def check() -> None:
        if job.unwanted():
            raise GivenUp

    predict, batch = job.segmenter.window_probabilities, job.segmenter.batch_windows
    return windowed_labels(job.pixels, predict, job.confidence, batch, before_each=check)
