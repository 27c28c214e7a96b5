"""The paper's tables as experiments: every row a changed recipe, every recipe trained once per seed."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml

from pspnet.config.ablation import AblationConfig
from pspnet.config.base import merged
from pspnet.config.protocol import PAPER_SCALES, Protocol, find_protocol
from pspnet.config.train import TrainConfig


@dataclass(frozen=True)
class Row:
    """A line of a table. recipe: None where there are only published numbers. paper: (mean IoU, pixel accuracy) in %,
    None where the paper has no such row."""

    name: str
    recipe: TrainConfig | None
    multi_scale: bool
    paper: tuple[float, float] | None


@dataclass(frozen=True)
class GridTable:
    """A table of the paper. order: pairs of rows of which the paper finds the second one better."""

    name: str
    title: str
    rows: tuple[Row, ...]
    baseline: str
    order: tuple[tuple[str, str], ...]

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)


def tables_of(config: AblationConfig) -> list[GridTable]:
    """The tables that are asked for. Raises ConfigError where a row's changes contradict the recipe."""
    paper = paper_content()
    return [
        _depths(config, paper[name]) if name == "T3" else _table(config, name, paper[name]) for name in config.tables
    ]


def paper_content() -> dict[str, Any]:
    """paper.yaml: the paper's tables."""
    text = (resources.files("pspnet.ablation") / "paper.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def _table(config: AblationConfig, name: str, content: Mapping[str, Any]) -> GridTable:
    rows = []
    for row in content["rows"]:
        changes = row.get("changes")
        recipe = None
        if changes is not None:
            deeper = {"model": {"encoder": config.encoders[-1]}} if row.get("deeper") else {}
            recipe = changed(config.recipe, merged(changes, deeper))
        rows.append(Row(row["name"], recipe, bool(row.get("multi_scale")), _pair(row["paper"])))
    order = tuple((low, high) for low, high in content["order"])
    return GridTable(name, content["title"], tuple(rows), content["baseline"], order)


def _depths(config: AblationConfig, content: Mapping[str, Any]) -> GridTable:
    rows: list[Row] = []
    for encoder in config.encoders:
        published = content["encoders"].get(encoder, {})
        recipe = changed(config.recipe, {"model": {"encoder": encoder}})
        rows.append(Row(f"PSPNet ({encoder})", recipe, False, _pair(published.get("paper"))))
        rows.append(Row(f"PSPNet ({encoder}) + MS", recipe, True, _pair(published.get("multi_scale"))))
    single, multi = [r.name for r in rows[::2]], [r.name for r in rows[1::2]]
    order = [*itertools.pairwise(single), *zip(single, multi, strict=True)]
    return GridTable("T3", content["title"], tuple(rows), single[0], tuple(order))


def changed(recipe: TrainConfig, changes: Mapping[str, Any]) -> TrainConfig:
    """The recipe with nested changes over what was given in it; what was left open stays open."""
    given = recipe.model_dump(exclude_unset=True, exclude={"published"})  # a row is no longer what was published
    return TrainConfig.model_validate(merged(given, changes))


_NO_MATTER = {
    "run_dir",
    "name",
    "published",
    "seed",
    "device",
    "devices",
    "workers",
    "log_every",
}  # a key is the same without them


def key_of(recipe: TrainConfig) -> str:
    """A name for what a recipe trains: the same for equal settings, wherever they stand in the grid."""
    settings = recipe.model_dump(mode="json", exclude=_NO_MATTER)
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def protocols_of(config: AblationConfig) -> tuple[Protocol, Protocol]:
    """The single-scale and the multi-scale protocol."""
    single = find_protocol(config.protocol)
    if config.multi_scale:
        return single, find_protocol(config.multi_scale)
    mirror = single.mirror if single.mirror != "none" else "image"
    return single, single.changed(name=f"{single.name}, 6 scales, mirrored", scales=PAPER_SCALES, mirror=mirror)


def _pair(values: list[float] | None) -> tuple[float, float] | None:
    return None if values is None else (float(values[0]), float(values[1]))
