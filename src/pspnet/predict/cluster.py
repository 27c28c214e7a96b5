"""Work on many machines: Ray Data, with a model in each worker. Sources, model and results lie where all can reach them.

A worker that dies is replaced, and what it was at is done again by another; what is finished stays, since results appear
by a rename. So each item has one outcome, however often it was begun.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pspnet.errors import ServiceError, require
from pspnet.machine import usable_cores
from pspnet.predict.exported import is_exported, open_exported
from pspnet.predict.folders import Done
from pspnet.predict.image_results import ImageFile, ImageOptions, segment_file
from pspnet.predict.processors import set_threads
from pspnet.predict.segmenter import Segmenter
from pspnet.weights.bundled import find_model
from pspnet.weights.checkpoint import ModelCard, read_header

THREADS = (
    4  # of a worker on a cluster, whose machines are not known here: a network uses four cores better than sixteen
)
MOST_BLOCKS = 10_000  # Ray plans each block by itself; up to so many items a dead worker costs no finished one


def on_cluster(
    items: Sequence[str], worker: type, arguments: tuple[Any, ...], workers: int | None, address: str
) -> Iterator[str]:
    """worker(*arguments)(item) -> outcome for every item, as they come; in each process the worker is made once.

    workers: processes; None: one for each GPU of the cluster, else one for every four cores. address: of a Ray cluster;
    "local" starts one on this machine. On a cluster with GPUs each worker has one. Raises ServiceError where the cluster
    cannot be reached, or is lost.
    """
    ray = require("ray", "cluster")
    require("ray.data", "cluster")
    started = not ray.is_initialized()
    if started:
        _start(ray, address, workers)
    try:
        there = ray.cluster_resources()
        gpus = int(there.get("GPU", 0))
        workers = min(workers or gpus or max(1, int(there.get("CPU", 1)) // THREADS), len(items))
        threads = max(1, usable_cores() // workers) if address == "local" else THREADS
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        rows = ray.data.from_items([{"item": item} for item in items], override_num_blocks=min(len(items), MOST_BLOCKS))
        outcomes = rows.map(
            _Worker,
            fn_constructor_args=(worker, arguments, threads),
            num_cpus=1,
            num_gpus=1 if gpus >= workers else None,
            compute=ray.data.ActorPoolStrategy(size=workers),
        )
        try:
            for row in outcomes.iter_rows():
                yield row["outcome"]
        except ray.exceptions.RayError as error:
            first = str(error).strip().splitlines()[0]
            raise ServiceError(
                f"the cluster was lost: {first}. What is finished is kept: give the same command again, for images with --skip-existing"
            ) from error
    finally:
        if started:
            ray.shutdown()


class _Worker:
    """What Ray keeps in a process."""

    def __init__(self, worker: type, arguments: tuple[Any, ...], threads: int) -> None:
        set_threads(threads)
        self.work = worker(*arguments)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"outcome": self.work(row["item"])}


def _start(ray: Any, address: str, workers: int | None, attempts: int = 2) -> None:
    """Raises ServiceError. A second attempt, for a busy machine: Ray gives its own processes 30 s to start."""
    options = {"num_cpus": workers or usable_cores(), "include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="warning", **options)
    except Exception as error:  # Ray raises a bare Exception where its processes do not start in time
        ray.shutdown()
        if address == "local" and attempts > 1:
            _start(ray, address, workers, attempts - 1)
            return
        what = "Ray does not start here" if address == "local" else f"no Ray cluster answers at {address!r}"
        hint = "Try again when the machine is less busy" if address == "local" else "Start one with `ray start --head`"
        raise ServiceError(f"{what}: {str(error).splitlines()[0].rstrip('.')}. {hint}, or leave cluster out") from error


def read_card(path: str | Path) -> ModelCard:
    """What a model says of itself: a damaged one is one clear error, not one of each worker. Raises CheckpointError."""
    return open_exported(path)[2] if is_exported(path) else read_header(path)[1]


class ImageWorker:
    """Segments one image file after the other."""

    def __init__(self, model: str, device: str, engine: str | None, out: str, options: ImageOptions) -> None:
        self.segmenter = Segmenter.load(model, device=device, engine=engine)
        self.out, self.options = Path(out), options

    def __call__(self, item: str) -> str:
        number, path, name = json.loads(item)
        return json.dumps((number, segment_file(self.segmenter, ImageFile(Path(path), name), self.out, self.options)))


def on_machines(
    model: str | Path,
    address: str,
    files: Sequence[ImageFile],
    out: Path,
    options: ImageOptions,
    *,
    workers: int | None = None,
    device: str = "auto",
    engine: str | None = None,
) -> Iterator[Done]:
    """The Runner of a Ray cluster (see `folders.run_files`): files in the order in which they are finished, each once.

    The files, the model and `out` must lie under the same paths on all machines. Raises what `on_cluster` raises, and
    CheckpointError for a damaged model before a cluster starts.
    """
    path = find_model(model).absolute()
    read_card(path)
    items = [json.dumps((number, str(file.path.absolute()), file.name)) for number, file in enumerate(files)]
    arguments = (str(path), device, engine, str(out.absolute()), options)
    waiting = dict(enumerate(files))
    for text in on_cluster(items, ImageWorker, arguments, workers, address):
        number, outcome = json.loads(text)
        file = waiting.pop(number, None)
        if file is not None:  # else it was begun again although it was finished
            yield file, outcome
