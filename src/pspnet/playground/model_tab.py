"""The place for the model: a form made from the configuration's schema, and presets."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pspnet.config import ModelConfig
from pspnet.config.encoders import SUGGESTED_ENCODERS, encoder_family
from pspnet.errors import ConfigError, require
from pspnet.playground import charts, form
from pspnet.playground.context import Context
from pspnet.playground.events import Events
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
WEIGHTS, A_FILE, WEIGHTS_FILE = ("random", "imagenet"), "a file", "encoder_weights_file"
WEIGHT_SUFFIXES = (".pth", ".pt", ".safetensors", ".bin", ".ckpt", ".tar")
# group -> the settings in it, or the beginnings of their names; what no group names goes to the last one
GROUPS: dict[str, tuple[str, ...]] = {
    "Encoder": (
        "encoder",
        "encoder_weights",
        WEIGHTS_FILE,
        "output_stride",
        "dilation",
        "input_scale",
        "encoder_options.",
    ),
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
    """fields and components: of the form, in one order. summary and recipe: what follows them (see model_summary)."""

    fields: Sequence[Field]
    components: Sequence[Any]
    summary: Any
    recipe: Any


def add_model(context: Context, events: Events, settings: type[ModelConfig] = ModelConfig) -> ModelPlace:
    """Adds the place to a page that is being made. settings: whose schema the form is made from."""
    groups = grouped(model_fields(settings))
    components = {}
    gr.HTML(
        charts.lead(
            "Choose the network. Only settings that the chosen parts have are shown; the summary follows each change."
        )
    )
    with gr.Row(elem_classes=["presets"]):
        presets = {name: gr.Button(name, size="sm", elem_id=f"preset-{name.replace(' ', '-')}") for name in PRESETS}
    with gr.Row(equal_height=False, elem_classes=["with-summary"]):
        with gr.Column(scale=3, min_width=320):
            for title, members in groups.items():
                is_open = title in ("Encoder", "Pyramid", "Decoder")
                with gr.Accordion(title, open=is_open, visible=bool(members), elem_classes=["fields"]):
                    for field in members:
                        suggestions = {"encoder": SUGGESTED_ENCODERS, WEIGHTS_FILE: ()}.get(field.name)
                        components[field.name] = form.component(field, "model", suggestions)
        with gr.Column(scale=2, min_width=320, elem_classes=["stays"]):
            summary = gr.HTML(charts.note("Computing the summary ..."), elem_id="model-summary")
            recipe = gr.Code(
                label="The same as YAML, for a recipe",
                language="yaml",
                interactive=False,
                elem_id="model-yaml",
                buttons=["copy", "download"],
            )
    fields = [field for members in groups.values() for field in members]
    every = [components[field.name] for field in fields]
    for name, button in presets.items():
        events.light(
            button.click,
            functools.partial(as_model_form, PRESETS[name], fields),
            None,
            every,
            f"preset_{name.replace(' ', '_')}",
        )
    events.at_load(lambda: gr.update(choices=context.roots.files(WEIGHT_SUFFIXES)), None, components[WEIGHTS_FILE])
    events.keep({f"model.{field.name}": component for field, component in zip(fields, every, strict=True)})
    return ModelPlace(fields, every, summary, recipe)


def model_fields(settings: type[ModelConfig]) -> list[Field]:
    """The settings' fields; the weights are three choices there, and a file's path a field of its own."""
    fields = []
    for field in form.fields_of(settings):
        if field.name == "encoder_weights":
            about = "What the encoder begins with: random numbers, weights trained on ImageNet, or those of a file."
            fields += [
                replace(field, about=about, kind="choice", choices=(*WEIGHTS, A_FILE)),
                Field(
                    WEIGHTS_FILE, "Below the folders of this page: an encoder's weights, or a model's.", "text", None
                ),
            ]
        else:
            fields.append(field)
    return fields


def as_model_form(model: Mapping[str, Any], fields: Sequence[Field]) -> list[Any]:
    """The inverse of `read_model`: what the components hold for a model's settings."""
    weights = model.get("encoder_weights")
    if weights not in (None, *WEIGHTS):
        model = {**model, "encoder_weights": A_FILE, WEIGHTS_FILE: weights}
    return form.as_form(model, fields)


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
    if name == WEIGHTS_FILE:
        return values.get("encoder_weights") != A_FILE
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
    values = form.read(fields, shown, hidden)
    file = values.pop(WEIGHTS_FILE, None)
    if file is not None:
        values["encoder_weights"] = file
    return values


def check_weights(values: Mapping[str, Any]) -> None:
    """Raises ConfigError where the weights are those of a file and no file is named."""
    if values.get("encoder_weights") == A_FILE:
        raise ConfigError("encoder_weights = a file: no file is named; take one of the list or write its path")
