"""The data doctor: finds everything that is wrong with a data set before a run starts, and says how to mend it."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.data.catalog import available_splits, layout_of, open_unchecked
from pspnet.data.dataset import Dataset, Sample, as_dataset
from pspnet.data.dataset_bands import unlike_bands
from pspnet.data.faults import DataReport, Fault
from pspnet.data.fingerprints import Fingerprint, closest, fingerprint
from pspnet.data.statistics import Progress, map_samples
from pspnet.errors import DataError, ImageError
from pspnet.image_bands import is_raster
from pspnet.images import image_mode
from pspnet.labels import IGNORE, LabelSpace

_NAMED = 5  # files that a fault about many files names


def check_dataset(dataset: Dataset, progress: Progress | None = None, workers: int | None = None) -> DataReport:
    """Decodes every image and label of a data set and reports all faults together. Never raises for a faulty file.

    Found: pairs that lack a half, files that cannot be read, codes and colours outside the class table, labels of
    another size than their image, an empty data set. `report.raise_errors()` turns errors into one DataError.
    """
    dataset = as_dataset(dataset)
    name, faults = _listing(dataset)
    for _, found in map_samples(dataset.inspect, len(dataset), progress, workers):
        faults += found
    return DataReport(name, len(dataset), tuple(faults))


def check_splits(
    format: str,
    root: str | Path | None = None,
    splits: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> DataReport:
    """Everything that `check_dataset` finds, in all splits (None: those there are), and what shows between files.

    Errors: the same picture in two splits that are compared with each other, palettes that contradict the class table.
    Warnings: near duplicates, the same picture twice in a split, labels without a class, classes that a split lacks,
    images stored in another mode than the rest. Raises ConfigError for an unknown format or option, and DataError where
    there is no folder.
    """
    layout_of(format)
    names = tuple(splits) if splits else available_splits(format, root)
    faults: list[Fault] = []
    opened: dict[str, Dataset] = {}
    for split in names:
        try:
            opened[split] = open_unchecked(format, root, split, **(options or {}))
        except DataError as error:
            faults.append(Fault("error", "missing", str(root), str(error), ""))
    if not names:
        faults.append(
            Fault(
                "error",
                "missing",
                str(root),
                f"'{root}' has no split of the format {format}",
                "Look at the folder and the format",
            )
        )
    total, before = sum(map(len, opened.values())), 0
    looks: dict[str, list[_Look]] = {}
    for split, dataset in opened.items():
        faults += _listing(dataset)[1]
        done = None if progress is None else _shifted(progress, before, total)
        looks[split] = list(map_samples(lambda index, d=dataset: _look(d, index), len(dataset), done, workers))  # type: ignore[misc]
        before += len(dataset)
        for look in looks[split]:
            faults += look.faults
        faults += _about_split(split, looks[split], dataset.label_space)
    faults += _between_splits(looks, opened)
    return DataReport(f"{root or format}", total, tuple(faults))


@dataclass(frozen=True)
class _Look:
    """What one sample tells. file, label: the paths, or the sample's name. stored: a picture of its own, not a window
    that was drawn from a raster or a scene. classes: (K,) pixels; ignored: pixels of 255."""

    faults: list[Fault]
    file: str = ""
    label: str = ""
    print: Fingerprint | None = None
    digest: int = 0
    stored: bool = False
    mode: str = ""
    classes: NDArray[np.int64] | None = None
    ignored: int = 0


def _listing(dataset: Dataset) -> tuple[str, list[Fault]]:
    """The data set's name and what its listing found."""
    name = dataset.name or type(dataset).__name__
    faults = list(dataset.faults)
    if not len(dataset) and not faults:
        faults.append(Fault("error", "empty", name, f"{name} has no samples", "Look at the root and the split"))
    return name, faults


def _look(dataset: Dataset, index: int) -> _Look:
    sample, faults = dataset.inspect(index)
    if sample is None:
        return _Look(faults)
    space, counts = dataset.label_space, None
    if sample.labels is not None:
        counts = np.bincount(sample.labels.ravel(), minlength=IGNORE + 1)
    return _Look(
        faults,
        str(sample.image_path or sample.name),
        str(sample.label_path or sample.name),
        fingerprint(sample.image),
        hash((sample.image.shape, sample.image.tobytes())),
        sample.image_path is not None,
        _mode(sample),
        None if counts is None else counts[: space.num_classes],
        0 if counts is None else int(counts[IGNORE]),
    )


def _mode(sample: Sample) -> str:
    """How the image is stored: Pillow's word for a photograph, bands and type for a raster; "" without a file."""
    if sample.image_path is None:
        return ""
    if not is_raster(sample.image_path):
        with suppress(ImageError):  # a format of GDAL's alone
            return image_mode(sample.image_path)
    return f"{sample.image.shape[2]} bands of {sample.image.dtype}"


