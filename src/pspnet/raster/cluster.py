"""Jobs on many machines: Ray Data, with a model in each worker. Sources, model and targets lie where all can reach them."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from pspnet.config.raster import RasterConfig
from pspnet.errors import ServiceError, require
from pspnet.raster.jobs import RasterJob, RasterOutcome


class _Worker:
    """Loads the model when it starts, then does job after job. Ray starts another one where it dies."""

    def __init__(self, model: str, config: str, threads: int) -> None:
        from pspnet.predict.processors import set_threads
        from pspnet.predict.segmenter import Segmenter

        set_threads(threads)
        self.segmenter = Segmenter.load(model)
        self.config = RasterConfig.model_validate_json(config)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        from pspnet.raster.jobs import do_job

        job = RasterOutcome.from_dict({"job": json.loads(row["job"])}).job
        return {"outcome": json.dumps(do_job(self.segmenter, job, self.config).to_dict())}


def run_cluster(
    jobs: Sequence[RasterJob],
    model: str,
    config: RasterConfig,
    workers: int,
    address: str,
    gpus_per_worker: float = 0.0,
) -> Iterator[RasterOutcome]:
    """Outcomes as they come. address: of a Ray cluster; "local" starts one on this machine.

    Work of a worker that died is done again by another: targets appear by a rename, so nothing is doubled. Raises
    ServiceError where the cluster cannot be reached.
    """
    ray = require("ray", "cluster")
    require("ray.data", "cluster")
    started = not ray.is_initialized()
    threads = max(1, (os.cpu_count() or 1) // workers) if address == "local" else 4
    if started:
        _start(ray, address, workers)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        rows = ray.data.from_items([{"job": json.dumps(asdict(job))} for job in jobs], override_num_blocks=len(jobs))
        found = rows.map(
            _Worker,
            fn_constructor_args=(model, config.model_dump_json(), threads),
            num_cpus=1,
            num_gpus=gpus_per_worker or None,
            compute=ray.data.ActorPoolStrategy(size=workers),
        )
        for row in found.iter_rows():
            yield RasterOutcome.from_dict(json.loads(row["outcome"]))
    finally:
        if started:
            ray.shutdown()


def _start(ray: Any, address: str, workers: int, attempts: int = 2) -> None:
    """Raises ServiceError. A second attempt, for a busy machine: Ray gives its own processes 30 s to start."""
    own = {"num_cpus": workers, "include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="warning", **own)
    except Exception as error:  # Ray raises a bare Exception where its processes do not start in time
        ray.shutdown()
        if address == "local" and attempts > 1:
            _start(ray, address, workers, attempts - 1)
            return
        what = "Ray does not start here" if address == "local" else f"no Ray cluster answers at {address!r}"
        hint = "Try again when the machine is less busy" if address == "local" else "Start one with `ray start --head`"
        raise ServiceError(f"{what}: {str(error).splitlines()[0].rstrip('.')}. {hint}, or leave cluster out") from error
