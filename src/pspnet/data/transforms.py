"""Augmentation in the paper's order: scale, rotation, Gaussian blur, mirror, random crop with padding.

The chain by definition: the image is resized to its canvas (scale, aspect), the canvas is turned about its middle and
keeps its size, blurred, mirrored, padded evenly to the crop's size where smaller, and a window is cut at random.
Images are interpolated linearly, labels take the nearest pixel; what comes in from outside is the mean colour, its
label is IGNORE. Here the window is mapped back through mirror, rotation and scale at once, so only the window's pixels
are computed, and interpolated once instead of twice; test_transforms.py compares with the chain done step by step.

Every random number is a function of (seed, epoch, index), so a run does not depend on the number of workers or on
where it was resumed. Each step has its own draws: switching one off leaves the others' as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pspnet.config.data import AugmentConfig
from pspnet.data.colour_jitter import between, clipped, jittered
from pspnet.data.dataset import Sample
from pspnet.errors import ConfigError, DataError
from pspnet.labels import IGNORE

_ATTEMPTS = 10  # crops drawn for crop_max_class_share, as in MMSegmentation
_OPENCV_TYPES = (np.uint8, np.uint16, np.int16, np.float32, np.float64)
_DRAWS = (
    "scale",
    "aspect",
    "rotate",
    "angle",
    "blur",
    "sigma",
    "mirror",
    "rare",
    "rare_class",
    "rare_pixel",
    "top",
    "left",
    "order",
    "brightness",
    "brightness_by",
    "contrast",
    "contrast_by",
    "saturation",
    "saturation_by",
    "hue",
    "hue_by",
)


@dataclass(frozen=True)
class Geometry:
    """Where the crop's pixels come from.

    source: (height, width) of the image. canvas: (height, width) after scaling. angle: degrees, counter-clockwise as
    seen. mirror: left to right. crop: (height, width) of the window; top, left: its place on the padded canvas.
    """

    source: tuple[int, int]
    canvas: tuple[int, int]
    angle: float
    mirror: bool
    crop: tuple[int, int]
    top: int = 0
    left: int = 0

    @property
    def padding(self) -> tuple[int, int]:
        """Rows above and columns before the canvas; as many, or one more, follow it."""
        return max(self.crop[0] - self.canvas[0], 0) // 2, max(self.crop[1] - self.canvas[1], 0) // 2

    @property
    def room(self) -> tuple[int, int]:
        """Greatest top and left."""
        return max(self.canvas[0] - self.crop[0], 0), max(self.canvas[1] - self.crop[1], 0)

    def canvas_to_source(self) -> NDArray[np.float64]:
        """2 x 3: (x, y) of a pixel of the turned, mirrored canvas -> (x, y) of the source; whole at pixel centres."""
        (height, width), (rows, columns) = self.source, self.canvas
        cx, cy = (columns - 1) / 2, (rows - 1) / 2
        unmirror = np.array([[-1.0, 0, columns - 1], [0, 1, 0], [0, 0, 1]]) if self.mirror else np.eye(3)
        cos, sin = np.cos(np.radians(self.angle)), np.sin(np.radians(self.angle))
        unturn = np.array([[cos, -sin, cx - cos * cx + sin * cy], [sin, cos, cy - sin * cx - cos * cy], [0, 0, 1]])
        sx, sy = width / columns, height / rows  # the sides of a canvas pixel in source pixels; edges coincide
        unscale = np.array([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5], [0, 0, 1]])
        return (unscale @ unturn @ unmirror)[:2]

    def at(self, top: int, left: int) -> Geometry:
        return Geometry(self.source, self.canvas, self.angle, self.mirror, self.crop, top, left)

    def on_canvas(self) -> tuple[int, int, int, int]:
        """(y0, y1, x0, x1): the part of the canvas that the window shows."""
        y0, x0 = self.top - self.padding[0], self.left - self.padding[1]
        return (max(y0, 0), min(y0 + self.crop[0], self.canvas[0]), max(x0, 0), min(x0 + self.crop[1], self.canvas[1]))


class Augmentation:
    """A sample and its number -> (image (h, w, bands) in its own dtype, labels (h, w) uint8), h x w the crop's size.

    mean_colour: one value for each band, in the image's units; it fills what lies outside the image.
    """

    def __init__(self, config: AugmentConfig, mean_colour: Sequence[float]) -> None:
        self.config = config
        self.mean_colour = tuple(float(value) for value in mean_colour)

    def __call__(self, sample: Sample, seed: int, epoch: int, index: int) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Varies `sample`; equal (seed, epoch, index) give equal pixels. Raises DataError where labels lack."""
        image, labels = sample.image, sample.labels
        dtype = image.dtype
        if labels is None:
            raise DataError(f"'{sample.name}' has no labels; training needs them. Is this a test split?")
        if image.ndim != 3 or image.shape[2] != len(self.mean_colour):
            raise ConfigError(
                f"'{sample.name}' has shape {image.shape}, the mean colour {len(self.mean_colour)} "
                "values; give one value for each band"
            )
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, epoch, index))))
        draws = dict(zip(_DRAWS, rng.random(len(_DRAWS)).tolist(), strict=True))
        geometry = self._place(self._size(labels.shape[:2], draws), labels, draws, rng)
        if dtype not in _OPENCV_TYPES:  # exact for whole numbers up to 2^53
            return clipped(self._render_image(image.astype(np.float64), geometry, draws), dtype), render_labels(
                labels, geometry
            )
        return self._render_image(image, geometry, draws), render_labels(labels, geometry)

    def _size(self, source: tuple[int, int], draws: dict[str, float]) -> Geometry:
        """Canvas, angle and mirror."""
        config = self.config
        factor = 1.0
        if config.fit is not None:
            factor = min(max(config.fit) / max(source), min(config.fit) / min(source))
        if config.scale:
            factor *= between(config.scale_range, draws["scale"])
        stretch = between(config.aspect_range, draws["aspect"]) ** 0.5 if config.aspect else 1.0
        canvas = (max(1, round(source[0] * factor / stretch)), max(1, round(source[1] * factor * stretch)))
        turned = config.rotate and draws["rotate"] < config.rotate_probability
        angle = between(config.rotate_range, draws["angle"]) if turned else 0.0
        mirror = config.mirror and draws["mirror"] < config.mirror_probability
        return Geometry(source, canvas, angle, mirror, config.crop or canvas)

    def _place(
        self, whole: Geometry, labels: NDArray[np.uint8], draws: dict[str, float], rng: np.random.Generator
    ) -> Geometry:
        """Where the window lies on the canvas."""
        if draws["rare"] < self.config.rare_crop_probability:
            return _on_rare_class(whole, labels, draws)
        placed = whole.at(_below(whole.room[0], draws["top"]), _below(whole.room[1], draws["left"]))
        if self.config.crop_max_class_share < 1 and whole.room != (0, 0):
            for _ in range(_ATTEMPTS - 1):
                counts = np.bincount(render_labels(labels, placed).ravel(), minlength=IGNORE + 1)[:IGNORE]
                if np.count_nonzero(counts) > 1 and counts.max() < self.config.crop_max_class_share * counts.sum():
                    break
                placed = whole.at(_below(whole.room[0], rng.random()), _below(whole.room[1], rng.random()))
        return placed

    def _render_image(self, image: NDArray[Any], geometry: Geometry, draws: dict[str, float]) -> NDArray[Any]:
        config = self.config
        y0, y1, x0, x1 = geometry.on_canvas()
        blurred = config.blur and draws["blur"] < config.blur_probability
        margin = config.blur_kernel // 2 if blurred else 0  # what the blur sees beyond the window
        a, b = max(y0 - margin, 0), min(y1 + margin, geometry.canvas[0])
        c, d = max(x0 - margin, 0), min(x1 + margin, geometry.canvas[1])
        part = _warp(image, geometry, (a, b, c, d), self.mean_colour, linear=True)
        if blurred:
            sigma = between(config.blur_range, draws["sigma"])
            part = cv2.GaussianBlur(part, (config.blur_kernel, config.blur_kernel), sigma).reshape(part.shape)
        part = part[y0 - a : y1 - a, x0 - c : x1 - c]
        if config.jitter:
            part = jittered(part, config, draws)
        return _padded(part, geometry, self.mean_colour)


