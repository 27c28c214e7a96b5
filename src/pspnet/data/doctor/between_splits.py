"""Faults that show between the splits of a data set: shared pictures and ground, unlike bands, classes that nobody trains on."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from pspnet.data.class_faults import Role, some
from pspnet.data.dataset import Dataset
from pspnet.data.dataset_bands import unlike_bands
from pspnet.data.doctor.sample_facts import SampleFacts
from pspnet.data.doctor.shared_ground import shared_ground
from pspnet.data.doctor.unlike_splits import unlike_images
from pspnet.data.faults import Fault
from pspnet.data.fingerprints import closest


def faults_between_splits(
    samples: Mapping[str, list[SampleFacts]], opened: Mapping[str, Dataset], roles: Mapping[str, Role], together: bool
) -> list[Fault]:
    """Pictures that are trained on and scored on, and classes that are scored but never trained on."""
    faults = []
    names = list(samples)
    for position, one in enumerate(names):
        for other in names[position + 1 :]:
            if roles[one] == "learn" and roles[other] == "learn":
                continue
            ours, theirs = (samples[other], samples[one]) if roles[one] == "learn" else (samples[one], samples[other])
            files, their_files = {facts.file for facts in ours}, {facts.file for facts in theirs}
            # one split is made of the other, as trainval of val: right in a data set, but not in a run that uses both
            if not together and (files <= their_files or their_files <= files):
                continue
            mine, yours = (other, one) if roles[one] == "learn" else (one, other)
            faults += _shared(mine, ours, yours, theirs)
            if roles[yours] == "learn":
                faults += shared_ground(mine, opened[mine], yours, opened[yours])
    faults += unlike_images(samples, opened)
    for one, other in itertools.pairwise(names):
        difference = unlike_bands(opened[one], opened[other])
        if difference:
            faults.append(
                Fault(
                    "error", "bands", other, f"{other}: {difference} ({one})", "Make the splits of one kind of images"
                )
            )
    unlike = _unlike_classes(opened)
    if unlike:
        return [*faults, *unlike]
    training = [facts.classes for name, split in samples.items() if roles[name] == "learn" for facts in split]
    trained = [classes for classes in training if classes is not None]
    for split, scored_samples in samples.items():
        scored = [facts.classes for facts in scored_samples if facts.classes is not None]
        if roles[split] == "learn" or not trained or not scored:
            continue
        never = np.flatnonzero((np.sum(scored, axis=0) > 0) & (np.sum(trained, axis=0) == 0))
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


def _unlike_classes(opened: Mapping[str, Dataset]) -> list[Fault]:
    """Splits whose classes are others than the first one's, or stand in another order: label 1 would be two things."""
    first = next(iter(opened), "")
    faults = []
    for split, dataset in opened.items():
        ours, theirs = opened[first].label_space.names, dataset.label_space.names
        if theirs == ours:
            continue
        only, lacking = [name for name in theirs if name not in ours], [name for name in ours if name not in theirs]
        differences = [f"has {some(only)}, which {first} has not"] if only else []
        differences += [f"lacks {some(lacking)}"] if lacking else []
        how = " and ".join(differences) or f"has them in another order: {some(theirs)} instead of {some(ours)}"
        message = f"the classes of {split} are not those of {first}: it {how}"
        faults.append(Fault("error", "classes", split, message, "Give both one class table: the option classes"))
    return faults


def _shared(split: str, ours: list[SampleFacts], other: str, theirs: list[SampleFacts]) -> list[Fault]:
    mine = [facts for facts in ours if facts.print is not None]
    yours = [facts for facts in theirs if facts.print is not None]
    faults = []
    for i, j, difference in closest(
        [facts.print for facts in mine if facts.print], [facts.print for facts in yours if facts.print]
    ):
        same = mine[i].digest == yours[j].digest
        what = "the same picture as" if same else f"almost the same picture as (difference {difference:.1f} of 255)"
        faults.append(
            Fault(
                "warning",  # some train on what they score to see that a network can learn it at all
                "duplicate" if same else "near_duplicate",
                mine[i].file,
                f"'{mine[i].file}' in {split} is {what} '{yours[j].file}' in {other}",
                f"Take it out of {split} or {other}: a score on images that were trained on is too high. Split films and "
                "neighbouring tiles as a whole",
            )
        )
    return faults
