"""Colours altered at random: brightness, contrast, saturation and hue, in the image's own type."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pspnet.config.data import AugmentConfig


def jittered(image: NDArray[Any], config: AugmentConfig, draws: dict[str, float]) -> NDArray[Any]:
    """Brightness, contrast before or after the colours, saturation, hue (as MMSegmentation's PhotoMetricDistortion)."""

    def contrast(pixels: NDArray[Any]) -> NDArray[Any]:
        if draws["contrast"] >= 0.5:
            return pixels
        return _scaled(pixels, between(config.jitter_contrast_range, draws["contrast_by"]), 0.0)

    if draws["brightness"] < 0.5:
        full = float(np.iinfo(image.dtype).max) if image.dtype.kind in "iu" else float(np.ptp(image))
        image = _scaled(image, 1.0, full * config.jitter_brightness * (2 * draws["brightness_by"] - 1))
    first = draws["order"] < 0.5
    if first:
        image = contrast(image)
    turned, faded = draws["hue"] < 0.5, draws["saturation"] < 0.5
    if image.dtype == np.uint8 and image.shape[2] == 3 and (turned or faded):
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)  # hue 0..255 for 0..360 degrees
        if turned:  # uint8 wraps, as hues do
            hsv[..., 0] += np.uint8(round(config.jitter_hue * (2 * draws["hue_by"] - 1) * 256 / 360) % 256)
        if faded:
            hsv[..., 1] = _scaled(hsv[..., 1], between(config.jitter_saturation_range, draws["saturation_by"]), 0.0)
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)
    return image if first else contrast(image)


def _scaled(pixels: NDArray[Any], factor: float, shift: float) -> NDArray[Any]:
    """factor * pixels + shift, kept in the dtype's range."""
    if pixels.dtype == np.uint8:
        return cv2.LUT(np.ascontiguousarray(pixels), clipped(np.arange(256) * factor + shift, pixels.dtype))
    return clipped(pixels * factor + shift, pixels.dtype)


def clipped(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.kind not in "iu":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.round(values), limits.min, limits.max).astype(dtype)


def between(limits: tuple[float, float], draw: float) -> float:
    return limits[0] + (limits[1] - limits[0]) * draw
