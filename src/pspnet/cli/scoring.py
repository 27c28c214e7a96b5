"""The steps of `pspnet evaluate`: score, compare with another model, write predictions for a benchmark's server."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pspnet.cli.console import console, fail
from pspnet.config import EvaluationConfig
from pspnet.data.catalog import LAYOUTS, write_submission
from pspnet.data.dataset import Dataset
from pspnet.evaluation import Comparison, Evaluation, assess, compare_models, predict_dataset
from pspnet.evaluation.run import Keep
from pspnet.files import write_bytes
from pspnet.predict.segmenter import Segmenter
from pspnet.terminal import each, progress_bar

REPORT_FILES = ("scores.json", "report.txt", "confusion.png", "reliability.png", "comparison.json")


@dataclass(frozen=True)
class Scoring:
    """What is scored and how. format: the data set's layout. submission: a folder for predictions, or None."""

    dataset: Dataset
    config: EvaluationConfig
    name: str
    format: str
    submission: Path | None

    def run(self, segmenter: Segmenter, refused: list[str]) -> Evaluation | None:
        """Scores the model and writes the submission; None where the split has no labels, so that nothing was scored.

        refused: options that need scores.
        """
        keep = self._writer()
        if keep is None or len(self.dataset) == 0 or self.dataset[0].labels is not None:
            return self.scored(segmenter, keep)
        if refused:
            fail(
                f"{self.name} has no labels: it is predicted for --submission, not scored; leave out {', '.join(refused)}"
            )
        with progress_bar("predicting", len(self.dataset)) as advance:
            predict_dataset(segmenter, self.dataset, keep, self.config, progress=each(advance))
        console.print(
            f"{len(self.dataset)} predictions ({self.format}, {self.config.protocol or segmenter.card.protocol}) -> {self.submission}",
            highlight=False,
        )
        return None

    def scored(self, segmenter: Segmenter, keep: Keep | None = None) -> Evaluation:
        """The model's report."""
        with progress_bar("evaluating", len(self.dataset)) as advance:
            return assess(segmenter, self.dataset, self.config, progress=each(advance), name=self.name, keep=keep)

    def _writer(self) -> Keep | None:
        folder = self.submission
        if folder is None:
            return None
        if LAYOUTS[self.format].submit is None:
            known = ", ".join(name for name, layout in LAYOUTS.items() if layout.submit)
            fail(f"--submission with --format {self.format}: no server is known that takes it; there are {known}")
        return lambda sample, labels: write_submission(self.format, folder, sample.name, labels)


def compare_with(against: str, scoring: Scoring, report: Evaluation, names: tuple[str, str], device: str) -> Comparison:
    """The model's report beside another model's, which is scored alike, or beside a saved scores.json."""
    if Path(against).suffix.lower() == ".json":
        return compare_models(against, report.per_image, scoring.config.absent, scoring.config.level, names=names)
    other = scoring.scored(Segmenter.load(against, device=device))
    return compare_models(other.per_image, report.per_image, scoring.config.absent, scoring.config.level, names=names)


def printed(report: Evaluation, comparison: Comparison | None, as_json: bool) -> None:
    """The report for people, or everything as one JSON object."""
    if as_json:
        content = report.to_dict() | ({} if comparison is None else {"comparison": comparison.to_dict()})
        print(json.dumps(content, allow_nan=False))
        return
    console.print(report.render())
    if comparison is not None:
        console.print("\n", comparison.render(), sep="")


def saved(
    report: Evaluation, comparison: Comparison | None, scores: Path | None, out: Path | None, overwrite: bool
) -> None:
    """Writes what was asked for."""
    if scores:
        report.save_json(scores, overwrite=overwrite)
    if out:
        report.save(out, overwrite=overwrite)
        if comparison is not None:
            write_bytes(out / "comparison.json", json.dumps(comparison.to_dict(), indent=1, allow_nan=False).encode())
