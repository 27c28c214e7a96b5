"""Splits whose images differ in size, resolution, depth or the way they are stored: a score would say how well a model bears that."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

import numpy as np

from pspnet.data.class_faults import some
from pspnet.data.dataset import Dataset
from pspnet.data.doctor.sample_facts import SampleFacts
from pspnet.data.faults import Fault
from pspnet.errors import DataError
from pspnet.georaster.ground import resolution_m

UNLIKE = 1.5  # ratio of sizes or resolutions that is told


def unlike_images(samples: Mapping[str, list[SampleFacts]], opened: Mapping[str, Dataset]) -> list[Fault]:
    """Each split compared with the first one."""
    first, *others = list(samples) or [""]
    faults = _depths(", ".join(samples), [facts for split in samples.values() for facts in split])
    scales = {split: _scale(opened[split], facts) for split, facts in samples.items()}
    modes = {split: Counter(f.mode for f in facts if f.mode).most_common(1) for split, facts in samples.items()}
    for split in others:
        (kind, ours, shown), (other_kind, theirs, as_shown) = scales[split], scales[first]
        if kind == other_kind != "" and max(ours / theirs, theirs / ours) > UNLIKE:
            message = f"the images of {split} have {shown}, those of {first} {as_shown}: a network knows things by their size in pixels"
            faults.append(
                Fault(
                    "warning", "sizes", split, message, "Bring both to one scale, or expect another score than in use"
                )
            )
        if modes[split] and modes[first] and modes[split][0][0] != modes[first][0][0]:
            message = (
                f"most images of {split} are stored as {modes[split][0][0]}, those of {first} as {modes[first][0][0]}"
            )
            mend = "They are converted when read; make sure that this is meant, or store all alike"
            faults.append(Fault("warning", "mode", split, message, mend))
    return faults


def _scale(dataset: Dataset, samples: list[SampleFacts]) -> tuple[str, float, str]:
    """(what is known of a split's scale, the number, in words): metres of a pixel, or the median size of its pictures."""
    try:
        grid = dataset.grid(0) if len(dataset) else None
    except DataError:  # told by its own sample
        return "", 1.0, ""
    metres = None if grid is None else resolution_m(grid)
    if metres:
        return "m", metres, f"pixels of {metres:.3g} m"
    sizes = [facts.size for facts in samples if facts.stored and facts.size[0]]
    if grid is not None or not sizes:
        return "", 1.0, ""
    height, width = np.median(sizes, axis=0).tolist()
    return "px", float(height * width) ** 0.5, f"{width:.0f} x {height:.0f} pixels"


def _depths(splits: str, samples: list[SampleFacts]) -> list[Fault]:
    """Deep pictures of one series that were scaled to 8 bits by different divisors, each by its own largest value."""
    files: dict[int, list[str]] = defaultdict(list)
    for facts in samples:
        if facts.full_scale:
            files[facts.full_scale].append(facts.file)
    if len(files) < 2:
        return []
    scales = sorted(files)
    return [
        Fault(
            "warning",
            "depth",
            files[scales[0]][0],
            f"{splits}: {some(files[scales[0]])} scaled to 8 bits as if {scales[0]} were white, others by {scales[-1]}, each by its "
            "own largest value: the same brightness becomes different values",
            f"Say what is white in the whole series: the option full_scale={scales[-1]}",
        )
    ]
