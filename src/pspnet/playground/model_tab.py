"""The place for the model: a form made from the configuration's schema, presets, a summary that follows, and YAML."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from pspnet.config import ModelConfig
from pspnet.config.encoders import OWN_NAMES, encoder_family
from pspnet.errors import ConfigError, PspnetError, require
from pspnet.inspection import Machine, ModelInfo, measure_machine, model_info
from pspnet.playground import charts, form
from pspnet.playground.error_messages import told
from pspnet.playground.form import Field

gr = require("gradio", "playground")

PRESETS: dict[str, dict[str, Any]] = {
    "small and fast": {
        "encoder": "resnet18",
        "encoder_options": {"depth": 3},
        "decoder_channels": 64,
        "auxiliary": "none",
    },
    "the paper": {"encoder": "resnet101"},
    "rasters": {"encoder": "resnet34", "in_bands": 4, "output_stride": 16, "decoder": "unet"},
}
WEIGHTS = ("random", "imagenet")  # or a file: its path is written into the same field
# group -> the settings in it, or the beginnings of their names; what no group names goes to the last one
GROUPS: dict[str, tuple[str, ...]] = {
    "Encoder": ("encoder", "encoder_weights", "output_stride", "dilation", "input_scale", "encoder_options."),
    "Pyramid": ("bins", "pool", "pyramid", "reduce", "fusion", "concat", "align_corners", "pyramid_options."),
    "Decoder": ("decoder", "decoder_channels", "dropout", "classifier_kernel"),
    "Input and classes": ("in_bands", "num_classes", "mean", "std"),
    "Second output in training": ("auxiliary", "auxiliary_channels", "auxiliary_stage"),
    "PointRend": ("pointrend", "pointrend_options."),
    "More": (),
}
OF_BRANCHES = (
    "reduce",
    "concat",
    "pyramid_options.branch_norm",
    "pyramid_options.branch_bias",
    "pyramid_options.branch_channels",
    "pyramid_options.fusion_kernel",
    "pyramid_options.fusion_norm",
)  # the progressive pyramid decides these itself


@dataclass(frozen=True)
class ModelPlace:
    """fields and components: of the form, in one order. read turns what it holds into settings that differ from the
    defaults."""

    fields: Sequence[Field]
    components: Sequence[Any]


def add_model(page: Any, settings: type[ModelConfig] = ModelConfig) -> ModelPlace:
    """Adds the place to a page (Blocks) that is being made. settings: whose schema the form is made from."""
    fields = grouped(form.fields_of(settings))
    at: dict[str, Any] = {}
    gr.HTML(
        charts.lead(
            "Choose the network. Only settings that the chosen parts have are shown; the summary follows each change."
        )
    )
    with gr.Row(elem_classes=["presets"]):
        presets = {name: gr.Button(name, size="sm", elem_id=f"preset-{name.replace(' ', '-')}") for name in PRESETS}
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=320):
            for title, members in fields.items():
                with gr.Accordion(
                    title,
                    open=title in ("Encoder", "Pyramid", "Decoder"),
                    visible=bool(members),
                    elem_classes=["fields"],
                ):
                    for field in members:
                        shown = {"encoder": OWN_NAMES, "encoder_weights": WEIGHTS}.get(field.name, ())
                        at[field.name] = form.component(field, shown, "model")
        with gr.Column(scale=2, min_width=320):
            with gr.Row():
                side = gr.Number(
                    473, label="image side, px", precision=0, minimum=33, maximum=4096, elem_id="model-side"
                )
                batch = gr.Number(
                    8, label="images in a training step", precision=0, minimum=1, maximum=256, elem_id="model-batch"
                )
            summary = gr.HTML(charts.note("Computing the summary ..."), elem_id="model-summary")
            recipe = gr.Code(
                label="The same as YAML, for a recipe",
                language="yaml",
                interactive=False,
                elem_id="model-yaml",
                buttons=["copy", "download"],
            )
    every = [field for members in fields.values() for field in members]
    components = [at[field.name] for field in every]

    def follow(side: float | None, batch: float | None, *shown: Any) -> list[Any]:
        values = read_model(every, shown)
        raw = {field.name: field.given(value) for field, value in zip(every, shown, strict=True)}
        faults: dict[str, str] = {}
        try:
            config = settings.model_validate(values)
            page = summary_page(model_info(config, int(side or 473), int(side or 473), int(batch or 8), machine()))
        except PspnetError as error:
            wrong = error if isinstance(error, ConfigError) else ConfigError(str(error))
            faults, rest = form.faults_by_field(wrong, [field.name for field in every])
            told_at = " It is shown at the fields it is about." if faults else ""
            page = charts.panel(
                "These settings do not go together",
                "".join(charts.note(fault, bad=True) for fault in [*dict.fromkeys(faults.values()), *rest])
                + f'<p class="quiet">{told_at}</p>',
            )
        changes = [
            form.update(field, not hidden(field, raw) or field.name in faults, faults.get(field.name))
            for field in every
        ]
        return [
            page,
            form.as_recipe({"model": values}) if values else "model: {}  # every setting as it is by default\n",
            *changes,
        ]

    def take(name: str) -> list[Any]:
        values = flat(PRESETS[name])
        return [field.shown(values.get(field.name, field.default)) for field in every]

    arguments = {
        "fn": told(follow),
        "inputs": [side, batch, *components],
        "outputs": [summary, recipe, *components],
        "show_progress": "minimal",
        "show_progress_on": [summary],
        "trigger_mode": "always_last",
    }
    gr.on([c.change for c in (side, batch, *components)], api_name="model_summary", **arguments)
    for name, button in presets.items():
        button.click(
            told(functools.partial(take, name)),
            None,
            components,
            show_progress="hidden",
            api_name=f"preset_{name.replace(' ', '_')}",
        )
    page.load(**arguments, api_name=False)
    return ModelPlace(every, components)


def grouped(fields: Sequence[Field]) -> dict[str, list[Field]]:
    """The fields by GROUPS, in the groups' own order; a field that nobody grouped comes under "More"."""
    groups: dict[str, list[Field]] = {title: [] for title in GROUPS}
    for field in fields:
        title = next(
            (
                t
                for t, names in GROUPS.items()
                if any(field.name == n or (n.endswith(".") and field.name.startswith(n)) for n in names)
            ),
            "More",
        )
        groups[title].append(field)
    for title, members in groups.items():
        order = list(GROUPS[title])
        members.sort(key=lambda f: order.index(f.name) if f.name in order else len(order))
    return groups


