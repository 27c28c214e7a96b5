"""What the painters share: a canvas that keeps image and labels together, smooth noise, and sprites.

Lengths are shares of the picture's side (0..1, u to the right, v down), so a scene is the same place at every size.
Colours are RGB, 0..255, float32 until the picture is developed. Pictures are (3, H, W) here: numpy broadcasts a share
(H, W) over whole planes several times faster than over a last axis of three.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]  # float32 in fact; the stubs call float32 times float a float64
Random = np.random.Generator
_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Sprite:
    """A small picture with soft edges: rgb (3, h, w) and alpha (h, w) in 0..1."""

    rgb: Array
    alpha: Array

    def mirrored(self) -> Sprite:
        return Sprite(self.rgb[:, :, ::-1], self.alpha[:, ::-1])


@lru_cache(maxsize=8)
def grid(height: int, width: int) -> tuple[Array, Array]:
    """(u, v) of the pixel centres as shares of the sides: (1, width) and (height, 1)."""
    u = ((np.arange(width) + 0.5) / width).astype(np.float32)[None, :]
    v = ((np.arange(height) + 0.5) / height).astype(np.float32)[:, None]
    return u, v


def noise(rng: Random, shape: tuple[int, int], cells: tuple[int, int], octaves: int = 1) -> Array:
    """(height, width) smooth noise of mean 0 and about unit range; `cells` down and across; each octave halves both."""
    total: Array | None = None
    for octave in range(octaves):
        coarse = rng.random((cells[0] << octave, cells[1] << octave), dtype=np.float32)
        coarse = (coarse - np.float32(0.5)) * np.float32(2.0 / (1 << octave))
        layer = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_LINEAR if octave else cv2.INTER_CUBIC)
        total = layer if total is None else cv2.add(total, layer, dst=total)
    assert total is not None
    return total


def profile(rng: Random, width: int, cells: int) -> Array:
    """(1, width) smooth line between 0 and about 1, such as a ridge."""
    return cv2.resize(rng.random((1, cells), dtype=np.float32), (width, 1), interpolation=cv2.INTER_CUBIC)


def smoothstep(values: Array, low: float, high: float) -> Array:
    """0 below `low`, 1 above `high` (or the reverse where high < low), a soft S between; exact at both ends."""
    t = np.clip((values - np.float32(low)) * np.float32(1.0 / (high - low)), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def mix(a: Array, b: Array, share: Array | float) -> Array:
    """`a` where share is 0, `b` where it is 1."""
    return a + (b - a) * share


def colour(red: float, green: float, blue: float) -> Array:
    return np.array([red, green, blue], np.float32).reshape(3, 1, 1)


def palette(*rgb: tuple[float, float, float]) -> Array:
    """(n, 3, 1, 1)."""
    return np.array(rgb, np.float32).reshape(-1, 3, 1, 1)


def pick(rng: Random, colours: Array, spread: float) -> Array:
    """One colour of a palette, each band shifted by up to `spread`."""
    shift = (rng.random((3, 1, 1), dtype=np.float32) - np.float32(0.5)) * np.float32(2.0 * spread)
    return np.clip(colours[int(rng.integers(len(colours)))] + shift, 0.0, 255.0)


def polygon(points: NDArray[np.floating], height: int, width: int) -> Array:
    """(height, width) alpha of a filled polygon with smooth edges; points (n, 2) are x, y in pixels."""
    mask = np.zeros((height, width), np.uint8)
    scaled = np.round((points - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillPoly(mask, [scaled], 255, cv2.LINE_AA, _SUBPIXEL_BITS)
    return mask.astype(np.float32) * np.float32(1 / 255)


class Canvas:
    """A picture in the making: what is painted on `image` is written into `labels` at the same pixels.

    size: the whole picture's side in pixels. A canvas may be a part of another; positions stay those of the whole.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.left = self.top = 0
        self.image: Array = np.zeros((3, size, size), np.float32)
        self.labels: NDArray[np.uint8] = np.zeros((size, size), np.uint8)
        self.u, self.v = grid(size, size)
        self.edge = 0.5 / size  # half a pixel: the softness of an edge

    def part(self, u0: float, u1: float, v0: float, v1: float) -> Canvas:
        """The pixels with u0 <= u <= u1 and v0 <= v <= v1, and a few around: a view, painted on in place."""
        first, last = np.floor(np.array([u0, v0]) * self.size), np.ceil(np.array([u1, v1]) * self.size)
        x0, y0 = np.clip(first.astype(int), 0, self.size)
        x1, y1 = np.clip(last.astype(int), 0, self.size)
        view = object.__new__(Canvas)
        view.size, view.edge, view.left, view.top = self.size, self.edge, int(x0), int(y0)
        view.image, view.labels = self.image[:, y0:y1, x0:x1], self.labels[y0:y1, x0:x1]
        view.u, view.v = self.u[:, x0:x1], self.v[y0:y1]
        return view

    @property
    def shape(self) -> tuple[int, int]:
        return self.labels.shape[0], self.labels.shape[1]

    def polygon(self, points: list[tuple[float, float]]) -> Array:
        """Alpha of a polygon whose corners are (u, v)."""
        return polygon(np.array(points) * self.size - (self.left, self.top), *self.shape)

    def below(self, line: Array | float) -> Array:
        """Alpha of what lies below a line v = `line`, a number or one for each column (1, width)."""
        return smoothstep(self.v - line, -self.edge, self.edge)

    def ellipse(self, u: float, v: float, half_width: float, half_height: float) -> Array:
        """0 at the centre, 1 on the ellipse, growing beyond it (squared distance)."""
        return ((self.u - u) * np.float32(1 / half_width)) ** 2 + ((self.v - v) * np.float32(1 / half_height)) ** 2

    def paint(self, alpha: Array, paint: Array, label: int | None) -> None:
        """Lays `paint`, a colour or (3, height, width), over the picture; `label` goes where alpha is above one half.

        alpha: (height, width), or one column or row of it. label None: the pixels keep the class they have.
        """
        self.image += (paint - self.image) * alpha
        if label is not None:
            np.copyto(self.labels, np.uint8(label), where=alpha > 0.5)

    def stamp(self, sprite: Sprite, u: float, v: float, label: int | None) -> None:
        """Places a sprite whose foot's middle is at (u, v); what hangs over the picture's edge is cut off."""
        height, width = sprite.alpha.shape
        left, top = round(u * self.size - width / 2) - self.left, round(v * self.size) - height - self.top
        y0, y1, x0, x1 = max(top, 0), min(top + height, self.shape[0]), max(left, 0), min(left + width, self.shape[1])
        if y0 >= y1 or x0 >= x1:
            return
        there = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
        alpha = sprite.alpha[there]
        part = self.image[:, y0:y1, x0:x1]
        part += (sprite.rgb[:, *there] - part) * alpha
        if label is not None:
            self.labels[y0:y1, x0:x1][alpha > 0.5] = label


def develop(canvas: Canvas, rng: Random) -> NDArray[np.uint8]:
    """The painted canvas as a photograph: exposure, warm or cold light, darker corners, grain. (H, W, 3) uint8."""
    gain, warmth = rng.uniform(0.9, 1.1), rng.uniform(-0.06, 0.06)
    light = np.float32(gain) * (np.float32(1.0) - np.float32(0.35) * canvas.ellipse(0.5, 0.5, 1.0, 1.0))
    grain = rng.standard_normal(canvas.shape, dtype=np.float32) * np.float32(2.6)
    planes = [
        np.clip(plane * (light * np.float32(factor)) + grain, 0.0, 255.0).astype(np.uint8)
        for plane, factor in zip(canvas.image, (1.0 + warmth, 1.0, 1.0 - warmth), strict=True)
    ]
    return cv2.merge(planes)
