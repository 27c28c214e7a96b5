"""Scores of the grid's rows over seeds: what the tables and curves are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pspnet.ablation.grid import GridTable, Row
from pspnet.ablation.runs import AblationCell, cell_of
from pspnet.config.ablation import AblationConfig

# Student's t at 97.5 % for 1, 2, ... degrees of freedom; beyond them 1.96
_T = (
    12.706,
    4.303,
    3.182,
    2.776,
    2.571,
    2.447,
    2.365,
    2.306,
    2.262,
    2.228,
    2.201,
    2.179,
    2.160,
    2.145,
    2.131,
    2.120,
    2.110,
    2.101,
    2.093,
    2.086,
    2.080,
    2.074,
    2.069,
    2.064,
    2.060,
    2.056,
    2.052,
    2.048,
    2.045,
    2.042,
)
FOUR_SCORES = {
    "class_iou": "class IoU",
    "class_iiou": "class iIoU",
    "category_iou": "category IoU",
    "category_iiou": "category iIoU",
}


def mean_and_half_width(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean, and half of its 95 % interval; None for fewer than 1 and 2 values."""
    if not values:
        return None, None
    if len(values) == 1:
        return float(values[0]), None
    freedom = len(values) - 1
    t = _T[freedom - 1] if freedom <= len(_T) else 1.96
    return float(np.mean(values)), float(t * np.std(values, ddof=1) / math.sqrt(len(values)))


def by_seed(config: AblationConfig, cells: list[AblationCell], row: Row, score: str = "mean_iou") -> dict[int, float]:
    """A row's score in % for every seed that is finished."""
    run_of_seed = {}
    for seed in range(config.recipe.seed, config.recipe.seed + config.seeds):
        result = cell_of(config, cells, row, seed).results().get("multi" if row.multi_scale else "single", {})
        if result.get(score) is not None:
            run_of_seed[seed] = 100 * float(result[score])
    return run_of_seed


def per_class(config: AblationConfig, cells: list[AblationCell], row: Row) -> dict[str, float]:
    """Class -> its IoU in % on a row, mean over the seeds that are finished and have one."""
    together: dict[str, list[float]] = {}
    for seed in range(config.recipe.seed, config.recipe.seed + config.seeds):
        for one in cell_of(config, cells, row, seed).results().get("single", {}).get("classes", []):
            if one["iou"] is not None:
                together.setdefault(one["name"], []).append(100 * one["iou"])
    return {name: float(np.mean(values)) for name, values in together.items()}


def baseline_and_pspnet(tables: Sequence[GridTable]) -> tuple[Row, Row] | None:
    """The rows that are shown side by side: no pyramid, and the paper's pyramid."""
    for name, low, high in (("T1", "baseline", "B1236+AVE+DR"), ("T4", "+DA+AL", "+DA+AL+PSP")):
        for table in tables:
            if table.name == name:
                return table.row(low), table.row(high)
    return None
