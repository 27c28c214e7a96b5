"""Pictures for people: panels side by side with a title over each and a legend of the classes that occur below them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pspnet.files import write_bytes
from pspnet.labels import IGNORE, LabelSpace

PANEL_PX, GAP_PX, TITLE_PX = 360, 6, 24  # height of a panel, white between panels, height of the row of titles
INK, GREY, RED = (34, 48, 60), (140, 140, 140), (205, 30, 45)


def comparison(
    image: NDArray[np.uint8] | None, labels: NDArray[np.uint8], predicted: NDArray[np.uint8], space: LabelSpace
) -> NDArray[np.uint8]:
    """One row: image, labels, prediction, mistakes. Without an image (its terms forbid showing it): prediction, mistakes.

    image: (H, W, 3). labels, predicted: (H, W), 255 in labels = not labelled, which is grey in every panel but the image.
    """
    known = np.where(labels == IGNORE, np.uint8(IGNORE), predicted)
    panels = [("prediction", coloured(known, space)), ("mistakes", mistakes(labels, predicted, image))]
    if image is not None:
        panels = [("image", image), ("labels", coloured(labels, space)), *panels]
    return side_by_side(panels, legend_entries(space, [labels, known]))


def coloured(labels: NDArray[np.uint8], space: LabelSpace) -> NDArray[np.uint8]:
    """(H, W, 3): each class in its colour, what is not labelled grey."""
    shown: NDArray[np.uint8] = space.palette[labels].copy()
    shown[labels == IGNORE] = GREY
    return shown


def mistakes(
    labels: NDArray[np.uint8], predicted: NDArray[np.uint8], image: NDArray[np.uint8] | None
) -> NDArray[np.uint8]:
    """(H, W, 3): wrong pixels red, right ones the image in pale grey (or nearly white), what is not labelled grey."""
    shown = np.full((*labels.shape, 3), 240, np.uint8)
    if image is not None:
        shown[:] = (185 + image.mean(axis=2, keepdims=True) * 0.25).astype(np.uint8)
    shown[labels != predicted] = RED
    shown[labels == IGNORE] = GREY
    return shown


def legend_entries(space: LabelSpace, maps: Sequence[NDArray[np.uint8]]) -> list[tuple[str, tuple[int, int, int]]]:
    """(name, colour) of the classes that occur in any of the label maps, and of what is not labelled."""
    occurring = {int(value) for labels in maps for value in np.unique(labels)}
    entries = [(name.replace("_", " "), space.colours[i]) for i, name in enumerate(space.names) if i in occurring]
    return [*entries, ("not labelled", GREY)] if IGNORE in occurring else entries


def side_by_side(
    panels: Sequence[tuple[str, NDArray[np.uint8]]],
    legend: Sequence[tuple[str, tuple[int, int, int]]],
    height_px: int = PANEL_PX,
) -> NDArray[np.uint8]:
    """(rows, columns, 3): (title, picture) panels of one size in a row, and a legend in as many lines as it needs."""
    height, width = panels[0][1].shape[:2]
    size = (max(round(width * height_px / height), 1), height_px)
    row = []
    for title, panel in panels:
        smooth = cv2.INTER_AREA if title in ("image", "photograph") else cv2.INTER_NEAREST
        row += [np.vstack([_title(title, size[0]), cv2.resize(panel, size, interpolation=smooth)])]
        row += [np.full((TITLE_PX + height_px, GAP_PX, 3), 255, np.uint8)]
    pictures = np.hstack(row[:-1])
    return np.vstack([pictures, _legend(legend, pictures.shape[1])])


def save_jpeg(picture: NDArray[np.uint8], path: Path, quality: int = 88) -> None:
    """Colours at full resolution, so that label colours keep their borders."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, subsampling=0, optimize=True)
    write_bytes(path, buffer.getvalue())


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=15)


def _title(text: str, width: int) -> NDArray[np.uint8]:
    canvas = Image.new("RGB", (width, TITLE_PX), "white")
    ImageDraw.Draw(canvas).text((2, TITLE_PX // 2), text, INK, _font(), anchor="lm")
    return np.asarray(canvas)


def _legend(entries: Sequence[tuple[str, tuple[int, int, int]]], width: int) -> NDArray[np.uint8]:
    """A swatch and a name for each entry."""
    font, line, swatch = _font(), 26, 14
    corners, x, y = [], 4, 6
    for name, _ in entries:
        wide = swatch + 6 + round(font.getlength(name)) + 18
        if x + wide > width and x > 4:
            x, y = 4, y + line
        corners.append((x, y))
        x += wide
    canvas = Image.new("RGB", (width, y + line), "white")
    draw = ImageDraw.Draw(canvas)
    for (left, top), (name, colour) in zip(corners, entries, strict=True):
        draw.rectangle((left, top + 4, left + swatch, top + 4 + swatch), fill=tuple(colour), outline=(90, 90, 90))
        draw.text((left + swatch + 6, top + 4 + swatch // 2), name, INK, font, anchor="lm")
    return np.asarray(canvas)
