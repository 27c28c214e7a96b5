"""The card of a model: Markdown with scores and their intervals, a table of classes, and pictures of good and bad cases."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np
from model_pictures import comparison, save_jpeg

from pspnet.data.dataset import Dataset
from pspnet.evaluation import Evaluation
from pspnet.files import write_bytes
from pspnet.predict.segmenter import Segmenter

CASES = 2  # pictures of the best and of the worst images
WHEEL_MIB = 3  # larger checkpoints are left out of it (pyproject.toml names them)


@dataclass(frozen=True)
class Scored:
    """A split's scores in float32 (as trained) and after the rounding to float16."""

    split: str
    exact: Evaluation
    rounded: Evaluation
    changed: float  # share of the pixels whose class the rounding changed
    rounds: bool = True  # False where the checkpoint held float16 already


@dataclass(frozen=True)
class Card:
    """All that a card says."""

    name: str
    about: str
    data: str
    terms: str
    recipe: str
    command: str
    limits: Sequence[str]
    file: str
    size: int
    sha256: str
    summary: Mapping[str, Any]
    scored: Sequence[Scored]
    show_images: bool
    in_wheel: bool
    data_option: str = ""  # how the data set's folder is given
    curve: str = ""  # the section about the run's curve
    twin: str = ""  # whose scores these are, where they are another run's
    sections: Sequence[str] = ()
    precision: str = "float32"  # what was computed in


def write_card(card: Card, segmenter: Segmenter, datasets: Mapping[str, Dataset], folder: Path) -> Path:
    """Writes FOLDER/NAME.md and FOLDER/pictures/NAME-*.jpg. Returns the card's path."""
    shown = card.scored[-1]
    pictures = _pictures(card, shown, segmenter, datasets[shown.split], folder / "pictures")
    parts = [
        f"# {card.name}\n\n{card.about}",
        f'```python\nimport pspnet\n\nmodel = pspnet.Segmenter.load("{card.name}")\n'
        'result = model.segment("image.jpg")\n```',
        _facts(card, segmenter),
        "## Scores\n\n" + _scores(card),
        "## Classes\n\n" + _classes(card, segmenter),
        *card.sections,
        *([card.curve] if card.curve else []),
        _cases(card, shown.split, pictures),
        "## Limits\n\n" + "\n".join(f"- {' '.join(limit.split())}" for limit in card.limits),
        f"## Again\n\n{indent(card.command.strip(), '    ')}\n    python tools/bundle_model.py models/facts/{card.name}.yaml RUN{card.data_option}",
    ]
    path = folder / f"{card.name}.md"
    write_bytes(path, ("\n\n".join(parts) + "\n").encode())
    return path


def write_overview(folder: Path, indices: Sequence[Path]) -> Path:
    """FOLDER/README.md: every model of the indices, with its terms and its card."""
    rows, names = [], set()
    for index in indices:
        if not index.is_file():
            continue
        for name, entry in json.loads(index.read_text(encoding="utf-8")).items():
            if name in names or "file" not in entry:
                continue
            names.add(name)
            file = index.parent / entry["file"]
            size = f"{file.stat().st_size / 2**20:.1f}" if file.is_file() else "?"
            linked = f"[{name}]({name}.md)" if (folder / f"{name}.md").is_file() else name
            where = "models/" if index.parent == folder else "the wheel"
            rows.append(f"| {linked} | {entry['about']} | {size} | {where} | {entry.get('terms', '')} |")
    text = (
        "# Models that come along\n\n"
        "`pspnet models` lists them, `Segmenter.load(NAME)` loads one and checks its SHA-256. Models whose data are not\n"
        "free to use are kept in this folder only, not in the wheel: set `PSPNET_MODELS` to it elsewhere. The cards are\n"
        "written by `tools/bundle_model.py`, from `facts/` and what it measures.\n\n"
        "| model | what it does | MiB | kept in | terms of its data |\n| --- | --- | --- | --- | --- |\n"
    )
    path = folder / "README.md"
    write_bytes(path, (text + "\n".join(rows) + "\n").encode())
    return path


def _facts(card: Card, segmenter: Segmenter) -> str:
    config, summary = segmenter.config, card.summary
    hardware = summary.get("hardware", {})
    machine = (
        hardware
        if isinstance(hardware, str)
        else ", ".join(
            str(value) if key == "name" else f"{value} {key if value != 1 else key.removesuffix('s')}"
            for key, value in sorted(hardware.items(), key=lambda item: item[0] != "name")
        )
    )
    minutes = f"{summary['training_s'] / 60:.0f} min" if "training_s" in summary else "not recorded"
    parameters = sum(p.numel() for p in segmenter.model.parameters())
    where = "in the wheel and the repository" if card.in_wheel else "in the repository only, not in the wheel"
    if card.in_wheel and card.size > WHEEL_MIB * 2**20:
        where = "in the repository; the wheel has the 8-bit file in its place"
    rows = {
        "File": f"`{card.file}`, {card.size / 2**20:.1f} MiB, float16; {where}",
        "SHA-256": f"`{card.sha256}`",
        "Network": f"{config.encoder}, decoder {config.decoder}, {parameters / 1e6:.1f} M weights"
        + (" (with the auxiliary head)" if config.auxiliary != "none" else ""),
        "Input": f"{', '.join(segmenter.card.band_names)}; values {segmenter.card.value_range[0]:g} to "
        f"{segmenter.card.value_range[1]:g}",
        "Scale": _scale(segmenter),
        "Data": card.data,
        "Terms": card.terms,
        "Recipe": f"[{card.recipe}](../{card.recipe})" if card.recipe.endswith(".yaml") else card.recipe,
        "Steps": str(summary.get("steps", "not recorded")),
        "Commit": str(summary.get("commit", "not recorded")),
        "Hardware": machine or "not recorded",
        "Time": minutes,
    }
    return "\n".join(
        ["| | |", "| --- | --- |", *(f"| {key} | {' '.join(value.split())} |" for key, value in rows.items())]
    )


