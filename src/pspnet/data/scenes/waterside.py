"""A bank with two ways beside each other, each a canal or a road, below a village or the edge of a city.

What tells: the nearest corner of each way (ripples, or asphalt and a painted line), and what stands far off on the
horizon across from the houses (a church and cottages, or towers). Everywhere else the two readings are the same pixels:
wet asphalt and calm water both mirror the sky and the bank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from pspnet.data.scenes import objects
from pspnet.data.scenes.brush import (
    Array,
    Canvas,
    Random,
    Sprite,
    colour,
    mix,
    noise,
    palette,
    pick,
    profile,
    smoothstep,
)

SKY, TREE, GRASS, WATER, ROAD, BOAT, CAR, BUILDING, SKYSCRAPER = range(9)
Way = Literal["water", "road"]
Side = Literal["left", "right"]

_ZENITHS = palette((96, 144, 200), (120, 134, 150), (104, 122, 168), (132, 164, 196))
_HAZES = palette((208, 220, 228), (204, 206, 204), (240, 206, 170), (232, 230, 220))
_MEADOWS = palette((104, 122, 58), (124, 130, 72), (88, 112, 60))
_DEPTHS = palette((92, 104, 112), (110, 112, 112), (84, 96, 108))
_ROOFS = palette((200, 84, 44), (210, 98, 50), (188, 76, 44))

# how far what tells reaches: a way's near corner from the picture's corner, the far-off mark from the picture's side
CORNER_WIDTH, CORNER_HEIGHT = 0.29, 0.20
MARK_WIDTH = 0.28


@dataclass(frozen=True)
class Waterside:
    """The facts that decide the labels, and `houses`: the side of the facades. The far-off mark is on the other."""

    left: Way
    right: Way
    city: bool
    houses: Side

    @classmethod
    def draw(cls, rng: Random) -> Waterside:
        left, right, city, houses = (rng.random(4) < 0.5).tolist()
        return cls("water" if left else "road", "water" if right else "road", city, "left" if houses else "right")


def paint(canvas: Canvas, facts: Waterside, rng: Random, telling: Random) -> None:
    """Paints the place. `rng` draws everything but what tells, which has `telling` for itself and comes last."""
    horizon, middle = rng.uniform(0.40, 0.43), rng.uniform(0.47, 0.53)
    weather = int(rng.integers(len(_ZENITHS)))
    zenith, haze = pick(rng, _ZENITHS[weather : weather + 1], 10), pick(rng, _HAZES[weather : weather + 1], 8)
    _sky(canvas, rng, horizon, zenith, haze)
    _hills(canvas, rng, horizon, haze)
    _houses(canvas, rng, horizon, facts)
    _bank(canvas, rng, horizon, haze)
    _ways(canvas, rng, horizon, middle, mix(haze, zenith, 0.3), facts)
    for side, way in ((0, facts.left), (1, facts.right)):
        _hull(canvas, rng, horizon, side, BOAT if way == "water" else CAR)
    _dyke(canvas, rng, horizon, middle)
    near_left, near_right, far = telling.spawn(3)  # so that one fact changes one sign
    _corner(canvas, near_left, 0, facts.left)
    _corner(canvas, near_right, 1, facts.right)
    _far_off(canvas, far, horizon, haze, facts)


def _sky(canvas: Canvas, rng: Random, horizon: float, zenith: Array, haze: Array) -> None:
    sky = canvas.part(0, 1, 0, horizon + 0.02)
    sky.image[:] = mix(zenith, haze, smoothstep(sky.v, 0.0, horizon))
    billows = noise(rng, sky.shape, (3, 3), 4) + np.float32(rng.uniform(-0.5, 0.3))
    cover = smoothstep(billows, 0.0, 1.3) * smoothstep(sky.v, horizon, 0.1)
    sky.paint(0.8 * cover, np.minimum(haze * 1.06 + 14, 255.0), None)
    sky.labels[:] = SKY


def _hills(canvas: Canvas, rng: Random, horizon: float, haze: Array) -> None:
    land = canvas.part(0, 1, horizon - 0.14, horizon + 0.02)
    for depth in (0.72, 0.45):
        ridge, rough = profile(rng, canvas.size, 7), profile(rng, canvas.size, 60)
        top = horizon - 0.015 - 0.075 * (1.3 - depth) * ridge - 0.008 * rough
        land.paint(land.below(top), mix(colour(58, 84, 62), haze, depth), TREE)


def _houses(canvas: Canvas, rng: Random, horizon: float, facts: Waterside) -> None:
    size, first = canvas.size, rng.uniform(0.57, 0.60)
    for slot in range(3):
        width, height = rng.uniform(0.15, 0.18), rng.uniform(0.23, 0.35)
        u = first + slot * 0.17 + rng.uniform(0.0, 0.01)
        sprite = objects.facade(rng, max(6, round(width * size)), max(8, round(height * size)))
        label = SKYSCRAPER if facts.city else BUILDING
        canvas.stamp(sprite, u if facts.houses == "right" else 1.0 - u, horizon + 0.015, label)


def _bank(canvas: Canvas, rng: Random, horizon: float, haze: Array) -> None:
    """The far bank: a strip of meadow, and bushes that hide the houses' feet."""
    strip = canvas.part(0, 1, horizon - 0.01, horizon + 0.07)
    strip.paint(strip.below(horizon) * np.ones_like(strip.u), mix(pick(rng, _MEADOWS, 10), haze, 0.25), GRASS)
    for _ in range(int(rng.integers(9, 13))):
        width, height = rng.uniform(0.06, 0.12), rng.uniform(0.05, 0.09)
        sprite = objects.tree(rng, max(5, round(width * canvas.size)), max(5, round(height * canvas.size)))
        canvas.stamp(sprite, rng.uniform(0.0, 1.0), horizon + 0.032, TREE)


