"""Images for eyes: any image as 8-bit RGB, class colours over it, a legend. One rule for files, page, service and reports.

8-bit images are shown as they are. Others are stretched from their 2nd to their 98th percentile, so that one hot pixel
or a few gaps do not make the rest black or white:

    >>> image = np.full((20, 20, 1), 1000, np.uint16)
    >>> image[:, 10:] = 2000
    >>> image[0, 0] = 65535                                    # a hot pixel
    >>> image_for_display(image)[5, [0, 15], 0].tolist()
    [0, 255]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (2.0, 98.0)
MOST_PIXELS = 4_000_000  # of a band that percentiles are taken from; more pixels are thinned out


def image_for_display(image: NDArray[Any]) -> NDArray[np.uint8]:
    """(H, W, bands) or (H, W) of any type and range -> (H, W, 3) uint8: the first three bands, or the first as grey.

    Floating-point images whose values fill 0..255 (8-bit ones on their way through a network) stay as they are.
    Values that are not finite are black.
    """
    image = image[..., None] if image.ndim == 2 else image
    bands = image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)
    if bands.dtype == np.uint8:
        return np.ascontiguousarray(bands)
    if bands.dtype == np.bool_:
        return bands.astype(np.uint8) * 255
    bands = bands.astype(np.float64)
    low, high = _span(bands)
    if image.dtype.kind == "f" and low >= 0 and 1 < high <= 255 and np.nanmax(bands, initial=0) <= 255:
        low, high = 0.0, 255.0
    stretched = np.nan_to_num((bands - low) * (255 / (high - low)), nan=0, posinf=0, neginf=0)
    return np.ascontiguousarray(stretched.clip(0, 255).round().astype(np.uint8))


def _span(bands: NDArray[np.float64]) -> tuple[float, float]:
    """The values that become black and white; never the same one."""
    step = max(1, int(np.ceil(np.sqrt(bands.shape[0] * bands.shape[1] / MOST_PIXELS))))
    thin = bands[::step, ::step]
    values = thin[np.isfinite(thin)]
    if not values.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(values, PERCENTILES))
    if low == high:  # nearly all pixels are equal: what differs is shown all the same
        low, high = float(values.min()), float(values.max())
    return (low, high) if low < high else (low - 1.0, high + 1.0)


def overlay(
    image: NDArray[np.uint8], labels: NDArray[np.uint8], palette: NDArray[np.uint8], opacity: float, ignore: int = 255
) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: the colours of (H, W) labels over an RGB image of their size; ignored pixels show the image.

    palette: (256, 3). opacity: 0 (the image) to 1 (the colours).
    """
    import cv2  # here: a command that only writes files need not load it

    mixed = cv2.addWeighted(image, 1 - opacity, palette[labels], opacity, 0)
    shown: NDArray[np.uint8] = np.where((labels != ignore)[..., None], mixed, image).astype(np.uint8)
    return shown


def legend(shares: Mapping[str, float], colours: Sequence[tuple[int, int, int]], width: int) -> NDArray[np.uint8]:
    """(rows, width, 3) uint8: a swatch, a name and a share for each class, in as few lines as fit.

    shares: class -> fraction of 1. colours: one for each of them, in the same order.
    """
    import cv2

    scale = float(np.clip(width / 900, 0.38, 1.2))
    line, font, margin = round(30 * scale) + 6, cv2.FONT_HERSHEY_SIMPLEX, round(10 * scale)
    texts = [f"{name} {share:.0%}" if share >= 0.01 else f"{name} <1%" for name, share in shares.items()]
    widths = [cv2.getTextSize(text, font, scale * 0.7, 1)[0][0] + line + 2 * margin for text in texts]
    per_row = max(1, width // max([*widths, 1]))
    rows = max(1, -(-len(texts) // per_row))
    canvas = np.full((rows * line + margin, width, 3), 255, np.uint8)
    for position, (colour, text) in enumerate(zip(colours, texts, strict=True)):
        x = margin + (position % per_row) * (width // per_row)
        y = margin // 2 + (position // per_row) * line
        side = line - 8
        cv2.rectangle(canvas, (x, y + 4), (x + side, y + 4 + side), colour, -1)
        cv2.rectangle(canvas, (x, y + 4), (x + side, y + 4 + side), (90, 90, 90), 1)
        cv2.putText(
            canvas, text, (x + side + margin // 2 + 2, y + side), font, scale * 0.7, (30, 30, 30), 1, cv2.LINE_AA
        )
    return canvas
