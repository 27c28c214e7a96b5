"""One engine for every protocol: an image in, a map of probabilities or labels out.

Windows run through the network in batches; each window's prediction is resized, weighted and added to the final map at
once. Resizing is linear, so adding resized windows equals resizing the sum, and no map at a test scale ever exists:
memory is one batch of windows and one map of the image's own size, at any number of scales. (One exception: where
logits are averaged over several windows and then probabilities over scales, a second map is needed.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pspnet.config.protocol import PROTOCOLS, Protocol, find_protocol
from pspnet.errors import ConfigError
from pspnet.predict.arrays import Array, Device, is_tensor, like, on_device, softmax_, take, to_numpy, zeros_like
from pspnet.predict.resampling import taps
from pspnet.predict.window_grid import Reach, WindowGrid
from pspnet.tiling import Padding, padding

__all__ = ["PROTOCOLS", "Predictor", "Protocol", "find_protocol", "predict_labels", "predict_probabilities"]
Logits = Callable[[Array], Array]
_ROWS = 8  # rows of a map that are resized at once: at 150 classes and 512 px they stay in a core's cache


@dataclass(frozen=True)
class Predictor:
    """What the engine needs of a model.

    logits: (B, bands, h, w) float32 in the images' own range -> (B, K, h, w); it gets and gives tensors on `device` where
    that is a torch.device, arrays where it is a text. mean: the fill colour for padding, a
    number per band in the images' units. align_corners: the network's own resizing. batch_windows: windows at once.
    """

    logits: Logits
    mean: Sequence[float] = ()
    align_corners: bool = False
    device: Device = "cpu"
    batch_windows: int = 4


def predict_probabilities(
    predictor: Predictor | Logits, image: NDArray[np.generic], protocol: str | Protocol
) -> NDArray[np.float32]:
    """(H, W, bands) image -> (K, H, W) float32 probabilities that sum to 1, as the protocol says."""
    predictor = _as_predictor(predictor)
    protocol = find_protocol(protocol)
    scores, are_logits = predict_map(predictor, image, protocol)
    if are_logits:
        _softmax_rows(scores)
    elif protocol.map_interpolation == "antialias":
        scores /= scores.sum(2, keepdims=True)  # the Caffe code does; the weights sum to 1 but for rounding
    return to_numpy(scores).transpose(2, 0, 1)


def predict_labels(
    predictor: Predictor | Logits, image: NDArray[np.generic], protocol: str | Protocol
) -> NDArray[np.uint8]:
    """(H, W, bands) image -> (H, W) uint8 class indices: the most probable class, the first one of equals."""
    scores, _ = predict_map(_as_predictor(predictor), image, find_protocol(protocol))
    return most_probable(scores)[0]


def most_probable(scores: Array) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """(H, W, K) -> the class of each pixel (H, W), the first one of equals, and its score (H, W)."""
    if is_tensor(scores):
        best, index = scores.max(2)
        return to_numpy(index).astype(np.uint8), to_numpy(best)
    index = scores.argmax(2)
    return index.astype(np.uint8), np.take_along_axis(scores, index[..., None], 2)[..., 0]


def predict_map(predictor: Predictor, image: NDArray[np.generic], protocol: Protocol) -> tuple[Array, bool]:
    """(H, W, K) float32 as the predictor computes, and whether it holds logits (else probabilities).

    The classes of a pixel lie side by side in memory: resizing then moves whole pixels, and a softmax reads in order.
    With the classes first the same work took twenty times as long on a processor (benchmarks/protocols.py).
    """
    if image.ndim != 3 or 0 in image.shape:
        raise ConfigError(f"an image is (height, width, bands); this one has the shape {image.shape}")
    height, width = image.shape[:2]
    passes = list(_passes(protocol))
    many = len(passes) > 1
    total: Array | None = None
    for scale, mirrored in passes:
        scaled, around = _scaled(image, protocol, predictor.mean, protocol.size(height, width, scale))
        if mirrored:
            scaled = np.ascontiguousarray(scaled[:, ::-1])
        grid = WindowGrid(protocol, scaled.shape[0], scaled.shape[1], around, height, width, predictor.align_corners)
        softmax_late = many and protocol.average == "logits"
        apart: Array | None = None  # logits of this pass, when softmax must wait for all of its windows
        for (row, column), scores in _windows(predictor, protocol, scaled, grid):
            if total is None:
                total = zeros_like(scores, (height, width, scores.shape[2]))
            if softmax_late and not grid.single and apart is None:
                apart = zeros_like(total, total.shape)
            target = total if apart is None else apart
            _add(target, scores, grid.rows[row], grid.columns[column], mirrored, softmax_late and grid.single)
        assert total is not None
        if apart is not None:
            _softmax_rows(apart)
            total += apart
    assert total is not None
    if many:
        total /= len(passes)
    return total, protocol.average == "logits" and not many


def _passes(protocol: Protocol) -> Iterator[tuple[float, bool]]:
    for scale in protocol.scales:
        yield scale, False
        if protocol.mirror == "image":
            yield scale, True


def _scaled(
    image: NDArray[np.generic], protocol: Protocol, mean: Sequence[float], size: tuple[int, int]
) -> tuple[NDArray[np.float32], Padding]:
    """The image at a test scale, padded: (h, w, bands) float32 in its own units, and where the padding lies."""
    if size == image.shape[:2]:
        scaled = image.astype(np.float32)
    elif protocol.image_interpolation == "antialias":
        scaled = _resized_by_taps(image, size)
    else:
        # in the image's own type OpenCV computes in fixed point, which is what MMSegmentation's images went through
        native = protocol.pixels == "image" and image.dtype in (np.uint8, np.uint16, np.int16)
        source = image if native else image.astype(np.float32)
        # OpenCV drops a single band, and version 5 resizes 128 bands at most
        parts = [np.ascontiguousarray(source[..., i : i + 64]) for i in range(0, image.shape[2], 64)]
        resized = [cv2.resize(p, (size[1], size[0])).reshape(*size, -1) for p in parts]
        scaled = np.concatenate(resized, axis=2).astype(np.float32)
    if protocol.pixels == "image" and image.dtype.kind in "iu":
        scaled = np.floor(scaled + 0.5)
    if protocol.padding == "none" or protocol.window_px is None:
        return scaled, Padding(0, 0, 0, 0)
    around = padding(size[0], size[1], protocol.window_px, protocol.padding)
    if not around.any:
        return scaled, around
    if len(mean) != image.shape[2]:
        wanted = image.shape[2]
        raise ConfigError(f"{protocol.name} pads with the mean colour: {wanted} values are needed, {len(mean)} given")
    high, wide = size[0] + around.top + around.bottom, size[1] + around.left + around.right
    padded = np.broadcast_to(np.asarray(mean, np.float32), (high, wide, len(mean))).copy()
    padded[around.top : around.top + size[0], around.left : around.left + size[1]] = scaled
    return padded, around


def _resized_by_taps(image: NDArray[np.generic], size: tuple[int, int]) -> NDArray[np.float32]:
    result = image.astype(np.float32)
    for axis in (0, 1):
        source_cell, weight = taps(result.shape[axis], size[axis], "antialias")
        shape = (-1, 1, 1) if axis == 0 else (1, -1, 1)
        result = sum(
            (result.take(source_cell[:, t], axis) * weight[:, t].reshape(shape) for t in range(source_cell.shape[1])),
            np.zeros((), np.float32),
        )
    return result


def _windows(
    predictor: Predictor, protocol: Protocol, scaled: NDArray[np.float32], grid: WindowGrid
) -> Iterator[tuple[tuple[int, int], Array]]:
    """Each window's place in the grid and its prediction (h, w, K): probabilities, or logits, as the protocol says."""
    places = [(r, c) for r in range(len(grid.rows)) for c in range(len(grid.columns))]
    for start in range(0, len(places), predictor.batch_windows):
        batch = places[start : start + predictor.batch_windows]
        crops = [
            scaled[
                grid.rows[r].first : grid.rows[r].first + grid.rows[r].length,
                grid.columns[c].first : grid.columns[c].first + grid.columns[c].length,
            ]
            for r, c in batch
        ]
        pixels = on_device(np.ascontiguousarray(np.stack(crops).transpose(0, 3, 1, 2)), predictor.device)
        predicted = _predict(predictor.logits, pixels, protocol)
        yield from zip(batch, predicted, strict=True)


