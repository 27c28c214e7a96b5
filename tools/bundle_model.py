"""Turns a trained checkpoint into a model that comes along: float16 file, index line, card with scores and pictures.

    python tools/bundle_model.py models/facts/aerial-dubai.yaml runs/aerial_dubai --data DIR [--int8]

The facts say what no file can: name, data and their terms, limits, where the model is kept ("package": in the wheel;
"repository": in models/ only). The run's folder (or a checkpoint, with a summary.json beside it) says the rest: commit,
hardware, time. Everything is scored here, before and after the rounding to float16. Written: NAME.safetensors and
index.json in src/pspnet/models or models, models/NAME.md, models/pictures/NAME-*, models/curves/NAME.csv, models/README.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from model_card import Card, Scored, write_card, write_overview
from model_curve import write_curve
from model_measures import confidence_section, eight_bit, scales, some
from pydantic import Field

from pspnet.adaptation import calibrate
from pspnet.config import EvaluationConfig, Protocol
from pspnet.config.base import Settings
from pspnet.data.catalog import open_dataset
from pspnet.data.dataset import Dataset
from pspnet.errors import ConfigError, PspnetError
from pspnet.evaluation import Evaluation, assess
from pspnet.files import write_bytes
from pspnet.metrics import PerImage, Scores
from pspnet.predict.segmenter import Segmenter

ROOT = Path(__file__).parents[1]
CONFIDENCE_IMAGES = 12


class Facts(Settings):
    """What a person has to say about a model; see models/facts."""

    title = "facts"

    name: str
    about: str
    ships_in: Literal["package", "repository"]
    data: str
    terms: str
    recipe: str
    command: str
    limits: tuple[str, ...]
    format: str
    options: Mapping[str, Any] = Field(default_factory=dict)
    train_split: str = "train"
    splits: tuple[str, ...] = ("val",)
    show_images: bool = True
    max_mib: float = 12.0
    trained_size: tuple[int, int] | None = None  # of a run whose card does not hold them yet
    ground_resolution: float | None = None
    band_names: tuple[str, ...] | None = None
    band_numbers: tuple[int, ...] | None = None
    colours: Mapping[str, tuple[int, int, int]] = Field(
        default_factory=dict
    )  # where the data set's own mislead the eye
    twin: str = ""  # what a second run is, whose scores stand for this one's (--twin), because this one saw every image
    other: str = ""  # what the pictures of another kind are (--other), in the model's own classes
    summary: Mapping[str, Any] = Field(default_factory=dict)  # what a run without summary.json is known to be


@dataclass(frozen=True)
class Places:
    """Where things are written: the two folders that hold models, below `root`."""

    root: Path = ROOT

    @property
    def cards(self) -> Path:
        return self.root / "models"

    @property
    def package(self) -> Path:
        return self.root / "src" / "pspnet" / "models"

    def folder(self, where: str) -> Path:
        return self.package if where == "package" else self.cards


def main(arguments: list[str] | None = None, places: Places | None = None) -> int:
    """Exit code 2 when facts, checkpoint or data are not what they should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("facts", type=Path, help="a file of models/facts")
    parser.add_argument("model", type=Path, help="a run's folder, or a checkpoint")
    parser.add_argument("--data", type=Path, help="folder of the data set; left out for generated scenes")
    parser.add_argument(
        "--int8", action="store_true", help="also write and score an ONNX file of 8-bit numbers (minutes)"
    )
    parser.add_argument("--twin", type=Path, help="the checkpoint that is scored in this one's place; see Facts.twin")
    parser.add_argument("--other", type=Path, help="folder of labelled pictures of another kind, its split val")
    parser.add_argument(
        "--precision", default="fp32", help="what it is scored in: fp32, or bf16 where there is no time"
    )
    parser.add_argument(
        "--scores",
        nargs=2,
        action="append",
        metavar=("SPLIT", "FILE"),
        help="what `pspnet evaluate --json` wrote of this split, in place of scoring it",
    )
    parser.add_argument(
        "--confidence", action="store_true", help="also fit a temperature and say how well it tells (minutes)"
    )
    parser.add_argument("--scales", action="store_true", help="also score other sizes of image (minutes)")
    given = parser.parse_args(arguments)
    try:
        path = bundle(
            given.facts,
            given.model,
            given.data,
            places or Places(),
            int8=given.int8,
            twin=given.twin,
            other=given.other,
            sizes=given.scales,
            confidence=given.confidence,
            precision=given.precision,
            scores={split: Path(file) for split, file in given.scores or ()},
        )
    except PspnetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"-> {path}")
    return 0


