"""The failure explorer: where a model fails, in the paper's three kinds, as one HTML page with pictures."""

from __future__ import annotations

from pathlib import Path

from pspnet.config.evaluation import EvaluationConfig
from pspnet.config.protocol import Protocol
from pspnet.data.dataset import GivenDataset, as_dataset
from pspnet.display import image_for_display
from pspnet.evaluation.run import Progress, predict_all, read_ahead
from pspnet.explorer.failures import Findings, look_at
from pspnet.explorer.page import Picture, write_page
from pspnet.explorer.report import ExplorerReport, choose
from pspnet.files import check_output
from pspnet.predict.conditions import class_translation, protocol_of, refuse_unlike
from pspnet.predict.segmenter import Segmenter

__all__ = ["Findings", "Report", "explore"]


def explore(
    segmenter: Segmenter | str | Path,
    dataset: GivenDataset,
    out: str | Path,
    *,
    protocol: str | Protocol | None = None,
    examples: int = 8,
    batch_size: int = 4,
    progress: Progress | None = None,
    title: str = "",
    overwrite: bool = False,
) -> ExplorerReport:
    """Predicts a labelled data set, sorts the errors and writes a page that needs no other file to `out`.

    Args:
        segmenter: The model: a Segmenter, or what `Segmenter.load` takes.
        dataset: Samples with labels.
        out: The page, .html.
        protocol: How images are looked at; None: the one that the model's card names.
        examples: Pictures shown of each kind, at most.
        batch_size: Images at once.
        progress: Called with (done, total) after each image, and once more for each that is predicted again for its picture.
        title: The page's; empty: "a data set".
        overwrite: Whether a file that exists may be replaced.

    Raises ConfigError and DataError as `assess` does, and OutputError
    before the work where `out` exists, without overwrite.
    """
    check_output(out, overwrite=overwrite)
    segmenter, dataset = Segmenter.of(segmenter), as_dataset(dataset)
    space, chosen = dataset.label_space, protocol_of(segmenter.card, protocol)
    refuse_unlike(segmenter.card, dataset, chosen)
    translation = class_translation(segmenter.card.label_space, space)
    config = EvaluationConfig(batch_size=batch_size, resamples=0)
    findings = Findings(space.num_classes)
    predictions = predict_all(segmenter, read_ahead(dataset), chosen, config)
    for index, (sample, (labels, _), _) in enumerate(predictions):
        assert sample.labels is not None
        predicted = labels if translation is None else translation[labels]
        look_at(findings, index, sample.name, sample.image, sample.labels, predicted)
        if progress is not None:
            progress(index + 1, len(dataset))
    report = choose(findings, space, examples, title or "a data set", chosen.name)
    shown = sorted({example.index for kind in report.kinds for example in kind.examples})
    pictures: dict[int, Picture] = {}
    again = predict_all(segmenter, read_ahead(dataset, shown), chosen, config)
    for index, (sample, (labels, _), _) in zip(shown, again, strict=True):
        assert sample.labels is not None
        predicted = labels if translation is None else translation[labels]
        pictures[index] = Picture(image_for_display(sample.image), sample.labels, predicted)
        if progress is not None:
            progress(len(dataset), len(dataset))
    write_page(Path(out), report, space, pictures, overwrite)
    return report
