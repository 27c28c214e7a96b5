"""The data doctor: finds everything that is wrong with a data set before a run starts, and says how to mend it."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.data.catalog import available_splits, layout_of, open_unchecked
from pspnet.data.class_faults import Role, class_faults, role_of, some
from pspnet.data.dataset import Dataset, Sample, as_dataset
from pspnet.data.dataset_bands import unlike_bands
from pspnet.data.faults import DataReport, Fault
from pspnet.data.fingerprints import Fingerprint, closest, fingerprint
from pspnet.data.statistics import Progress, map_samples
from pspnet.data.stored_files import oddities_of, oddity_faults
from pspnet.errors import DataError, ImageError
from pspnet.images import (
    IMAGE_SUFFIXES,
    LABEL_SUFFIXES,
    image_mode,
    is_raster,
    read_image,
    read_label_picture,
    read_palette,
    scale_of,
    stores_deep,
)
from pspnet.labels import IGNORE, LabelSpace


def check_dataset(dataset: Dataset, progress: Progress | None = None, workers: int | None = None) -> DataReport:
    """Decodes every image and label of a data set and reports all faults together. Never raises for a faulty file.

    Found: pairs that lack a half, files that cannot be read, codes and colours outside the class table, labels of
    another size than their image, an empty data set, and what `check_splits` finds within one split.
    `report.raise_errors()` turns errors into one DataError.
    """
    name = _listing(as_dataset(dataset))[0]
    return check_opened(name, {name: dataset}, {name: "look"}, progress, workers)


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
    report = check_opened(str(root or format), opened, progress=progress, workers=workers)
    return replace(report, faults=(*faults, *report.faults))


def check_opened(
    name: str,
    opened: Mapping[str, Dataset],
    roles: Mapping[str, Role] | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> DataReport:
    """The one check of a data set: what `pspnet data check`, a run, the page and the ArcGIS workflow find alike.

    opened: data sets by the name of their split. roles: what each is for in one run; None: by its name. Never raises for a fault.
    """
    datasets = {split: as_dataset(dataset) for split, dataset in opened.items()}
    filled = {split: role_of(split) for split in datasets} | dict(roles or {})
    faults: list[Fault] = []
    total, before = sum(map(len, datasets.values())), 0
    looks: dict[str, list[_Look]] = {}
    for split, dataset in datasets.items():
        faults += _listing(dataset)[1]
        done = None if progress is None else _shifted(progress, before, total)
        looks[split] = list(map_samples(lambda index, d=dataset: _look(d, index), len(dataset), done, workers))  # type: ignore[misc]
        before += len(dataset)
        for look in looks[split]:
            faults += look.faults
        if not any(fault.severity == "error" for look in looks[split] for fault in look.faults):
            faults += _about_split(split, looks[split], dataset.label_space, filled[split])
    faults += _between_splits(looks, datasets, filled, roles is not None)
    return DataReport(name, total, tuple(faults))


@dataclass(frozen=True)
class _Look:
    """What one sample tells. file, label: the paths, or the sample's name. stored: a picture of its own, not a window
    that was drawn from a raster or a scene. classes: (K,) pixels; ignored: pixels of 255. palette: code of each colour that
    the label file's palette gives to one present code alone. full_scale: what became white of a deep image, 0 for others.
    transparent: pixels of the label file that nobody painted. oddities: of the image file, by kind."""

    faults: list[Fault]
    file: str = ""
    label: str = ""
    print: Fingerprint | None = None
    digest: int = 0
    stored: bool = False
    mode: str = ""
    classes: NDArray[np.int64] | None = None
    ignored: int = 0
    palette: dict[tuple[int, int, int], int] = field(default_factory=dict)
    full_scale: int = 0
    transparent: int = 0
    oddities: dict[str, str] = field(default_factory=dict)


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
        _palette_codes(sample.label_path, np.flatnonzero(counts[: space.num_classes]), space)
        if counts is not None
        else {},
        _full_scale(sample),
        _unpainted(sample.label_path),
        oddities_of(sample),
    )


def _palette_codes(path: Path | None, present: NDArray[np.int64], space: LabelSpace) -> dict[tuple[int, int, int], int]:
    if path is None or path.suffix.lower() not in LABEL_SUFFIXES:
        return {}
    with suppress(DataError):  # a raster that only GDAL reads
        palette = read_palette(path)
        codes = [space.codes[index] for index in present.tolist()]
        if palette is not None and max(codes, default=0) < len(palette):
            colours = [tuple(palette[code].tolist()) for code in codes]
            return {colour: code for colour, code in zip(colours, codes, strict=True) if colours.count(colour) == 1}
    return {}


def _full_scale(sample: Sample) -> int:
    """The 16-bit value that became 255 by the file's own depth; 0 where nothing was scaled."""
    path = sample.image_path
    if path is None or sample.image.dtype != np.uint8 or path.suffix.lower() not in IMAGE_SUFFIXES:
        return 0
    with suppress(DataError):
        if stores_deep(path):
            pixels = read_image(path, bands=None, dtype="native")
            scale = scale_of(pixels)
            own = round(float(pixels.max()) * 255 / scale) == int(sample.image.max())
            return scale if own else 0  # else the option full_scale said what is white
    return 0


def _unpainted(path: Path | None) -> int:
    if path is None or path.suffix.lower() not in LABEL_SUFFIXES:
        return 0
    with suppress(DataError):
        if image_mode(path) in ("RGBA", "LA", "PA"):
            alpha = read_label_picture(path).alpha
            return 0 if alpha is None else int((alpha == 0).sum())
    return 0


