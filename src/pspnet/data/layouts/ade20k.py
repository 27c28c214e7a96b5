"""ADE20K in the layout of the MIT Scene Parsing Benchmark: 150 classes (Zhou et al. 2017).

    ROOT/images/{training,validation}/ADE_train_00000001.jpg
    ROOT/annotations/{training,validation}/ADE_train_00000001.png     0 other (ignored), 1..150
    ROOT/images/testing (or release_test/testing)                     no labels

ROOT may also be the folder that holds ADEChallengeData2016.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pspnet.data.archives import PublishedArchive
from pspnet.data.layouts.folder import existing, no_split
from pspnet.data.matching import match
from pspnet.data.paired_files import PairedFiles
from pspnet.images import write_png
from pspnet.labels import LabelSpace

_FOLDERS = {"train": "training", "val": "validation", "test": "testing"}
SOURCE = PublishedArchive(
    where="sceneparsing.csail.mit.edu: ADEChallengeData2016.zip (0.9 GB), release_test.zip for the test images. Images: "
    "non-commercial research and education",
    counts={"train": 20210, "val": 2000},
    checksums={
        "ADEChallengeData2016.zip": "sha1:219e1696abb36c8ba3a3afe7fb2f4b4606a897c7",
        "release_test.zip": "sha1:e05747892219d10e9243933371a497e905a4860c",
    },
)


def ade20k(root: Path, split: str = "train") -> PairedFiles:
    """Opens train, val or test (without labels). Raises DataError when it is not there."""
    base = _base(root)
    images = _images(base, split)
    if not images.is_dir():
        raise no_split(root, split, ade20k_splits(root))
    pairs, faults = match(images, base / "annotations" / _FOLDERS[split], labels_optional=split == "test")
    return PairedFiles(f"{root} ({split})", pairs, LabelSpace.named("ade20k"), faults=faults)


def ade20k_splits(root: Path) -> tuple[str, ...]:
    """The splits there are."""
    return tuple(split for split in _FOLDERS if _images(_base(root), split).is_dir())


def submit_ade20k(folder: Path, name: str, labels: NDArray[np.uint8]) -> Path:
    """Writes a prediction as the benchmark's server takes it: grey PNG, 1..150, 0 where nothing is predicted."""
    path = folder / f"{Path(name).name}.png"
    write_png(path, LabelSpace.named("ade20k").encode(labels).astype(np.uint8))
    return path


def _base(root: Path) -> Path:
    root = existing(root)
    return root / "ADEChallengeData2016" if (root / "ADEChallengeData2016").is_dir() else root


def _images(base: Path, split: str) -> Path:
    released = base.parent / "release_test" / "testing"
    if split == "test" and released.is_dir() and not (base / "images" / "testing").is_dir():
        return released
    return base / "images" / _FOLDERS.get(split, split)
