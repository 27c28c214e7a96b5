"""The place for training: start, stop and resume runs; watch their curves. A run is its folder; this place reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pspnet.config import TrainConfig
from pspnet.errors import ConfigError, require
from pspnet.playground import charts, form, manage_run
from pspnet.playground.context import Context, lines_of
from pspnet.playground.data_tab import START, DataPlace, form_of
from pspnet.playground.error_messages import told
from pspnet.playground.events import Events, changed
from pspnet.playground.form import open_choice
from pspnet.playground.model_tab import ModelPlace, as_model_form, check_weights, read_model
from pspnet.playground.run_views import buttons, plan_page, queue_page, watch

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
MAX_CROP_PX = 473  # of the paper
LOG_LINES = 14


@dataclass(frozen=True)
class TrainPlace:
    """The components that other places use: crop (text) and batch size."""

    crop: Any
    batch: Any


def add_train(context: Context, events: Events, data: DataPlace, model: ModelPlace) -> TrainPlace:
    """Adds the place to a page that is being made."""
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
            asked = [form.component(field, "train") for field in fields]
            for field, component in zip(fields, asked, strict=True):
                component.value = STARTS.get(field.name, component.value)
            others = other_fields(fields)
            with gr.Accordion("Every other option (full view)", open=False, elem_id="train-all"):
                every: list[form.Field] = []
                more_of: list[Any] = []
                for title, members in others.items():
                    with gr.Accordion(title, open=False, elem_classes=["fields"]):
                        every += members
                        more_of += [form.component(field, "train") for field in members]
            more = gr.Textbox(
                MORE,
                label="Further settings",
                lines=2,
                elem_id="train-more",
                info="One name=value in each line, as on the command line; they win over the fields: ema=0.99, "
                "init_from=runs/first/best.safetensors ...",
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
            with gr.Accordion("This run: settings, name, files", open=False, elem_id="train-manage"):
                taken = gr.HTML(elem_id="train-taken")
                with gr.Row(equal_height=True):
                    again = gr.Button("Use these settings", elem_id="train-again", size="sm")
                    fetch = gr.Button("Download its models", elem_id="train-fetch", size="sm")
                files = gr.File(
                    label="Models and tables",
                    visible=False,
                    file_count="multiple",
                    interactive=False,
                    elem_id="train-files",
                )
                with gr.Row(equal_height=True):
                    new_name = gr.Textbox(label="New name", max_lines=1, elem_id="train-new-name", scale=2)
                    renaming = gr.Button("Rename", elem_id="train-rename", scale=1, size="sm")
                with gr.Row(equal_height=True):
                    confirm = gr.Checkbox(False, label="delete it for good", elem_id="train-sure", scale=2)
                    deleting = gr.Button("Delete", elem_id="train-delete", variant="stop", scale=1, size="sm")
            with gr.Accordion("Log of the run", open=False, elem_id="train-log-place"):
                log = gr.Textbox(
                    lines=LOG_LINES,
                    max_lines=LOG_LINES,
                    interactive=False,
                    show_label=False,
                    elem_id="train-log",
                    container=False,
                )
    shown_state = gr.State({})
    views = [chosen, status, curves, picture, queue, log, stop, resume, shown_state]
    every, asked_all = [*fields, *every], [*asked, *more_of]

    refresh = _refresh(context)

    def then_refreshed(event: Any) -> None:
        events.light(event.then, refresh, [chosen, shown_state], views)

    def begin(choice: dict[str, Any], text: str, *shown: Any) -> tuple[Any, ...]:
        own_fields, network = shown[: len(every)], shown[len(every) :]
        changes = [form.update(field, True, None) for field in every]
        try:
            values = read_model(model.fields, network)
            check_weights(values)
            config = TrainConfig.model_validate(settings(context, every, own_fields, text, choice, values))
            name = context.runs.submit(config)
        except ConfigError as error:
            at, rest = form.faults_by_field(error, [field.name for field in every])
            changes = [form.update(field, True, at.get(field.name)) for field in every]
            words = [*dict.fromkeys(at.values()), *rest]
            return gr.skip(), gr.update(value="".join(charts.note(w, bad=True) for w in words), visible=True), *changes
        return gr.update(choices=context.runs.names(), value=name), gr.update(visible=False), *changes

    inputs = [data.choice, more, *asked_all, *model.components]
    then_refreshed(events.light(start.click, begin, inputs, [chosen, faults, *asked_all], "train_start"))
    for button, act, api in ((stop, context.runs.stop, "train_stop"), (resume, context.runs.resume, "train_resume")):
        then_refreshed(events.light(button.click, lambda name, act=act: act(_one(name)), chosen, None, api))

    def take(name: str | None) -> list[Any]:
        values = manage_run.run_settings(context, _one(name))
        choice = values.get("data") or dict(START)
        rest = manage_run.left_over(values, [field.name for field in every])
        network = as_model_form(values.get("model") or {}, model.fields)
        words = manage_run.what_it_was(values, str(name))
        return [words, choice, {}, *form_of(choice), rest, *form.as_form(values, every), *network]

    outputs = [taken, data.choice, data.facts, *data.form, more, *asked_all, *model.components]
    events.light(again.click, take, chosen, outputs, "train_again")

    def change_name(name: str | None, new: str) -> Any:
        new = manage_run.rename(context, _one(name), new)
        return gr.update(choices=context.runs.names(), value=new), ""

    renamed = events.light(renaming.click, change_name, [chosen, new_name], [chosen, new_name], "train_rename")
    then_refreshed(renamed)

    def drop(name: str | None, confirm: bool) -> Any:
        manage_run.delete(context, _one(name), confirm)
        names = context.runs.names()
        return gr.update(choices=names, value=names[0] if names else None), False

    then_refreshed(events.light(deleting.click, drop, [chosen, confirm], [chosen, confirm], "train_delete"))

    def fetch_files(name: str | None) -> Any:
        return gr.update(value=manage_run.checkpoints(context, _one(name)), visible=True)

    events.light(fetch.click, fetch_files, chosen, files, "train_files")
    events.light(chosen.input, refresh, [chosen, shown_state], views)
    events.watch(refresh, [chosen, shown_state], views, "train_watch")

    def plan_run(choice: Mapping[str, Any], *shown: Any) -> str:
        return plan_page(choice, read_model(model.fields, shown))

    planned = [data.choice, *model.components]
    gr.on(
        [component.change for component in planned],
        told(plan_run),
        planned,
        plan,
        show_progress="hidden",
        trigger_mode="always_last",
        api_name=False,
    )
    events.at_load(plan_run, planned, plan)
    crop, batch = (asked[ASKED.index(name)] for name in ("augmentation.crop", "batch_size"))
    events.light(data.looked.success, fitting_crop, data.facts, crop)
    events.keep({f"train.{field.name}": component for field, component in zip(every, asked_all, strict=True)})
    events.keep({"train.more": more})
    events.keep({"run": chosen}, lambda name: name in context.runs.names())
    return TrainPlace(crop, batch)


def fitting_crop(facts: Mapping[str, int]) -> str:
    """A crop that the chosen data's images can have."""
    return str(min(MAX_CROP_PX, facts.get("height", MAX_CROP_PX), facts.get("width", MAX_CROP_PX)))


