"""Faults that the samples of one split show together: modes, palettes, opacity, repeated pictures."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np

from pspnet.data.class_faults import Role, class_faults, some
from pspnet.data.doctor.sample_facts import SampleFacts
from pspnet.data.faults import Fault
from pspnet.data.stored_files import oddity_faults
from pspnet.labels import LabelSpace


def faults_within_split(split: str, samples: list[SampleFacts], space: LabelSpace, role: Role) -> list[Fault]:
    """What the samples of one split tell together."""
    faults = []
    modes = Counter(facts.mode for facts in samples if facts.mode)
    usual = modes.most_common(1)[0][0] if modes else ""
    for mode in sorted(set(modes) - {usual}):
        files = [facts.file for facts in samples if facts.mode == mode]
        faults.append(
            Fault(
                "warning",
                "mode",
                files[0],
                f"{split}: {some(files)} stored as {mode}, the other images as {usual}",
                "They are converted when read; make sure that this is meant, or store all alike",
            )
        )
    labelled = [facts for facts in samples if facts.classes is not None]
    empty = [facts.label for facts in labelled if facts.classes is not None and not facts.classes.any()]
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
    counted = [facts.classes for facts in labelled if facts.classes is not None]
    pixels = np.sum(counted, axis=0) if counted else np.zeros(space.num_classes, np.int64)
    if samples:
        faults += class_faults(split, space, pixels, sum(facts.ignored for facts in samples), len(labelled), role)
    faults += _palettes(split, labelled) + _transparent(split, labelled)
    faults += oddity_faults(split, [(facts.file, facts.oddities) for facts in samples])
    faults += _repeated(split, samples) + _same_labels(split, labelled)
    return faults


def _palettes(split: str, samples: list[SampleFacts]) -> list[Fault]:
    """A colour that stands for one code in one file's palette and for another in another's."""
    first: dict[tuple[int, int, int], tuple[int, str]] = {}
    for facts in samples:
        for colour, code in facts.palette.items():
            known, file = first.setdefault(colour, (code, facts.label))
            if known != code:
                return [
                    Fault(
                        "error",
                        "palette",
                        facts.label,
                        f"{split}: the colour {colour} is code {code} in the palette of '{facts.label}' and code {known} in that "
                        f"of '{file}': each file numbers its classes anew",
                        "Give the class table these colours and read the labels as colours: decode=colours",
                    )
                ]
    return []


def _transparent(split: str, samples: list[SampleFacts]) -> list[Fault]:
    kinds = (
        (
            0,
            "were taken for 'not labelled' and are ignored",
            "If they are a class (background), paint them in its colour",
        ),
        (
            1,
            "count as the class that their code has",
            "If nobody painted them, give their code ignore = 1 in the table",
        ),
    )
    faults = []
    for which, what, mend in kinds:
        files = [facts.label for facts in samples if facts.transparent[which]]
        if files:
            pixels = sum(facts.transparent[which] for facts in samples)
            message = f"{split}: {pixels} transparent pixels in {some(files)} {what}"
            faults.append(Fault("warning", "transparent", files[0], message, mend))
    return faults


def _repeated(split: str, samples: list[SampleFacts]) -> list[Fault]:
    """Pictures that a split holds more than once."""
    groups = defaultdict(list)
    for facts in samples:
        if facts.stored and facts.print is not None and not facts.print.flat:
            groups[facts.digest].append(facts.file)
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


def _same_labels(split: str, samples: list[SampleFacts]) -> list[Fault]:
    """Labels that are equal, pixel for pixel, for different pictures: one mask written for all, or named for all."""
    groups: dict[int, dict[int, str]] = defaultdict(dict)
    for facts in samples:
        if facts.label_digest and facts.stored:
            groups[facts.label_digest].setdefault(facts.digest, facts.label)
    return [
        Fault(
            "warning",
            "same_labels",
            labels[0],
            f"{split}: {len(labels)} different pictures have the same labels, pixel for pixel: {some(labels)}",
            "Make sure that no mask was written or named for several pictures",
        )
        for labels in (list(group.values()) for group in groups.values())
        if len(labels) > 1
    ]
