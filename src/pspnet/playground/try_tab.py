"""The place to try: an image of one's own, one or two models over it, downloads, and export with its parity report."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pspnet.errors import ConfigError, PspnetError, require
from pspnet.exporting import PRECISIONS, ExportReport
from pspnet.exporting import export as write
from pspnet.files.temporary import short_name
from pspnet.playground import charts
from pspnet.playground.context import RUN, Context
from pspnet.playground.data_tab import DataPlace
from pspnet.playground.events import Events
from pspnet.playground.form import open_choice
from pspnet.playground.run_queue import plain_words
from pspnet.playground.uploads import upload_folder, uploaded, uploaded_image
from pspnet.predict.conditions import size_doubt
from pspnet.predict.scale import Size, parse_size, seen_size
from pspnet.predict.segmentation import Segmentation

gr = require("gradio", "playground")

SHOWN_PX = 1600  # longer side of what the page shows; downloads have the image's own size
CALIBRATION = 100  # images, at most
NONE = "none"
FORMATS = {"ONNX": ".onnx", "OpenVINO": ".xml"}


def add_try(context: Context, events: Events, data: DataPlace) -> None:
    """Adds the place to a page that is being made."""
    gr.HTML(
        charts.lead(
            "Drop an image. Point at it to read class and confidence; with two models, swipe between them. Arrow keys work too."
        )
    )
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=300):
            image = uploaded_image(
                label="Image",
                sources=["upload", "clipboard"],
                height=240,
                elem_id="try-image",
                buttons=[],
            )
            example = gr.Button("Take a validation image of the data", size="sm", elem_id="try-example")
            first = open_choice(label="Model", elem_id="try-first")
            second = open_choice([NONE], value=NONE, label="Second model, for the swipe", elem_id="try-second")
            size = open_choice(
                ["trained", "native"],
                value="trained",
                label="Size it is looked at with",
                elem_id="try-size",
                info="trained: the size that the model knows. native: the image's own. Or the pixels of the longer side, such "
                "as 640. The result has the image's own size.",
            )
            parse = gr.Button("Parse the image", variant="primary", elem_id="try-parse")
            with gr.Accordion("Export the first model", open=False, elem_id="try-export-place"):
                kind = gr.Radio([*FORMATS], value="ONNX", label="Format", elem_id="export-format")
                precision = gr.Dropdown(
                    [*PRECISIONS[".onnx"]],
                    value="fp32",
                    label="Precision",
                    elem_id="export-precision",
                    info="int8 is calibrated on the training images of the place Data.",
                )
                export = gr.Button("Export, and compare with the source", elem_id="export-start")
        with gr.Column(scale=3, min_width=320):
            status = gr.HTML(charts.note("No image yet."), elem_id="try-status")
            view = gr.HTML(elem_id="try-view")
            files = gr.File(
                label="Downloads: label masks and overlays",
                visible=False,
                file_count="multiple",
                interactive=False,
                elem_id="try-files",
            )
            report = gr.HTML(elem_id="export-report")
            exported = gr.File(
                label="The exported model",
                visible=False,
                file_count="multiple",
                interactive=False,
                elem_id="export-files",
            )
    shown_state = gr.State([])

    def refresh(one: str | None, two: str | None, shown_state: list[str]) -> list[Any]:
        names = context.model_names()
        if names == shown_state:
            return [gr.skip(), gr.skip(), names]
        untouched = one not in names or (bool(shown_state) and one == shown_state[0] and not str(one).startswith(RUN))
        return [
            gr.update(
                choices=names, value=(names[0] if names else None) if untouched else one
            ),  # the first run's model at once
            gr.update(choices=[NONE, *names], value=two if two in names else NONE),
            names,
        ]

    events.watch(refresh, [first, second, shown_state], [first, second, shown_state], "try_watch", every=2)
    events.keep({"try.first": first, "try.second": second}, lambda name: name in [NONE, *context.model_names()])
    events.keep({"try.size": size})

    def take(choice: dict[str, Any]) -> str:
        return example_image(context, choice)

    events.light(example.click, take, data.choice, image, "try_example")
    nothing = ["", gr.update(value=None, visible=False)]  # where a result stood

    def clear(path: str | None) -> list[Any]:
        return [charts.note("Parse the image to see its classes." if path else "No image yet."), *nothing]

    events.light(image.change, clear, image, [status, view, files])

    def segment(path: str | None, one: str | None, two: str | None, wish: Any) -> list[Any]:
        if not path:
            raise ConfigError("no image yet: drop one, or take one of the data")
        path = uploaded(path)
        names = [str(one), *([two] if two and two != NONE else [])]
        try:
            wish = parse_size(str(wish).strip())
            models = [context.model(name) for name in names]
            results = [(name, model.segment(path, size=wish)) for name, model in zip(names, models, strict=True)]
        except PspnetError as error:  # the old result goes: it is of another image, or of other choices
            shown = str(error).replace(path, Path(path).name)  # where the server keeps it is nobody's matter
            return [charts.note(shown, bad=True), *nothing]
        sizes = [seen_size(results[0][1].labels.shape, model.card.trained_size, wish) for model in models]
        doubts = [size_doubt(model.card, size) for model, size in zip(models, sizes, strict=True)]
        notes = [charts.note(how_parsed(results, sizes)), *(charts.note(text, bad=True) for text in doubts if text)]
        return ["".join(notes), viewer(results), gr.update(value=downloads(results, Path(path).stem), visible=True)]

    events.heavy(parse.click, segment, [image, first, second, size], [status, view, files], "try_parse_at_size")

    def segment_as_trained(path: str | None, one: str | None, two: str | None) -> list[Any]:
        return segment(path, one, two, "trained")

    # for programs that call the page: what they send stays three values, whatever choices the form gets
    for_programs = gr.Button(visible=False)
    events.heavy(for_programs.click, segment_as_trained, [image, first, second], [status, view, files], "try_parse")

    def precisions(name: str) -> Any:
        return gr.update(choices=[*PRECISIONS[FORMATS[name]]], value="fp32")

    events.light(kind.change, precisions, kind, precision)

    def hand_on(
        name: str | None, kind: str, precision: str, choice: dict[str, Any], progress: Any = gr.Progress()
    ) -> tuple[Any, Any]:
        progress(0.1, desc="exporting")
        exported = export_model(context, name, kind, precision, choice)
        folder = Path(tempfile.mkdtemp(prefix="exported-", dir=upload_folder()))
        with plain_words(folder):
            both = [
                str(shutil.copy(p, folder / p.name))
                for p in (exported.path, exported.path.with_suffix(".bin"))
                if p.is_file()
            ]
        return export_page(exported, context), gr.update(value=both, visible=True)

    events.heavy(export.click, hand_on, [first, kind, precision, data.choice], [report, exported], "try_export")


def example_image(context: Context, choice: dict[str, Any]) -> str:
    """A validation image of the chosen data as a file that the page may show."""
    from pspnet.display import image_for_display
    from pspnet.images import write_png

    sample = _images(context, choice, validation=True)[0]
    path = Path(tempfile.mkdtemp(prefix="example-", dir=upload_folder())) / "example.png"
    write_png(path, image_for_display(sample))
    return str(path)


def _images(context: Context, choice: dict[str, Any], validation: bool, count: int = 1) -> list[Any]:
    from pspnet.config import DataConfig
    from pspnet.training.resolve import open_data

    sets = open_data(DataConfig(**context.roots.resolve_settings({"data": choice})["data"]), check=False)
    dataset = sets.val if validation and sets.val is not None else sets.train
    context.roots.check_dataset(dataset)
    chosen = min(count, len(dataset))
    return [dataset[index * len(dataset) // chosen].image for index in range(chosen)]


def how_parsed(results: Sequence[tuple[str, Segmentation]], sizes: Sequence[Size]) -> str:
    """Size of the image, the models, and the size each looked at it with where that is another."""
    height, width = results[0][1].labels.shape
    parts = [
        _short(name) + ("" if size == (height, width) else f" (looked at with {size[1]} × {size[0]})")
        for (name, _), size in zip(results, sizes, strict=True)
    ]
    return f"{width} × {height} px, parsed by {' and '.join(parts)}."


def viewer(results: list[tuple[str, Segmentation]]) -> str:
    """The element that shows an image with one or two models' classes over it."""
    image = results[0][1].image
    if image is None:
        raise ConfigError("this model reads bands that have no look; only 8-bit images can be shown")
    height, width = image.shape[:2]
    scale = min(1.0, SHOWN_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    models = []
    for name, result in results:
        labels = cv2.resize(result.labels, size, interpolation=cv2.INTER_NEAREST)
        assert result.confidence is not None
        confidence = cv2.resize(result.confidence, size, interpolation=cv2.INTER_NEAREST)
        shares = result.shares()
        classes = [
            [result.classes.index(c), c, list(result.colours[result.classes.index(c)]), share]
            for c, share in shares.items()
        ]
        models.append(
            {
                "name": _short(name),
                "labels": charts.grey_png(labels.astype(np.uint8)),
                "confidence": charts.grey_png((confidence * 255).round().astype(np.uint8)),
                "classes": classes,
            }
        )
    shown = charts.jpeg(cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8), quality=92)
    return f'<div class="panel"><parsed-image data-image="{shown}" data-models="{escape(json.dumps(models), quote=True)}"></parsed-image></div>'


