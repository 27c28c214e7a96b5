"""The training runs behind the tables, and what each has given so far."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pspnet.ablation.grid import GridTable, Row, key_of
from pspnet.config.ablation import AblationConfig
from pspnet.config.train import TrainConfig
from pspnet.errors import TrainingError


@dataclass(frozen=True)
class AblationCell:
    """One training run, and under which of the two protocols it is scored."""

    recipe: TrainConfig
    folder: Path
    rows: tuple[str, ...]
    multi_scale: bool

    def results(self) -> dict[str, Any]:
        """The scores there are, by "single" and "multi"."""
        path = self.folder / "result.json"
        if not path.is_file():
            return {}
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise TrainingError(f"'{path}' is damaged ({error}); delete it, and it is made again") from error


def cells_of(config: AblationConfig, tables: list[GridTable]) -> list[AblationCell]:
    """Every run that the tables need, once; seed by seed, so that early tables have all rows."""
    wanted: dict[str, tuple[TrainConfig, list[str], bool]] = {}
    for table in tables:
        for row in table.rows:
            if row.recipe is None:
                continue
            recipe, names, multi = wanted.get(key_of(row.recipe), (row.recipe, [], False))
            wanted[key_of(row.recipe)] = (recipe, [*names, f"{table.name} {row.name}"], multi or row.multi_scale)
    cells = []
    for seed in range(config.recipe.seed, config.recipe.seed + config.seeds):
        for key, (recipe, names, multi) in wanted.items():
            folder = config.out / "runs" / f"{key}_seed{seed}"
            changed = TrainConfig.model_validate(
                recipe.model_dump(exclude_unset=True) | {"seed": seed, "run_dir": folder, "name": names[0]}
            )
            cells.append(AblationCell(changed, folder, tuple(names), multi))
    return cells


def cell_of(config: AblationConfig, cells: list[AblationCell], row: Row, seed: int) -> AblationCell:
    """The run behind a row."""
    assert row.recipe is not None
    folder = config.out / "runs" / f"{key_of(row.recipe)}_seed{seed}"
    return next(cell for cell in cells if cell.folder == folder)
