"""From coarse logits to what an image's size asks for: logits, probabilities, labels. Arrays here; tensors in `nn`.

Both resize in the same two steps with the same roundings as PyTorch's own bilinear kernel: columns first, then rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.predict.arrays import is_tensor, softmax_

STRIP_VALUES = 2**19  # logits of a strip of rows, 2 MB, which a core's cache holds


def resize(coarse: Any, size: tuple[int, int], align_corners: bool) -> Any:
    """Logits (B, K, h, w) -> (B, K, *size), bilinear; the input itself where the size is equal."""
    if is_tensor(coarse):
        from pspnet.nn.blocks import resize as resize_tensor

        return resize_tensor(coarse, size, align_corners)
    if coarse.shape[2:] == size:
        return coarse
    x0, x1, x_share = neighbours(coarse.shape[3], size[1], align_corners)
    y0, y1, y_share = neighbours(coarse.shape[2], size[0], align_corners)
    full = np.empty((*coarse.shape[:2], *size), np.float32)
    for image, plane in np.ndindex(coarse.shape[:2]):  # a plane at a time stays in the cache
        lines = coarse[image, plane]
        wide = mix(lines[:, x0], lines[:, x1], x_share)
        full[image, plane] = mix(wide[y0], wide[y1], y_share[:, None])
    return full


def probabilities(coarse: Any, size: tuple[int, int], align_corners: bool, temperature: float = 1.0) -> Any:
    """Logits (B, K, h, w) -> probabilities (B, K, *size) float32, the logits divided by `temperature` first."""
    full = resize(coarse, size, align_corners)
    return softmax_(full, 1, temperature)


def labels(
    coarse: Any, size: tuple[int, int], align_corners: bool, confidence: bool = False, temperature: float = 1.0
) -> tuple[Any, Any]:
    """Logits (B, K, h, w) -> labels (B, *size) uint8 and, if asked, confidence (B, *size) float32, else None.

    Never all logits at once. The label is the class of the greatest resized logit, the first one of equals; the
    confidence its probability after division by `temperature`.
    """
    if is_tensor(coarse):
        from pspnet.nn.upsampling import upsample_labels

        return upsample_labels(coarse, size, align_corners, confidence, temperature)
    found = [_labels_of(image, size, align_corners, confidence, temperature) for image in coarse]
    return np.stack([one[0] for one in found]), np.stack([one[1] for one in found]) if confidence else None


def _labels_of(
    coarse: NDArray[np.float32], size: tuple[int, int], align_corners: bool, confidence: bool, temperature: float
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """One image, strip by strip with the classes last: numpy's argmax over the last axis reads memory in order."""
    classes, rows, columns = coarse.shape
    height, width = size
    x0, x1, x_share = neighbours(columns, width, align_corners)
    y0, y1, y_share = neighbours(rows, height, align_corners)
    found = np.empty((height, width), np.uint8)
    certainty = np.empty((height, width) if confidence else (0, 0), np.float32)
    lines = np.ascontiguousarray(coarse.transpose(1, 2, 0))  # (h, w, K)
    wide: dict[int, NDArray[np.float32]] = {}  # the coarse rows at hand, (W, K) each: two at most
    strip_rows = max(STRIP_VALUES // (width * classes), 1)
    for top in range(0, height, strip_rows):
        part = range(top, min(top + strip_rows, height))
        strip = np.empty((len(part), width, classes), np.float32)
        for place, row in enumerate(part):
            near = (int(y0[row]), int(y1[row]))
            wide = {y: wide[y] if y in wide else mix(lines[y, x0], lines[y, x1], x_share[:, None]) for y in near}
            strip[place] = mix(wide[near[0]], wide[near[1]], y_share[row])
        best = strip.argmax(axis=2)
        found[part.start : part.stop] = best
        if confidence:
            strip -= np.take_along_axis(strip, best[..., None], axis=2)
            strip /= temperature
            certainty[part.start : part.stop] = 1 / np.exp(strip, out=strip).sum(axis=2)
    return found, certainty


def mix(first: Any, second: Any, share: Any) -> Any:
    """A weighted mean, rounded as PyTorch rounds it."""
    return first * (1 - share) + second * share


def neighbours(
    source: int, target: int, align_corners: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """For each target position: the two source positions it lies between, and the share of the second.

    In float32 throughout, as PyTorch computes them.
    """
    rows = np.arange(target, dtype=np.float32)
    if align_corners:
        position = rows * np.float32((source - 1) / (target - 1) if target > 1 else 0.0)
    else:
        position = ((rows + np.float32(0.5)) * np.float32(source / target) - np.float32(0.5)).clip(min=0)
    first = position.astype(np.int64).clip(max=source - 1)
    return first, (first + 1).clip(max=source - 1), position - first.astype(np.float32)
