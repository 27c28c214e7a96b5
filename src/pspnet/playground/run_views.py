"""Runs as the page shows them: status, curves, pictures, queue, several together. What a folder holds is not trusted."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from pspnet.errors import PspnetError
from pspnet.files.path_limits import is_below
from pspnet.playground import charts
from pspnet.playground.context import Context
from pspnet.playground.run_state import RunState
from pspnet.terminal import duration
from pspnet.training.run_folder import RunFolder
from pspnet.weights.checkpoint import read_header


def buttons(context: Context, name: str | None) -> dict[str, bool]:
    """Whether Stop and Resume would do something."""
    try:
        state = context.runs.state(name) if name else None
    except PspnetError:
        state = None
    return {
        "stop": state is not None and (state.active or state.status == "queued"),
        "resume": state is not None and state.can_resume,
    }


def watch(context: Context, name: str | None) -> dict[str, str]:
    """A run as the page shows it: status, curves, picture (HTML) and log (text)."""
    if not name:
        return {"status": charts.note("No run yet. Start one with the form."), "curves": "", "picture": "", "log": ""}
    try:
        state = context.runs.state(name)
        folder = RunFolder(state.path)
        return {
            "status": status_page(state),
            "curves": curves_page(folder),
            "picture": picture_page(folder),
            "log": context.runs.log(name),
        }
    except PspnetError as error:
        return {"status": charts.note(str(error), bad=True), "curves": "", "picture": "", "log": ""}


def status_page(run: RunState) -> str:
    """How far a run is, in figures."""
    state = run.state
    step, steps = int(state.get("step", 0)), int(state.get("steps") or 0)
    cards = [("step", f"{step} of {steps}" if steps else "-")]
    if run.active:
        speed = state.get("images_per_s")
        cards += [
            ("images/s", f"{speed:.1f}" if speed else "-"),
            ("time left", duration(float(state["eta_s"])) if "eta_s" in state else "-"),
        ]
    cards += [
        (
            title,
            f"{100 * float(state[key]):.1f} %"
            if state.get(key) == state.get(key) and state.get(key) is not None
            else "-",
        )
        for title, key in (("mean IoU, latest", "val_mean_iou"), ("mean IoU, best", "best_mean_iou"))
    ]
    cards += [("loss", f"{float(state['loss']):.3f}" if "loss" in state else "-")]
    share = 100 * step / steps if steps else 0
    words = f'<p class="quiet">{escape(run.message)}</p>' if run.message else ""
    return (
        f'<div class="panel" data-status="{escape(run.status)}" data-step="{step}"><h3>{escape(run.name)} {charts.badge(run.status)}</h3>'
        f'{charts.facts(cards)}<div class="progress" role="progressbar" aria-valuenow="{share:.0f}" aria-valuemin="0" aria-valuemax="100" '
        f'aria-label="share of the steps done"><i style="width:{share:.1f}%"></i></div>{words}</div>'
    )


def measured(read: Callable[[], list[dict[str, float]]]) -> list[dict[str, float]]:
    """The lines of a run's table; none where it is damaged or gone."""
    try:
        return [row for row in read() if "step" in row]
    except Exception:  # whatever somebody's file holds: one chart without lines, not the page
        return []


def curves_page(folder: RunFolder) -> str:
    """Loss, scores and IoU of every class over steps."""
    rows, classes = measured(folder.read_metrics), measured(folder.read_class_iou)

    def line(title: str, key: str) -> charts.Line:
        return charts.Line(title, [(row["step"], row[key]) for row in rows if key in row])

    names = list(dict.fromkeys(name for row in classes for name in row if name != "step"))
    colours = colours_of(folder)
    lines = [
        charts.Line(name, [(row["step"], row[name]) for row in classes if name in row], colours.get(name))
        for name in names
    ]
    return (
        '<div class="charts">'
        + "".join(
            (
                charts.line_chart("Loss", [line("training", "loss"), line("validation", "val_loss")]),
                charts.line_chart(
                    "Scores on validation images",
                    [line("mean IoU", "val_mean_iou"), line("pixel accuracy", "val_pixel_accuracy")],
                    share=True,
                ),
                charts.line_chart("IoU of each class", lines, share=True),
            )
        )
        + "</div>"
    )


