"""Jobs on one machine: worker processes that load the model once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.queues import SimpleQueue

from pspnet.config.raster import RasterConfig
from pspnet.installation import available
from pspnet.machine import usable_cores
from pspnet.predict.processors import set_threads
from pspnet.predict.segmenter import Segmenter
from pspnet.raster.jobs import RasterJob, RasterOutcome, do_job

_worker: tuple[Segmenter, RasterConfig] | None = None  # of this process


def default_workers() -> int:
    """One for each GPU; on processors one for every four cores, which a network uses better than sixteen."""
    return _gpu_count() or max(1, usable_cores() // 4)


def _gpu_count() -> int:
    """CUDA cards that PyTorch can use; 0 where there is no PyTorch."""
    if not available("torch"):
        return 0
    from pspnet.predict.engines import cuda_count

    return cuda_count()


def run_pool(
    jobs: Sequence[RasterJob], model: str, config: RasterConfig, workers: int, device: str = "auto"
) -> Iterator[RasterOutcome]:
    """Outcomes as they come. A process that dies takes only the jobs with it that were at work; the rest go on."""
    left = list(jobs)
    while left:
        before = len(left)
        yield from _until_broken(left, model, config, workers, device)
        assert len(left) < before, "a pool must take work from the list"


def _until_broken(
    left: list[RasterJob], model: str, config: RasterConfig, workers: int, device: str
) -> Iterator[RasterOutcome]:
    """Takes jobs from `left` until none is there, or a worker died."""
    context = multiprocessing.get_context("spawn")  # a forked torch hangs
    devices = context.SimpleQueue()
    cards = _gpu_count() if device == "auto" else 0
    for number in range(workers):
        devices.put(f"cuda:{number % cards}" if cards > 1 else device)
    threads = max(1, usable_cores() // workers)
    running: dict[Future[dict[str, object]], RasterJob] = {}
    with ProcessPoolExecutor(workers, context, _start, (model, config.model_dump_json(), threads, devices)) as pool:
        while left or running:
            while left and len(running) < workers:  # no more than are at work: a dead worker costs no waiting job
                job = left.pop(0)
                running[pool.submit(_do, job)] = job
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            broken = False
            for future in done:
                job = running.pop(future)
                try:
                    yield RasterOutcome.from_dict(future.result())
                except BrokenProcessPool:
                    broken = True
                    yield RasterOutcome(job, "its worker process was killed, perhaps for want of memory")
            if broken:
                for job in running.values():
                    yield RasterOutcome(job, "its worker process was killed, perhaps for want of memory")
                return


def _start(model: str, config: str, threads: int, devices: SimpleQueue[str]) -> None:
    global _worker
    set_threads(threads)
    _worker = Segmenter.load(model, device=devices.get()), RasterConfig.model_validate_json(config)


def _do(job: RasterJob) -> dict[str, object]:
    assert _worker is not None
    return do_job(_worker[0], job, _worker[1]).to_dict()
