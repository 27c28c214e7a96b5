"""Data sets: files in, samples out. The public names load when first used: a class table needs no image library."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pspnet.data.dataset import Dataset, Sample

if TYPE_CHECKING:
    from pspnet.data.catalog import available_splits as available_splits
    from pspnet.data.catalog import open_dataset as open_dataset
    from pspnet.data.catalog import write_submission as write_submission
    from pspnet.data.doctor import check_dataset as check_dataset
    from pspnet.data.doctor import check_splits as check_splits
    from pspnet.data.prepare import how_to_get as how_to_get
    from pspnet.data.statistics import dataset_statistics as dataset_statistics
    from pspnet.data.transforms import Augmentation as Augmentation

_PLACES = {
    "Augmentation": "pspnet.data.transforms",
    "available_splits": "pspnet.data.catalog",
    "check_splits": "pspnet.data.doctor",
    "how_to_get": "pspnet.data.prepare",
    "write_submission": "pspnet.data.catalog",
    "check_dataset": "pspnet.data.doctor",
    "dataset_statistics": "pspnet.data.statistics",
    "open_dataset": "pspnet.data.catalog",
}

__all__ = [
    "Augmentation",
    "Dataset",
    "Sample",
    "available_splits",
    "check_dataset",
    "check_splits",
    "dataset_statistics",
    "how_to_get",
    "open_dataset",
    "write_submission",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'pspnet.data' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = value
    return value
