"""The place for training: start, stop and resume runs; watch their curves. A run is its folder; this place reads it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from pspnet.config import TrainConfig
from pspnet.errors import ConfigError, PspnetError, require
from pspnet.path_limits import is_below
from pspnet.playground import charts, form
from pspnet.playground.context import Context, lines_of
from pspnet.playground.data_tab import DataPlace
from pspnet.playground.error_messages import told
from pspnet.playground.form import open_choice
from pspnet.playground.model_tab import ModelPlace, read_model
from pspnet.playground.run_state import RunState
from pspnet.training.reporting import duration
from pspnet.training.run_folder import RunFolder

gr = require("gradio", "playground")

ASKED = (
    "name",
    "steps",
    "batch_size",
    "augmentation.crop",
    "optimizer.learning_rate",
    "loss.class_weights",
    "val_every",
    "seed",
)
STARTS = {"steps": 300, "batch_size": 8, "augmentation.crop": "128", "optimizer.learning_rate": 0.02}
MORE = "log_every=5\noptimizer.head_lr_factor=1"
REFRESH_S = 1.5
LOG_LINES = 14


def add_train(context: Context, page: Any, data: DataPlace, model: ModelPlace) -> None:
    """Adds the place to a page (Blocks) that is being made."""
    fields = form.fields_of(TrainConfig, ASKED)
    gr.HTML(
        charts.lead(
            "A run is a process of its own: it goes on when this page is closed, and when the playground is started again. "
            "Runs wait for one another."
        )
    )
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=300):
            plan = gr.HTML(elem_id="train-plan")
            asked = [form.component(field, prefix="train") for field in fields]
            for field, component in zip(fields, asked, strict=True):
                component.value = STARTS.get(field.name, component.value)
            more = gr.Textbox(
                MORE,
                label="Further settings",
                lines=2,
                elem_id="train-more",
                info="One name=value in each line, as on the command line: ema=0.99, init_from=runs/first/best.safetensors ...",
            )
            faults = gr.HTML(visible=False, elem_id="train-faults")
            start = gr.Button("Start the run", variant="primary", elem_id="train-start")
        with gr.Column(scale=3, min_width=320):
            with gr.Row(equal_height=False):
                chosen = open_choice(label="Run", elem_id="train-run", scale=3, min_width=180)
                stop = gr.Button("Stop", elem_id="train-stop", scale=1, min_width=90)
                resume = gr.Button("Resume", elem_id="train-resume", scale=1, min_width=90)
            status = gr.HTML(elem_id="train-status")
            curves = gr.HTML(elem_id="train-curves")
            picture = gr.HTML(elem_id="train-picture")
            queue = gr.HTML(elem_id="train-queue")
            with gr.Accordion("Log of the run", open=False, elem_id="train-log-place"):
                log = gr.Textbox(
                    lines=LOG_LINES,
                    max_lines=LOG_LINES,
                    interactive=False,
                    show_label=False,
                    elem_id="train-log",
                    container=False,
                )
    seen = gr.State({})
    views = [chosen, status, curves, picture, queue, log, seen]

    def begin(choice: dict[str, Any], text: str, *shown: Any) -> tuple[Any, ...]:
        own, network = shown[: len(fields)], shown[len(fields) :]
        changes = [form.update(field, True, None) for field in fields]
        try:
            config = TrainConfig.model_validate(
                settings(context, fields, own, text, choice, read_model(model.fields, network))
            )
            name = context.runs.submit(config)
        except ConfigError as error:
            at, rest = form.faults_by_field(error, [field.name for field in fields])
            changes = [form.update(field, True, at.get(field.name)) for field in fields]
            words = [*dict.fromkeys(at.values()), *rest]
            return gr.skip(), gr.update(value="".join(charts.note(w, bad=True) for w in words), visible=True), *changes
        return gr.update(choices=context.runs.names(), value=name), gr.update(visible=False), *changes

    start.click(
        told(begin),
        [data.choice, more, *asked, *model.components],
        [chosen, faults, *asked],
        show_progress="hidden",
        api_name="train_start",
    ).then(told(_refresh(context)), [chosen, seen], views, show_progress="hidden", api_name=False)
    stop.click(
        told(lambda name: context.runs.stop(_one(name))), chosen, None, api_name="train_stop", show_progress="hidden"
    ).then(told(_refresh(context)), [chosen, seen], views, show_progress="hidden", api_name=False)
    resume.click(
        told(lambda name: context.runs.resume(_one(name))),
        chosen,
        None,
        api_name="train_resume",
        show_progress="hidden",
    ).then(told(_refresh(context)), [chosen, seen], views, show_progress="hidden", api_name=False)
    chosen.input(told(_refresh(context)), [chosen, seen], views, show_progress="hidden", api_name=False)
    page.load(told(_refresh(context)), [chosen, seen], views, show_progress="hidden", api_name=False)
    gr.Timer(REFRESH_S).tick(
        told(_refresh(context)), [chosen, seen], views, show_progress="hidden", api_name="train_watch"
    )
    gr.on(
        [page.load, data.choice.change, *(c.change for c in model.components)],
        told(lambda choice, *shown: plan_page(choice, read_model(model.fields, shown))),
        [data.choice, *model.components],
        plan,
        show_progress="hidden",
        trigger_mode="always_last",
        api_name=False,
    )
    data.size.change(
        lambda side: str(min(473, int(side))),
        data.size,
        asked[ASKED.index("augmentation.crop")],
        show_progress="hidden",
        api_name=False,
    )


def settings(
    context: Context,
    fields: Sequence[form.Field],
    shown: Sequence[Any],
    more: str,
    data: Mapping[str, Any],
    model: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything a run is made from, as nested settings. Raises ConfigError for a file outside the roots."""
    from pspnet.config import with_overrides

    values: dict[str, Any] = {"data": dict(data), "model": dict(model), **form.read(fields, shown, lambda *_: False)}
    crop = values.get("augmentation", {}).get("crop")
    if isinstance(crop, list) and len(crop) == 1:
        values["augmentation"]["crop"] = crop[0]
    lines_of(more, "Further settings")
    values = with_overrides(
        values, [line.strip() for line in more.splitlines() if line.strip() and not line.strip().startswith("#")]
    )
    if values.get("run_dir"):
        raise ConfigError("run_dir: the page gives each run a folder of its own name; use 'name' instead")
    return context.roots.resolve_settings(values)


