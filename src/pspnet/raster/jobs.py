"""One piece of work of many: a whole raster, or some rows of a large one. What a worker process does."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pspnet.config.raster import RasterConfig
from pspnet.errors import PspnetError, RasterError
from pspnet.georaster.grids import open_raster
from pspnet.predict.segmenter import Segmenter
from pspnet.raster.pipeline import Run, classify
from pspnet.raster.progress import Watch
from pspnet.raster.segment_raster import RasterReport, check_targets, finish, segment_raster
from pspnet.raster.tile_store import TileStore


@dataclass(frozen=True)
class RasterJob:
    """source -> target; with rows (first, after the last) only these rows of its map, kept as unfinished work."""

    source: str
    target: str
    polygons: str | None = None
    rows: tuple[int, int] | None = None

    @property
    def part(self) -> Path:
        """Where the rows wait until all are there."""
        assert self.rows is not None
        return Path(f"{self.target}.rows-{self.rows[0]:09d}")


@dataclass(frozen=True)
class RasterOutcome:
    """What became of a job. error: empty when it succeeded. warnings: what the run had to say."""

    job: RasterJob
    error: str = ""
    seconds: float = 0.0
    shares: Mapping[str, float] = field(default_factory=dict)
    data_share: float = 0.0
    unreadable: int = 0
    warnings: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, to travel between processes and into the summary."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RasterOutcome:
        job = dict(values["job"])
        rows = job.get("rows")
        job["rows"] = None if rows is None else (int(rows[0]), int(rows[1]))
        return cls(**{**values, "job": RasterJob(**job)})


def do_job(segmenter: Segmenter, job: RasterJob, config: RasterConfig) -> RasterOutcome:
    """Does the work; a fault becomes an outcome, so that it does not stop the other rasters."""
    began = time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            report = _work(segmenter, job, _own(config, job))
        except PspnetError as error:
            return RasterOutcome(job, str(error), time.monotonic() - began)
        except Exception as error:  # a fault of ours or of a library: told, and the other rasters go on
            text = traceback.format_exception_only(error)[-1].strip()
            return RasterOutcome(job, f"unexpected: {text}", time.monotonic() - began)
    messages = tuple(dict.fromkeys(str(w.message) for w in caught if w.category is UserWarning))
    seconds = time.monotonic() - began
    if report is None:
        return RasterOutcome(job, "", seconds, warnings=messages)
    return RasterOutcome(job, "", seconds, report.shares, report.data_share, len(report.unreadable), messages)


def stitch(segmenter: Segmenter, jobs: Sequence[RasterJob], config: RasterConfig) -> RasterReport:
    """One map from the finished rows of its jobs. Tiles are copied as they are. Raises RasterError."""
    began, config = time.monotonic(), _own(config, jobs[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the jobs have told them
        run = Run.of(segmenter, jobs[0].source, config)
    identity = run.identity()
    store = TileStore(Path(jobs[0].target), config.block_px, identity, overwrite=True)
    parts: list[TileStore] = []
    try:
        parts += [TileStore(job.part, config.block_px, identity, overwrite=False) for job in jobs]
        if store.state.get("rows") != run.height:
            counts, unreadable = np.zeros(256, np.int64), list[Any]()
            for job, part in zip(jobs, parts, strict=True):
                if job.rows is None or part.state.get("rows", 0) < job.rows[1]:
                    raise RasterError(f"'{part.part}' is not whole any more; repeat the command to make its rows again")
                for key in part.places:
                    data = part.get(key)
                    assert data is not None
                    store.put(key, data)
                counts += np.array(part.state["counts"], np.int64)
                unreadable += part.state.get("unreadable", [])
            store.commit(rows=run.height, counts=counts.tolist(), unreadable=unreadable)
        report = finish(run, store, Watch(None, run.width, run.height, run.height), began, 0)
        for part in parts:
            part.discard()
        return report
    finally:
        for one in (store, *parts):
            one.close()


def remove_parts(target: Path) -> None:
    """Rows of a map that is finished: a process ended between the two."""
    for path in target.parent.glob(f"{target.name}.rows-*"):
        path.unlink(missing_ok=True)


def _work(segmenter: Segmenter, job: RasterJob, config: RasterConfig) -> RasterReport | None:
    if job.rows is None:
        if _is_map_of(Path(job.target), job.source):
            config = config.changed(overwrite=True)
        return segment_raster(segmenter, job.source, job.target, config)
    check_targets(job.source, Path(job.target), config)
    run = Run.of(segmenter, job.source, config)
    store = TileStore(job.part, config.block_px, run.identity(), config.overwrite)
    try:
        first, stop = job.rows
        if store.state.get("rows", first) < stop:
            classify(run, store, range(first, stop), Watch(None, run.width, run.height, first))
        if "counts" not in store.state:  # nothing was stored: rows without data are committed, too
            store.commit(rows=stop, counts=[0] * 256, unreadable=[])
    finally:
        store.close()
    return None


def _is_map_of(target: Path, source: str) -> bool:
    """Whether an attempt before this one made the map and was killed before it could say so: a job whose map is there is not
    handed in. What it met on the way is not known any more, so the map is made anew."""
    if not target.exists():
        return False
    try:
        with open_raster(str(target)) as earlier:
            tags = earlier.tags()
    except RasterError:
        return False
    return tags.get("TIFFTAG_SOFTWARE") == "pspnet" and tags.get("SOURCE") == Path(source).name


def _own(config: RasterConfig, job: RasterJob) -> RasterConfig:
    return config if job.polygons is None else config.changed(polygons=Path(job.polygons))
