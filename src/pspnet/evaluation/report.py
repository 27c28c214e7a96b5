"""What an evaluation found, and how to show and keep it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pspnet.config.evaluation import EvaluationConfig
from pspnet.config.protocol import Protocol
from pspnet.errors import DataError, parsing
from pspnet.files import check_output, write_bytes
from pspnet.metrics import (
    ABSENT_RULES,
    BoundaryCounter,
    CalibrationCounter,
    InstanceCounter,
    Interval,
    PerImage,
    Scores,
    bootstrap,
    intervals,
    mean_of_known,
    none_if_nan,
    percent,
    worst,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

_TITLES = {
    "mean_iou": "mean IoU",
    "mean_accuracy": "mean accuracy",
    "pixel_accuracy": "pixel accuracy",
    "mean_precision": "mean precision (of the classes predicted)",
    "mean_f1": "mean F1",
    "mean_f1_of_found": "mean F1 of the classes found (MMSegmentation's)",
    "frequency_weighted_iou": "frequency-weighted IoU",
    "boundary_iou": "boundary IoU",
    "class_iou": "class IoU",
    "class_iiou": "class iIoU",
    "category_iou": "category IoU",
    "category_iiou": "category iIoU",
    "calibration_error": "calibration error",
    "overconfidence": "overconfidence",
}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A model's scores on a data set under a protocol, with all that a reader needs to trust or repeat them.

    `boundary`, `calibration` and `instances` are None where the config did not ask for them. `intervals` holds every
    single-number score, `class_intervals` each class's IoU; both are empty for a single image or resamples = 0.
    """

    scores: Scores
    protocol: Protocol
    per_image: PerImage
    config: EvaluationConfig = field(default_factory=EvaluationConfig)
    dataset: str = ""
    boundary: BoundaryCounter | None = None
    calibration: CalibrationCounter | None = None
    instances: InstanceCounter | None = None
    seconds: float = 0.0
    waiting_seconds: float = 0.0
    device: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def summary(self) -> dict[str, float]:
        """Every single-number score, by name; fractions."""
        values = self.scores.summary()
        if self.boundary is not None:
            values["boundary_iou"] = float(mean_of_known(self.boundary.boundary_iou(self.scores.absent).iou))
            for pixels, areas in self.boundary.band_iou(self.scores.absent).items():
                values[f"mean_iou_within_{pixels}_px"] = float(mean_of_known(areas.iou))
        if self.instances is not None:
            values |= {name: float(value) for name, value in self.instances.scores().summary().items()}
        if self.calibration is not None:
            values |= {name: float(value) for name, value in self.calibration.summary().items()}
        return values

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        return self._all_intervals[0]

    @cached_property
    def class_intervals(self) -> list[Interval]:
        return self._all_intervals[1]

    @cached_property
    def _all_intervals(self) -> tuple[dict[str, Interval], list[Interval]]:
        config, absent = self.config, self.scores.absent
        if not config.resamples or len(self.per_image.names) < 2:
            return {}, []
        options = (config.resamples, config.level, config.seed)
        bounds, classes = intervals(self.per_image, absent, *options)
        if self.boundary is not None:
            bounds["boundary_iou"] = intervals(self.boundary.contour, absent, *options)[0]["mean_iou"]
            for pixels, band in self.boundary.bands.items():
                bounds[f"mean_iou_within_{pixels}_px"] = intervals(band, absent, *options)[0]["mean_iou"]
        if self.instances is not None:
            counter = self.instances
            bounds |= bootstrap(counter.rows, lambda sums: counter.scores(sums).summary(), *options)
        if self.calibration is not None:
            bounds |= bootstrap(self.calibration.rows, self.calibration.summary, *options)
        return bounds, classes

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; NaN is None."""
        content = self.scores.to_dict() | {name: none_if_nan(value) for name, value in self.summary().items()}
        for row, interval in zip(content["classes"], self.class_intervals, strict=False):
            row["iou_interval"] = _bounds(interval)
        if self.boundary is not None:
            for row, value in zip(content["classes"], self.boundary.boundary_iou(self.scores.absent).iou, strict=True):
                row["boundary_iou"] = none_if_nan(value)
        return {
            "dataset": self.dataset,
            "images": len(self.per_image.names),
            "protocol": self.protocol.model_dump(mode="json"),
            "device": self.device,
            "seconds": round(self.seconds, 3),
            "model": dict(self.provenance),
            **content,
            "interval_level": self.config.level,
            "intervals": {name: _bounds(interval) for name, interval in self.intervals.items()},
            "instances": None if self.instances is None else self.instances.scores().to_dict(),
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            "per_image": self.per_image.to_dict(),
        }

    def save_json(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Writes everything as JSON, whole or not at all. Raises OutputError for a file that exists, without overwrite."""
        write_bytes(path, json.dumps(self.to_dict(), indent=1, allow_nan=False).encode(), overwrite=overwrite)
        return Path(path)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Writes scores.json, report.txt, confusion.png and, with calibration, reliability.png; returns their paths.

        Raises OutputError before the first of them where one exists, without overwrite.
        """
        from pspnet.evaluation.pictures import confusion_picture, reliability_picture
        from pspnet.terminal import PlainConsole

        folder = Path(folder)
        for name in ("scores.json", "report.txt", "confusion.png", "reliability.png"):
            check_output(folder / name, overwrite=overwrite)
        console = PlainConsole(record=True, width=120, file=io.StringIO())
        console.print(self.render())
        write_bytes(folder / "report.txt", console.export_text().encode())
        files = [self.save_json(folder / "scores.json", overwrite=overwrite), folder / "report.txt"]
        files.append(confusion_picture(self.scores, folder / "confusion.png", title=self.dataset))
        if self.calibration is not None:
            files.append(reliability_picture(self.calibration, folder / "reliability.png", title=self.dataset))
        return files

    def render(self) -> RenderableType:
        """For a terminal: per-class table, summary with intervals, worst images, the protocol's every convention."""
        from rich.console import Group
        from rich.text import Text

        images = len(self.per_image.names)
        where = f"{self.dataset}, " if self.dataset else ""
        lines = []
        for name, value in self.summary().items():
            line = f"{title_of(name):27s}{percent(value):>6}"
            if name in self.intervals:
                low, high = self.intervals[name].low, self.intervals[name].high
                line += f"   {self.config.level:.0%} interval {percent(low)} to {percent(high)}"
            lines.append(line)
        lowest = ", ".join(f"{name} {percent(value)}" for name, value in worst(self.per_image, 5))
        lines += [
            "",
            f"lowest images (mean IoU): {lowest}",
            f"absent classes: {self.scores.absent}: {ABSENT_RULES[self.scores.absent]}",
            f"{self.seconds:.1f} s, {images / max(self.seconds, 1e-9):.2f} images/s on {self.device or 'unknown device'}",
            "",
            f"protocol {self.protocol.describe()}",
        ]
        return Group(self.scores.table(f"{where}{images} images, {self.protocol.name}"), Text("\n".join(lines)))


def title_of(score: str) -> str:
    """A score's name as a reader writes it: 'mean_iou' -> 'mean IoU'."""
    return _TITLES.get(score) or score.replace("mean_iou_within_", "IoU within ").replace("_px", " px of a border")


def read_per_image(path: str | Path) -> PerImage:
    """The per-image counts of a saved scores.json, for comparisons. Raises DataError naming the file."""
    with parsing(path, DataError, "is not a scores.json of `pspnet evaluate`", "Evaluate again"):
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return PerImage.from_dict(content["per_image"])


def _bounds(interval: Interval) -> list[float | None]:
    return [none_if_nan(interval.low), none_if_nan(interval.high)]