def hidden(field: Field, values: Mapping[str, Any]) -> bool:
    """Whether a setting means nothing with the others' values: an option that the encoder or the decoder has not."""
    name, option = field.name, field.name.rpartition(".")[2]
    encoder = str(values.get("encoder") or "")
    if name.startswith("encoder_options."):
        return option not in encoder_family(encoder).option_names
    if name in ("output_stride", "dilation"):
        return encoder_family(encoder).fixed_stride is not None
    if name.startswith("pointrend_options."):
        return not values.get("pointrend")
    if name in ("auxiliary_channels", "auxiliary_stage"):
        return values.get("auxiliary") == "none" or (
            option == "auxiliary_channels" and values.get("auxiliary") != "pixel"
        )
    of_pooled = name in ("pool", "fusion", "concat", "reduce") or name.startswith("pyramid_options.branch")
    if of_pooled and not values.get("bins"):
        return True
    return name in OF_BRANCHES and values.get("pyramid") == "progressive"


def read_model(fields: Sequence[Field], shown: Sequence[Any]) -> dict[str, Any]:
    """What the form says, as nested settings that differ from the defaults."""
    return form.read(fields, shown, hidden)


@functools.cache
def machine() -> Machine:
    """This machine's rates, measured once."""
    return measure_machine()


def summary_page(info: ModelInfo) -> str:
    """Stages, parameters, operations, and the memory and time foretold."""
    image, step = info.segment, info.train
    cards = charts.facts(
        [
            ("parameters", _count(info.parameters)),
            ("operations, one image", f"{image.flops / 1e9:.1f} GFLOP"),
            ("memory, one image", _bytes(image.memory_bytes)),
            ("time, one image", _seconds(image.seconds(info.machine))),
            ("memory, training step", _bytes(step.memory_bytes)),
            ("time, training step", _seconds(step.seconds(info.machine))),
        ]
    )
    rows = "".join(
        f'<tr><td>{escape(stage.name)}</td><td class="n">{" × ".join(map(str, stage.shape)) or "training only"}</td>'
        f'<td class="n">{stage.parameters:,}</td><td class="n">{stage.flops / 1e9:.2f}</td></tr>'
        for stage in info.stages
    )
    return charts.panel(
        "Summary",
        f'{cards}<h4>Stages</h4><div class="scroll"><table class="plain"><thead><tr><th>part</th><th class="n">output</th>'
        f'<th class="n">parameters</th><th class="n">GFLOP</th></tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="quiet">Foretold for {info.height} × {info.width} px and {info.batch} images in a step, float32 on this machine: '
        f"{escape(str(info.machine))}.</p>",
    )


def flat(values: Mapping[str, Any], parent: str = "") -> dict[str, Any]:
    from pspnet.config.differences import flattened

    return flattened(values, parent)


def _count(number: int) -> str:
    return f"{number / 1e6:.2f} M" if number >= 1e6 else f"{number:,}"


def _bytes(number: int) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"


def _seconds(seconds: float) -> str:
    return (
        f"{1000 * seconds:.0f} ms"
        if seconds < 1
        else f"{seconds:.1f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
    )
