"""PASCAL VOC 2012 segmentation, 20 classes and background, with SBD's additional labels (Hariharan et al. 2011).

    ROOT/JPEGImages/2007_000032.jpg
    ROOT/SegmentationClass/2007_000032.png              palette PNG, 0..20, 255 void (ignored)
    ROOT/SegmentationClassAug/2007_000032.png           the same with SBD's labels, for the split "trainaug"
    ROOT/ImageSets/Segmentation/{train,val,trainval,trainaug,test}.txt

ROOT may also be the folder that holds VOCdevkit. "trainaug" is VOC's train and all of SBD less VOC's val: 10,582 images;
`pspnet data prepare voc` makes it out of SBD's archive (.mat files).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.class_tables import normal_name, read_text
from pspnet.data.archives import Progress, PublishedArchive
from pspnet.data.layouts.folder import existing, no_split, read_list
from pspnet.data.matching import match
from pspnet.data.paired_files import PairedFiles
from pspnet.errors import ConfigError, DataError, LabelError, parsing, require
from pspnet.files import write_bytes
from pspnet.images import write_label
from pspnet.labels import LabelSpace

_SPLITS = ("train", "val", "trainval", "trainaug", "test")
_LISTS = {"trainaug": ("trainaug.txt", "train_aug.txt")}


def voc(root: Path, split: str = "train") -> PairedFiles:
    """Opens a split; "test" has no labels. Raises DataError when its list is not there."""
    base = _base(root)
    _refuse_other_classes(base)
    listed = _list_file(base, split)
    if listed is None:
        hint = ". Make it with `pspnet data prepare voc benchmark.tgz --out ROOT`" if split == "trainaug" else ""
        raise DataError(f"{no_split(root, split, voc_splits(root))}{hint}")
    labels = base / ("SegmentationClassAug" if split == "trainaug" else "SegmentationClass")
    if split == "test":
        labels = base / "no labels"
    pairs, faults = match(base / "JPEGImages", labels, names=_names(listed), labels_optional=split == "test")
    return PairedFiles(f"{root} ({split})", pairs, LabelSpace.named("voc"), faults=faults)


def _refuse_other_classes(base: Path) -> None:
    """Raises ConfigError where a list beside the folders names other classes: tools write any data set in VOC's folders."""
    file = next((base / name for name in ("labelmap.txt", "class_names.txt") if (base / name).is_file()), None)
    if file is None:
        return
    lines = [line.split(":")[0].strip() for line in read_text(file).splitlines() if line.strip() and line[0] != "#"]
    names = [name for name in map(normal_name, lines) if name not in ("ignore", "void")]
    if not set(names) <= {normal_name(name) for name in LabelSpace.named("voc").names}:
        way_out = (
            "the format cvat_masks"
            if file.name == "labelmap.txt"
            else "the format folder (images=JPEGImages labels=SegmentationClass) with a class table"
        )
        raise ConfigError(
            f"'{file}' names other classes than VOC's 21 ({', '.join(lines[:4])} ...): the folders are VOC's, the classes are "
            f"not. Use {way_out}"
        )


def voc_splits(root: Path) -> tuple[str, ...]:
    """The splits there are."""
    return tuple(split for split in _SPLITS if _list_file(_base(root), split) is not None)


def submit_voc(folder: Path, name: str, labels: NDArray[np.uint8]) -> Path:
    """Writes a prediction as VOC's server takes it: a palette PNG of indices in the folder of competition 6."""
    path = folder / "results" / "VOC2012" / "Segmentation" / "comp6_test_cls" / f"{name}.png"
    write_label(path, labels, LabelSpace.named("voc"), codes=True)
    return path


def finish_voc(root: Path, progress: Progress | None = None) -> list[str]:
    """Turns SBD's .mat files, when they are there, into SegmentationClassAug and the list trainaug.txt."""
    sbd = root / "benchmark_RELEASE" / "dataset"
    if not sbd.is_dir():
        return ["SBD's archive (benchmark.tgz) was not given: there is no split trainaug"]
    base, space = _base(root), LabelSpace.named("voc")
    own_names = {path.stem for path in (base / "SegmentationClass").glob("*.png")}
    added = [path for path in sorted((sbd / "cls").glob("*.mat")) if path.stem not in own_names]
    for done, path in enumerate(added, start=1):
        target = base / "SegmentationClassAug" / f"{path.stem}.png"
        if not target.is_file():
            write_label(
                target, space.decode(read_mat_field(path, "GTcls", "Segmentation"), str(path)), space, codes=True
            )
        if progress is not None:
            progress(done, len(added))
    for name in sorted(own_names):  # where both have labels, VOC's are finer
        write_bytes(
            base / "SegmentationClassAug" / f"{name}.png", (base / "SegmentationClass" / f"{name}.png").read_bytes()
        )
    lists = base / "ImageSets" / "Segmentation"
    all_names = {*_names(lists / "train.txt"), *_names(sbd / "train.txt"), *_names(sbd / "val.txt")}
    names = sorted(all_names - set(_names(lists / "val.txt")))
    write_bytes(lists / "trainaug.txt", "".join(f"{name}\n" for name in names).encode())
    return [f"trainaug: {len(names)} images, {len(added)} label files made from SBD"]


def read_mat_field(path: Path, variable: str, field: str) -> NDArray[Any]:
    """The numeric array `variable.field` of a MATLAB file. Raises LabelError naming the file."""
    loadmat = require("scipy.io", "train").loadmat
    with parsing(path, LabelError, f"holds no array {variable}.{field} in MATLAB's format"):
        values: NDArray[Any] = loadmat(path, variable_names=[variable])[variable][field][0, 0]
        if values.dtype.kind not in "biuf":
            raise TypeError("the field is not numeric")
    return values


SOURCE = PublishedArchive(
    where="host.robots.ox.ac.uk/pascal/VOC/voc2012: VOCtrainval_11-May-2012.tar (2 GB); for trainaug also SBD's "
    "benchmark.tgz (1.4 GB) from www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours. Images: "
    "Flickr's terms",
    counts={"train": 1464, "val": 1449, "trainval": 2913, "trainaug": 10582},
    checksums={
        "VOCtrainval_11-May-2012.tar": "md5:6cd6e144f989b92b3379bac3b3de84fd",
        "benchmark.tgz": "md5:82b4d87ceb2ed10f6038a1cba92111cb",
    },
    finish=finish_voc,
)


def _base(root: Path) -> Path:
    root = existing(root)
    candidates = (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012")
    return next((base for base in candidates if (base / "ImageSets" / "Segmentation").is_dir()), root)


def _list_file(base: Path, split: str) -> Path | None:
    names = _LISTS.get(split, (f"{split}.txt",))
    return next((path for name in names if (path := base / "ImageSets" / "Segmentation" / name).is_file()), None)


def _names(listed: Path) -> list[str]:
    return [Path(name.split()[0]).name for name in read_list(listed)]  # lists of one class end each line with 1 or -1
