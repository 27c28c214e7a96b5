"""Trains and scores every cell of the grid, whatever was done already."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from pspnet.ablation.grid import protocols_of, tables_of
from pspnet.ablation.pictures import side_by_side
from pspnet.ablation.published import depth_curve
from pspnet.ablation.runs import AblationCell, cells_of
from pspnet.ablation.tables import check_tables, write_tables
from pspnet.config.ablation import AblationConfig
from pspnet.config.evaluation import EvaluationConfig
from pspnet.data.dataset import Dataset, GivenDataset
from pspnet.errors import ConfigError, RunInterrupted
from pspnet.evaluation import assess
from pspnet.files import write_bytes
from pspnet.predict.segmenter import Segmenter
from pspnet.training import resume, train

Say = Callable[[str], None]


def ablate(
    config: AblationConfig,
    *,
    train_data: GivenDataset | None = None,
    val_data: GivenDataset | None = None,
    say: Say = print,
    quiet: bool = False,
    inputs: Iterable[str | Path] = (),
    overwrite: bool = False,
) -> Path:
    """Runs the grid and returns the path of tables.md. What is there already, finished or half-way, is gone on with.

    The tables are written anew after every run, with the seeds that are finished.

    Args:
        config: The grid and its recipe.
        train_data: A data set of your own, in place of the recipe's.
        val_data: Likewise, to score on.
        say: Gets a line before each run.
        quiet: No progress bars.
        inputs: Files that are never replaced.
        overwrite: Whether tables that no ablation made may be.

    Raises what `pspnet.train` and `assess` raise, and OutputError before the first run.
    """
    from pspnet.training.resolve import DataSets, open_data

    tables = tables_of(config)  # refuses contradictions before anything runs
    check_tables(config, inputs, overwrite)
    if train_data is None:
        sets = open_data(config.recipe.data, config.recipe.check_data)
    else:
        sets = DataSets.given(train_data, val_data)
    if sets.val is None:
        raise ConfigError("the grid scores every network on a validation split: set data.val_split, or give val_data")
    cells = cells_of(config, tables)
    for number, cell in enumerate(cells, start=1):
        missing = [kind for kind in ("single", "multi")[: 1 + cell.multi_scale] if kind not in cell.results()]
        if not missing:
            continue
        say(f"run {number} of {len(cells)}: {cell.rows[0]}, seed {cell.recipe.seed}")
        try:
            best = _trained(cell, sets.train, sets.val, quiet)
        except RunInterrupted as stop:
            raise RunInterrupted(
                f"stopped in run {number} of {len(cells)}; its state is saved. Give the same command again: "
                "the grid goes on where it stopped",
                stop.signal,
            ) from stop
        _score(config, cell, best, sets.val, missing)
        if not config.keep_models:
            (cell.folder / "last.ckpt").unlink(missing_ok=True)
        write_tables(config, tables, cells)
    path = write_tables(config, tables, cells)
    if config.pictures:
        side_by_side(config, tables, cells, sets.val)
        depth_curve(config, tables, cells)
    return path


def _trained(cell: AblationCell, train_data: Dataset, val_data: Dataset, quiet: bool) -> Path:
    if (cell.folder / "config.yaml").is_file():
        return resume(cell.folder, train_data=train_data, val_data=val_data, quiet=quiet)
    return train(cell.recipe, train_data=train_data, val_data=val_data, quiet=quiet)


def _score(config: AblationConfig, cell: AblationCell, best: Path, val_data: Dataset, missing: list[str]) -> None:
    segmenter = Segmenter.load(best, device=cell.recipe.device)
    single, multi = protocols_of(config)
    instances = config.instances if config.instances is not None else config.recipe.data.format == "cityscapes"
    results = cell.results()
    for kind in missing:
        protocol = single if kind == "single" else multi
        report = assess(segmenter, val_data, EvaluationConfig(resamples=0, instances=instances), protocol=protocol)
        report.save_json(cell.folder / f"scores_{kind}.json", overwrite=True)
        content = report.to_dict()
        # the tables read this after every run: it stays small, images and pixels are in the file above
        results[kind] = {
            name: value for name, value in content.items() if name not in ("per_image", "confusion", "model")
        }
        write_bytes(cell.folder / "result.json", json.dumps(results, allow_nan=False).encode())
