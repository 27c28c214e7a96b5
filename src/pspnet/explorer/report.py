"""From all findings to what is worth showing: counts, pairs, classes and examples of each kind of failure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from pspnet.explorer.failures import KINDS, Box, Findings, Object, Region
from pspnet.labels import LabelSpace
from pspnet.metrics import Scores, none_if_nan


@dataclass(frozen=True)
class ErrorExample:
    """One failure to show: where it is, and what to write below it."""

    image: str
    index: int
    box: Box
    label: int
    predicted: int
    note: str


@dataclass(frozen=True)
class Group:
    """Error regions of one kind with the same label and prediction. `around`: the class most of them lie in."""

    label: int
    predicted: int
    around: int | None
    regions: int
    pixels: int


@dataclass(frozen=True)
class Kind:
    """One kind of failure. share: of all wrong pixels."""

    name: str
    share: float
    groups: list[Group]
    examples: list[ErrorExample]


@dataclass(frozen=True)
class ConfusedPair:
    """Two classes taken for one another. `rate`: pixels of both that were swapped, over all pixels of both."""

    first: int
    second: int
    rate: float
    first_as_second: float
    second_as_first: float
    pixels: int


@dataclass(frozen=True)
class Missed:
    """How a class's objects fare. Shares are of objects with less than half of their pixels right; None: no objects."""

    label: int
    objects: int
    missed: float
    missed_small: float | None
    missed_large: float | None
    missed_faint: float | None
    missed_clear: float | None
    taken_for: int


@dataclass(frozen=True)
class ExplorerReport:
    """What the page shows; `to_dict` is JSON-ready."""

    title: str
    protocol: str
    scores: Scores
    border_share: float
    rest_share: float
    kinds: list[Kind]
    pairs: list[ConfusedPair]
    missed: list[Missed]
    objects: list[Object]

    def kind(self, name: str) -> Kind:
        return next(kind for kind in self.kinds if kind.name == name)

    def to_dict(self) -> dict[str, Any]:
        names = self.scores.names
        return {
            "title": self.title,
            "protocol": self.protocol,
            "mean_iou": none_if_nan(self.scores.mean_iou),
            "pixel_accuracy": none_if_nan(self.scores.pixel_accuracy),
            "share_of_wrong_pixels": {
                "borders": self.border_share,
                **{k.name: k.share for k in self.kinds},
                "rest": self.rest_share,
            },
            "kinds": {
                kind.name: [
                    {
                        "label": names[g.label],
                        "predicted": names[g.predicted],
                        "regions": g.regions,
                        "pixels": g.pixels,
                        "around": None if g.around is None else names[g.around],
                    }
                    for g in kind.groups
                ]
                for kind in self.kinds
            },
            "pairs": [{"classes": [names[p.first], names[p.second]], "rate": p.rate} for p in self.pairs],
            "missed": [{"class": names[m.label], "objects": m.objects, "missed": m.missed} for m in self.missed],
        }


def choose(findings: Findings, space: LabelSpace, examples: int, title: str, protocol: str) -> ExplorerReport:
    """Sorts the findings: largest first, and no more than two examples of the same pair or image in a kind."""
    sorted_regions: dict[str, list[Region]] = {name: [] for name in KINDS}
    for region in sorted(findings.regions, key=lambda r: -r.pixels):
        sorted_regions[findings.kind(region)].append(region)
    wrong = max(findings.error_pixels, 1)
    kinds = [
        Kind(
            name,
            sum(r.pixels for r in regions) / wrong,
            _groups(regions)[:12],
            [_example(findings, r, space) for r in _varied(regions, examples)],
        )
        for name, regions in sorted_regions.items()
    ]
    border = findings.border_pixels / wrong
    rest = max(0.0, 1 - border - sum(kind.share for kind in kinds))
    return ExplorerReport(
        title,
        protocol,
        Scores(findings.confusion, "exclude", space.names),
        border,
        rest,
        kinds,
        _pairs(findings)[:12],
        _missed(findings)[:12],
        findings.objects,
    )


def _groups(regions: list[Region]) -> list[Group]:
    together: dict[tuple[int, int], list[Region]] = defaultdict(list)
    for region in regions:
        together[region.label, region.predicted].append(region)
    groups = []
    for (label, predicted), members in together.items():
        around: dict[int, float] = defaultdict(float)
        for region in members:
            for c, share in region.ring.items():
                around[c] += share
        commonest = max(around, key=lambda c: around[c]) if around else None
        groups.append(Group(label, predicted, commonest, len(members), sum(r.pixels for r in members)))
    return sorted(groups, key=lambda g: -g.pixels)


def _varied(regions: list[Region], count: int) -> list[Region]:
    chosen: list[Region] = []
    for region in regions:
        same_pair = sum((r.label, r.predicted) == (region.label, region.predicted) for r in chosen)
        same_image = sum(r.index == region.index for r in chosen)
        if same_pair < 2 and same_image < 2:
            chosen.append(region)
        if len(chosen) == count:
            return chosen
    return chosen + [r for r in regions if r not in chosen][: count - len(chosen)]


def _example(findings: Findings, region: Region, space: LabelSpace) -> ErrorExample:
    names = space.names
    ring = sorted(region.ring.items(), key=lambda item: -item[1])[:2]
    around = ", ".join(f"{names[c]} {share:.0%}" for c, share in ring) or "nothing that is labelled"
    note = f"around it: {around}"
    if findings.kind(region) == "mismatched":
        # in plain words: e^evidence is how many times likelier the neighbours are for the true class, on average
        times = float(np.exp(min(findings.evidence(region), 6.0)))
        note += f"; such surroundings are {times:.0f} times likelier for {names[region.label]}"
    return ErrorExample(region.image, region.index, region.box, region.label, region.predicted, note)


def _pairs(findings: Findings) -> list[ConfusedPair]:
    counts, rows = findings.confusion, findings.confusion.sum(1)
    pairs = []
    for a in range(len(counts)):
        for b in range(a + 1, len(counts)):
            swapped, total = int(counts[a, b] + counts[b, a]), int(rows[a] + rows[b])
            if swapped:
                pairs.append(
                    ConfusedPair(
                        a, b, swapped / total, counts[a, b] / max(rows[a], 1), counts[b, a] / max(rows[b], 1), swapped
                    )
                )
    return sorted(pairs, key=lambda p: -p.rate)


def _missed(findings: Findings) -> list[Missed]:
    by_class: dict[int, list[Object]] = defaultdict(list)
    for one in findings.objects:
        by_class[one.label].append(one)
    classes_missed = []
    for label, objects in by_class.items():
        if len(objects) < 3:
            continue  # shares of one or two objects say nothing
        missed = np.array([o.hit < 0.5 for o in objects])
        small = np.array([o.pixels for o in objects]) <= np.median([o.pixels for o in objects])
        faint = np.array([o.contrast for o in objects]) <= np.median([o.contrast for o in objects])
        wrong = [o.taken_for for o, m in zip(objects, missed, strict=True) if m]
        commonest = max(set(wrong), key=wrong.count) if wrong else label
        classes_missed.append(
            Missed(
                label,
                len(objects),
                float(missed.mean()),
                _share(missed, small),
                _share(missed, ~small),
                _share(missed, faint),
                _share(missed, ~faint),
                commonest,
            )
        )
    return sorted(classes_missed, key=lambda m: -m.missed)


def _share(missed: np.ndarray, members: np.ndarray) -> float | None:
    return float(missed[members].mean()) if members.any() else None
