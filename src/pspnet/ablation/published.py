"""The paper's tables 5 and 6, other methods' rows with ours beside them; and the depth curve of table 3."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pspnet.ablation.grid import GridTable, paper_content
from pspnet.ablation.runs import AblationCell
from pspnet.ablation.scores import FOUR_SCORES, baseline_and_pspnet, by_seed, mean_and_half_width, per_class
from pspnet.config.ablation import AblationConfig


def published_tables(config: AblationConfig, tables: Sequence[GridTable], cells: list[AblationCell]) -> list[str]:
    """Markdown of tables 5 and 6. Ours are the grid's PSPNet on its validation split, where the data is the table's; on other
    data they would say nothing beside these, and the column stays empty."""
    content = paper_content()
    pair = baseline_and_pspnet(tables)
    here = config.recipe.data.format
    lines: list[str] = []
    for name in ("T5", "T6"):
        table = content[name]
        row = pair[1] if pair and here == table["format"] else None
        lines += ["", f"## {name}: {table['title']}", ""]
        if row is None:
            lines += [f"Ours: none, since the data is {here}, not {table['format']}.", ""]
        if name == "T5":
            lines += [
                f"| method | {' | '.join(table['classes'])} | mean |",
                "| --- |" + " ---: |" * (len(table["classes"]) + 1),
            ]
            lines += [f"| {method} | {_cells(values)} |" for method, values in table["methods"].items()]
            if row is not None:
                ours = per_class(config, cells, row)
                cell = [_number(ours.get(name)) for name in table["classes"]]
                mean = _mean(by_seed(config, cells, row))
                lines.append(f"| ours ({config.recipe.data.val_split}) | {' | '.join(cell)} | {mean} |")
        else:
            heads = " | ".join(FOUR_SCORES.values())
            lines += [f"| method | {heads} |", "| --- |" + " ---: |" * len(FOUR_SCORES)]
            lines += [f"| {method} | {_cells(values)} |" for method, values in table["methods"].items()]
            if row is not None:
                scores = [_mean(by_seed(config, cells, row, score)) for score in FOUR_SCORES]
                lines.append(f"| ours ({config.recipe.data.val_split}) | {' | '.join(scores)} |")
    return lines


def depth_curve(config: AblationConfig, tables: Sequence[GridTable], cells: list[AblationCell]) -> Path | None:
    """Draws depth.png: mean IoU by the encoder's depth, single and multi-scale, ours and the paper's. None where T3 is not
    among the tables or none of its runs is finished. Raises MissingExtraError without matplotlib."""
    table = next((table for table in tables if table.name == "T3"), None)
    if table is None:
        return None
    from pspnet.evaluation.pictures import new_figure, save_figure

    encoders = list(config.encoders)
    figure, (axes,) = new_figure(6.4, 4.2)
    drawn = False
    for first, label, dash in ((0, "single scale", "-"), (1, "multi-scale", "--")):
        rows = table.rows[first::2]
        ours = [mean_and_half_width(list(by_seed(config, cells, row).values())) for row in rows]
        points = [(x, mean, half or 0.0) for x, (mean, half) in enumerate(ours) if mean is not None]
        if points:
            drawn = True
            axes.errorbar(
                *zip(*points, strict=True), fmt="o" + dash, color="#1f5fa8", capsize=3, label=f"ours, {label}"
            )
        paper = [(x, row.paper[0]) for x, row in enumerate(rows) if row.paper]
        if paper:
            axes.plot(*zip(*paper, strict=True), "s" + dash, color="#9aa3ad", label=f"the paper, ADE20K, {label}")
    if not drawn:
        return None
    axes.set_xticks(range(len(encoders)), encoders)
    axes.set_ylabel("mean IoU, %")
    axes.set_title("Depth of the encoder", loc="left")
    axes.grid(axis="y", color="#e3e6ea", linewidth=0.8)
    axes.legend(frameon=False)
    return save_figure(figure, config.out / "depth.png")


def _mean(values: dict[int, float]) -> str:
    mean, half = mean_and_half_width(list(values.values()))
    return _number(mean) + ("" if half is None else f" ± {half:.1f}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _cells(values: Sequence[Any]) -> str:
    return " | ".join(f"{float(value):.1f}" for value in values)
