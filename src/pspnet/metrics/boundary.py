"""Scores on borders, where mean IoU hardly looks: boundary IoU, and IoU of the pixels near a border of the labels.

Boundary IoU (Cheng et al. 2021, arXiv:2103.16562) compares, for each class, only the pixels of a mask within d of the
mask's own contour, d = 2 % of the image's diagonal. The contour includes the image's edge, as in the authors' code
(erosion with zeros outside). The narrow band (Kohli et al. 2009) scores all pixels within d px of where two labels meet.
Distances are Chebyshev's: what d erosions by a 3 x 3 square reach.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pspnet.labels import IGNORE
from pspnet.metrics.bootstrap import PerImage
from pspnet.metrics.class_counts import Absent, ClassCounts
from pspnet.metrics.confusion import count_pairs


class BoundaryCounter:
    """Adds up images: boundary IoU of each class, and a narrow band's IoU for each distance.

    ratio: boundary IoU's d as a share of the image's diagonal. border_px: the narrow bands' distances in px.
    """

    def __init__(self, num_classes: int, ratio: float = 0.02, border_px: tuple[int, ...] = (1, 3, 5, 10)) -> None:
        self.num_classes, self.ratio, self.border_px = num_classes, ratio, border_px
        self.contour = PerImage()
        self.bands = {distance: PerImage() for distance in border_px}

    def update(self, name: str, labels: NDArray[np.uint8], predictions: NDArray[np.uint8]) -> None:
        """One image: (H, W) labels 0..K-1 or IGNORE, predictions 0..K-1. Ignored pixels belong to no mask."""
        known = labels != IGNORE
        predictions = np.where(known, predictions, IGNORE).astype(np.uint8)
        distance = max(1, round(self.ratio * float(np.hypot(*labels.shape))))
        near_labels, near_found = near_own_contour(labels, distance), near_own_contour(predictions, distance)
        both = near_labels & near_found & (labels == predictions)
        areas = [
            np.bincount(values, minlength=256)[: self.num_classes]
            for values in (labels[both], labels[near_labels & known], predictions[near_found & known])
        ]
        self.contour.add_areas(name, np.stack(areas).astype(np.int64))
        for pixels, band in self.bands.items():
            inside = np.where(near_border(labels, pixels), labels, IGNORE).astype(np.uint8)
            band.add(name, count_pairs(inside, predictions, self.num_classes))

    def boundary_iou(self, absent: Absent = "exclude") -> ClassCounts:
        """Areas (K,) of the contour's bands: `.iou` is boundary IoU."""
        return self.contour.total(absent)

    def band_iou(self, absent: Absent = "exclude") -> dict[int, ClassCounts]:
        """Areas (K,) of the narrow bands, by distance in px."""
        return {pixels: band.total(absent) for pixels, band in self.bands.items()}


def near_own_contour(labels: NDArray[np.uint8], distance: int) -> NDArray[np.bool_]:
    """(H, W): whether another class, an ignored pixel or the outside of the image lies within `distance` px.

    For every class at once: a pixel's surroundings hold one value exactly where their least equals their greatest.
    """
    kernel = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    least, greatest = cv2.erode(labels, kernel), cv2.dilate(labels, kernel)  # the outside takes no part here
    near: NDArray[np.bool_] = least != greatest
    near[:distance], near[-distance:], near[:, :distance], near[:, -distance:] = True, True, True, True
    return near


def near_border(labels: NDArray[Any], distance: int) -> NDArray[np.bool_]:
    """(H, W): whether two different classes lie within `distance` px; ignored pixels and the image's edge are none."""
    kernel = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    known = labels != IGNORE
    least = cv2.erode(labels, kernel)  # IGNORE is the greatest value: it never is the least of a mixed surrounding
    greatest = cv2.dilate(np.where(known, labels + 1, 0).astype(np.uint8), kernel)
    near: NDArray[np.bool_] = (least != IGNORE) & (greatest != least.astype(np.int64) + 1)
    return near
