"""Validation while training: one confusion matrix over whole images, the best model, pictures. It may stop at any image."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from pspnet.config.train import Monitored, TrainConfig
from pspnet.data.dataset import Dataset
from pspnet.errors import DataError, PspnetError
from pspnet.files import write_text
from pspnet.images import write_png
from pspnet.labels import IGNORE
from pspnet.metrics import ConfusionMatrix, Scores, count_pairs, none_if_nan
from pspnet.nn.pspnet import PSPNet
from pspnet.predict.windows import WHOLE_PIXELS, as_float, windowed_labels
from pspnet.training.batches import quiet_worker
from pspnet.training.pictures import PictureExample, draw, shrink
from pspnet.training.reporting import Reporter
from pspnet.training.run_folder import RunFolder
from pspnet.training.state import TrainingState
from pspnet.training.step import autocast

WORST_IMAGES = 20


@dataclass(frozen=True)
class Validation:
    """What one validation found. loss: mean cross entropy of the counted pixels. images: (name, mean IoU, pixel
    accuracy) of each image, worst first. examples: pictures to draw, in the data set's order. windowed: images that were
    too large to be seen at once."""

    scores: Scores
    loss: float
    images: list[tuple[str, float, float]] = field(default_factory=list)
    examples: list[PictureExample] = field(default_factory=list)
    windowed: int = 0

    @property
    def protocol(self) -> str:
        """The evaluation protocol that it is, by name: whole images, or windows where one of them is too large."""
        return "slide" if self.windowed else "whole"

    def score_of(self, monitored: Monitored) -> float:
        """Of what can be monitored, larger is better: a loss counts negative."""
        return -self.loss if monitored == "loss" else float(getattr(self.scores, monitored))

    def to_json(self, step: int) -> str:
        worst = [
            {"name": n, "mean_iou": none_if_nan(iou), "pixel_accuracy": none_if_nan(a)}
            for n, iou, a in self.images[:WORST_IMAGES]
        ]
        content = {
            "step": step,
            "loss": none_if_nan(self.loss),
            "protocol": self.protocol,
            **self.scores.to_dict(),
            "worst_images": worst,
        }
        return json.dumps(content, indent=1, allow_nan=False)


class Validator:
    """Validates every `val_every` updates and after the last, and keeps the best model."""

    def __init__(
        self,
        folder: RunFolder,
        config: TrainConfig,
        dataset: Dataset,
        reporter: Reporter,
        save_best: Callable[[TrainingState, Validation], None],
    ) -> None:
        assert config.val_every is not None  # a resolved config
        assert config.workers is not None
        self.folder, self.config, self.dataset = folder, config, dataset
        self.interval, self.workers = config.val_every, config.workers
        self.reporter, self.save_best = reporter, save_best
        self.indices = chosen(dataset, config.val_limit)

    def due(self, state: TrainingState) -> bool:
        """Also of a resumed run that was stopped in the midst of this validation."""
        return state.step > state.best.validated_step and (state.step % self.interval == 0 or state.step >= state.steps)

    def run(self, fabric: Any, state: TrainingState, between_images: Callable[[], None]) -> None:
        """between_images: is called before each image of this process; what it raises ends the validation."""
        images = len(self.indices[fabric.global_rank :: fabric.world_size])

        def progress(done: int) -> None:
            self.reporter.validating(done, images)
            between_images()

        with state.clock.validating():
            state.networks.eval()
            if fabric.world_size > 1:  # running statistics are each process's own until the next batch
                for buffer in state.best_model.buffers():
                    dist.broadcast(buffer, src=0)
            result = validate(
                state.best_model,
                self.dataset,
                self.indices,
                fabric.device,
                lambda: autocast(self.config, fabric.device),
                self.workers,
                self.config.pictures,
                progress,
            )
            state.training_mode()
            self._keep(state, result, fabric.is_global_zero)
        self.reporter.validated(state, result.scores, result.loss)

    def _keep(self, state: TrainingState, result: Validation, writes: bool) -> None:
        scores = result.scores
        others: dict[str, float] = {name: result.score_of(name) for name in self.config.followed[1:]}
        before, score = replace(state.best), result.score_of(self.config.monitor)
        better = state.best.update(score, scores.mean_iou, state.step, self.config.early_stopping, others)
        if not writes:
            return
        try:
            text = result.to_json(state.step)
            write_text(self.folder.scores("last"), text)
            self.folder.append_class_iou(state.step, scores.names, scores.iou.tolist())
            if result.examples:
                picture = draw(result.examples, self.dataset.label_space)
                write_png(self.folder.pictures / f"step_{state.step:06d}.png", picture)
            if better:
                write_text(self.folder.scores("best"), text)
                self.save_best(state, result)
                self.reporter.tell("best", state)
        except BaseException:
            state.best = before  # what was not written does not count: a resumed run validates this step again
            raise


class _Samples(TorchDataset[Any]):
    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> tuple[int, str, Tensor, NDArray[np.uint8]] | PspnetError:
        try:
            sample = self.dataset[index]
            if sample.labels is None:
                return DataError(f"'{sample.name}' has no labels; validation needs labels for every image")
            return index, sample.name, torch.from_numpy(as_float(sample.image)), sample.labels
        except PspnetError as error:
            return error


def chosen(dataset: Dataset, limit: int | None) -> list[int]:
    """The indices that are validated: all, or `limit` evenly spread ones."""
    count = len(dataset)
    return list(range(count)) if limit is None or limit >= count else [i * count // limit for i in range(limit)]


@torch.no_grad()
def validate(
    model: PSPNet,
    dataset: Dataset,
    indices: Sequence[int],
    device: torch.device,
    precision: Callable[[], AbstractContextManager[Any]],
    workers: int = 0,
    pictures: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> Validation:
    """Scores `model` on whole images, each process every world_size-th; all processes get the common result.

    An image beyond 2 megapixels is seen in blended windows and adds nothing to the loss. `progress` is called with the
    number of images done by this process; what it raises ends the validation.
    """
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)
    drawn = {indices[i * len(indices) // pictures] for i in range(pictures)} if indices and pictures else set()
    matrix = ConfusionMatrix(model.config.num_classes)
    loss_sum, loss_pixels, windowed = 0.0, 0, 0
    images: list[tuple[str, float, float]] = []
    examples: list[tuple[int, PictureExample]] = []
    loader: DataLoader[Any] = DataLoader(
        _Samples(dataset),
        batch_size=None,
        sampler=list(indices[rank::world]),
        num_workers=workers,
        collate_fn=_as_is,
        worker_init_fn=quiet_worker,
        generator=torch.Generator(),
    )
    for done, item in enumerate(loader):
        progress(done)
        if isinstance(item, PspnetError):
            raise item
        index, name, image, labels = item
        with precision():
            predicted, losses = predict(model, image.to(device), labels)
        if losses is None:
            windowed += 1
        else:
            loss_sum, loss_pixels = loss_sum + losses[0], loss_pixels + losses[1]
        counts = count_pairs(labels, predicted, model.config.num_classes)
        matrix.counts += counts
        own_scores = Scores(counts)
        if counts.any():  # an image without a counted pixel has no score of its own
            images.append((name, own_scores.mean_iou, own_scores.pixel_accuracy))
        if index in drawn:
            examples.append((index, shrink(PictureExample(name, image.numpy(), labels, predicted))))
    if world > 1:
        gathered: list[Any] = [None] * world
        dist.all_gather_object(gathered, (matrix.counts, loss_sum, loss_pixels, images, examples, windowed))
        matrix.counts = sum((f[0] for f in gathered), np.zeros_like(matrix.counts))
        loss_sum, loss_pixels = sum(f[1] for f in gathered), sum(f[2] for f in gathered)
        images = [image for f in gathered for image in f[3]]
        examples = [example for f in gathered for example in f[4]]
        windowed = sum(f[5] for f in gathered)
    loss = loss_sum / loss_pixels if loss_pixels else float("nan")
    scores = matrix.scores(names=dataset.label_space.names)
    return Validation(
        scores,
        loss,
        sorted(images, key=lambda entry: entry[1]),
        [example for _, example in sorted(examples, key=_first)],
        windowed,
    )


def _as_is(item: Any) -> Any:
    return item


def _first(pair: tuple[int, PictureExample]) -> int:
    return pair[0]


def predict(
    model: PSPNet, image: Tensor, labels: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], tuple[float, int] | None]:
    """Labels of one image (bands, H, W), and (sum of the cross entropy, counted pixels) where it fits as a whole."""
    height, width = image.shape[-2:]
    if height * width > WHOLE_PIXELS:
        predicted, _ = windowed_labels(
            image.movedim(0, -1).cpu().numpy(),
            lambda batch: model(torch.from_numpy(batch).to(image.device)).float().softmax(dim=1),
        )
        return predicted, None
    logits = model(image[None]).float()
    target = torch.from_numpy(labels).to(image.device).long()[None]
    loss = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="sum")
    best = logits[0].argmax(dim=0).to(torch.uint8).cpu().numpy()
    return best, (float(loss), int((labels != IGNORE).sum()))
