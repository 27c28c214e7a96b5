"""The size that a photograph is looked at with, for one request: brought to it, and its labels brought back."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from pspnet.errors import ConfigError
from pspnet.predict.scale import Wish, at_size, confidence_at, labels_at, parse_size
from pspnet.predict.segmenter import Segmenter
from pspnet.server.batching import Found
from pspnet.server.problems import Problem

MOST_PIXELS = 4  # times the photograph's own, at most: an answer must not cost more than what was sent


def wished_size(text: str | None) -> Wish:
    """The query's `size`; trained where it was left out. Raises Problem."""
    try:
        return "trained" if text is None else parse_size(text)
    except ConfigError as error:
        raise Problem("bad_parameter", str(error)) from error


def brought_to(pixels: NDArray[Any], segmenter: Segmenter, wish: Wish) -> NDArray[Any]:
    """(H, W, bands) at the size to look at. Raises Problem where a wished size is far larger than the photograph."""
    image_size = pixels.shape[:2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a size that is not the trained one is told to a person, not to a log
        size = segmenter.seen_size(image_size, wish)
    if isinstance(wish, int) and size[0] * size[1] > MOST_PIXELS * image_size[0] * image_size[1]:
        raise Problem(
            "bad_parameter",
            f"size = {wish} makes {size[1]} x {size[0]} pixels of {image_size[1]} x {image_size[0]}; at most {MOST_PIXELS} times as many "
            "as were sent are looked at",
        )
    return at_size(pixels, size)


def brought_back(result: Found, pixels: NDArray[Any]) -> Found:
    """Labels and confidence at the photograph's own size."""
    image_size = pixels.shape[:2]
    if result.labels.shape == image_size:
        return result
    confidence = None if result.confidence is None else confidence_at(result.confidence, image_size)
    return replace(result, labels=labels_at(result.labels, image_size), confidence=confidence)