def render_labels(labels: NDArray[np.uint8], geometry: Geometry) -> NDArray[np.uint8]:
    """(H, W) labels -> the crop's, by the nearest pixel; IGNORE outside."""
    part = _warp(labels[..., None], geometry, geometry.on_canvas(), (float(IGNORE),), linear=False)
    return _padded(part, geometry, (float(IGNORE),))[..., 0]


def _warp(
    image: NDArray[Any],
    geometry: Geometry,
    region: tuple[int, int, int, int],
    border: tuple[float, ...],
    *,
    linear: bool,
) -> NDArray[Any]:
    """The pixels y0..y1, x0..x1 of the canvas, (y1 - y0, x1 - x0, bands)."""
    y0, y1, x0, x1 = region
    to_source = geometry.canvas_to_source()
    if np.array_equal(to_source, [[1, 0, 0], [0, 1, 0]]):
        return image[y0:y1, x0:x1].copy()
    corners = to_source @ np.array([[x0, x1 - 1, x0, x1 - 1], [y0, y0, y1 - 1, y1 - 1], [1, 1, 1, 1]], np.float64)
    # only the part of the source that is looked at: OpenCV takes no side above 32767, and memory is read once
    left, top = (max(int(np.floor(v)) - 2, 0) for v in corners.min(axis=1))
    ends = zip(corners.max(axis=1), image.shape[1::-1], strict=True)
    right, bottom = (min(int(np.ceil(v)) + 3, size) for v, size in ends)
    if left >= right or top >= bottom:  # the window shows only what lies outside
        return np.broadcast_to(np.array(border), (y1 - y0, x1 - x0, len(border))).astype(image.dtype)
    matrix = to_source.copy()
    matrix[:, 2] += matrix[:, :2] @ (x0, y0) - (left, top)
    source = image[top:bottom, left:right]
    flags = (cv2.INTER_LINEAR if linear else cv2.INTER_NEAREST) | cv2.WARP_INVERSE_MAP
    # unturned, the canvas covers the source exactly: its outermost half pixel is the edge itself, as in cv2.resize
    mode = cv2.BORDER_REPLICATE if geometry.angle == 0 else cv2.BORDER_CONSTANT
    size = (x1 - x0, y1 - y0)
    parts = [
        cv2.warpAffine(source[..., i:j], matrix, size, flags=flags, borderMode=mode, borderValue=border[i:j])
        for i, j in _band_groups(image.shape[2])
    ]
    return np.concatenate([part.reshape(*part.shape[:2], -1) for part in parts], axis=2)


