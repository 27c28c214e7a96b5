"""From coarse logits to what an image's size asks for: logits, probabilities, labels. Arrays here; tensors in `nn`.

Both resize in the same two steps with the same roundings as PyTorch's own bilinear kernel: columns first, then rows.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.predict.arrays import in_kind_of, is_tensor, softmax_, to_numpy
from pspnet.predict.candidates import crowded, fill_rows, rounding_of
from pspnet.predict.processors import thread_count
from pspnet.predict.sampling import mix, neighbours

Floats = NDArray[np.float32]
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
    if is_tensor(coarse) and coarse.device.type != "cpu":
        from pspnet.nn.upsampling import upsample_labels

        return upsample_labels(coarse, size, align_corners, confidence, temperature)
    values = np.asarray(to_numpy(coarse), np.float32)
    classes = np.empty((len(values), *size), np.uint8)
    certainty = np.empty((len(values), *size), np.float32) if confidence else None
    for image, planes in enumerate(values):
        _fill(planes, classes[image], None if certainty is None else certainty[image], align_corners, temperature)
    return in_kind_of(classes, coarse), None if certainty is None else in_kind_of(certainty, coarse)


def _fill(
    planes: Floats, classes: NDArray[np.uint8], certainty: Floats | None, align_corners: bool, temperature: float
) -> None:
    """One image (K, h, w), in as many threads as an engine takes."""
    rounding = rounding_of(planes)
    plain = certainty is not None or not np.isfinite(rounding) or crowded(planes, classes.size, rounding)
    lines = np.ascontiguousarray(planes.transpose(1, 2, 0)) if plain else None  # (h, w, K): argmax reads in order

    def fill(cells: range) -> None:
        if lines is None:
            fill_rows(planes, classes, cells, align_corners, rounding)
        else:
            _fill_plainly(lines, classes, certainty, cells, align_corners, temperature)

    threads = thread_count()
    step = -(-planes.shape[1] // threads)
    parts = [range(top, min(top + step, planes.shape[1])) for top in range(0, planes.shape[1], step)]
    if len(parts) == 1:
        fill(parts[0])
        return
    with ThreadPoolExecutor(len(parts), thread_name_prefix="labels") as pool:
        list(pool.map(fill, parts))


def _fill_plainly(
    lines: Floats,
    best_classes: NDArray[np.uint8],
    certainty: Floats | None,
    cells: range,
    align_corners: bool,
    temperature: float,
) -> None:
    """The rows that lie in these coarse rows, every class resized: strips as small as a core's cache."""
    (height, width), classes = best_classes.shape, lines.shape[2]
    x0, x1, x_share = neighbours(lines.shape[1], width, align_corners)
    y0, y1, y_share = neighbours(lines.shape[0], height, align_corners)
    first, beyond = np.searchsorted(y0, [cells.start, cells.stop]).tolist()
    wide: dict[int, Floats] = {}  # the coarse rows at hand, (W, K) each: two at most
    strip_rows = max(STRIP_VALUES // (width * classes), 1)
    strip, product = np.empty((strip_rows, width, classes), np.float32), np.empty((width, classes), np.float32)
    for top in range(first, beyond, strip_rows):
        rows = range(top, min(top + strip_rows, beyond))
        for position, row in enumerate(rows):
            near = (int(y0[row]), int(y1[row]))
            wide = {y: wide[y] if y in wide else mix(lines[y, x0], lines[y, x1], x_share[:, None]) for y in near}
            np.multiply(wide[near[0]], np.float32(1) - y_share[row], out=strip[position])  # `mix`, without new memory
            strip[position] += np.multiply(wide[near[1]], y_share[row], out=product)
        part = strip[: len(rows)]
        best = part.argmax(axis=2)
        best_classes[rows.start : rows.stop] = best
        if certainty is not None:
            part -= np.take_along_axis(part, best[..., None], axis=2)
            part /= np.float32(temperature)
            certainty[rows.start : rows.stop] = 1 / np.exp(part, out=part).sum(axis=2)
