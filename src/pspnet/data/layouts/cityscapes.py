"""Cityscapes: 19 classes in the streets of 50 cities, 2048 x 1024 (Cordts et al. 2016).

    ROOT/leftImg8bit/{train,val,test,train_extra}/CITY/CITY_000000_000019_leftImg8bit.png
    ROOT/gtFine/{train,val}/CITY/CITY_000000_000019_gtFine_labelIds.png        0..33
    ROOT/gtCoarse/{train,val,train_extra}/CITY/..._gtCoarse_labelIds.png
    ..._instanceIds.png beside them, for the instance-level scores

"train_extra" has coarse labels only: train on ("train", "train_extra") for fine and coarse data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pspnet.data.archives import PublishedArchive
from pspnet.data.layouts.folder import existing, no_split
from pspnet.data.matching import match
from pspnet.data.paired_files import PairedFiles
from pspnet.errors import ConfigError
from pspnet.images import write_png
from pspnet.labels import LabelSpace

_SPLITS = ("train", "val", "test", "train_extra")
SOURCE = PublishedArchive(
    where="www.cityscapes-dataset.com (registration; non-commercial): leftImg8bit_trainvaltest.zip (11 GB) and "
    "gtFine_trainvaltest.zip (241 MB); for coarse labels leftImg8bit_trainextra.zip (44 GB) and gtCoarse.zip (1.3 GB)",
    counts={"train": 2975, "val": 500, "test": 1525, "train_extra": 19998},
    checksums={
        "gtFine_trainvaltest.zip": "sha1:99f532cb1af174f5fcc4c5bc8feea8c66246ddbc",
        "leftImg8bit_trainvaltest.zip": "sha1:2c0b77ce9933cc635adda307fbba5566f5d9d404",
    },
)


def cityscapes(root: Path, split: str = "train", *, labels: Literal["fine", "coarse"] = "fine") -> PairedFiles:
    """Opens a split. "train_extra" always takes coarse labels; "test" has none (the published files hold void only).

    Raises DataError when the split is not there.
    """
    if labels not in ("fine", "coarse"):
        raise ConfigError(f"labels = {labels!r}: 'fine' or 'coarse'")
    root = existing(root)
    images = root / "leftImg8bit" / split
    if not images.is_dir():
        raise no_split(root, split, cityscapes_splits(root))
    kind = "gtCoarse" if labels == "coarse" or split == "train_extra" else "gtFine"
    folder = root / "no labels" if split == "test" else root / kind / split
    pairs, faults = match(
        images, folder, image_suffix="_leftImg8bit", label_suffix=f"_{kind}_labelIds", labels_optional=split == "test"
    )
    return PairedFiles(f"{root} ({split})", pairs, LabelSpace.named("cityscapes"), faults=faults)


def cityscapes_splits(root: Path) -> tuple[str, ...]:
    """The splits there are."""
    return tuple(split for split in _SPLITS if (existing(root) / "leftImg8bit" / split).is_dir())


def submit_cityscapes(folder: Path, name: str, labels: NDArray[np.uint8]) -> Path:
    """Writes a prediction as the server takes it: grey PNG of labelIds (not training ids), full size."""
    path = folder / f"{Path(name).name}.png"
    write_png(path, LabelSpace.named("cityscapes").encode(labels).astype(np.uint8))
    return path
