"""What a card says beyond a split's scores: sizes other than the trained one, confidence, 8 bits. Each as a section."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pspnet.config import EvaluationConfig
from pspnet.data.dataset import Dataset
from pspnet.data.views import Subset
from pspnet.evaluation import assess
from pspnet.exporting import export
from pspnet.metrics import ConfusionMatrix
from pspnet.predict.segmenter import Segmenter

FACTORS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
SCALE_IMAGES, CONFIDENCE_IMAGES, INT8_IMAGES, CALIBRATION_IMAGES = 8, 18, 40, 60


def some(dataset: Dataset, count: int) -> Subset:
    """Up to `count` evenly spread samples."""
    return Subset(dataset, np.unique(np.linspace(0, len(dataset) - 1, count).astype(int)).tolist())


@dataclass(frozen=True)
class Scales:
    """Mean IoU in per cent of images made larger or smaller by `FACTORS`: looked at so, and brought back to the trained size."""

    images: int
    native: tuple[float, ...]
    trained: tuple[float, ...]

    def section(self, segmenter: Segmenter) -> str:
        height, width = segmenter.card.trained_size or (0, 0)
        known = f" Brought back: to the {width} x {height} that the model was trained at, as `segment` does by itself."
        rows = ["| size of the image | " + " | ".join(f"x {factor:g}" for factor in FACTORS) + " |"]
        rows += ["| --- " * (len(FACTORS) + 1) + "|", _row("as it is", self.native)]
        rows += [_row("brought back", self.trained)] if height else []
        return (
            f"## Other sizes\n\nMean IoU of {self.images} images of the last split above, made smaller or larger."
            f"{known if height else ' Nothing is brought back: the number of pixels tells no scale from above.'}\n\n"
            + "\n".join(rows)
        )


def _row(name: str, values: tuple[float, ...]) -> str:
    return f"| {name} | " + " | ".join(f"{value:.1f}" for value in values) + " |"


def scales(segmenter: Segmenter, dataset: Dataset) -> Scales:
    """Labels are judged at each image's own size, before it was changed."""
    chosen = some(dataset, SCALE_IMAGES)
    matrices: dict[tuple[str, float], ConfusionMatrix] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sizes that are not the trained one are what this is about
        for index in range(len(chosen)):
            sample = chosen[index]
            assert sample.labels is not None
            height, width = sample.labels.shape
            for factor in FACTORS:
                size = (max(round(width * factor), 1), max(round(height * factor), 1))
                way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
                image = sample.image if factor == 1 else cv2.resize(sample.image, size, interpolation=way)
                labels_of: dict[Any, NDArray[np.uint8]] = {}
                for kind in ("native", "trained"):
                    shown = segmenter.seen_size(image.shape[:2], kind)  # type: ignore[arg-type]
                    if shown not in labels_of:
                        labels_of[shown] = segmenter.segment(image, confidence=False, size=kind).labels  # type: ignore[arg-type]
                    labels = cv2.resize(labels_of[shown], (width, height), interpolation=cv2.INTER_NEAREST)
                    matrix = matrices.setdefault((kind, factor), ConfusionMatrix(len(segmenter.classes)))
                    matrix.update(sample.labels, labels)
    score = {key: 100 * float(matrix.scores().mean_iou) for key, matrix in matrices.items()}
    native, trained = (tuple(score[kind, factor] for factor in FACTORS) for kind in ("native", "trained"))
    return Scales(len(chosen), native, trained)


def confidence_section(segmenter: Segmenter, judged: Dataset, other: Dataset | None, kind: str, source: str) -> str:
    """How well confidence tells what is right, on a split and on pictures of another kind. source: what it was fitted to."""

    def line(name: str, dataset: Dataset) -> str:
        chosen = some(dataset, CONFIDENCE_IMAGES)
        evaluation = assess(segmenter, chosen, EvaluationConfig(batch_size=1, resamples=0, calibration=True))
        assert evaluation.calibration is not None
        sums = evaluation.calibration.summary()
        error, excess = (100 * float(sums[key]) for key in ("calibration_error", "overconfidence"))
        right = 100 * float(evaluation.scores.pixel_accuracy)
        return f"| {len(chosen)} {name} | {right:.1f} | {error:.1f} | {excess:+.1f} |"

    rows = [line("of the last split above", judged), *([line(kind, other)] if other is not None else [])]
    return (
        f"## Confidence\n\nThe card's temperature, {segmenter.card.temperature:.2f}, was fitted to {source}. In per cent: how far "
        "confidence lies from the share that is right (expected calibration error), and by how much it is too high.\n\n"
        "| pictures | right | error | too sure |\n| --- | --- | --- | --- |\n" + "\n".join(rows)
    )


@dataclass(frozen=True)
class EightBit:
    """An int8 ONNX file beside the model. scores: mean IoU in per cent before and after, on the same images."""

    file: str
    size: int
    images: int
    before: float
    after: float

    def section(self, split: str) -> str:
        return (
            f"## 8 bits\n\n`{self.file}`, {self.size / 2**20:.1f} MiB, runs without PyTorch (the base installation, or "
            f"onnxruntime alone). On {self.images} images of {split}: mean IoU {self.after:.1f} where the network itself has "
            f"{self.before:.1f} ({self.after - self.before:+.2f})."
        )


def eight_bit(
    segmenter: Segmenter, twin: Segmenter, training: Dataset, judged: Dataset, path: Path, root: Path
) -> EightBit:
    """Writes the int8 ONNX file, calibrated on training images, and scores it; where the network saw the judged images
    too, what is scored is its twin's int8 file, made in the same way and not kept."""
    images = some(training, CALIBRATION_IMAGES)
    examples = [images[i].image for i in range(len(images))]
    path.parent.mkdir(parents=True, exist_ok=True)
    export(segmenter, path, "int8", images=examples, bound=0.0, overwrite=True)
    chosen = some(judged, INT8_IMAGES)
    config = EvaluationConfig(protocol=segmenter.card.protocol, batch_size=1, resamples=0)
    with tempfile.TemporaryDirectory() as scratch:
        scored = path
        if twin is not segmenter:
            scored = Path(scratch) / path.name
            export(twin, scored, "int8", images=examples, bound=0.0)
        before, after = (
            100 * float(assess(model, chosen, config).scores.mean_iou) for model in (twin, Segmenter.load(scored))
        )
    return EightBit(path.relative_to(root).as_posix(), path.stat().st_size, len(chosen), before, after)
