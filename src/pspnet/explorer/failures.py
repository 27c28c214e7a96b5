"""The three kinds of failure that the paper names (sec. 3.1), told apart in one image after another.

An error region is a connected patch of pixels with one label a and one prediction b, clear of the labels' borders. Its
surroundings are a ring around the region itself: in the midst of a wall they are wall. Then the region is

inconspicuous    b is what most of the surroundings are called: the object was swallowed (a pillow in its bedsheet);
mismatched       b lies nowhere near, and the surroundings speak for a: such neighbours are usual for a, not for b (a car
                 on water);
confusable       neither: a and b look alike, and nothing around says which it is (building, skyscraper; a sign on a wall).

"Usual" is measured on the labels of the same data set: how often each class lies in the ring around each other class.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pspnet.labels import IGNORE
from pspnet.metrics import count_pairs
from pspnet.metrics.boundary import near_border

Box = tuple[int, int, int, int]  # top, left, bottom, right

KINDS = ("mismatched", "confusable", "inconspicuous")
BORDER_PX = 3  # errors this close to a border of the labels are matters of drawing, not of understanding
SWALLOWED_SHARE = 0.5  # of the surroundings that must have the predicted class
NEAR_SHARE = 0.15  # of the surroundings: with more of the predicted class beside it, only a border was misplaced
USUAL_NATS = 0.7  # by which the surroundings must favour the true class over the predicted one
# The last two were set on 36 errors labelled by hand; of 26 others 20 come out right (docs/log/evaluation.md).


@dataclass(frozen=True)
class Region:
    """An error region. ring: share of each class, as predicted, in the region's own surroundings."""

    image: str
    index: int
    label: int
    predicted: int
    pixels: int
    box: Box
    ring: dict[int, float]


@dataclass(frozen=True)
class Object:
    """A connected patch of one label. hit: share of its pixels that are predicted right; taken_for: their commonest
    wrong prediction, or the label; contrast: how far its mean colour is from its surroundings', in standard deviations of the image."""

    image: str
    index: int
    label: int
    pixels: int
    share: float
    hit: float
    taken_for: int
    contrast: float
    box: Box


@dataclass
class Findings:
    """What was gathered from all images."""

    num_classes: int
    confusion: NDArray[np.int64] = field(init=False)
    neighbours: NDArray[np.float64] = field(init=False)
    regions: list[Region] = field(default_factory=list)
    objects: list[Object] = field(default_factory=list)
    error_pixels: int = 0
    border_pixels: int = 0

    def __post_init__(self) -> None:
        self.confusion = np.zeros((self.num_classes, self.num_classes), np.int64)
        self.neighbours = np.zeros((self.num_classes, self.num_classes))

    def evidence(self, region: Region) -> float:
        """How much the surroundings speak for the true class rather than the predicted one, in nats.

        The mean over the ring of log P(neighbour | true) - log P(neighbour | predicted), with one object's worth of
        every neighbour added, so that a class seen rarely is not sure of anything.
        """
        usual = self.neighbours + 1 / self.num_classes
        usual = np.log(usual / usual.sum(1, keepdims=True))
        # a patch inside an object of its own class: an object is never its own neighbour, so nothing is known of the true
        # class there, and what counts is whether the predicted one is usually beside it (a sign on a wall)
        unknown = -np.log(self.num_classes)
        true = [unknown if c == region.label else usual[region.label, c] for c in range(self.num_classes)]
        return sum(share * (true[c] - usual[region.predicted, c]) for c, share in region.ring.items())

    def kind(self, region: Region) -> str:
        """One of KINDS."""
        predicted_near = region.ring.get(region.predicted, 0.0)
        if predicted_near >= SWALLOWED_SHARE:
            return "inconspicuous"
        return "mismatched" if predicted_near < NEAR_SHARE and self.evidence(region) >= USUAL_NATS else "confusable"


