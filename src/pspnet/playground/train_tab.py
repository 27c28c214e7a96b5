"""The place for training: start, stop and resume runs; watch their curves. A run is its folder; this place reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pspnet.config import TrainConfig
from pspnet.errors import ConfigError, require
from pspnet.playground import charts, form, manage_run
from pspnet.playground.context import Context, lines_of
from pspnet.playground.data_tab import START, DataPlace
from pspnet.playground.error_messages import told
from pspnet.playground.form import open_choice
from pspnet.playground.model_tab import ModelPlace, read_model
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
            others = other_fields(fields)
            with gr.Accordion("Every other option (full view)", open=False, elem_id="train-all"):
                every: list[form.Field] = []
                more_of: list[Any] = []
                for title, members in others.items():
                    with gr.Accordion(title, open=False, elem_classes=["fields"]):
                        every += members
                        more_of += [form.component(field, prefix="train") for field in members]
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

    def begin(choice: dict[str, Any], text: str, *shown: Any) -> tuple[Any, ...]:
        own_fields, network = shown[: len(every)], shown[len(every) :]
        changes = [form.update(field, True, None) for field in every]
        try:
            config = TrainConfig.model_validate(
                settings(context, every, own_fields, text, choice, read_model(model.fields, network))
            )
            name = context.runs.submit(config)
        except ConfigError as error:
            at, rest = form.faults_by_field(error, [field.name for field in every])
            changes = [form.update(field, True, at.get(field.name)) for field in every]
            words = [*dict.fromkeys(at.values()), *rest]
            return gr.skip(), gr.update(value="".join(charts.note(w, bad=True) for w in words), visible=True), *changes
        return gr.update(choices=context.runs.names(), value=name), gr.update(visible=False), *changes

    start.click(
        told(begin),
        [data.choice, more, *asked_all, *model.components],
        [chosen, faults, *asked_all],
        show_progress="hidden",
        api_name="train_start",
    ).then(told(_refresh(context)), [chosen, shown_state], views, show_progress="hidden", api_name=False)
    stop.click(
        told(lambda name: context.runs.stop(_one(name))), chosen, None, api_name="train_stop", show_progress="hidden"
    ).then(told(_refresh(context)), [chosen, shown_state], views, show_progress="hidden", api_name=False)
    resume.click(
        told(lambda name: context.runs.resume(_one(name))),
        chosen,
        None,
        api_name="train_resume",
        show_progress="hidden",
    ).then(told(_refresh(context)), [chosen, shown_state], views, show_progress="hidden", api_name=False)

    def take(name: str | None) -> list[Any]:
        values = manage_run.run_settings(context, _one(name))
        rest = manage_run.left_over(values, [field.name for field in every])
        network = manage_run.as_form(values, model.fields, "model.")
        words = manage_run.what_it_was(values, str(name))
        return [values.get("data") or dict(START), rest, *manage_run.as_form(values, every), *network, words]

    again.click(
        told(take),
        chosen,
        [data.choice, more, *asked_all, *model.components, taken],
        show_progress="hidden",
        api_name="train_again",
    )

    def change_name(name: str | None, new: str) -> Any:
        new = manage_run.rename(context, _one(name), new)
        return gr.update(choices=context.runs.names(), value=new), ""

    renaming.click(
        told(change_name), [chosen, new_name], [chosen, new_name], show_progress="hidden", api_name="train_rename"
    ).then(told(_refresh(context)), [chosen, shown_state], views, show_progress="hidden", api_name=False)

    def drop(name: str | None, confirm: bool) -> Any:
        manage_run.delete(context, _one(name), confirm)
        names = context.runs.names()
        return gr.update(choices=names, value=names[0] if names else None), False

    deleting.click(
        told(drop), [chosen, confirm], [chosen, confirm], show_progress="hidden", api_name="train_delete"
    ).then(told(_refresh(context)), [chosen, shown_state], views, show_progress="hidden", api_name=False)
    fetch.click(
        told(lambda name: gr.update(value=manage_run.checkpoints(context, _one(name)), visible=True)),
        chosen,
        files,
        show_progress="hidden",
        api_name="train_files",
    )
    chosen.input(told(_refresh(context)), [chosen, shown_state], views, show_progress="hidden", api_name=False)
    page.load(told(_refresh(context)), [chosen, shown_state], views, show_progress="hidden", api_name=False)
    gr.Timer(REFRESH_S).tick(
        told(_refresh(context)), [chosen, shown_state], views, show_progress="hidden", api_name="train_watch"
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
    """What the folder of the chosen run tells now. seen: what the page shows already; it is not sent again."""

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
        updates |= buttons(context, name)
        changes = [gr.update(choices=names, value=name) if shown_state.get("names") != updates["names"] else gr.skip()]
        for key in ("status", "curves", "picture", "queue", "log"):
            changes.append(updates[key] if shown_state.get(key) != updates[key] else gr.skip())
        for key in ("stop", "resume"):
            changes.append(gr.update(interactive=updates[key]) if shown_state.get(key) != updates[key] else gr.skip())
        return [*changes, updates]

    return refresh
