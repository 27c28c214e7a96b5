"""Figures for notebooks: chips with labels over them, results, curves."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.display import image_for_display, overlay
from pspnet.errors import require
from pspnet.labels import LabelSpace

Shown = tuple[NDArray[Any], NDArray[np.uint8] | None, str]  # image (H, W, bands), labels or None, title


def grid_figure(pictures: Sequence[Shown], space: LabelSpace, columns: int, alpha: float = 0.5) -> Any:
    """Pictures in rows, each with its labels over it in the classes' colours, and a legend of the classes below."""
    figure_module, patches = require("matplotlib.figure", "train"), require("matplotlib.patches", "train")
    rows = max(1, -(-len(pictures) // columns))
    figure = figure_module.Figure(figsize=(2.8 * columns, 2.9 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (image, labels, title) in zip(axes.flat, pictures, strict=False):
        axis.imshow(_over(image, labels, space, alpha))
        axis.set_title(title, fontsize=8)
    handles = [
        patches.Patch(color=np.array(colour) / 255, label=name)
        for name, colour in zip(space.names, space.colours, strict=True)
    ]
    figure.legend(
        handles=handles[:30], loc="outside lower center", ncols=min(6, len(handles)), fontsize=8, frameon=False
    )
    return figure


def loss_figure(tables: Sequence[Path]) -> Any:
    """Training and validation loss over all updates of several runs, one after the other."""
    figure_module = require("matplotlib.figure", "train")
    figure = figure_module.Figure(figsize=(7, 4.2), layout="constrained")
    axes, before = figure.add_subplot(), 0.0
    curves: dict[str, list[tuple[float, float]]] = {"loss": [], "val_loss": []}
    for table in tables:
        with table.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        for row in rows:
            for name, points in curves.items():
                if row[name]:
                    points.append((before + float(row["step"]), float(row[name])))
        before += max((float(row["step"]) for row in rows), default=0.0)
    for (name, points), title in zip(curves.items(), ("training", "validation"), strict=True):
        if points:
            axes.plot(*zip(*points, strict=True), label=title, marker="o" if name == "val_loss" else None)
    axes.set(xlabel="updates", ylabel="loss")
    axes.legend()
    return figure


def _over(image: NDArray[Any], labels: NDArray[np.uint8] | None, space: LabelSpace, alpha: float) -> NDArray[np.uint8]:
    shown = image_for_display(image)
    return shown if labels is None else overlay(shown, labels, space.palette, alpha)