def _one(name: str | None) -> str:
    if not name:
        raise ConfigError("no run was chosen; take one of the list")
    return name


def _refresh(context: Context) -> Any:
    """What the folder of the chosen run tells now. seen: what the page shows already; it is not sent again."""

    def refresh(name: str | None, seen: dict[str, Any]) -> list[Any]:
        context.runs.tick()
        names = context.runs.names()
        if not name and names:
            name = names[0]
        found = {"names": (tuple(names), name), **watch(context, name), "queue": queue_page(context, names)}
        changes = [gr.update(choices=names, value=name) if seen.get("names") != found["names"] else gr.skip()]
        for key in ("status", "curves", "picture", "queue", "log"):
            changes.append(found[key] if seen.get(key) != found[key] else gr.skip())
        return [*changes, found]

    return refresh


def watch(context: Context, name: str | None) -> dict[str, str]:
    """A run as the page shows it: status, curves, picture (HTML) and log (text)."""
    if not name:
        return {"status": charts.note("No run yet. Start one at the left."), "curves": "", "picture": "", "log": ""}
    try:
        state = context.runs.state(name)
        folder = RunFolder(state.path)
        return {
            "status": status_page(state),
            "curves": curves_page(folder),
            "picture": picture_page(folder.pictures),
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
    lines = [charts.Line(name, [(row["step"], row[name]) for row in classes if name in row]) for name in names]
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


def picture_page(folder: Path) -> str:
    """The latest predictions: image, labels, prediction, mistakes."""
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
        f'<div class="wide"><figure><img alt="{caption}" src="{image}"><figcaption>{caption}'
        "</figcaption></figure></div>",
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