def _scale(segmenter: Segmenter) -> str:
    size, ground = segmenter.card.trained_size, segmenter.card.ground_resolution
    if size is not None:
        return f"photographs of {size[1]} x {size[0]} (the median); others are brought to it"
    return (
        "not recorded"
        if ground is None
        else f"{ground:g} m a pixel"
        if ground
        else "from above; metres a pixel not known"
    )


def _scores(card: Card) -> str:
    lines = [
        (f"**{' '.join(card.twin.split())}**\n\n" if card.twin else "")
        + "In per cent; in brackets the 95 % interval of a bootstrap over the images.\n",
        "| split | images | mean IoU | pixel accuracy | mean accuracy | float16 changed |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for one in card.scored:
        scored, exact = one.rounded, one.exact.scores
        change = f"{100 * (scored.scores.mean_iou - exact.mean_iou):+.2f} mean IoU, {one.changed:.3%} of the pixels"
        change = change if one.rounds else "(scored from a float16 file)"
        lines.append(
            f"| {one.split} | {len(scored.per_image.names)} | "
            + " | ".join(_with_interval(scored, key) for key in ("mean_iou", "pixel_accuracy", "mean_accuracy"))
            + f" | {change} |"
        )
    protocol = card.scored[0].rounded.protocol.name
    return "\n".join(
        [*lines, "", f"Protocol: {protocol}. Scores are the float16 file's, computed in {card.precision}."]
    )


def _with_interval(evaluation: Evaluation, key: str) -> str:
    value = f"{100 * getattr(evaluation.scores, key):.1f}"
    interval = evaluation.intervals.get(key)
    return value if interval is None else f"{value} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def _classes(card: Card, segmenter: Segmenter) -> str:
    head = ["class", *(f"IoU, {one.split}" for one in card.scored), *(f"share of {one.split}" for one in card.scored)]
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    for index, name in enumerate(segmenter.classes):
        cells = [_class_iou(one.rounded, index) for one in card.scored]
        for one in card.scored:
            pixels = one.rounded.scores.confusion.sum(axis=1)
            cells.append(f"{pixels[index] / max(pixels.sum(), 1):.1%}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _class_iou(evaluation: Evaluation, index: int) -> str:
    value = float(evaluation.scores.iou[index])
    if np.isnan(value):
        return "does not occur"
    if not evaluation.class_intervals:
        return f"{100 * value:.1f}"
    interval = evaluation.class_intervals[index]
    return f"{100 * value:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def _cases(card: Card, split: str, pictures: Sequence[tuple[str, str, str, float]]) -> str:
    panels = (
        "image, labels, prediction, and the prediction's mistakes in red"
        if card.show_images
        else "the prediction, and its mistakes in red (the images and labels stay in their data set)"
    )
    lines = [
        f"## Good and bad cases\n\nThe best and the worst images of {split} by their own mean IoU: {panels}. Grey: "
        "not labelled.\n"
    ]
    lines += [
        f"{kind}: {name}, {100 * score:.1f} % mean IoU\n\n![{kind}: {name}](pictures/{file})\n"
        for kind, name, file, score in pictures
    ]
    return "\n".join(lines).rstrip()


def _pictures(
    card: Card, scored: Scored, segmenter: Segmenter, dataset: Dataset, folder: Path
) -> list[tuple[str, str, str, float]]:
    """(good or bad, image's name, file's name, mean IoU)."""
    each = scored.rounded.per_image.areas().summary()["mean_iou"]
    order = np.argsort(-each, kind="stable")
    order = order[~np.isnan(each[order])]
    count = min(CASES, len(order) // 2) or 1
    chosen = [("good", order[:count]), ("bad", order[::-1][:count])]
    pictures = []
    for kind, indices in chosen:
        for number, index in enumerate(indices.tolist(), start=1):
            sample = dataset[index]
            assert sample.labels is not None
            result = segmenter.segment(sample.image, confidence=False, name=sample.name)
            image = result.image if card.show_images else None
            file = f"{card.name}-{kind}-{number}.jpg"
            save_jpeg(comparison(image, sample.labels, result.labels, segmenter.card.label_space), folder / file)
            pictures.append((kind, sample.name, file, float(each[index])))
    return pictures
