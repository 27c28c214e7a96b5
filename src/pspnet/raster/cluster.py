"""Rasters on many machines: see `pspnet.predict.cluster`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from pspnet.config.raster import RasterConfig
from pspnet.predict.cluster import on_cluster
from pspnet.predict.segmenter import Segmenter
from pspnet.raster.jobs import RasterJob, RasterOutcome, do_job


class RasterWorker:
    """Does one job after the other."""

    def __init__(self, model: str, config: str) -> None:
        self.segmenter = Segmenter.load(model)
        self.config = RasterConfig.model_validate_json(config)

    def __call__(self, item: str) -> str:
        job = RasterOutcome.from_dict({"job": json.loads(item)}).job
        return json.dumps(do_job(self.segmenter, job, self.config).to_dict())


def run_cluster(
    jobs: Sequence[RasterJob], model: str, config: RasterConfig, workers: int, address: str
) -> Iterator[RasterOutcome]:
    """Outcomes as they come. Raises what `on_cluster` raises."""
    items = [json.dumps(asdict(job)) for job in jobs]
    for text in on_cluster(items, RasterWorker, (model, config.model_dump_json()), workers, address):
        yield RasterOutcome.from_dict(json.loads(text))
