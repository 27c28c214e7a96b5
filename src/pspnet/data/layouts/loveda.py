"""LoveDA: land cover of urban and rural China from the air, 1024 x 1024, 7 classes (Wang et al. 2021, arXiv:2110.08733).

ROOT/{Train,Val,Test}/{Urban,Rural}/images_png/1366.png
ROOT/{Train,Val}/{Urban,Rural}/masks_png/1366.png      0 no data (ignored), 1..7
"""

from __future__ import annotations

from dataclasses import replace
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

_FOLDERS = {"train": "Train", "val": "Val", "test": "Test"}
_AREAS = ("Urban", "Rural")
SOURCE = PublishedArchive(
    where="zenodo.org/records/5706578: Train.zip, Val.zip, Test.zip (9 GB); CC BY-NC-SA 4.0, academic use",
    counts={"train": 2522, "val": 1669, "test": 1796},
    checksums={
        "Train.zip": "md5:de2b196043ed9b4af1690b3f9a7d558f",
        "Val.zip": "md5:84cae2577468ff0b5386758bb386d31d",
        "Test.zip": "md5:a489be0090465e01fb067795d24e6b47",
    },
)


def loveda(root: Path, split: str = "train", *, area: Literal["both", "urban", "rural"] = "both") -> PairedFiles:
    """Opens a split, or one area of it; "test" has no labels. Raises DataError when it is not there."""
    if area not in ("both", "urban", "rural"):
        raise ConfigError(f"area = {area!r}: 'both', 'urban' or 'rural'")
    base = existing(root) / _FOLDERS.get(split, split)
    if not base.is_dir():
        raise no_split(root, split, loveda_splits(root))
    pairs, faults = [], []
    for name in _AREAS if area == "both" else (area.capitalize(),):
        matched, more = match(base / name / "images_png", base / name / "masks_png", labels_optional=split == "test")
        pairs += [replace(pair, name=f"{name}/{pair.name}") for pair in matched]
        faults += more
    return PairedFiles(f"{root} ({split})", pairs, LabelSpace.named("loveda"), faults=faults)


def loveda_splits(root: Path) -> tuple[str, ...]:
    """The splits there are."""
    return tuple(split for split, folder in _FOLDERS.items() if (existing(root) / folder).is_dir())


def submit_loveda(folder: Path, name: str, labels: NDArray[np.uint8]) -> Path:
    """Writes a prediction as the benchmark's server takes it: grey PNG, 0..6 (one less than the label files' codes)."""
    path = folder / f"{Path(name).name}.png"
    write_png(path, labels)
    return path