def _mode(sample: Sample) -> str:
    """How the image is stored: Pillow's word for a photograph, bands and type for a raster; "" without a file."""
    if sample.image_path is None:
        return ""
    if not is_raster(sample.image_path):
        with suppress(ImageError):  # a format of GDAL's alone
            return image_mode(sample.image_path)
    return f"{sample.image.shape[2]} bands of {sample.image.dtype}"


def _about_split(split: str, looks: list[_Look], space: LabelSpace, role: Role) -> list[Fault]:
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
                f"{split}: {some(files)} stored as {mode}, the other images as {usual}",
                "They are converted when read; make sure that this is meant, or store all alike",
            )
        )
    labelled = [look for look in looks if look.classes is not None]
    empty = [look.label for look in labelled if look.classes is not None and not look.classes.any()]
    if empty and len(empty) < len(labelled):
        faults.append(
            Fault(
                "warning",
                "unlabelled",
                empty[0],
                f"{split}: {some(empty)} without a single labelled pixel",
                "Label them or take them out: they teach nothing and count in no score",
            )
        )
    counted = [look.classes for look in labelled if look.classes is not None]
    pixels = np.sum(counted, axis=0) if counted else np.zeros(space.num_classes, np.int64)
    if looks:
        faults += class_faults(split, space, pixels, sum(look.ignored for look in looks), len(labelled), role)
    faults += _palettes(split, labelled) + _depths(split, looks) + _transparent(split, labelled)
    faults += oddity_faults(split, [(look.file, look.oddities) for look in looks])
    faults += _repeated(split, looks)
    return faults


def _palettes(split: str, looks: list[_Look]) -> list[Fault]:
    """A colour that stands for one code in one file's palette and for another in another's."""
    first: dict[tuple[int, int, int], tuple[int, str]] = {}
    for look in looks:
        for colour, code in look.palette.items():
            known, file = first.setdefault(colour, (code, look.label))
            if known != code:
                return [
                    Fault(
                        "error",
                        "palette",
                        look.label,
                        f"{split}: the colour {colour} is code {code} in the palette of '{look.label}' and code {known} in that "
                        f"of '{file}': each file numbers its classes anew",
                        "Give the class table these colours and read the labels as colours: decode=colours",
                    )
                ]
    return []


def _depths(split: str, looks: list[_Look]) -> list[Fault]:
    """16-bit pictures of one series that were scaled to 8 bits by different divisors, each by its own largest value."""
    files: dict[int, list[str]] = defaultdict(list)
    for look in looks:
        if look.full_scale:
            files[look.full_scale].append(look.file)
    if len(files) < 2:
        return []
    scales = sorted(files)
    return [
        Fault(
            "warning",
            "depth",
            files[scales[0]][0],
            f"{split}: {some(files[scales[0]])} scaled to 8 bits as if {scales[0]} were white, others by {scales[-1]}, each by its "
            "own largest value: the same brightness becomes different values",
            f"Say what is white in the whole series: the option full_scale={scales[-1]}",
        )
    ]


def _transparent(split: str, looks: list[_Look]) -> list[Fault]:
    files = [look.label for look in looks if look.transparent]
    if not files:
        return []
    pixels = sum(look.transparent for look in looks)
    return [
        Fault(
            "warning",
            "transparent",
            files[0],
            f"{split}: {pixels} transparent pixels in {some(files)} were taken for 'not labelled' and are ignored",
            "If they are a class (background), paint them in its colour",
        )
    ]


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
            f"{split}: the same picture {len(files)} times: {some(files)}",
            "Keep one of them, or it counts more than others",
        )
        for files in groups.values()
        if len(files) > 1
    ]


def _between_splits(
    looks: Mapping[str, list[_Look]], opened: Mapping[str, Dataset], roles: Mapping[str, Role], together: bool
) -> list[Fault]:
    """Pictures that are trained on and scored on, and classes that are scored but never trained on."""
    faults = []
    names = list(looks)
    for position, one in enumerate(names):
        for other in names[position + 1 :]:
            if roles[one] == "learn" and roles[other] == "learn":
                continue
            ours, theirs = (looks[other], looks[one]) if roles[one] == "learn" else (looks[one], looks[other])
            files, their_files = {look.file for look in ours}, {look.file for look in theirs}
            # one split is made of the other, as trainval of val: right in a data set, but not in a run that uses both
            if not together and (files <= their_files or their_files <= files):
                continue
            mine, yours = (other, one) if roles[one] == "learn" else (one, other)
            faults += _shared(mine, ours, yours, theirs)
    for one, other in itertools.pairwise(names):
        told = unlike_bands(opened[one], opened[other])
        if told:
            faults.append(
                Fault("error", "bands", other, f"{other}: {told} ({one})", "Make the splits of one kind of images")
            )
    training = [look.classes for name, found in looks.items() if roles[name] == "learn" for look in found]
    seen = [classes for classes in training if classes is not None]
    for split, found in looks.items():
        scored = [look.classes for look in found if look.classes is not None]
        if roles[split] == "learn" or not seen or not scored:
            continue
        never = np.flatnonzero((np.sum(scored, axis=0) > 0) & (np.sum(seen, axis=0) == 0))
        if len(never):
            space = opened[split].label_space
            classes = some([space.names[index] for index in never], "the class", "the classes")
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


def _shifted(progress: Progress, before: int, total: int) -> Progress:
    return lambda done, _: progress(before + done, total)
