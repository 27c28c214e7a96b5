"""Pictures of scores, drawn with matplotlib."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from pspnet.errors import require
from pspnet.files import write_bytes
from pspnet.metrics import CalibrationCounter, Scores, percent

NAMED_CLASSES = 60  # with more, names would overlap and only the picture is drawn
NUMBERED_CLASSES = 24  # with more, the numbers in the cells would be too small to read


def confusion_picture(scores: Scores, path: str | Path, title: str = "") -> Path:
    """Writes a PNG of the confusion matrix: each row (label) as shares of its pixels. Returns its path.

    Raises MissingExtraError without matplotlib.
    """
    counts = scores.confusion
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    number = len(counts)
    side = float(np.clip(2.6 + 0.36 * number, 5, 14))
    figure, (axes,) = new_figure(side + 1.2, side)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    if number <= NAMED_CLASSES:
        size = 9 if number <= 30 else 6
        axes.set_xticks(range(number), scores.names, rotation=90, fontsize=size)
        axes.set_yticks(range(number), scores.names, fontsize=size)
    if number <= NUMBERED_CLASSES:
        for row, column in zip(*np.nonzero(shares >= 0.005), strict=True):
            value = shares[row, column]
            axes.text(
                column,
                row,
                f"{100 * value:.0f}",
                ha="center",
                va="center",
                fontsize=7.5,
                color="white" if value > 0.6 else "#33363d",
            )
    axes.set_xlabel("predicted as")
    axes.set_ylabel("labelled as")
    head = f"{title}: " if title else ""
    axes.set_title(
        f"{head}mean IoU {percent(scores.mean_iou)}, pixel accuracy {percent(scores.pixel_accuracy)}", loc="left"
    )
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label("share of the labelled pixels")
    bar.outline.set_visible(False)
    return save_figure(figure, path)


def reliability_picture(calibration: CalibrationCounter, path: str | Path, title: str = "") -> Path:
    """Writes a PNG of accuracy against confidence, with the share of pixels in each bin below. Returns its path."""
    figure, (axes, below) = new_figure(5.6, 6.8, (4, 1))
    pixels, confidence, right = calibration.totals()
    filled, bins = pixels > 0, calibration.bins
    accuracy = right[filled] / pixels[filled]
    centres = (np.flatnonzero(filled) + 0.5) / bins
    axes.bar(centres, accuracy, 0.92 / bins, color="#a9c6e3", zorder=1)
    axes.plot([0, 1], [0, 1], color="#5b616b", linewidth=1, linestyle=(0, (4, 3)), zorder=2)  # honest confidence
    axes.plot(
        confidence[filled] / pixels[filled], accuracy, "o", color="#16324f", markersize=4, zorder=3, clip_on=False
    )
    axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="share of them that are right")
    axes.grid(axis="y", color="#e3e6ea", linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
    summary = calibration.summary()
    head = f"{title}: " if title else ""
    error, over = float(summary["calibration_error"]), float(summary["overconfidence"])
    axes.set_title(
        f"{head}calibration error {100 * error:.1f}, overconfidence {100 * over:+.1f} (points)", loc="left", fontsize=10
    )
    below.bar(centres, pixels[filled] / pixels.sum(), 0.92 / bins, color="#b9c4d0")
    below.set(xlim=(0, 1), xlabel="confidence of the predicted class", ylabel="pixels")
    return save_figure(figure, path)


def new_figure(width: float, height: float, heights: tuple[int, ...] = (1,)) -> tuple[Any, list[Any]]:
    """A figure (inches) with plain axes below one another, in the given proportions, drawn without a display."""
    require("matplotlib", "train")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    rows = figure.subplots(len(heights), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    for axes in rows[:, 0]:
        axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
        axes.tick_params(length=0)
    return figure, list(rows[:, 0])


def save_figure(figure: Any, path: str | Path) -> Path:
    """Writes a figure as PNG, whole or not at all."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    write_bytes(path, stream.getvalue())
    return Path(path)
