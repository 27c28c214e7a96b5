"""The grid's outcome in the paper's form: means and intervals over seeds, the paper's numbers beside them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pspnet.ablation.grid import GridTable, Row, protocols_of
from pspnet.ablation.published import published_tables
from pspnet.ablation.runs import AblationCell
from pspnet.ablation.scores import FOUR_SCORES, baseline_and_pspnet, by_seed, mean_and_half_width, per_class
from pspnet.config.ablation import AblationConfig
from pspnet.files import Inputs, check_output, holds_keys, write_bytes

FILES = ("tables.json", "tables.md", "pictures.png", "depth.png")


def check_tables(config: AblationConfig, inputs: Iterable[str | Path], overwrite: bool) -> None:
    """Refuses to replace tables and pictures that no ablation made. Raises OutputError."""
    ours = overwrite or holds_keys(config.out / "tables.json", ("tables", "multi_scale"))
    read = Inputs([*inputs, *([config.recipe.data.root] if config.recipe.data.root else [])])
    for name in FILES:
        check_output(config.out / name, inputs=read, overwrite=ours)


def write_tables(config: AblationConfig, tables: Sequence[GridTable], cells: list[AblationCell]) -> Path:
    """Writes tables.md and tables.json; returns the former's path."""
    single, multi = protocols_of(config)
    data = config.recipe.data
    where = f"{data.format}{f' ({data.root.name})' if data.root else ''}, {data.val_split}"
    text = [
        "# The paper's grid on another data set",
        "",
        f"Data: {where}. Protocol: {single.name}; multi-scale rows (MS): {multi.name}. Ours: mean over seeds with the half "
        "width of its 95 % interval (Student's t). Gain: over the table's first trained row, paired by seed. The paper's "
        "numbers are from ADE20K: compare the order of rows, not their values.",
    ]
    content: dict[str, Any] = {"data": where, "protocol": single.name, "multi_scale": multi.name, "tables": {}}
    for table in tables:
        rows = [_row(config, cells, table, row) for row in table.rows]
        claims = [_claim(config, cells, table, low, high) for low, high in table.order]
        content["tables"][table.name] = {"title": table.title, "rows": rows, "claims": claims}
        text += ["", f"## {table.name}: {table.title}", "", *_markdown(rows), "", *_claims(claims)]
    classes = _per_class(config, tables, cells)
    if classes:
        content["per_class"] = classes
        text += [
            "",
            f"## Per class: {classes['baseline']} beside {classes['pspnet']}",
            "",
            "| class | baseline | PSPNet | gain |",
            "| --- | ---: | ---: | ---: |",
        ]
        text += [
            f"| {c['name']} | {_number(c['baseline'])} | {_number(c['pspnet'])} | {_number(c['gain'], '+.1f')} |"
            for c in classes["classes"]
        ]
    text += published_tables(config, tables, cells)
    write_bytes(config.out / "tables.json", json.dumps(content, indent=1, allow_nan=False).encode())
    write_bytes(config.out / "tables.md", ("\n".join(text) + "\n").encode())
    return config.out / "tables.md"


def _row(config: AblationConfig, cells: list[AblationCell], table: GridTable, row: Row) -> dict[str, Any]:
    content: dict[str, Any] = {"name": row.name, "paper": row.paper, "seeds": 0}
    if row.recipe is None:
        return content
    ious, accuracies = by_seed(config, cells, row), by_seed(config, cells, row, "pixel_accuracy")
    base = by_seed(config, cells, table.row(table.baseline))
    gains = [ious[seed] - base[seed] for seed in ious if seed in base] if row.name != table.baseline else []
    content |= {
        "seeds": len(ious),
        "mean_iou": mean_and_half_width(list(ious.values())),
        "pixel_accuracy": mean_and_half_width(list(accuracies.values())),
        "gain": mean_and_half_width(gains),
        "mean_iou_by_seed": {str(seed): value for seed, value in ious.items()},
    }
    for score in FOUR_SCORES:
        values = by_seed(config, cells, row, score)
        if values:
            content[score] = mean_and_half_width(list(values.values()))
    return content


def _claim(config: AblationConfig, cells: list[AblationCell], table: GridTable, low: str, high: str) -> dict[str, Any]:
    """Whether what the paper finds better is better here, seed by seed."""
    below, above = (by_seed(config, cells, table.row(name)) for name in (low, high))
    differences = [above[seed] - below[seed] for seed in above if seed in below]
    mean, half = mean_and_half_width(differences)
    return {
        "lower": low,
        "higher": high,
        "seeds": len(differences),
        "holds_in": sum(d > 0 for d in differences),
        "difference": mean,
        "half_width": half,
    }


def _per_class(config: AblationConfig, tables: Sequence[GridTable], cells: list[AblationCell]) -> dict[str, Any]:
    """Mean IoU of each class over seeds, for the baseline and the full PSPNet of the first table that has both."""
    pair = baseline_and_pspnet(tables)
    if pair is None:
        return {}
    before, after = (per_class(config, cells, row) for row in pair)
    rows = [
        {"name": name, "baseline": before[name], "pspnet": after[name], "gain": after[name] - before[name]}
        for name in before
        if name in after
    ]
    return {"baseline": pair[0].name, "pspnet": pair[1].name, "classes": rows} if rows else {}


def _markdown(rows: list[dict[str, Any]]) -> list[str]:
    four = [score for score in FOUR_SCORES if any(score in row for row in rows)]
    head = [
        "row",
        "mean IoU",
        "pixel acc.",
        "gain",
        *(FOUR_SCORES[s] for s in four),
        "seeds",
        "paper: mean IoU",
        "paper: pixel acc.",
    ]
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    for row in rows:
        paper = [_number(v, ".2f") for v in row["paper"]] if row["paper"] else ["", ""]
        ours = [_with_width(row.get(s), sign) for s, sign in (("mean_iou", ""), ("pixel_accuracy", ""), ("gain", "+"))]
        extra = [_with_width(row.get(score)) for score in four]
        lines.append("| " + " | ".join([row["name"], *ours, *extra, str(row["seeds"] or ""), *paper]) + " |")
    return lines


def _claims(claims: list[dict[str, Any]]) -> list[str]:
    lines = ["The paper's order, here:", ""]
    for c in claims:
        if c["seeds"]:
            width = "" if c["half_width"] is None else f" ± {c['half_width']:.1f}"
            is_certain = c["half_width"] is not None and abs(c["difference"]) > c["half_width"]
            verdict = "not told apart" if not is_certain else "holds" if c["difference"] > 0 else "the other way round"
            lines.append(
                f"- {c['lower']} < {c['higher']}: {c['difference']:+.1f}{width}, in {c['holds_in']} of {c['seeds']} "
                f"seeds: {verdict}"
            )
        else:
            lines.append(f"- {c['lower']} < {c['higher']}: not run yet")
    return lines


def _with_width(value: tuple[float | None, float | None] | None, sign: str = "") -> str:
    if value is None or value[0] is None:
        return ""
    return f"{value[0]:{sign}.1f}" + ("" if value[1] is None else f" ± {value[1]:.1f}")


def _number(value: float | None, form: str = ".1f") -> str:
    return "" if value is None else f"{value:{form}}"
