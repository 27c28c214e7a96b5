"""What follows the form of a model: parameters, operations, memory and time for the chosen data, and the recipe."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any

from pspnet.config import ModelConfig
from pspnet.errors import ConfigError, PspnetError, require
from pspnet.inspection import Machine, ModelInfo, measure_machine, model_info
from pspnet.machine import is_busy
from pspnet.playground import charts, form
from pspnet.playground.error_messages import told
from pspnet.playground.events import Events
from pspnet.playground.model_tab import ModelPlace, check_weights, hidden, read_model

gr = require("gradio", "playground")

LIMITS_PX, MAX_BATCH = (33, 4096), 256  # what is computed here; a run takes whatever fits
UNMEASURED = Machine("cpu", {}, 1.0, 0.0)  # rates are put in when times are shown
_measured: list[Machine] = []
_measuring = threading.Lock()


def follow_model(
    events: Events, model: ModelPlace, facts: Any, crop: Any, batch: Any, settings: type[ModelConfig] = ModelConfig
) -> None:
    """Ties summary, recipe and faults to the form. facts: State of the chosen data (see data_tab.facts_of). crop and batch:
    the components of the place Train."""
    fields = model.fields

    def follow(facts: Mapping[str, Any], crop: str, batch: float | None, *shown: Any) -> list[Any]:
        values = read_model(fields, shown)
        raw = {field.name: field.given(value) for field, value in zip(fields, shown, strict=True)}
        faults: dict[str, str] = {}
        try:
            check_weights(values)
            page = summary_of(settings, values, facts, crop, batch)
        except PspnetError as error:
            wrong = error if isinstance(error, ConfigError) else ConfigError(str(error))
            faults, rest = form.faults_by_field(wrong, [field.name for field in fields])
            told_at = " It is shown at the fields it is about." if faults else ""
            page = charts.panel(
                "These settings do not go together",
                "".join(charts.note(fault, bad=True) for fault in [*dict.fromkeys(faults.values()), *rest])
                + f'<p class="quiet">{told_at}</p>',
            )
        changes = [
            form.update(field, not hidden(field, raw) or field.name in faults, faults.get(field.name))
            for field in fields
        ]
        recipe = form.as_recipe({"model": values}) if values else "model: {}  # every setting as it is by default\n"
        return [page, recipe, *changes]

    inputs, outputs = [facts, crop, batch, *model.components], [model.summary, model.recipe, *model.components]
    shows = {"show_progress": "minimal", "show_progress_on": [model.summary], "trigger_mode": "always_last"}
    triggers = [c.change for c in (facts, crop, batch, *model.components)]
    gr.on(triggers, told(follow), inputs, outputs, api_name="model_summary", **shows)
    events.at_load(follow, inputs, outputs, **shows)


def summary_of(
    settings: type[ModelConfig], values: Mapping[str, Any], facts: Mapping[str, Any], crop: str, batch: float | None
) -> str:
    """The summary of a network as a run on the chosen data would have it. Raises ConfigError for a contradiction."""
    of_data = {"num_classes": facts.get("classes"), "in_bands": facts.get("bands")}
    config = settings.model_validate({**{k: v for k, v in of_data.items() if v}, **values})
    words = [
        f"{name} = {values[name]} is set, the chosen data has {number}: training would refuse it."
        for name, number in of_data.items()
        if number and name in values and values[name] != number
    ]
    height, width = size_px(crop, facts)
    machine = machine_rates()
    info = _counted(settings, config.model_dump_json(), height, width, max(1, min(int(batch or 8), MAX_BATCH)))
    return summary_page(replace(info, machine=machine), words)


@functools.lru_cache(maxsize=64)
def _counted(settings: type[ModelConfig], config: str, height: int, width: int, batch: int) -> ModelInfo:
    """Of a network that somebody looked at a moment ago, or whose page is opened by many: seconds of a core each."""
    return model_info(settings.model_validate_json(config), height, width, batch, UNMEASURED)


def size_px(crop: str, facts: Mapping[str, Any]) -> tuple[int, int]:
    """(height, width) of a training image: the crop of the place Train, or the data's images where it is left open."""
    numbers = [int(number) for number in re.findall(r"\d+", str(crop or ""))][:2]
    height, width = (numbers * 2)[:2] if numbers else (facts.get("height", 473), facts.get("width", 473))
    low, high = LIMITS_PX
    return max(low, min(int(height), high)), max(low, min(int(width), high))


def machine_rates() -> Machine:
    """This machine's rates; rough ones are measured anew as soon as it is idle."""
    with _measuring:
        if not _measured or (_measured[0].rough and not is_busy()):
            _measured[:] = [measure_machine()]
        return _measured[0]


def summary_page(info: ModelInfo, words: Sequence[str] = ()) -> str:
    """Stages, parameters, operations, and the estimated memory and time. words: warnings."""
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
    config, levels = info.config, escape(f"{info.pyramid.capitalize()}. " if info.pyramid else "")
    return charts.panel(
        "Summary",
        "".join(charts.note(text, bad=True) for text in words)
        + f'{cards}<h4>Stages</h4><div class="scroll"><table class="plain"><thead><tr><th>part</th><th class="n">output</th>'
        f'<th class="n">parameters</th><th class="n">GFLOP</th></tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="quiet">{levels}Estimated for {config.num_classes} classes and {config.in_bands} bands, {info.height} × {info.width} px '
        f"(the crop in the place Train) and {info.batch} images in a step, in float32 on this machine: {escape(str(info.machine))}.</p>",
    )


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