def _about_split(split: str, looks: list[_Look], space: LabelSpace) -> list[Fault]:
    """What the samples of one split tell together."""
    faults = []
    modes = Counter(look.mode for look in looks if look.mode)
    usual = modes.most_common(1)[0][0] if modes else ""
    for mode in sorted(set(modes) - {usual}):
        files = [look.file for look in looks if look.mode == mode]
        faults.append(
            Fault(
                "warning",
                "mode",
                files[0],
                f"{split}: {_some(files)} stored as {mode}, the other images as {usual}",
                "They are converted when read; make sure that this is meant, or store all alike",
            )
        )
    labelled = [look for look in looks if look.classes is not None]
    empty = [look.label for look in labelled if look.classes is not None and not look.classes.any()]
    if empty:
        faults.append(
            Fault(
                "warning",
                "unlabelled",
                empty[0],
                f"{split}: {_some(empty)} without a single labelled pixel",
                "Label them or take them out: they teach nothing and count in no score",
            )
        )
    if labelled:
        seen = np.sum([look.classes for look in looks if look.classes is not None], axis=0) > 0
        lacking = [space.names[index] for index in np.flatnonzero(~seen)]
        if lacking:
            faults.append(
                Fault(
                    "warning",
                    "absent",
                    split,
                    f"{split}: no pixel of {_some(lacking, 'the class', 'the classes')}",
                    "Move images so that each split shows each class, or expect no score for it",
                )
            )
    faults += _repeated(split, looks)
    return faults


def _repeated(split: str, looks: list[_Look]) -> list[Fault]:
    """Pictures that a split holds more than once."""
    groups = defaultdict(list)
    for look in looks:
        if look.stored and look.print is not None and not look.print.flat:
            groups[look.digest].append(look.file)
    return [
        Fault(
            "warning",
            "repeated",
            files[1],
            f"{split}: the same picture {len(files)} times: {_some(files)}",
            "Keep one of them, or it counts more than others",
        )
        for files in groups.values()
        if len(files) > 1
    ]


def _between_splits(looks: Mapping[str, list[_Look]], opened: Mapping[str, Dataset]) -> list[Fault]:
    """Pictures that are trained on and scored on, and classes that are scored but never trained on."""
    faults = []
    names = list(looks)
    for position, one in enumerate(names):
        for other in names[position + 1 :]:
            if _is_training(one) and _is_training(other):
                continue
            ours, theirs = (looks[other], looks[one]) if _is_training(one) else (looks[one], looks[other])
            files, their_files = {look.file for look in ours}, {look.file for look in theirs}
            if files <= their_files or their_files <= files:  # one split is made of the other: trainval and val
                continue
            mine, yours = (other, one) if _is_training(one) else (one, other)
            faults += _shared(mine, ours, yours, theirs)
    for one, other in itertools.pairwise(names):
        told = unlike_bands(opened[one], opened[other])
        if told:
            faults.append(
                Fault("error", "bands", other, f"{other}: {told} ({one})", "Make the splits of one kind of images")
            )
    training = [look.classes for name, found in looks.items() if _is_training(name) for look in found]
    seen = [classes for classes in training if classes is not None]
    for split, found in looks.items():
        scored = [look.classes for look in found if look.classes is not None]
        if _is_training(split) or not seen or not scored:
            continue
        never = np.flatnonzero((np.sum(scored, axis=0) > 0) & (np.sum(seen, axis=0) == 0))
        if len(never):
            space = opened[split].label_space
            classes = _some([space.names[index] for index in never], "the class", "the classes")
            faults.append(
                Fault(
                    "warning",
                    "unseen",
                    split,
                    f"{split} shows {classes}, which no training image does",
                    "Move images into the training split: a network cannot find what it never saw",
                )
            )
    return faults


def _shared(split: str, ours: list[_Look], other: str, theirs: list[_Look]) -> list[Fault]:
    mine = [look for look in ours if look.print is not None]
    yours = [look for look in theirs if look.print is not None]
    faults = []
    for i, j, difference in closest(
        [look.print for look in mine if look.print], [look.print for look in yours if look.print]
    ):
        same = mine[i].digest == yours[j].digest
        what = "the same picture as" if same else f"almost the same picture as (difference {difference:.1f} of 255)"
        faults.append(
            Fault(
                "error" if same else "warning",
                "duplicate" if same else "near_duplicate",
                mine[i].file,
                f"'{mine[i].file}' in {split} is {what} '{yours[j].file}' in {other}",
                f"Take it out of {split} or {other}: a score on images that were trained on is too high. Split films and "
                "neighbouring tiles as a whole",
            )
        )
    return faults


def _is_training(split: str) -> bool:
    return split.lower().startswith("train")


def _some(items: Sequence[str], one: str = "", many: str = "") -> str:
    """A few of many, for a message."""
    shown = ", ".join(f"'{item}'" for item in items[:_NAMED])
    rest = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    words = one if len(items) == 1 else many
    return f"{words} {shown}{rest}".strip()


def _shifted(progress: Progress, before: int, total: int) -> Progress:
    return lambda done, _: progress(before + done, total)
