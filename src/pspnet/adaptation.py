"""Fitting a finished model to other data without training: batch-norm statistics, and the temperature of its confidence."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pspnet.data.dataset import Dataset, GivenDataset, as_dataset
from pspnet.errors import ConfigError, DataError
from pspnet.labels import IGNORE
from pspnet.metrics import fit_temperature
from pspnet.predict.conditions import label_translation, refuse_unlike
from pspnet.predict.engines import TorchEngine
from pspnet.predict.segmenter import Segmenter


def adapt_batch_norm(
    segmenter: Segmenter | str | Path,
    dataset: GivenDataset,
    *,
    prior: float = 16.0,
    batch_size: int = 4,
    passes: int = 2,
) -> Segmenter:
    """A copy of the model whose batch-norm statistics are moved towards a data set's: for a shifted domain, such as
    another camera, season or sensor. Labels are not used; the given model is not changed.

    New statistics are (prior * old + n * new) / (prior + n) over n images (Schneider et al. 2020, arXiv:2006.16971):
    `prior` is how many images the old ones are worth; 0 takes the new ones alone. Each pass starts its sums afresh, so
    that in the second one every layer sees inputs that were already adapted. Images of one size share a batch.

    Args:
        segmenter: A checkpoint's model: a Segmenter, or what `Segmenter.load` takes.
        dataset: Images of the shifted domain.
        prior: How many images the old statistics are worth.
        batch_size: Images at once.
        passes: Times that all images are looked at.

    Raises ConfigError for an exported model (its statistics are part of its weights), a model without batch norm, or
    numbers out of range; DataError for an empty data set.
    """
    segmenter, dataset = Segmenter.of(segmenter), as_dataset(dataset)
    if not isinstance(segmenter.engine, TorchEngine):
        raise ConfigError(f"a model that runs on {segmenter.engine.name} cannot be adapted; adapt it before its export")
    if prior < 0 or batch_size < 1 or passes < 1:
        raise ConfigError(f"prior = {prior}, batch_size = {batch_size}, passes = {passes}: prior >= 0, the others >= 1")
    refuse_unlike(segmenter.card, dataset)
    facts = {"batch_norm_adapted": {"images": len(dataset), "prior": prior, "passes": passes}}
    adapted = Segmenter(
        copy.deepcopy(segmenter.model),
        dataclasses.replace(segmenter.card, provenance={**segmenter.card.provenance, **facts}),
        device=str(segmenter.engine.device),
        precision="bf16" if segmenter.engine.dtype == torch.bfloat16 else "fp32",
    )
    norms = [
        m for m in adapted.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats
    ]
    if not norms:
        raise ConfigError(f"encoder = {adapted.model.config.encoder}: the model has no batch norm to adapt")
    trackers = [_Tracker(norm, prior) for norm in norms]
    try:
        for _ in range(passes):
            for tracker in trackers:
                tracker.restart()
            for batch in _batches(dataset, batch_size):
                adapted.engine.coarse(torch.from_numpy(batch))
    finally:
        for tracker in trackers:
            tracker.handle.remove()
    return adapted


class _Tracker:
    """Watches what enters one batch norm, and keeps its statistics at the blend of old and new."""

    def __init__(self, norm: nn.Module, prior: float) -> None:
        mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        self.old_mean, self.old_variance, self.prior = mean.clone(), variance.clone(), prior
        self.handle = norm.register_forward_pre_hook(self._see)
        self.restart()

    def restart(self) -> None:
        """Forgets the images seen, not the statistics they led to."""
        self.images, self.values = 0, 0
        self.sum, self.squares = (
            torch.zeros_like(self.old_mean, dtype=torch.float64),
            torch.zeros_like(self.old_mean, dtype=torch.float64),
        )

    def _see(self, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].detach().transpose(0, 1).flatten(1).double()  # (C, B * H * W)
        self.images += inputs[0].shape[0]
        self.values += values.shape[1]
        self.sum += values.sum(1)
        self.squares += values.square().sum(1)
        mean = self.sum / self.values
        variance = (self.squares / self.values - mean.square()).clamp(min=0)
        old = self.prior / (self.prior + self.images)
        norm.get_buffer("running_mean").copy_(old * self.old_mean + (1 - old) * mean)
        norm.get_buffer("running_var").copy_(old * self.old_variance + (1 - old) * variance)


def calibrate(
    segmenter: Segmenter | str | Path, dataset: GivenDataset, *, pixels_per_image: int = 1000, seed: int = 0
) -> Segmenter:
    """The same model with a temperature fitted to labelled images it was not trained on (Guo et al. 2017).

    Confidence is then the probability of being right; labels do not change. Save the result to keep the temperature.

    Args:
        segmenter: The model: a Segmenter, or what `Segmenter.load` takes.
        dataset: Labelled images.
        pixels_per_image: Random labelled pixels of each image that are used.
        seed: Of their choice.

    Raises DataError where labels are missing.
    """
    segmenter, dataset = Segmenter.of(segmenter), as_dataset(dataset)
    refuse_unlike(segmenter.card, dataset)
    translation = label_translation(segmenter.card.label_space, dataset.label_space)
    rng = np.random.default_rng(seed)
    logits: list[NDArray[np.float32]] = []
    truth: list[NDArray[np.uint8]] = []
    for index in range(len(dataset)):
        sample = dataset[index]
        if sample.labels is None:
            raise DataError(f"'{sample.name}' has no labels: a temperature is fitted to labelled images")
        labels = sample.labels if translation is None else translation[sample.labels]
        places = np.flatnonzero(labels != IGNORE)
        places = rng.choice(places, min(pixels_per_image, len(places)), replace=False)
        pixels = torch.from_numpy(_as_batch([sample.image]))
        picked_logits = segmenter.logits(pixels)[0].flatten(1)[:, torch.from_numpy(places)]
        logits.append(picked_logits.T.float().cpu().numpy())
        truth.append(labels.ravel()[places])
    temperature = fit_temperature(np.concatenate(logits), np.concatenate(truth))
    card = dataclasses.replace(segmenter.card, temperature=temperature)
    return Segmenter(segmenter.model, card, engine=segmenter.engine)


def _batches(dataset: Dataset, batch_size: int) -> Iterator[NDArray[np.float32]]:
    images = (dataset[index].image for index in range(len(dataset)))
    for _, group in itertools.groupby(images, key=lambda image: image.shape):
        for batch in iter(lambda group=group: list(itertools.islice(group, batch_size)), []):  # type: ignore[misc]
            yield _as_batch(batch)


def _as_batch(images: list[NDArray[Any]]) -> NDArray[np.float32]:
    return np.stack([np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) for image in images])