def look_at(
    findings: Findings,
    index: int,
    name: str,
    image: NDArray[Any],
    labels: NDArray[np.uint8],
    predicted: NDArray[np.uint8],
) -> None:
    """Adds one image: (H, W, bands), its labels 0..K-1 or IGNORE, and its prediction."""
    findings.confusion += count_pairs(labels, predicted, findings.num_classes)
    wrong = (labels != predicted) & (labels != IGNORE)
    at_border = near_border(labels, BORDER_PX)
    findings.error_pixels += int(wrong.sum())
    findings.border_pixels += int((wrong & at_border).sum())
    least = max(16, round(0.0004 * labels.size))
    reach = max(6, round(0.03 * float(np.hypot(*labels.shape))))
    colours = image.astype(np.float32) / max(float(image.std()), 1e-6)
    inner = wrong & ~at_border
    for label in np.unique(labels[labels != IGNORE]).tolist():
        for box, patch in _patches(labels == label, least):
            wide = _grown(box, reach, labels.shape)
            area, here = _slices(wide), np.zeros((wide[2] - wide[0], wide[3] - wide[1]), np.uint8)
            here[box[0] - wide[0] : box[2] - wide[0], box[1] - wide[1] : box[3] - wide[1]] = patch
            kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
            ring = (cv2.dilate(here, kernel) > 0) & (here == 0) & (labels[area] != IGNORE)
            inside = here > 0
            if ring.any():
                around = np.bincount(labels[area][ring], minlength=findings.num_classes)
                findings.neighbours[label] += around / around.sum()
            _note(
                findings,
                index,
                name,
                label,
                wide,
                inside,
                ring,
                predicted[area],
                colours[area],
                inner[area],
                labels.size,
                least,
                reach,
            )


def _note(
    findings: Findings,
    index: int,
    name: str,
    label: int,
    wide: Box,
    inside: NDArray[np.bool_],
    ring: NDArray[np.bool_],
    predicted_labels: NDArray[np.uint8],
    colours: NDArray[np.float32],
    inner: NDArray[np.bool_],
    total: int,
    least: int,
    reach: int,
) -> None:
    """Notes one object, and the error regions in it, each with its own surroundings. All arrays are cut to `wide`."""
    pixels = int(inside.sum())
    votes = np.bincount(predicted_labels[inside], minlength=findings.num_classes)
    hit, votes[label] = float(votes[label] / pixels), 0
    taken_for, contrast = int(votes.argmax()) if votes.any() else label, 0.0
    if ring.any():
        contrast = float(np.sqrt(np.mean((colours[inside].mean(0) - colours[ring].mean(0)) ** 2)))
    if pixels <= 0.1 * total:  # a patch of a tenth of the picture is a place, not a thing in it
        findings.objects.append(Object(name, index, label, pixels, pixels / total, hit, taken_for, contrast, wide))
    mistaken = inner & inside
    for predicted in np.unique(predicted_labels[mistaken]).tolist():
        for box, patch in _patches(mistaken & (predicted_labels == predicted), least):
            picture_box = (box[0] + wide[0], box[1] + wide[1], box[2] + wide[0], box[3] + wide[1])
            elsewhere = (
                inside & (predicted_labels != predicted)
            ) | ring  # the error's own fringe is no surrounding of it
            shares = _around(box, patch, predicted_labels, elsewhere, reach)
            findings.regions.append(Region(name, index, label, predicted, int(patch.sum()), picture_box, shares))


def _around(
    box: Box, patch: NDArray[np.bool_], predicted: NDArray[np.uint8], counted: NDArray[np.bool_], reach: int
) -> dict[int, float]:
    """Share of each predicted class within `reach` px of a patch."""
    wide = _grown(box, reach, predicted.shape)
    here = np.zeros((wide[2] - wide[0], wide[3] - wide[1]), np.uint8)
    here[box[0] - wide[0] : box[2] - wide[0], box[1] - wide[1] : box[3] - wide[1]] = patch
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    ring = (cv2.dilate(here, kernel) > 0) & (here == 0) & counted[_slices(wide)]
    if not ring.any():
        return {}
    classes, counts = np.unique(predicted[_slices(wide)][ring], return_counts=True)
    return dict(zip(classes.tolist(), (counts / ring.sum()).tolist(), strict=True))


def _patches(mask: NDArray[np.bool_], least: int) -> list[tuple[Box, NDArray[np.bool_]]]:
    """Connected patches (8 neighbours) of at least `least` pixels: each one's box and its pixels in that box."""
    number, marks, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    patches = []
    for one in range(1, number):
        left, top, width, height, pixels = (int(v) for v in stats[one])
        if pixels >= least:
            box = (top, left, top + height, left + width)
            patches.append((box, marks[_slices(box)] == one))
    return patches


def _grown(box: Box, by: int, shape: tuple[int, ...]) -> Box:
    return max(box[0] - by, 0), max(box[1] - by, 0), min(box[2] + by, shape[0]), min(box[3] + by, shape[1])


def _slices(box: Box) -> tuple[slice, slice]:
    return slice(box[0], box[2]), slice(box[1], box[3])