def _predict(logits: Logits, pixels: Array, protocol: Protocol) -> Array:
    """(B, bands, h, w) -> (B, h, w, K) predictions."""
    scores = _checked(logits(pixels), pixels)
    turned = _checked(logits(_mirrored(pixels, 3)), pixels) if protocol.mirror == "window" else None
    if turned is None and protocol.average == "logits":
        return scores
    result = zeros_like(scores, tuple(scores.shape))
    for image in range(len(scores)):
        for top in range(0, scores.shape[1], _ROWS):
            part = (image, slice(top, top + _ROWS))
            result[part] = _joined(scores[part], None if turned is None else _mirrored(turned[part], 1), protocol)
    return result


def _joined(scores: Array, turned: Array | None, protocol: Protocol) -> Array:
    """A window's logits, and those of its mirror image turned back, as one prediction."""
    if turned is None:
        return _softmax(scores)
    if protocol.mirror_average == "logits_sum":
        return _softmax(scores + turned)
    if protocol.average == "probabilities":
        return (_softmax(scores) + _softmax(turned)) / 2
    return (scores + turned) / 2


def _checked(scores: Array, pixels: Array) -> Array:
    if scores.ndim != 4 or scores.shape[0] != pixels.shape[0] or scores.shape[2:] != pixels.shape[2:]:
        raise ConfigError(f"logits of shape {tuple(scores.shape)} for images {tuple(pixels.shape)}: give (B, K, h, w)")
    if is_tensor(scores):
        return scores.float().permute(0, 2, 3, 1).contiguous()
    return np.ascontiguousarray(scores.transpose(0, 2, 3, 1), np.float32)


