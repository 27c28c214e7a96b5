"""Whether a sample is what a Sample says: the check of data sets that come from Python, where no reader has looked before."""

from __future__ import annotations

from typing import Any

import numpy as np

from pspnet.data.dataset import Dataset, Sample
from pspnet.data.faults import Fault
from pspnet.labels import IGNORE

_WAY_OUT = (
    "Give Sample(image, labels, name): the image (height, width, bands) in its own range, the labels (height, width) of whole "
    f"numbers, 0 for the first class, {IGNORE} where nothing counts"
)


def sample_faults(dataset: Dataset, index: int, sample: Any) -> list[Fault]:
    """What contradicts the contract of `pspnet.data.dataset.Sample`; empty for a sound sample."""
    if not isinstance(sample, Sample):
        return [_fault(dataset, index, f"it is a {type(sample).__name__} and no Sample")]
    image, labels, faults = sample.image, sample.labels, list[str]()
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.dtype.kind not in "uif":
        return [_fault(dataset, index, f"its image is {_kind(image)}")]
    if image.shape[2] != dataset.bands:
        first = ", and its bands seem to come first" if image.shape[0] == dataset.bands else ""
        faults.append(f"its image is {_kind(image)}, the data set says {dataset.bands} bands{first}")
    elif image.dtype.kind == "f" and not np.isfinite(image).all():
        faults.append("its image holds NaN or infinity")
    if labels is not None and (
        not isinstance(labels, np.ndarray) or labels.ndim != 2 or labels.dtype.kind not in "uib"
    ):
        faults.append(f"its labels are {_kind(labels)}")
    elif labels is not None:
        if labels.shape != image.shape[:2] and not faults:
            faults.append(
                f"its labels are {labels.shape[0]} x {labels.shape[1]}, its image {image.shape[0]} x {image.shape[1]}"
            )
        values = np.unique(labels)
        wrong = values[((values < 0) | (values >= dataset.label_space.num_classes)) & (values != IGNORE)]
        if len(wrong):
            faults.append(
                f"its labels hold {int(wrong[0])}; there are {dataset.label_space.num_classes} classes, from 0"
            )
    return [_fault(dataset, index, text) for text in faults]


def _fault(dataset: Dataset, index: int, text: str) -> Fault:
    name = dataset.name or type(dataset).__name__
    return Fault("error", "sample", name, f"{name}: sample {index}: {text}", _WAY_OUT)


def _kind(value: Any) -> str:
    return f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
