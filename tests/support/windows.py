"""An image predicted in blended windows, put together again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pspnet.predict.arrays import to_numpy
from pspnet.predict.windows import Predictor, WindowView, blended_pieces
from pspnet.tiling import spans


def views(image: np.ndarray, tile: int, overlap: int) -> Iterator[WindowView]:
    """The windows of an image (H, W, bands)."""
    for rows in spans(image.shape[0], tile, overlap):
        for columns in spans(image.shape[1], tile, overlap):
            yield WindowView(
                rows, columns, image[rows.start : rows.stop, columns.start : columns.stop].transpose(2, 0, 1)
            )


def blended(image: np.ndarray, predict: Predictor, classes: int, tile: int, overlap: int, batch: int = 4) -> Any:
    """(K, H, W): every pixel must be in one piece exactly."""
    result = np.zeros((classes, *image.shape[:2]), np.float32)
    times = np.zeros(image.shape[:2], int)
    for piece in blended_pieces(views(image, tile, overlap), predict, overlap, batch):
        result[:, *piece.core.slices] = to_numpy(piece.probabilities)
        times[piece.core.slices] += 1
    assert (times == 1).all()
    return result