def other_fields(asked: Sequence[form.Field]) -> dict[str, list[form.Field]]:
    """Every option of a run that the short form does not ask for, by the part of the configuration it belongs to."""
    known = {field.name for field in asked}
    fields: dict[str, list[form.Field]] = {}
    for field in form.fields_of(TrainConfig):
        part = field.name.partition(".")[0] if "." in field.name else "run"
        if field.name not in known and part not in ("data", "model", "published") and field.name != "run_dir":
            fields.setdefault(part.replace("_", " ").capitalize(), []).append(field)
    return fields


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
    """What the folder of the chosen run tells now. shown_state: what the page shows already; it is not sent again."""

    def refresh(name: str | None, shown_state: dict[str, Any]) -> list[Any]:
        context.runs.tick()
        names = context.runs.names()
        if not name and names:
            name = names[0]
        updates: dict[str, Any] = {
            "names": (tuple(names), name),
            **watch(context, name),
            "queue": queue_page(context, names),
        }
        updates |= {key: gr.update(interactive=works) for key, works in buttons(context, name).items()}
        # a name that is gone was perhaps changed a moment ago: what stands in the field now is left alone
        value = {"value": name} if name in names or not name else {}
        lists = gr.update(choices=names, **value) if shown_state.get("names") != updates["names"] else gr.skip()
        pages = changed(updates, shown_state, ("status", "curves", "picture", "queue", "log", "stop", "resume"))
        return [lists, *pages, updates]

    return refresh
