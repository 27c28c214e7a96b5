"""Many rasters, on the processes of one machine or on a cluster: finished ones are skipped, failed ones tried again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pspnet.config.raster import RasterConfig
from pspnet.errors import ConfigError, OutputError, PspnetError, RasterError
from pspnet.files import Inputs, Listing, check_output, check_results_folder, holds_keys, list_files, locked, write_text
from pspnet.georaster.grids import open_raster
from pspnet.predict.cluster import read_card
from pspnet.predict.segmenter import Segmenter
from pspnet.raster.cluster import run_cluster
from pspnet.raster.jobs import RasterJob, RasterOutcome, do_job, remove_parts, stitch
from pspnet.raster.pool import default_workers, run_pool
from pspnet.weights.bundled import find_model

SUFFIXES = (".tif", ".tiff", ".vrt", ".jp2", ".img", ".mrf")
SUMMARY = "summary.json"
Runner = Callable[[Sequence[RasterJob]], Iterator[RasterOutcome]]


@dataclass(frozen=True)
class ManyReport:
    """What became of many rasters. skipped: targets that were there before. failed: source -> reason. left_out: what a folder
    of sources held besides."""

    folder: Path
    done: list[RasterOutcome] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left_out: Listing = field(default_factory=Listing)


def segment_rasters(
    segmenter: Segmenter | str | Path,
    sources: str | Path | Iterable[str | Path],
    folder: str | Path,
    config: RasterConfig | None = None,
    *,
    workers: int | None = None,
    cluster: str | None = None,
    device: str = "auto",
    retries: int = 1,
    split_megapixels: float = 1000.0,
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> ManyReport:
    """Classifies many rasters, each as `segment_raster` would, into FOLDER/NAME.tif, and writes FOLDER/summary.json.

    Targets that exist are skipped without overwrite, so the same call goes on after a stop.

    Args:
        segmenter: A model's path or name, which every worker loads once; or an open Segmenter, which works in this process.
        sources: A folder (searched through), a text file with a path a line, or paths.
        folder: Where the maps go.
        config: How the model is applied. Its `polygons` may be any name: it asks for FOLDER/NAME.gpkg.
        workers: Processes; None: by the machine.
        cluster: Address of a Ray cluster, or "local"; None: this machine's own processes.
        device: Where the model runs: "auto", "cpu", "cuda" ...; of an open Segmenter its own.
        retries: How often a failed raster is tried again.
        split_megapixels: Rasters above twice that are divided into rows and put together at the end, tile by tile.
        progress: Called with (finished, all) after each piece of work.
        settings: Fields of RasterConfig, put over `config`.

    Raises ConfigError for sources and settings that cannot be, OutputError for a folder of the sources and for one into which
    another process writes; a raster's own faults are in the report.
    """
    config, folder = config or RasterConfig(), Path(folder)
    config = config.changed(**settings) if settings else config
    opened = segmenter if isinstance(segmenter, Segmenter) else None
    if opened is not None and (cluster is not None or (workers or 1) > 1):
        raise ConfigError(
            f"workers = {workers}, cluster = {cluster!r} with an open Segmenter: other processes load the model themselves; "
            "give its path or name"
        )
    checkpoint = ""
    if not isinstance(segmenter, Segmenter):
        checkpoint = str(find_model(segmenter).absolute())
        read_card(checkpoint)
    workers = 1 if opened is not None else workers or default_workers()
    left_out = Listing()
    rasters = dict(_targets(sources, folder, left_out))
    check_results_folder(
        folder,
        [*rasters, *([sources] if isinstance(sources, (str, Path)) and os.path.isdir(sources) else [])],
        {target.parent for target in rasters.values()},
    )
    files = [checkpoint] if opened is None else opened.files
    used = Inputs([*rasters, *files, *([config.aoi] if isinstance(config.aoi, Path) else [])])
    for target in rasters.values():  # a map may be another raster's input, too
        if used.find(target) is not None:
            raise OutputError(f"'{target}' is an input; choose another folder for the maps", exit_code=2)
    summary = folder / SUMMARY
    ours = config.overwrite or holds_keys(summary, ("done", "skipped", "failed"))
    check_output(summary, inputs=used, overwrite=ours)
    report = ManyReport(folder, left_out=left_out)
    whole: list[RasterJob] = []
    for source, target in rasters.items():
        if target.exists() and not config.overwrite:
            remove_parts(target)
            report.skipped.append(source)
        else:
            polygons = str(target.with_suffix(".gpkg")) if config.polygons else None
            whole.append(RasterJob(source, str(target), polygons))

    def run(jobs: Sequence[RasterJob]) -> Iterator[RasterOutcome]:
        if cluster is not None:
            return run_cluster(jobs, checkpoint, config, min(workers, len(jobs)), cluster)
        if workers == 1:
            return _here(jobs, opened or checkpoint, config, device)
        return run_pool(jobs, checkpoint, config, min(workers, len(jobs)), device)

    with locked(summary, f"'{folder}'"):
        jobs = _divided(whole, config, split_megapixels) if workers > 1 or cluster else whole
        outcomes: dict[RasterJob, RasterOutcome] = {}
        for _ in range(retries + 1):
            left = [job for job in jobs if job not in outcomes or outcomes[job].error]
            if not left:
                break
            for outcome in run(left):
                outcomes[outcome.job] = outcome
                if progress is not None:
                    progress(sum(1 for one in outcomes.values() if not one.error), len(jobs))
        _gather(whole, outcomes, report, checkpoint, config)
        _write_summary(report)
    return report


def find_rasters(
    sources: str | Path | Iterable[str | Path], folder: str | Path | None = None, left_out: Listing | None = None
) -> list[tuple[str, Path]]:
    """(source, name below the output folder) of a folder, a list file or paths. Raises ConfigError where none is found.

    folder: where the maps go; what lies in it is no source where it is a folder below that of the sources. left_out: gets what
    a folder holds besides.
    """
    if isinstance(sources, (str, Path)):
        path = Path(sources)
        product = next(iter(sorted(path.glob("MTD_MSI*.xml"))), None) if path.is_dir() else None
        if product is not None:  # a Sentinel-2 product (.SAFE): GDAL tells which rasters it holds
            return [(str(product), Path(path.with_suffix("").name))]
        below = None if folder is None else os.path.realpath(folder)
        if below == os.path.realpath(path):
            below = None
        if path.is_dir():
            listing = list_files(path, SUFFIXES, skip=lambda file: _own_result(file, below))
            if not listing.files:
                note = listing.note()
                raise ConfigError(f"'{path}' holds no raster ({', '.join(SUFFIXES)})" + (f"; {note}" if note else ""))
            if left_out is not None:
                left_out.left_out |= listing.left_out
            return [(str(file), file.relative_to(path)) for file in listing.files]
        if path.suffix.lower() in (".txt", ".lst", ".csv"):
            if not path.is_file():
                raise ConfigError(f"'{path}' does not exist; give a text file with a raster's path or URL a line")
            try:
                lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
            except (OSError, ValueError) as error:
                raise ConfigError(f"'{path}' is no list of rasters: {error}") from error
            sources = [line for line in lines if line and not line.startswith("#")]
        else:
            sources = [path]
    files = [(str(source), Path(Path(str(source)).name)) for source in sources]
    if not files:
        raise ConfigError("the list of rasters is empty")
    return files


def _own_result(file: Path, below: str | None) -> str:
    if below is None:
        return ""
    folder = os.path.realpath(file.parent)
    return "a map of an earlier run" if folder == below or folder.startswith(below + os.sep) else ""


def _targets(sources: str | Path | Iterable[str | Path], folder: Path, left_out: Listing) -> Iterator[tuple[str, Path]]:
    source_of: dict[Path, str] = {}
    for source, name in find_rasters(sources, folder, left_out):
        target = folder / name.with_suffix(".tif")
        if target in source_of:
            raise ConfigError(
                f"'{source_of[target]}' and '{source}' would both become '{target}'; give them in two calls, or "
                "name a folder above both"
            )
        source_of[target] = source
        yield source, target


def _divided(jobs: Sequence[RasterJob], config: RasterConfig, megapixels: float) -> list[RasterJob]:
    """Large rasters as several jobs. One that cannot be opened stays whole: its job tells why."""
    divided: list[RasterJob] = []
    for job in jobs:
        height, width = _size(job.source)
        # the rows of an area of interest, or of another resolution, count from their own first one
        if config.aoi is not None or config.resolution != "native" or height * width <= 2e6 * megapixels:
            divided.append(job)
            continue
        # below eight rows of windows, the one that each part computes twice would cost too much
        rows = max(int(megapixels * 1e6 / width), 8 * config.tile_px) // config.block_px * config.block_px
        starts = range(0, height, max(rows, config.block_px))
        divided += [
            RasterJob(job.source, job.target, job.polygons, (start, min(start + starts.step, height)))
            for start in starts
        ]
    return divided


def _size(source: str) -> tuple[int, int]:
    try:
        with open_raster(source) as dataset:
            return dataset.height, dataset.width
    except RasterError:
        return 0, 0


def _gather(
    whole: Sequence[RasterJob],
    outcomes: dict[RasterJob, RasterOutcome],
    report: ManyReport,
    model: str,
    config: RasterConfig,
) -> None:
    """Puts the parts of divided rasters together, and all outcomes into the report."""
    segmenter: Segmenter | None = None
    for job in whole:
        mine = [outcome for one, outcome in outcomes.items() if one.target == job.target]
        errors = [outcome.error for outcome in mine if outcome.error]
        if errors:
            report.failed[job.source] = errors[0]
            continue
        if mine[0].job.rows is None:
            report.done.append(mine[0])
            continue
        segmenter = segmenter or Segmenter.load(model, device="cpu")
        parts = sorted((outcome.job for outcome in mine), key=lambda one: one.rows or (0, 0))
        try:
            stitched = stitch(segmenter, parts, config)
        except PspnetError as error:
            report.failed[job.source] = str(error)
            continue
        messages = tuple(dict.fromkeys(text for outcome in mine for text in outcome.warnings))
        report.done.append(
            RasterOutcome(
                job,
                "",
                stitched.seconds + sum(outcome.seconds for outcome in mine),
                stitched.shares,
                stitched.data_share,
                len(stitched.unreadable),
                messages,
            )
        )


def _here(
    jobs: Sequence[RasterJob], model: Segmenter | str, config: RasterConfig, device: str
) -> Iterator[RasterOutcome]:
    """One after the other in this process."""
    segmenter = model if isinstance(model, Segmenter) else Segmenter.load(model, device=device)
    for job in jobs:
        yield do_job(segmenter, job, config)


def _write_summary(report: ManyReport) -> None:
    content: dict[str, Any] = {
        "done": [outcome.to_dict() for outcome in report.done],
        "skipped": report.skipped,
        "failed": report.failed,
    }
    write_text(report.folder / SUMMARY, json.dumps(content, indent=1))