def _band_groups(bands: int) -> list[tuple[int, int]]:
    """Slices of four bands, as many as OpenCV's border has values; never of two, where OpenCV 5 is less exact."""
    whole = bands // 4 * 4
    groups = [(i, i + 4) for i in range(0, whole, 4)]
    if bands - whole == 2:
        return [*groups, (whole, whole + 1), (whole + 1, bands)]
    return [*groups, (whole, bands)] if bands > whole else groups


def _padded(part: NDArray[Any], geometry: Geometry, border: tuple[float, ...]) -> NDArray[Any]:
    """The window around its part of the canvas."""
    if part.shape[:2] == geometry.crop:
        return np.ascontiguousarray(part)
    window = np.empty((*geometry.crop, part.shape[2]), part.dtype)
    window[:] = np.round(border) if part.dtype.kind in "iu" else border
    top, left = geometry.padding
    window[top : top + part.shape[0], left : left + part.shape[1]] = part
    return window


def _on_rare_class(whole: Geometry, labels: NDArray[np.uint8], draws: dict[str, float]) -> Geometry:
    """A window that shows a random pixel of a class drawn evenly among those in the image."""
    counts = np.bincount(labels.ravel(), minlength=IGNORE + 1)[:IGNORE]
    present = np.flatnonzero(counts)
    if len(present) == 0:
        return whole.at(_below(whole.room[0], draws["top"]), _below(whole.room[1], draws["left"]))
    label = present[_below(len(present) - 1, draws["rare_class"])]
    flat = np.flatnonzero(labels.ravel() == label)
    y, x = divmod(int(flat[_below(len(flat) - 1, draws["rare_pixel"])]), labels.shape[1])
    to_source = whole.canvas_to_source()
    x, y = np.linalg.solve(to_source[:, :2], np.array([x, y]) - to_source[:, 2]).round().astype(int).tolist()
    offset = []
    for at, crop, room, draw in zip((y, x), whole.crop, whole.room, (draws["top"], draws["left"]), strict=True):
        low, high = min(max(at - crop + 1, 0), room), max(min(at, room), 0)
        offset.append(low + _below(high - low, draw))
    return whole.at(*offset)


def _below(greatest: int, draw: float) -> int:
    """0..greatest, each as likely, for a draw in [0, 1)."""
    return int(draw * (greatest + 1))
