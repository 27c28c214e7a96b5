"""The place for data: choose a folder or generated scenes; see samples, class shares and faults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from pspnet.config import DataConfig
from pspnet.data.catalog import LAYOUTS, available_splits, layout_of, open_unchecked
from pspnet.data.dataset import Dataset
from pspnet.data.doctor import check_splits
from pspnet.data.faults import DataReport
from pspnet.data.statistics import Statistics, dataset_statistics
from pspnet.display import image_for_display
from pspnet.errors import ConfigError, DataError, require
from pspnet.playground import charts
from pspnet.playground.context import Context, lines_of
from pspnet.playground.events import Events, counted
from pspnet.playground.form import open_choice
from pspnet.predict.segmentation import Segmentation

gr = require("gradio", "playground")

SAMPLES, SHOWN_FAULTS = 8, 200
START: dict[str, Any] = {"format": "scenes", "options": {"count": 64, "size": 128}, "val_options": {"count": 16}}
NAMED = {
    "scenes": "generated scenes",
    "classified_tiles": "Classified Tiles (ArcGIS)",
    "camvid": "CamVid",
    "folder": "folder of images and labels",
}


@dataclass(frozen=True)
class DataPlace:
    """What other places use. choice: State of a DataConfig as a dict, of each person's own. facts: State of what a network
    must know of it, see `facts_of`; empty where nobody has looked. form: components that hold `form_of(choice)`. looked: the
    event after which both are new."""

    choice: Any
    facts: Any
    form: Sequence[Any]
    looked: Any


def add_data(context: Context, events: Events) -> DataPlace:
    """Adds the place to the page that is being made."""
    scenes = open_unchecked(START["format"], None, "train", **START["options"])
    choice, facts = gr.State(dict(START)), gr.State(facts_of(scenes))
    gr.HTML(
        charts.lead(
            "Choose what a model should learn from. Looking reads every file once: samples come first, then counts, "
            "then a check for faults."
        )
    )
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=300):
            layout = gr.Dropdown(
                [(NAMED.get(name, name), name) for name in LAYOUTS],
                value="scenes",
                label="Layout",
                elem_id="data-layout",
                info="How the files lie in the folder. Scenes need no files.",
            )
            folder = open_choice(
                label="Folder",
                visible=False,
                elem_id="data-folder",
                info="Below the folders this page was started with.",
            )
            options = gr.Textbox(
                _as_lines(START["options"]), label="Options", lines=2, elem_id="data-options", info=_about("scenes")
            )
            val_options = gr.Textbox(
                _as_lines(START["val_options"]),
                label="Options that differ for validation",
                lines=1,
                elem_id="data-val-options",
                info="One name=value in each line.",
            )
            look = gr.Button("Look at the data", variant="primary", elem_id="data-look")
        with gr.Column(scale=3, min_width=320):
            status = gr.HTML(
                charts.note("Nothing was looked at yet. Training would use generated scenes."), elem_id="data-status"
            )
            samples = gr.HTML(elem_id="data-samples")
            stats = gr.HTML(elem_id="data-stats")
            faults = gr.HTML(elem_id="data-faults")

    def pick_layout(name: str) -> list[Any]:
        return form_of(START if name == "scenes" else {"format": name})[2:]

    def show_layout(name: str) -> tuple[Any, Any]:
        reads = layout_of(name).splits is not None
        folders = context.roots.subfolders() if reads else []
        return gr.update(visible=reads, choices=folders), gr.update(info=_about(name))

    events.light(layout.input, pick_layout, layout, [options, val_options], "data_layout")
    events.light(layout.change, show_layout, layout, [folder, options])
    events.at_load(show_layout, layout, [folder, options])

    def look_at(
        name: str, root: str | None, text: str, val_text: str, progress: Any = gr.Progress()
    ) -> Iterator[tuple[Any, ...]]:
        config = chosen(context, name, root, text, val_text)
        chosen_now = config.model_dump(mode="json", exclude_unset=True)
        yield charts.note("Opening the data ..."), "", "", "", gr.skip(), gr.skip()
        splits, opened = _open(context, config)
        counts = ", ".join(f"{split}: {len(dataset)} images" for split, dataset in opened.items())
        ready, pictures = (
            charts.note(f"{counts or 'No split was found'}. Training will use this data."),
            _samples(opened),
        )
        known = facts_of(next(iter(opened.values()), None))
        yield ready, pictures, charts.note("Counting classes ..."), "", chosen_now, known
        shares = "".join(_shares(split, dataset, progress) for split, dataset in opened.items())
        yield ready, pictures, shares, charts.note("Checking every file ..."), chosen_now, known
        report = check_splits(
            config.format,
            config.root,
            splits,
            config.options,
            progress=counted(progress, "checking"),
        )
        yield ready, pictures, shares, fault_table(report, context), chosen_now, known

    form = [layout, folder, options, val_options]
    looked = events.heavy(look.click, look_at, form, [status, samples, stats, faults, choice, facts], "data_look")
    names = ("layout", "folder", "options", "val_options")
    events.keep({f"data.{name}": component for name, component in zip(names, form, strict=True)})
    events.keep_state("data", choice)
    events.keep_state("data facts", facts)
    return DataPlace(choice, facts, form, looked)


def form_of(choice: Mapping[str, Any]) -> list[Any]:
    """What the form holds for a choice: layout, folder, options, options that differ for validation."""
    options = [_as_lines(choice.get(name) or {}) for name in ("options", "val_options")]
    return [choice.get("format", "scenes"), choice.get("root"), *options]


def chosen(context: Context, layout: str, root: str | None, text: str, val_text: str) -> DataConfig:
    """What the form says, with its folder inside the roots. Raises ConfigError."""
    values: dict[str, Any] = {
        "format": layout,
        "options": lines_of(text, "Options"),
        "val_options": lines_of(val_text, "Options for validation"),
    }
    reads = layout_of(layout).splits is not None
    if reads and not str(root or "").strip():
        raise ConfigError(f"no folder was given; the layout '{layout}' is read from one")
    if reads:
        values["root"] = str(context.roots.path(str(root), "folder"))
    values = context.roots.resolve_settings({"data": values})["data"]
    if reads:
        splits = available_splits(layout, values["root"])
        values["train_splits"] = [s for s in splits if s.startswith("train")][:1] or list(splits[:1]) or ["train"]
        values["val_split"] = next((s for s in splits if s.startswith("val")), "val")
    return DataConfig(**values)


def _open(context: Context, config: DataConfig) -> tuple[tuple[str, ...], dict[str, Dataset]]:
    splits = available_splits(config.format, config.root)
    opened: dict[str, Dataset] = {}
    for split in splits:
        differing = config.val_options if split == config.val_split else {}
        try:
            dataset = open_unchecked(config.format, config.root, split, **{**config.options, **differing})
        except DataError:
            continue  # the check says what is wrong with it
        context.roots.check_dataset(dataset)
        opened[split] = dataset
    return splits, opened


def _samples(opened: dict[str, Dataset]) -> str:
    """Images of the first split with labels over them, evenly spread."""
    figures: list[str] = []
    present: dict[str, Any] = {}
    for split, dataset in list(opened.items())[:1]:
        for index in [k * len(dataset) // SAMPLES for k in range(min(SAMPLES, len(dataset)))]:
            try:
                sample = dataset[index]
            except DataError as error:
                figures.append(f"<figure><figcaption>{escape(str(error))}</figcaption></figure>")
                continue
            shown = image_for_display(sample.image)
            if sample.labels is not None:
                labelled = Segmentation(sample.labels, dataset.label_space, None, shown)
                shown = labelled.overlay(legend=False)
                present |= {name: labelled.colours[labelled.classes.index(name)] for name in labelled.shares()}
            figures.append(charts.figure(shown, f"{split}: {sample.name}"))
    return (
        charts.panel(
            "Samples, with their labels over them",
            f'<div class="pictures">{"".join(figures)}</div>{charts.colour_legend(present.items())}',
        )
        if figures
        else ""
    )


def _shares(split: str, dataset: Dataset, progress: Any) -> str:
    try:
        statistics = dataset_statistics(dataset, progress=counted(progress, f"counting {split}"))
    except DataError as error:
        return charts.panel(split, charts.note(str(error), bad=True))
    return charts.panel(f"{split}: what it is made of", share_chart(statistics))


def share_chart(statistics: Statistics) -> str:
    """Sizes, and each class's share of pixels and of images."""
    height, width = statistics.height, statistics.width
    cards = charts.facts(
        [
            ("images", f"{statistics.images}"),
            ("with labels", f"{statistics.labelled}"),
            ("height, px", _span(height)),
            ("width, px", _span(width)),
            ("pixels not labelled", f"{statistics.ignored_share:.1%}"),
        ]
    )
    rows = [
        (name, share, f"{share:.1%} · {images / max(statistics.labelled, 1):.0%}", colour)
        for name, share, images, colour in zip(
            statistics.label_space.names,
            statistics.class_shares,
            statistics.class_images,
            statistics.label_space.colours,
            strict=True,
        )
    ]
    rows.sort(key=lambda row: -row[1])
    hidden = f'<p class="quiet">and {len(rows) - 40} smaller classes</p>' if len(rows) > 40 else ""
    return f"{cards}<h4>Share of the labelled pixels · of the images that show it</h4>{charts.bars(rows[:40])}{hidden}"