def _ways(canvas: Canvas, rng: Random, horizon: float, middle: float, sky: Array, facts: Waterside) -> None:
    """Both wet and calm: they mirror the sky, and faintly the bank, with streaks that shorten into the distance."""
    shore = horizon + 0.05
    ground = canvas.part(0, 1, shore, 1)
    row, rows = ground.top, min(ground.shape[0], round(0.30 * canvas.size))
    streaks = noise(rng, ground.shape, (20, 3), 2) * np.float32(0.05) + np.float32(1.0)
    mirrored = np.ascontiguousarray(canvas.image[:, row - rows : row][:, ::-1])
    blurred = (cv2.blur(plane, (3, max(3, canvas.size // 24))) for plane in mirrored)
    bank = np.stack(list(blurred))
    strength = 0.42 * smoothstep(ground.v[:rows], shore + 0.30, shore)
    split = round(middle * canvas.size)
    for here, way in ((slice(0, split), facts.left), (slice(split, canvas.size), facts.right)):
        mirror = mix(sky * 0.92, pick(rng, _DEPTHS, 8), smoothstep(ground.v, shore - 0.05, 1.0))
        part = ground.image[:, :, here]
        part[:] = mirror
        part[:, :rows] += (bank[:, :, here] - part[:, :rows]) * strength
        part *= streaks[:, here]
        ground.labels[:, here] = WATER if way == "water" else ROAD


def _hull(canvas: Canvas, rng: Random, horizon: float, side: int, label: int) -> None:
    width, v = rng.uniform(0.23, 0.28), horizon + rng.uniform(0.15, 0.18)
    u = rng.uniform(0.25, 0.31)
    u = 1.0 - u if side else u
    sprite = objects.hull(rng, max(10, round(width * canvas.size)))
    if rng.random() < 0.5:
        sprite = sprite.mirrored()
    height = sprite.alpha.shape[0]
    fade = np.linspace(0.55, 0.0, height, dtype=np.float32)[:, None]
    canvas.stamp(Sprite(sprite.rgb[:, ::-1] * 0.8, sprite.alpha[::-1] * fade), u, v + (height - 1) / canvas.size, None)
    shadow = canvas.part(u - 0.16, u + 0.16, v - 0.02, v + 0.02)
    shadow.paint(0.6 * smoothstep(shadow.ellipse(u, v, 0.5 * width, 0.016), 1.0, 0.3), colour(34, 38, 42), None)
    canvas.stamp(sprite, u, v, label)


def _dyke(canvas: Canvas, rng: Random, horizon: float, middle: float) -> None:
    """The strip of grass between the ways, wide where it is near."""
    strip = canvas.part(0.34, 0.66, horizon + 0.02, 1)
    far, near = rng.uniform(0.008, 0.014), rng.uniform(0.05, 0.075)
    foot = middle + rng.uniform(-0.03, 0.03)
    alpha = strip.polygon(
        [(middle - far, horizon + 0.03), (middle + far, horizon + 0.03), (foot + near, 1.02), (foot - near, 1.02)]
    )
    light = 1.0 + 0.22 * noise(rng, strip.shape, (34, 20)) - 0.1 * smoothstep(strip.v, 0.6, 1.0)
    strip.paint(alpha, pick(rng, _MEADOWS, 10) * light, GRASS)


def _corner(canvas: Canvas, rng: Random, side: int, way: Way) -> None:
    """Right before the camera the glare ends and the ground shows what it is."""
    ground = canvas.part(side * (1.0 - CORNER_WIDTH), side or CORNER_WIDTH, 1.0 - CORNER_HEIGHT, 1)
    distance = ground.ellipse(float(side), 1.0, CORNER_WIDTH, CORNER_HEIGHT)
    alpha = smoothstep(distance + 0.22 * noise(rng, ground.shape, (4, 3), 3), 0.9, 0.35) * (distance < 1.0)
    if way == "water":
        waves = noise(rng, ground.shape, (9, 3), 2)
        crests = smoothstep(waves, 0.1, 0.9) - 0.6 * smoothstep(waves, 0.0, -0.8)
        ground.paint(alpha, mix(colour(54, 88, 92), colour(206, 222, 222), 0.55 * crests), None)
        return
    ground.paint(alpha, colour(100, 98, 96) * (1.0 + 0.26 * noise(rng, ground.shape, (28, 34))), None)
    near, far = rng.uniform(0.02, 0.05), rng.uniform(0.09, 0.12)
    line = [(near - 0.02, 1.01), (near + 0.02, 1.01), (far + 0.008, 0.82), (far - 0.008, 0.82)]
    ground.paint(alpha * ground.polygon([(1.0 - u if side else u, v) for u, v in line]), colour(226, 222, 206), None)


def _far_off(canvas: Canvas, rng: Random, horizon: float, haze: Array, facts: Waterside) -> None:
    """A church and cottages for a village, towers for a city; in haze. Their classes are what they are."""
    flip = facts.houses == "left"
    distance = canvas.part(1.0 - MARK_WIDTH if flip else 0.0, 1.0 if flip else MARK_WIDTH, 0, horizon)
    tone, foot = mix(colour(44, 92, 122), haze, 0.22), horizon - 0.004

    def draw(points: list[tuple[float, float]], paint: Array, label: int) -> None:
        distance.paint(distance.polygon([(1.0 - u if flip else u, v) for u, v in points]), paint, label)

    if facts.city:
        for slot in range(5):
            u, half, top = (
                0.025 + 0.052 * slot + rng.uniform(0, 0.008),
                rng.uniform(0.019, 0.025),
                rng.uniform(0.18, 0.34),
            )
            tower = [(u - half, foot), (u - half, foot - top), (u + half, foot - top), (u + half, foot)]
            draw(tower, tone * rng.uniform(0.85, 1.15), SKYSCRAPER)
            draw(
                [
                    (u - 0.003, foot - top),
                    (u - 0.003, foot - top - 0.035),
                    (u + 0.003, foot - top - 0.035),
                    (u + 0.003, foot - top),
                ],
                tone,
                SKYSCRAPER,
            )
        return
    plaster = mix(colour(220, 210, 190), haze, 0.15)
    for slot in range(4):
        u, wide, tall = (
            0.025 + 0.062 * slot + rng.uniform(0, 0.008),
            rng.uniform(0.055, 0.065),
            rng.uniform(0.035, 0.055),
        )
        draw(
            [(u - 0.02, foot), (u - 0.02, foot - tall), (u - 0.02 + wide, foot - tall), (u - 0.02 + wide, foot)],
            plaster,
            BUILDING,
        )
        draw(
            [
                (u - 0.026, foot - tall),
                (u - 0.012, foot - tall - 0.07),
                (u - 0.028 + wide, foot - tall - 0.07),
                (u - 0.014 + wide, foot - tall),
            ],
            mix(pick(rng, _ROOFS, 8), haze, 0.05),
            BUILDING,
        )
    u, top = rng.uniform(0.07, 0.19), rng.uniform(0.29, 0.34)
    draw(
        [(u - 0.03, foot), (u - 0.03, foot - top * 0.5), (u + 0.03, foot - top * 0.5), (u + 0.03, foot)],
        plaster * 0.95,
        BUILDING,
    )
    draw(
        [(u - 0.038, foot - top * 0.48), (u, foot - top), (u + 0.038, foot - top * 0.48)],
        mix(pick(rng, _ROOFS, 8), haze, 0.05),
        BUILDING,
    )
