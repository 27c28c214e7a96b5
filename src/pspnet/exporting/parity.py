"""How near a written model is to its source: logits and labels at three sizes, mean IoU on labelled images.

A value that is not a number is never near: pixels with one count as unequal, and a mean IoU that is none fails.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from numpy.typing import NDArray

from pspnet.config.evaluation import EvaluationConfig
from pspnet.data.dataset import GivenDataset
from pspnet.errors import ExportError
from pspnet.evaluation import assess
from pspnet.metrics import compare as compare_scores
from pspnet.predict.segmenter import Segmenter
from pspnet.predict.windows import as_float

SIZES = ((1.0, 1.0), (0.75, 1.0), (1.0, 0.6))  # of the check's images, in shares of their height and width


@dataclass(frozen=True)
class Parity:
    """The exported model against its source at one size: largest difference of the logits, share of equal labels."""

    height: int
    width: int
    largest_difference: float
    logits_spread: float
    label_agreement: float


@dataclass(frozen=True)
class Quality:
    """Mean IoU (0..1) of the source in float32 and of the export on the same labelled images, each seen whole.

    low, high: the 95 % interval of the loss, from the paired bootstrap over the images; None for a single image.
    """

    images: int
    source: float
    exported: float
    low: float | None = None
    high: float | None = None

    @property
    def drop(self) -> float:
        """What the export loses, 0..1; negative where it gains."""
        return self.source - self.exported

    def loses_more(self, than: float) -> bool:
        """Whether more than that is lost for sure: the whole interval is above it, or there is no number at all.

        A few images cannot tell half a point: of two identical networks that round otherwise one is below the other
        by chance. See `uncertain`.
        """
        surely = self.drop if self.low is None else self.low
        return not (math.isfinite(self.drop) and surely <= than)

    def uncertain(self, than: float) -> bool:
        """Whether the images are too few to tell if more than that is lost."""
        return self.low is not None and self.high is not None and self.low <= than < self.high


def compare(
    segmenter: Segmenter, path: Path, images: list[NDArray[Any]], fixed: bool
) -> tuple[str, tuple[Parity, ...]]:
    """The written file, opened again, against the source in float32."""
    with _trusted():
        exported = Segmenter.load(path)
    comparisons = []
    model = segmenter.model.cpu().eval()
    for number, (share_h, share_w) in enumerate(SIZES[: 1 if fixed else None]):
        image = images[number % len(images)]
        height, width = max(33, round(image.shape[0] * share_h)), max(33, round(image.shape[1] * share_w))
        if not fixed:
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).reshape(height, width, -1)
        batch = torch.from_numpy(as_float(image)[None])
        with torch.inference_mode():
            wanted = model(batch)
        if not torch.isfinite(wanted).all():
            raise ExportError(
                f"the source itself gives values that are not finite at {image.shape[0]} x {image.shape[1]} px: its weights "
                "are damaged, or the image is outside of the range it was trained on"
            )
        given = exported.logits(batch)
        equal = (wanted.argmax(1) == given.argmax(1)) & torch.isfinite(given).all(dim=1)
        comparisons.append(
            Parity(
                image.shape[0],
                image.shape[1],
                float((wanted - given).abs().max()),
                float(wanted.std()),
                float(equal.float().mean()),
            )
        )
    return exported.engine.name, tuple(comparisons)


def quality_of(segmenter: Segmenter, path: Path, dataset: GivenDataset) -> Quality:
    """Both evaluated in float32's and the export's own precision, every image seen whole."""
    with _trusted():
        exported = Segmenter.load(path)
    source = Segmenter(segmenter.model, segmenter.card, device="cpu", precision="fp32")
    config = EvaluationConfig(resamples=0)
    before, after = (assess(each, dataset, config) for each in (source, exported))
    if len(dataset) < 2:
        return Quality(len(dataset), before.scores.mean_iou, after.scores.mean_iou)
    change = compare_scores(before.per_image, after.per_image)["mean_iou"]
    return Quality(len(dataset), before.scores.mean_iou, after.scores.mean_iou, -change.high, -change.low)


@contextmanager
def _trusted() -> Iterator[None]:
    """The file was made a moment ago by this very process."""
    before = os.environ.get("PSPNET_TRUST_PT2")
    os.environ["PSPNET_TRUST_PT2"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PSPNET_TRUST_PT2"]
        else:
            os.environ["PSPNET_TRUST_PT2"] = before
