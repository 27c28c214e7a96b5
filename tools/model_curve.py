"""A run's curve, small enough to keep: training loss and validation score by step, as a table and a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pspnet.files import write_bytes

POINTS = 128  # lines of the table at most


def curve(metrics: Sequence[Path], points: int = POINTS) -> list[tuple[int, float, float | None]]:
    """metrics.csv of a run, or of runs that went on from one another -> (last step, mean training loss since the line
    before, validation mean IoU or None)."""
    losses: list[tuple[int, float]] = []
    scores: dict[int, float] = {}
    for path in metrics:
        start = losses[-1][0] if losses else 0
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                step = start + int(row["step"])
                if row["loss"]:
                    losses.append((step, float(row["loss"])))
                if row["val_mean_iou"]:
                    scores[step] = float(row["val_mean_iou"])
    size = -(-len(losses) // points) or 1
    collected: list[tuple[int, float, float | None]] = []
    before = 0
    for first in range(0, len(losses), size):
        group = losses[first : first + size]
        step = group[-1][0]
        new = [score for at, score in scores.items() if before < at <= step]
        collected.append((step, fmean(loss for _, loss in group), new[-1] if new else None))
        before = step
    return collected


def write_curve(name: str, metrics: Sequence[Path], folder: Path) -> str:
    """Writes FOLDER/curves/NAME.csv and FOLDER/pictures/NAME-curve.png; the card's section about them, or '' without a run."""
    metrics = [path for path in metrics if path.is_file()]
    if not metrics:
        return ""
    lines = curve(metrics)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["step", "loss", "val_mean_iou"])
    rows.writerows((step, f"{loss:.4f}", "" if score is None else f"{score:.4f}") for step, loss, score in lines)
    write_bytes(folder / "curves" / f"{name}.csv", text.getvalue().encode())
    write_bytes(folder / "pictures" / f"{name}-curve.png", _picture(lines))
    return (
        f"## Curve\n\n![Training loss and validation mean IoU by step](pictures/{name}-curve.png)\n\n"
        f"[curves/{name}.csv](curves/{name}.csv) has the loss as a mean over the steps since the line before. A run of the "
        "commands below anywhere should follow it to within a few hundredths; `metrics.csv` of its folder has the same columns."
    )


def _picture(lines: list[tuple[int, float, float | None]]) -> bytes:
    figure = Figure(figsize=(7.2, 3.2), dpi=110, layout="constrained")
    left = figure.subplots()
    left.plot([step for step, _, _ in lines], [loss for _, loss, _ in lines], color="#4463a8", linewidth=1.2)
    left.set_xlabel("step")
    left.set_ylabel("training loss", color="#4463a8")
    left.set_ylim(bottom=0)
    left.spines[["top"]].set_visible(False)
    scored = [(step, 100 * score) for step, _, score in lines if score is not None]
    if scored:
        right = left.twinx()
        right.plot(*zip(*scored, strict=True), color="#c0662a", marker="o", markersize=4, linewidth=1.2)
        right.set_ylabel("validation mean IoU, %", color="#c0662a")
        right.set_ylim(0, 100)
        right.spines[["top"]].set_visible(False)
    data = io.BytesIO()
    FigureCanvasAgg(figure).print_png(data)
    return data.getvalue()