def fault_table(report: DataReport, context: Context) -> str:
    """Every fault with its file and how to mend it."""
    title = f"Check: {len(report.errors)} errors, {len(report.warnings)} warnings in {report.samples} images"
    if not report.faults:
        return charts.panel(title, '<p class="quiet">Every file can be read, and images and labels fit together.</p>')
    rows = "".join(
        f"<tr><td>{'error' if fault.severity == 'error' else 'warning'}</td><td>{escape(fault.kind)}</td>"
        f'<td class="file">{escape(context.roots.shown(fault.file))}</td><td>{escape(fault.message)}</td><td>{escape(fault.mend)}</td></tr>'
        for fault in sorted(report.faults, key=lambda f: f.severity)[:SHOWN_FAULTS]
    )
    rest = len(report.faults) - SHOWN_FAULTS
    more = f'<p class="quiet">and {rest} more; pspnet data check lists all</p>' if rest > 0 else ""
    return charts.panel(
        title,
        '<div class="scroll"><table class="plain"><thead><tr><th></th><th>kind</th><th>file</th><th>what</th>'
        f"<th>how to mend it</th></tr></thead><tbody>{rows}</tbody></table></div>{more}",
    )


def facts_of(dataset: Dataset | None) -> dict[str, int]:
    """What a network must know of data: its classes and bands, and the size of its first image; what is known of it."""
    if dataset is None:
        return {}
    facts = {"classes": dataset.label_space.num_classes, "bands": dataset.bands}
    try:
        height, width = dataset[0].image.shape[:2]
    except (DataError, IndexError):  # the check says what is wrong with it
        return facts
    return {**facts, "height": height, "width": width}


def _span(values: tuple[int, int, int]) -> str:
    return str(values[0]) if values[0] == values[2] else f"{values[0]} to {values[2]}"


def _as_lines(options: Any) -> str:
    return "\n".join(f"{name}={value}" for name, value in options.items())


def _about(layout: str) -> str:
    names = layout_of(layout).options()
    return f"One name=value in each line. There are: {', '.join(names)}." if names else "This layout has none."
