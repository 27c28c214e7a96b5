"""A model, a data set and a protocol in; scores out. Images are read ahead while the network works."""

from __future__ import annotations

import dataclasses
import itertools
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pspnet.config.evaluation import EvaluationConfig
from pspnet.config.protocol import Protocol, find_protocol
from pspnet.data.class_faults import class_faults
from pspnet.data.dataset import Dataset, GivenDataset, Sample, as_dataset, threads_will_read
from pspnet.errors import DataError
from pspnet.evaluation.objects import Objects, objects_beside
from pspnet.evaluation.report import Evaluation
from pspnet.metrics import (
    Absent,
    BoundaryCounter,
    CalibrationCounter,
    ConfusionMatrix,
    InstanceCounter,
    InstanceRules,
    PerImage,
    Scores,
    count_pairs,
)
from pspnet.predict.arrays import softmax_
from pspnet.predict.conditions import class_translation, protocol_of, refuse_unlike
from pspnet.predict.protocols import Predictor, most_probable, predict_map
from pspnet.predict.segmenter import Segmenter

Progress = Callable[[int, int], None]
Keep = Callable[[Sample, NDArray[np.uint8]], object]  # what it returns is not used
Found = tuple[NDArray[np.uint8], NDArray[np.float32] | None]  # labels (H, W), confidence (H, W)

_READ_AHEAD = 4  # images decoded ahead of the network


def evaluate(
    segmenter: Segmenter | str | Path,
    dataset: GivenDataset,
    protocol: str | Protocol | None = None,
    absent: Absent = "exclude",
) -> Scores:
    """Scores of a model on a data set with labels. `assess` gives the whole report.

    Args:
        segmenter: The model: a Segmenter, or what `Segmenter.load` takes.
        dataset: Samples with labels; `pspnet.open_dataset` opens one.
        protocol: How images are looked at: a name, or a Protocol of your own; None: the one that the model's card names.
        absent: How classes that do not occur count: "exclude" or "zero".

    Raises ConfigError when the model's and the data set's classes do not match, DataError when a sample has no labels.
    """
    return assess(segmenter, dataset, EvaluationConfig(absent=absent, resamples=0), protocol=protocol).scores


def assess(
    segmenter: Segmenter | str | Path,
    dataset: GivenDataset,
    config: EvaluationConfig | None = None,
    *,
    protocol: str | Protocol | None = None,
    progress: Progress | None = None,
    objects: Objects = objects_beside,
    name: str = "",
    keep: Keep | None = None,
) -> Evaluation:
    """The full report: scores, intervals and whatever else `config` asks for.

    Args:
        segmenter: The model: a Segmenter, or what `Segmenter.load` takes.
        dataset: Samples with labels.
        config: What is counted: boundaries, calibration, intervals ...; None: the defaults.
        protocol: Overrides the config's, and may be a Protocol of your own; None in both: the one that the model's card names.
        progress: Called with (done, total) after each image.
        objects: Where instances come from.
        name: What the report calls the data set.
        keep: Called with (sample, labels): each prediction, (H, W) uint8 in the data set's classes.

    Raises ConfigError when the model's and the data set's classes do not match, DataError when a sample has no labels.
    """
    segmenter, dataset, config = Segmenter.of(segmenter), as_dataset(dataset), config or EvaluationConfig()
    chosen = protocol_of(segmenter.card, protocol or config.protocol)
    refuse_unlike(segmenter.card, dataset, chosen)
    translation = class_translation(segmenter.card.label_space, dataset.label_space)
    space = dataset.label_space
    matrix, per_image = ConfusionMatrix(space.num_classes), PerImage()
    boundary = BoundaryCounter(space.num_classes, config.boundary_ratio, config.border_px) if config.boundary else None
    calibration = CalibrationCounter() if config.calibration else None
    instances = InstanceCounter(InstanceRules.of(space)) if config.instances else None
    started, waiting, unlabelled = time.perf_counter(), 0.0, 0
    predictions = predict_all(segmenter, read_ahead(dataset), chosen, config)
    for done, (sample, (labels, confidence), waited) in enumerate(predictions, start=1):
        assert sample.labels is not None
        if translation is not None:
            labels = translation[labels]
        if keep is not None:
            keep(sample, labels)
        counts = count_pairs(sample.labels, labels, matrix.num_classes)
        unlabelled += sample.labels.size - int(counts.sum())
        matrix.counts += counts
        per_image.add(sample.name, counts)
        if boundary is not None:
            boundary.update(sample.name, sample.labels, labels)
        if calibration is not None and confidence is not None:
            calibration.update(sample.labels, labels, confidence)
        if instances is not None:
            instances.update(sample.labels, labels, objects(sample))
        waiting += waited
        if progress is not None:
            progress(done, len(dataset))
    for fault in class_faults("the data set", space, matrix.counts.sum(1), unlabelled, len(dataset), "score"):
        if fault.severity == "error":
            raise DataError(str(fault))
        if fault.kind == "one_class":  # classes that are missing are left out of the means, as the report says
            warnings.warn(str(fault), stacklevel=2)
    return Evaluation(
        matrix.scores(config.absent, space.names),
        chosen,
        per_image,
        config,
        dataset=name,
        boundary=boundary,
        calibration=calibration,
        instances=instances,
        seconds=time.perf_counter() - started,
        waiting_seconds=waiting,
        device=f"{segmenter.engine.name} on {segmenter.engine.device}, {_precision(segmenter)}",
        provenance=dict(segmenter.card.provenance),
    )


