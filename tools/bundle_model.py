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
from pydantic import Field

from pspnet.config import EvaluationConfig
from pspnet.config.base import Settings
from pspnet.data.catalog import open_dataset
from pspnet.data.dataset import Dataset
from pspnet.errors import ConfigError, PspnetError
from pspnet.evaluation import assess
from pspnet.exporting import export
from pspnet.files import write_bytes
from pspnet.predict.segmenter import Segmenter

ROOT = Path(__file__).parents[1]
CALIBRATION_IMAGES = 100


class Facts(Settings):
    """What a person has to say about a model; see models/facts."""

    title = "facts"

    name: str
    about: str
    place: Literal["package", "repository"]
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

    def folder(self, place: str) -> Path:
        return self.package if place == "package" else self.cards


def main(arguments: list[str] | None = None, places: Places | None = None) -> int:
    """Exit code 2 when facts, checkpoint or data are not what they should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("facts", type=Path, help="a file of models/facts")
    parser.add_argument("model", type=Path, help="a run's folder, or a checkpoint")
    parser.add_argument("--data", type=Path, help="folder of the data set; left out for generated scenes")
    parser.add_argument(
        "--int8", action="store_true", help="also score an OpenVINO export with 8-bit numbers (minutes)"
    )
    given = parser.parse_args(arguments)
    try:
        path = bundle(given.facts, given.model, given.data, places or Places(), int8=given.int8)
    except PspnetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"-> {path}")
    return 0


def bundle(facts_file: Path, model: Path, data: Path | None, places: Places, *, int8: bool = False) -> Path:
    """Writes the model and its card; returns the model's file. Raises PspnetError; then no index names the model."""
    facts = Facts.model_validate(yaml.safe_load(facts_file.read_text(encoding="utf-8")))
    checkpoint = model / "best.safetensors" if model.is_dir() else model
    source = Segmenter.load(checkpoint, device="cpu", precision="fp32")
    runs = _runs(checkpoint.parent)
    summary = {**_summary(checkpoint, source.card.provenance), **_sums(runs), **facts.summary}
    folder = places.folder(facts.place)
    target = folder / f"{facts.name}.safetensors"
    with tempfile.TemporaryDirectory() as scratch:
        half = Segmenter.load(
            source.save(Path(scratch) / "half.safetensors", half=True), device="cpu", precision="fp32"
        )
        scored = [_score(source, half, facts, split, data) for split in facts.splits]
        if int8:
            scored = [
                dataclasses.replace(one, int8=found)
                for one, found in zip(scored, _eight_bit(half, facts, data, Path(scratch)), strict=True)
            ]
        half.card = dataclasses.replace(
            half.card, provenance={**half.card.provenance, **_provenance(facts, scored, summary)}
        )
        made = half.save(Path(scratch) / target.name, half=True).read_bytes()
    if len(made) > facts.max_mib * 2**20:
        raise ConfigError(
            f"{facts.name}: {len(made) / 2**20:.1f} MiB in float16; max_mib = {facts.max_mib:g}. Train a smaller "
            "network, or raise the limit where the repository may carry more"
        )
    write_bytes(target, made)
    digest = hashlib.sha256(made).hexdigest()
    card = Card(
        facts.name,
        facts.about,
        facts.data,
        facts.terms,
        facts.recipe,
        facts.command,
        facts.limits,
        target.relative_to(places.root).as_posix(),
        len(made),
        digest,
        summary,
        scored,
        facts.show_images,
        facts.place == "package",
        "" if data is None else " --data DIR",
        write_curve(facts.name, [run / "metrics.csv" for run in runs], places.cards),
    )
    datasets = {one.split: _open(facts, one.split, data) for one in scored}
    write_card(card, half, datasets, places.cards)
    _add_to_index(folder / "index.json", facts, target.name, digest)
    if facts.place == "repository":
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


def _score(source: Segmenter, half: Segmenter, facts: Facts, split: str, data: Path | None) -> Scored:
    config = EvaluationConfig(protocol=source.card.protocol, batch_size=1)
    dataset = _open(facts, split, data)
    exact = assess(source, dataset, config)
    rounded = assess(half, dataset, config)
    changed, pixels = 0, 0
    for index in range(len(dataset)):
        image = dataset[index].image
        one, two = (model.segment(image, confidence=False).labels for model in (source, half))
        changed += int(np.count_nonzero(one != two))
        pixels += one.size
    rounds = any(
        not torch.equal(value, half.model.state_dict()[name]) for name, value in source.model.state_dict().items()
    )
    return Scored(split, exact, rounded, changed / pixels, rounds=rounds)


def _eight_bit(half: Segmenter, facts: Facts, data: Path | None, scratch: Path) -> list[float]:
    """Mean IoU of each split after calibration on training images."""
    training = _open(facts, facts.train_split, data)
    chosen = np.unique(np.linspace(0, len(training) - 1, CALIBRATION_IMAGES).astype(int)).tolist()
    path = scratch / "int8.xml"
    export(half, path, "int8", images=[training[i].image for i in chosen], bound=0.0)
    model, config = Segmenter.load(path), EvaluationConfig(protocol=half.card.protocol, batch_size=1, resamples=0)
    return [float(assess(model, _open(facts, split, data), config).scores.mean_iou) for split in facts.splits]


def _open(facts: Facts, split: str, data: Path | None) -> Dataset:
    return open_dataset(facts.format, data, split, **facts.options)


def _summary(checkpoint: Path, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of the run: its summary.json, or what the checkpoint itself carries."""
    path = checkpoint.parent / "summary.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    known = {key: provenance[key] for key in ("commit", "hardware", "training_s", "steps") if key in provenance}
    return {"steps": provenance["step"], **known, **found} if "step" in provenance else {**known, **found}


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
    kept = {key: summary[key] for key in ("commit", "hardware", "training_s", "steps") if key in summary}
    return {"about": facts.about, "terms": facts.terms, "scores": scores, **kept}


def _add_to_index(index: Path, facts: Facts, file: str, digest: str) -> None:
    _write_index(index, facts.name, {"file": file, "sha256": digest, "about": facts.about, "terms": facts.terms})


def _write_index(index: Path, name: str, entry: dict[str, str]) -> None:
    known = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else {}
    write_bytes(index, (json.dumps({**known, name: entry}, indent=1) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main())