def colours_of(run: RunFolder) -> dict[str, tuple[int, int, int]]:
    """The data's own colour of each class, as a run's model has it; empty before there is one."""
    return model_colours(str(run.best_model), _changed(run.best_model))


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


@functools.lru_cache(maxsize=64)
def model_colours(path: str, changed: float) -> dict[str, tuple[int, int, int]]:
    try:
        return charts.class_colours(read_header(path)[1].label_space) if changed else {}
    except Exception:  # whatever lies there: the chart has colours of its own
        return {}


def picture_page(run: RunFolder) -> str:
    """The latest predictions: image, labels, prediction, mistakes, and a legend."""
    folder = run.pictures
    here = [os.path.realpath(folder.parent)]
    files = sorted(file for file in folder.glob("step_*.png") if is_below(file, here)) if folder.is_dir() else []
    if not files:
        return ""
    step = int("".join(filter(str.isdecimal, files[-1].stem)) or 0)
    try:
        image = charts.png_file(files[-1].read_bytes())
    except OSError:  # it is being replaced, or has just gone
        return ""
    caption = f"image, labels, prediction and mistakes after step {step}"
    return charts.panel(
        "Latest predictions",
        f'<div class="wide"><figure><img alt="{caption}" src="{image}"><figcaption>{caption}</figcaption></figure></div>'
        + charts.colour_legend([*colours_of(run).items(), *charts.MISTAKES]),
    )


def queue_page(context: Context, names: Sequence[str]) -> str:
    """What runs and what waits; nothing when there is neither."""
    rows = []
    for name in names:
        try:
            run = context.runs.state(name)
        except PspnetError:
            continue
        if run.active or run.status == "queued":
            rows.append(
                f"<tr><td>{escape(name)}</td><td>{charts.badge(run.status)}</td><td class='quiet'>{escape(run.message)}</td></tr>"
            )
    return (
        charts.panel("Queue", f'<table class="plain"><tbody>{"".join(rows[::-1])}</tbody></table>')
        if len(rows) > 1
        else ""
    )


def plan_page(data: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    """What a run would learn from and with, in a line each."""
    where = f"{data.get('root')} ({data['format']})" if data.get("root") else f"{data.get('format', 'scenes')}"
    options = ", ".join(f"{k} {v}" for k, v in (data.get("options") or {}).items())
    parts = [
        str(model.get("encoder", "resnet50")),
        str(model.get("decoder", "bilinear")),
        "no pyramid" if model.get("bins") == [] else f"bins {', '.join(map(str, model.get('bins', (1, 2, 3, 6))))}",
    ]
    return (
        f'<div class="panel"><h3>What will be trained</h3><p><b>Data:</b> {escape(where)}{escape("; " + options if options else "")}</p>'
        f'<p><b>Model:</b> {escape(", ".join(parts))}</p><p class="quiet">Both as chosen in their places.</p></div>'
    )


def curves_together(context: Context, names: Sequence[str]) -> str:
    """Loss and mean IoU of several runs."""
    losses, scores = [], []
    for name in names:
        try:
            rows = measured(RunFolder(context.runs.path(name)).read_metrics)
        except PspnetError:
            continue
        losses.append(charts.Line(name, [(row["step"], row["loss"]) for row in rows if "loss" in row]))
        scores.append(charts.Line(name, [(row["step"], row["val_mean_iou"]) for row in rows if "val_mean_iou" in row]))
    if not losses:
        return ""
    return (
        '<div class="charts">'
        + charts.line_chart("Mean IoU on validation images", scores, share=True)
        + charts.line_chart("Training loss", losses)
        + "</div>"
    )
