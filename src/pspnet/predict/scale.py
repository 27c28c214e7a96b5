"""The size at which a photograph is looked at: a network knows things at the size they had in training.

CamVid's val enlarged three times scores 44.9 instead of 68.2, and 68.5 again once it is brought back to 480 x 360 first. So
a card keeps the trained images' size, photographs are brought to it, and the labels have the photograph's own size. Images
from above have a ground resolution instead: their size in pixels says nothing about how large things are.
"""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from pspnet.errors import ConfigError, ImageError
from pspnet.machine import free_memory_bytes

Size = tuple[int, int]  # height, width
Wish = Literal["native", "trained"] | int
NEAR = 1.25  # a photograph this near to the trained size is left as it is: resizing would only blur it
FAR = 1.5  # from here on a user is told: there scores fell by 10 points of 68


def parse_size(text: str) -> Wish:
    """'native', 'trained', or the pixels of the longer side. Raises ConfigError."""
    if text in ("native", "trained"):
        return text  # type: ignore[return-value]
    if not text.isdecimal() or not 16 <= int(text) <= 65535:
        raise ConfigError(f"size = {text}: give native, trained, or the longer side in pixels (16 to 65535)")
    return int(text)


def times_trained(native: Size, trained: Size | None) -> float:
    """How many times larger than the trained size an image is, by the root of its area: 1 where none is known."""
    return 1.0 if trained is None else ((native[0] * native[1]) / (trained[0] * trained[1])) ** 0.5


def seen_size(native: Size, trained: Size | None, wish: Wish = "trained") -> Size:
    """The size to look at an image of `native` size with, its shape kept; `native` itself where nothing is to be changed."""
    if wish == "native" or (wish == "trained" and 1 / NEAR < times_trained(native, trained) < NEAR):
        return native
    times = times_trained(native, trained) if wish == "trained" else max(native) / wish
    return max(1, round(native[0] / times)), max(1, round(native[1] / times))


def at_size(pixels: NDArray[Any], size: Size) -> NDArray[Any]:
    """(H, W, bands) -> (*size, bands) of the same type: means of what falls into a pixel when shrinking, else bilinear."""
    if pixels.shape[:2] == size:
        return pixels
    known = pixels.dtype if pixels.dtype in (np.uint8, np.uint16, np.int16, np.float32, np.float64) else np.float64
    smaller = size[0] * size[1] < pixels.shape[0] * pixels.shape[1]
    resized = cv2.resize(
        pixels.astype(known), size[::-1], interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    )
    return resized.reshape(*size, -1).astype(pixels.dtype)


def labels_at(labels: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """(h, w) labels at another size, by the nearest pixel."""
    return np.asarray(cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)


def confidence_at(confidence: NDArray[np.float32], size: Size) -> NDArray[np.float32]:
    """(h, w) confidence at another size, bilinear."""
    return np.asarray(cv2.resize(confidence, size[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def room_for_probabilities(classes: int, computed: Size, native: Size) -> NDArray[np.float16]:
    """(K, *seen), to be filled. Raises ImageError where memory will not hold the way to (K, *native)."""
    needed = classes * (6 * computed[0] * computed[1] + (2 * native[0] * native[1] if native != computed else 0))
    free = free_memory_bytes()
    if free and needed > free:
        raise ImageError(
            f"the probabilities of {classes} classes for {native[1]} x {native[0]} pixels take {needed / 2**30:.1f} GiB on "
            f"their way, {free / 2**30:.1f} GiB are free. Make the image smaller or cut it, or leave probabilities out"
        )
    return np.empty((classes, *computed), np.float16)


def probabilities_at(probabilities: NDArray[np.float16], size: Size) -> NDArray[np.float16]:
    """(K, h, w) at another size, bilinear; one class after the other, so that they still sum to 1 and memory stays small."""
    if probabilities.shape[1:] == size:
        return probabilities
    enlarged = np.empty((len(probabilities), *size), np.float16)
    for index, plane in enumerate(probabilities):
        enlarged[index] = confidence_at(plane.astype(np.float32), size)
    return enlarged
