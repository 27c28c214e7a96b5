"""The three entrances of the doctor: a data set, the splits of a folder, data sets that are open already."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pspnet.data.catalog import available_splits, layout_of, open_unchecked
from pspnet.data.class_faults import Role, role_of
from pspnet.data.dataset import Dataset, GivenDataset, as_dataset
from pspnet.data.doctor.between_splits import faults_between_splits
from pspnet.data.doctor.sample_facts import SampleFacts, facts_of
from pspnet.data.doctor.within_split import faults_within_split
from pspnet.data.faults import DataReport, Fault, distinct
from pspnet.data.statistics import Progress, map_samples
from pspnet.errors import DataError


def check_dataset(dataset: GivenDataset, progress: Progress | None = None, workers: int | None = None) -> DataReport:
    """Decodes every image and label of a data set and reports all faults together. Never raises for a faulty file.

    Found: pairs that lack a half, files that cannot be read, codes and colours outside the class table, labels of
    another size than their image, an empty data set, and what `check_splits` finds within one split.
    `report.raise_errors()` turns errors into one DataError.
    """
    dataset = as_dataset(dataset)
    name = _listing(dataset)[0]
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

    Errors: palettes that contradict the class table, splits of other classes or bands. Warnings: the same picture, or nearly,
    in two splits that are compared with each other, or twice in one, labels without a class, classes that a split lacks,
    images stored in another mode than the rest. Raises ConfigError for an unknown format or option, and DataError where
    there is no folder.
    """
    layout_of(format)
    names = tuple(splits) if splits else available_splits(format, root)
    faults: list[Fault] = []
    opened: dict[str, Dataset] = {}
    for split in names:
        # what a layout says when it is opened is a fault of the report too: a page shows no warnings of Python's
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            try:
                opened[split] = open_unchecked(format, root, split, **(options or {}))
            except DataError as error:
                faults.append(Fault("error", "missing", str(root), str(error), ""))
        spoken = [str(one.message) for one in caught if issubclass(one.category, UserWarning)]
        faults += [Fault("warning", "opening", str(root), text.rstrip("."), "") for text in spoken]
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
    return replace(report, faults=distinct((*faults, *report.faults)))


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
    samples: dict[str, list[SampleFacts]] = {}
    for split, dataset in datasets.items():
        faults += _listing(dataset)[1]
        done = None if progress is None else _shifted(progress, before, total)
        samples[split] = list(map_samples(lambda index, d=dataset: facts_of(d, index), len(dataset), done, workers))  # type: ignore[misc]
        before += len(dataset)
        for facts in samples[split]:
            faults += facts.faults
        if not any(fault.severity == "error" for facts in samples[split] for fault in facts.faults):
            faults += faults_within_split(split, samples[split], dataset.label_space, filled[split])
    faults += faults_between_splits(samples, datasets, filled, roles is not None)
    return DataReport(name, total, distinct(faults))


def _listing(dataset: Dataset) -> tuple[str, list[Fault]]:
    """The data set's name and what its listing found."""
    name = dataset.name or type(dataset).__name__
    faults = list(dataset.faults)
    if not len(dataset) and not faults:
        faults.append(Fault("error", "empty", name, f"{name} has no samples", "Look at the root and the split"))
    return name, faults


def _shifted(progress: Progress, before: int, total: int) -> Progress:
    return lambda done, _: progress(before + done, total)