def _add(target: Array, scores: Array, rows: Reach, columns: Reach, mirrored: bool, softmax: bool) -> None:
    """Adds one window (h, w, K), resized and weighted, to its place in the map, some rows at a time."""
    row_source, row_weight = like(rows.source, target), like(rows.weight, target)[..., None, None]
    column_source, column_weight = like(columns.source, target), like(columns.weight, target)[..., None]
    width = target.shape[1]
    span = slice(width - columns.stop, width - columns.start) if mirrored else slice(columns.start, columns.stop)
    on_gpu = is_tensor(target) and target.device.type != "cpu"
    step = rows.stop - rows.start if on_gpu else _ROWS  # a GPU gains nothing from small pieces
    for top in range(rows.start, rows.stop, step):
        bottom = min(top + step, rows.stop)
        part = slice(top - rows.start, bottom - rows.start)
        piece = _resample(scores, 0, row_source[part], row_weight[part], rows.plain)
        piece = _resample(piece, 1, column_source, column_weight, columns.plain)
        if softmax:
            piece = _softmax(piece)
        target[top:bottom, span] += _mirrored(piece, 1) if mirrored else piece


def _resample(values: Array, axis: int, source: Array, weight: Array, plain: bool) -> Array:
    if plain:
        first = int(source[0, 0])
        part = slice(first, first + len(source))
        return (values[part] if axis == 0 else values[:, part]) * weight[:, 0]
    result = take(values, source[:, 0], axis) * weight[:, 0]
    for tap in range(1, source.shape[1]):
        if is_tensor(result):
            result.addcmul_(take(values, source[:, tap], axis), weight[:, tap])
        else:
            result += take(values, source[:, tap], axis) * weight[:, tap]
    return result


def _softmax(values: Array) -> Array:
    """Over the classes, which come last."""
    return values.softmax(-1) if is_tensor(values) else softmax_(values.copy(), -1)


def _mirrored(values: Array, axis: int) -> Array:
    """Left and right exchanged; a processor's engine wants its images in one piece."""
    return values.flip(axis) if is_tensor(values) else np.ascontiguousarray(np.flip(values, axis))


def _softmax_rows(scores: Array) -> None:
    """Softmax over the classes, in place, some rows at a time."""
    for top in range(0, len(scores), _ROWS):
        scores[top : top + _ROWS] = _softmax(scores[top : top + _ROWS])


def _as_predictor(predictor: Predictor | Logits) -> Predictor:
    return predictor if isinstance(predictor, Predictor) else Predictor(predictor)
