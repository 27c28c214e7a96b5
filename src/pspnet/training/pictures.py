"""Pictures of predictions: image, labels, prediction and mistakes side by side, a row for each image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pspnet.display import image_for_display
from pspnet.labels import IGNORE, LabelSpace

MAX_WIDTH_PX, MIN_WIDTH_PX = 360, 160  # of one column: headings need room
MARGIN_PX, HEADER_PX = 6, 24


@dataclass(frozen=True)
class PictureExample:
    """image: (H, W, bands) or, before `shrink`, (bands, H, W) float. labels, predicted: (H, W) uint8."""

    name: str
    image: NDArray[Any]
    labels: NDArray[np.uint8]
    predicted: NDArray[np.uint8]


def shrink(example: PictureExample) -> PictureExample:
    """The example with an (h, w, 3) uint8 image, all three between MIN_WIDTH_PX and MAX_WIDTH_PX wide."""
    image = image_for_display(np.moveaxis(example.image, 0, -1))
    height, width = image.shape[:2]
    scale = min(max(1.0, MIN_WIDTH_PX / width), MAX_WIDTH_PX / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = [cv2.resize(m, size, interpolation=cv2.INTER_NEAREST) for m in (example.labels, example.predicted)]
    return PictureExample(example.name, cv2.resize(image, size, interpolation=cv2.INTER_AREA), small[0], small[1])


def draw(examples: list[PictureExample], label_space: LabelSpace) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: a header line, then image | labels | prediction | mistakes for each example.

    Mistakes are red over a grey image; pixels that do not count are black there and in the labels.
    """
    if not examples:
        raise ValueError("no example to draw")
    palette = label_space.palette
    rows = []
    for example in examples:
        counted = example.labels != IGNORE
        grey = np.repeat((example.image.mean(axis=2, keepdims=True) * 0.6).astype(np.uint8), 3, axis=2)
        wrong = counted & (example.labels != example.predicted)
        mistakes = np.where(wrong[..., None], np.array([230, 40, 40], np.uint8), grey)
        mistakes[~counted] = 0
        rows.append(_beside([example.image, palette[example.labels], palette[example.predicted], mistakes]))
    width = max(row.shape[1] for row in rows)
    header = np.full(
        (max(HEADER_PX, width * HEADER_PX // 720), width, 3), 255, np.uint8
    )  # read where the sheet is shrunk
    column = (rows[0].shape[1] + MARGIN_PX) // 4
    scale = header.shape[0] / HEADER_PX * 0.45
    for number, title in enumerate(("image", "labels", "prediction", "mistakes")):
        left, bottom = number * column + 2, header.shape[0] * 2 // 3
        font, weight = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(1.5 * scale))
        cv2.putText(header, title, (left, bottom), font, scale, (30, 30, 30), weight, cv2.LINE_AA)
    padded = [_below(np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255)) for row in rows]
    return np.vstack([header, *padded])


def _beside(parts: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    gap = np.full((parts[0].shape[0], MARGIN_PX, 3), 255, np.uint8)
    return np.hstack([part for pair in ((p, gap) for p in parts) for part in pair][:-1])


def _below(row: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.vstack([row, np.full((MARGIN_PX, row.shape[1], 3), 255, np.uint8)])