def downloads(results: list[tuple[str, Segmentation]], stem: str) -> list[str]:
    """Mask (labels with a palette) and overlay of each model, as files of this page's own folder."""
    folder = Path(tempfile.mkdtemp(prefix="parsed-", dir=upload_folder()))
    files: list[Path] = []
    with plain_words(folder):
        for number, (name, result) in enumerate(results, start=1):
            base = short_name(f"{_file_name(stem)}_{_file_name(_short(name))}")
            if any(
                Path(file).name.startswith(f"{base}_") for file in files
            ):  # a run may be called as a bundled model is
                base += f"_{number}"
            files += [result.save(folder / f"{base}_mask.png"), result.save_overlay(folder / f"{base}_overlay.png")]
    return [str(path) for path in files]


def export_model(context: Context, name: str | None, kind: str, precision: str, choice: dict[str, Any]) -> ExportReport:
    """Exports a model into the page's folder of exports, after comparing it with its source on images of the data."""
    if kind not in FORMATS:
        raise ConfigError(f"format = {kind!r}: {', '.join(FORMATS)}")
    segmenter = context.model(name)
    images = None
    try:
        images = [
            segmenter.read(image)
            for image in _images(context, choice, False, CALIBRATION if precision == "int8" else 3)
        ]
    except PspnetError:
        if precision == "int8":  # for the others made-up images will do
            raise
    path = context.exports / f"{_file_name(_short(str(name)))}-{precision}{FORMATS[kind]}"
    with plain_words(path):
        return write(segmenter, path, precision, images=images)


def export_page(report: ExportReport, context: Context) -> str:
    """How near an exported model is to its source, at each size it was compared at."""
    rows = "".join(
        f'<tr><td class="n">{p.height} × {p.width}</td><td class="n">{p.label_agreement:.4%}</td><td class="n">{p.largest_difference:.2g}</td>'
        f'<td class="n">{p.logits_spread:.3g}</td></tr>'
        for p in report.parity
    )
    return charts.panel(
        f"Exported: {context.roots.shown(report.path)}",
        charts.facts(
            [
                ("precision", report.precision),
                ("size", f"{report.size_bytes / 2**20:.1f} MiB"),
                ("run by", report.engine),
                ("asked: equal labels", f"{report.bound:.2%}"),
            ]
        )
        + '<h4>Compared with its source</h4><div class="scroll"><table class="plain"><thead><tr><th class="n">size, px</th>'
        f'<th class="n">equal labels</th><th class="n">largest difference of logits</th><th class="n">their spread</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>",
    )


def _short(name: str) -> str:
    return Path(name.removeprefix(RUN)).name


def _file_name(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in text).lstrip(".") or "model"