def bundle(
    facts_file: Path,
    model: Path,
    data: Path | None,
    places: Places,
    *,
    int8: bool = False,
    twin: Path | None = None,
    other: Path | None = None,
    sizes: bool = False,
    confidence: bool = False,
    precision: str = "fp32",
    scores: Mapping[str, Path] | None = None,
) -> Path:
    """Writes the model and its card; returns the model's file. Raises PspnetError; then no index names the model."""
    facts = Facts.model_validate(yaml.safe_load(facts_file.read_text(encoding="utf-8")))
    if bool(facts.twin) != (twin is not None):
        raise ConfigError(f"{facts_file}: twin and --twin belong together: what is scored must be said")
    checkpoint = model / "best.safetensors" if model.is_dir() else model
    source = _loaded(checkpoint, facts, precision)
    runs = _runs(checkpoint.parent)
    summary = {**_summary(checkpoint, source.card.provenance), **_sums(runs), **facts.summary}
    folder = places.folder(facts.ships_in)
    target = folder / f"{facts.name}.safetensors"
    judged = source if twin is None else _loaded(twin, facts, precision)
    last = _open(facts, facts.splits[-1], data)
    if confidence:
        fitted = some(_open(facts, facts.splits[0], data), CONFIDENCE_IMAGES)
        temperature = calibrate(judged, fitted).card.temperature
        for one in (source, judged):
            one.card = dataclasses.replace(one.card, temperature=temperature)
    with tempfile.TemporaryDirectory() as scratch:
        half = Segmenter.load(
            judged.save(Path(scratch) / "half.safetensors", half=True), device="cpu", precision=precision
        )
        if scores:
            scored = [Scored(split, *[_read_scores(scores[split])] * 2, 0.0, rounds=False) for split in facts.splits]
        else:
            scored = [_score(judged, half, facts, split, data) for split in facts.splits]
        sections = []
        if sizes:
            sections.append(scales(half, last).section(half))
        if confidence:
            elsewhere = None if other is None else open_dataset("folder", other, "val")
            values = f"{len(fitted)} images of {facts.splits[0]}" + (" with the twin" if facts.twin else "")
            sections.append(confidence_section(half, last, elsewhere, facts.other, values))
        eight_bits: dict[str, str] = {}
        if int8:
            path = folder / f"{facts.name}.int8.onnx"
            training = _open(facts, facts.train_split, data)
            sections.append(eight_bit(source, judged, training, last, path, places.root).section(facts.splits[-1]))
            eight_bits = {"int8": path.name, "int8_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        source.card = dataclasses.replace(
            source.card, provenance={**source.card.provenance, **_provenance(facts, scored, summary)}
        )
        content = source.save(Path(scratch) / target.name, half=True).read_bytes()
    if len(content) > facts.max_mib * 2**20:
        raise ConfigError(
            f"{facts.name}: {len(content) / 2**20:.1f} MiB in float16; max_mib = {facts.max_mib:g}. Train a smaller "
            "network, or raise the limit where the repository may carry more"
        )
    write_bytes(target, content)
    digest = hashlib.sha256(content).hexdigest()
    card = Card(
        facts.name,
        facts.about,
        facts.data,
        facts.terms,
        facts.recipe,
        facts.command,
        facts.limits,
        target.relative_to(places.root).as_posix(),
        len(content),
        digest,
        summary,
        scored,
        facts.show_images,
        facts.ships_in == "package",
        "" if data is None else " --data DIR",
        write_curve(facts.name, [run / "metrics.csv" for run in runs], places.cards),
        facts.twin,
        sections,
        {"fp32": "float32", "bf16": "bfloat16"}[precision],
    )
    datasets = {one.split: _open(facts, one.split, data) for one in scored}
    write_card(card, half, datasets, places.cards)
    entry = {"file": target.name, "sha256": digest, "about": facts.about, "terms": facts.terms, **eight_bits}
    _write_index(folder / "index.json", facts.name, entry)
    if facts.ships_in == "repository":
        elsewhere = (
            f"it lies in the folder models/ of the source repository ({facts.terms}). Copy that folder and set "
            "PSPNET_MODELS to it, or call pspnet where it is ./models"
        )
        _write_index(
            places.package / "index.json",
            facts.name,
            {"about": facts.about, "terms": facts.terms, "elsewhere": elsewhere},
        )
    write_overview(places.cards, [places.package / "index.json", places.cards / "index.json"])
    return target


