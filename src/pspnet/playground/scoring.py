"""A run's best model scored on validation images, kept in the run's folder and made again only when something changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pspnet.config import DataConfig
from pspnet.data.dataset import Dataset
from pspnet.errors import DataError
from pspnet.evaluation import assess
from pspnet.evaluation.report import read_per_image
from pspnet.files import write_text
from pspnet.metrics import Scores, worst
from pspnet.playground.context import RUN, Context
from pspnet.playground.run_queue import plain_words
from pspnet.training.pictures import PictureExample, draw, shrink
from pspnet.training.resolve import open_data
from pspnet.training.run_folder import RunFolder

EVALUATION = "evaluation"  # folder inside the run's


@dataclass(frozen=True)
class Scored:
    """A run's evaluation. file: scores.json with the counts of each image."""

    name: str
    file: Path
    scores: Scores


def validation_set(context: Context, name: str) -> tuple[DataConfig, Dataset]:
    """The images a run was validated on. Raises DataError where it had none."""
    config = RunFolder.open(context.runs.path(name)).read_config().data
    values = context.roots.resolve_settings({"data": config.model_dump(mode="json", exclude_unset=True)})
    config = DataConfig(**values["data"])
    dataset = open_data(config, check=False).val
    if dataset is None:
        raise DataError(f"the run '{name}' has no validation images; there is nothing to score it on")
    context.roots.check_dataset(dataset)
    return config, dataset


def score(
    context: Context, name: str, data: DataConfig, dataset: Dataset, progress: Callable[[int, int], None]
) -> Scored:
    """Scores of a run's best model on a data set; those of an earlier call where nothing has changed since."""
    folder = context.runs.path(name) / EVALUATION
    segmenter = context.model(RUN + name)
    model = context.runs.path(name) / "best.safetensors"
    key = json.dumps({"model": model.stat().st_mtime_ns, "data": data.model_dump(mode="json")}, sort_keys=True)
    file, known = folder / "scores.json", folder / "key.json"
    if not (file.is_file() and known.is_file() and known.read_text(encoding="utf-8") == key):
        evaluation = assess(segmenter, dataset, progress=progress, name=f"{data.format} {data.val_split}")
        with plain_words(folder):
            folder.mkdir(exist_ok=True)
            known.unlink(missing_ok=True)
            evaluation.save_json(file, overwrite=True)
            write_text(known, key)
    return Scored(name, file, Scores.from_dict(json.loads(file.read_text(encoding="utf-8"))))


def worst_picture(
    context: Context, scored: Scored, dataset: Dataset, count: int = 4
) -> tuple[NDArray[np.uint8], list[str]]:
    """The images of lowest mean IoU: one picture (H, W, 3) with image, labels, prediction and mistakes in rows, and a
    caption for each."""
    per_image = read_per_image(scored.file)
    segmenter = context.model(RUN + scored.name)
    rows, captions = [], []
    for name, value in worst(per_image, count):
        sample = dataset[per_image.names.index(name)]
        assert sample.labels is not None
        predicted = segmenter.segment(sample.image, confidence=False).labels
        rows.append(shrink(PictureExample(name, np.moveaxis(sample.image, -1, 0), sample.labels, predicted)))
        captions.append(f"{name}: {100 * value:.1f} %")
    return draw(rows, dataset.label_space), captions