def predict_dataset(
    segmenter: Segmenter,
    dataset: GivenDataset,
    keep: Keep,
    config: EvaluationConfig | None = None,
    *,
    progress: Progress | None = None,
) -> None:
    """Predicts every sample, labelled or not, and hands it on: keep(sample, labels), (H, W) uint8 in the data set's
    classes. Raises what `assess` raises."""
    dataset, config = as_dataset(dataset), config or EvaluationConfig()
    chosen = protocol_of(segmenter.card, config.protocol)
    refuse_unlike(segmenter.card, dataset, chosen)
    translation = class_translation(segmenter.card.label_space, dataset.label_space)
    predictions = predict_all(
        segmenter,
        read_ahead(dataset),
        chosen,
        config,
        labelled=False,
    )
    for done, (sample, (labels, _), _) in enumerate(predictions, start=1):
        keep(sample, labels if translation is None else translation[labels])
        if progress is not None:
            progress(done, len(dataset))


def _precision(segmenter: Segmenter) -> str:
    """What the scores were computed in: bfloat16 changes labels, so it is said. An engine of a user's own may not know."""
    return getattr(segmenter.engine, "precision", "precision not known")


def read_ahead(dataset: Dataset, indices: Sequence[int] | None = None) -> Iterator[Sample]:
    """The samples in order, decoded by two threads ahead of the one who takes them."""
    order = iter(indices if indices is not None else range(len(dataset)))
    threads_will_read()
    with ThreadPoolExecutor(2, thread_name_prefix="reader") as pool:
        pending: list[Future[Sample]] = [
            pool.submit(dataset.__getitem__, i) for i in itertools.islice(order, _READ_AHEAD)
        ]
        try:
            while pending:
                sample = pending.pop(0).result()
                pending += [pool.submit(dataset.__getitem__, i) for i in itertools.islice(order, 1)]
                yield sample
        finally:
            for future in pending:
                future.cancel()


def predict_all(
    segmenter: Segmenter,
    samples: Iterator[Sample],
    protocol: Protocol,
    config: EvaluationConfig,
    *,
    labelled: bool = True,
) -> Iterator[tuple[Sample, Found, float]]:
    """Each sample, its prediction in the model's classes, and the seconds spent waiting for its file.

    labelled: a sample without labels raises DataError.
    """
    if protocol.changed(name="", source="") != find_protocol("whole").changed(name="", source=""):
        predictor = predictor_of(segmenter, config.batch_size)
        for one, waited in _timed(samples, labelled):
            yield one, predict_one(predictor, one.image, protocol, config.calibration), waited
        return
    # whole images need no map of K classes: labels are made strip by strip, and images of one size share a batch
    batch: list[Sample] = []
    waiting = 0.0
    end: list[tuple[Sample | None, float]] = [(None, 0.0)]
    following: Iterator[tuple[Sample | None, float]] = itertools.chain(_timed(samples, labelled), end)
    for sample, waited in following:
        full = len(batch) == config.batch_size
        if batch and (sample is None or full or sample.image.shape != batch[0].image.shape):
            for one, labels_and_confidence in zip(batch, _whole(segmenter, batch, config.calibration), strict=True):
                yield one, labels_and_confidence, waiting
                waiting = 0.0
            batch = []
        if sample is not None:
            batch.append(sample)
            waiting += waited


def predictor_of(segmenter: Segmenter, batch_size: int) -> Predictor:
    """What the protocols' engine needs, from a Segmenter: PyTorch or an exported model."""
    return dataclasses.replace(segmenter.predictor(), batch_windows=batch_size)


def predict_one(predictor: Predictor, image: NDArray[np.generic], protocol: Protocol, confidence: bool) -> Found:
    """Labels (H, W) and, if asked, the label's probability (H, W) under a protocol."""
    scores, are_logits = predict_map(predictor, image, protocol)
    labels, best = most_probable(scores)
    if confidence and are_logits:
        best = most_probable(softmax_(scores, 2))[1]
    return labels, best if confidence else None


def _whole(segmenter: Segmenter, batch: list[Sample], confidence: bool) -> Iterator[Found]:
    pixels = np.stack([sample.image.astype(np.float32).transpose(2, 0, 1) for sample in batch])
    labels, certainty = segmenter.labels(np.ascontiguousarray(pixels), confidence)
    yield from zip(labels, itertools.repeat(None) if certainty is None else iter(certainty), strict=False)


def _timed(samples: Iterator[Sample], labelled: bool) -> Iterator[tuple[Sample, float]]:
    while True:
        before = time.perf_counter()
        sample = next(samples, None)
        if sample is None:
            return
        if labelled and sample.labels is None:
            raise DataError(
                f"'{sample.name}' has no labels: it cannot be scored. Give a data set or split with "
                "labels; predictions for a benchmark's server: pspnet evaluate ... --submission DIR"
            )
        yield sample, time.perf_counter() - before