def _loaded(checkpoint: Path, facts: Facts, precision: str) -> Segmenter:
    """On the processor, its card with what the facts tell."""
    segmenter = Segmenter.load(checkpoint, device="cpu", precision=precision)
    conditions = {
        name: getattr(facts, name) for name in ("trained_size", "ground_resolution", "band_names", "band_numbers")
    }
    space = segmenter.card.label_space
    colours = {space.index(name): colour for name, colour in facts.colours.items()}
    conditions["label_space"] = dataclasses.replace(
        space, colours=tuple(colours.get(i, colour) for i, colour in enumerate(space.colours))
    )
    segmenter.card = dataclasses.replace(segmenter.card, **{k: v for k, v in conditions.items() if v is not None})
    return segmenter


def _read_scores(file: Path) -> Evaluation:
    """What `pspnet evaluate --json` wrote."""
    content = json.loads(file.read_text(encoding="utf-8"))
    return Evaluation(
        Scores.from_dict(content),
        Protocol.model_validate(content["protocol"]),
        PerImage.from_dict(content["per_image"]),
    )


def _score(source: Segmenter, half: Segmenter, facts: Facts, split: str, data: Path | None) -> Scored:
    config = EvaluationConfig(protocol=source.card.protocol, batch_size=1)
    dataset = _open(facts, split, data)
    rounded = assess(half, dataset, config)
    known = half.model.state_dict()
    if all(torch.equal(value, known[name]) for name, value in source.model.state_dict().items()):
        return Scored(split, rounded, rounded, 0.0, rounds=False)
    exact = assess(source, dataset, config)
    changed, pixels = 0, 0
    for index in range(len(dataset)):
        image = dataset[index].image
        one, two = (model.segment(image, confidence=False, size="native").labels for model in (source, half))
        changed += int(np.count_nonzero(one != two))
        pixels += one.size
    return Scored(split, exact, rounded, changed / pixels)


def _open(facts: Facts, split: str, data: Path | None) -> Dataset:
    return open_dataset(facts.format, data, split, **facts.options)


def _summary(checkpoint: Path, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of the run: its summary.json, or what the checkpoint itself carries."""
    path = checkpoint.parent / "summary.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    known = {key: provenance[key] for key in ("commit", "hardware", "training_s", "steps") if key in provenance}
    return {"steps": provenance["step"], **known, **content} if "step" in provenance else {**known, **content}


def _runs(folder: Path) -> list[Path]:
    """The run's folder, and before it those that it continued (`init_from`), the first one first."""
    chain = [folder]
    while (config := chain[0] / "config.yaml").is_file():
        before = yaml.safe_load(config.read_text(encoding="utf-8")).get("init_from")
        if before is None or not (Path(before).parent / "summary.json").is_file():
            break
        chain.insert(0, Path(before).parent)
    return chain


def _sums(runs: list[Path]) -> dict[str, Any]:
    """Steps and seconds of several runs together; nothing for a single one, whose summary says it."""
    if len(runs) < 2:
        return {}
    each = [json.loads((run / "summary.json").read_text(encoding="utf-8")) for run in runs]
    return {key: sum(one[key] for one in each) for key in ("steps", "training_s")}


def _provenance(facts: Facts, scored: list[Scored], summary: Mapping[str, Any]) -> dict[str, Any]:
    scores = {
        one.split: {
            "mean_iou": float(one.rounded.scores.mean_iou),
            "pixel_accuracy": float(one.rounded.scores.pixel_accuracy),
        }
        for one in scored
    }
    summary_values = {key: summary[key] for key in ("commit", "hardware", "training_s", "steps") if key in summary}
    return {"about": facts.about, "terms": facts.terms, "scores": scores, **summary_values}


def _write_index(index: Path, name: str, entry: dict[str, str]) -> None:
    known = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else {}
    write_bytes(index, (json.dumps({**known, name: entry}, indent=1) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main())
