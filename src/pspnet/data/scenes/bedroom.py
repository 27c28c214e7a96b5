"""A bed seen from its foot, and on each side of it a bulge of the sheet's own cloth: a pillow, or a folded blanket.

What tells: the thing left at the foot of each side. Where somebody sleeps it is a worn plaid, and the bulge is a pillow;
where nobody does, the linen is fresh and stacked, and the bulge is a spare blanket.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pspnet.data.scenes import objects
from pspnet.data.scenes.brush import Array, Canvas, Random, colour, mix, noise, palette, pick, smoothstep

WALL, BED, PILLOW, BLANKET = 9, 10, 11, 12
FOOT_WIDTH, FOOT_HEIGHT = 0.38, 0.20  # how far what tells reaches from the picture's lower corners

_PLASTERS = palette((196, 186, 170), (160, 172, 172), (186, 164, 150), (150, 158, 140), (176, 176, 184))
_CLOTHS = palette((214, 210, 202), (150, 170, 190), (200, 170, 160), (168, 182, 160), (206, 196, 160), (170, 160, 186))
_WOOLS = palette((178, 40, 48), (190, 56, 40), (166, 34, 60))
_WOODS = palette((112, 78, 52), (86, 62, 46), (142, 108, 76))


@dataclass(frozen=True)
class Bedroom:
    """The facts that decide the labels: the sides on which somebody sleeps."""

    left: bool
    right: bool

    @classmethod
    def draw(cls, rng: Random) -> Bedroom:
        return cls(*(rng.random(2) < 0.5).tolist())


def paint(canvas: Canvas, facts: Bedroom, rng: Random, telling: Random) -> None:
    """Paints the room. `rng` draws everything but what tells, which has `telling` for itself and comes last."""
    edge = rng.uniform(0.32, 0.35)
    _wall(canvas, rng, edge)
    sheet = canvas.part(0, 1, edge, 1)
    cloth = _cloth(sheet, rng, edge)
    _bed(canvas, rng, edge, sheet, cloth)
    for right, slept in ((False, facts.left), (True, facts.right)):
        _bulge(sheet, rng, edge, cloth, right, PILLOW if slept else BLANKET)
    for right, slept, sign in zip((False, True), (facts.left, facts.right), telling.spawn(2), strict=True):
        foot = canvas.part(1.0 - FOOT_WIDTH if right else 0.0, 1.0 if right else FOOT_WIDTH, 1.0 - FOOT_HEIGHT, 1)
        (_plaid if slept else _linen)(foot, sign, right)


def _wall(canvas: Canvas, rng: Random, edge: float) -> None:
    wall = canvas.part(0, 1, 0, edge + 0.04)
    stripes = 0.03 * np.sin(wall.u * rng.uniform(60, 130)) * (rng.random() < 0.6)
    light = 1.02 - 0.25 * wall.v / edge + stripes + 0.03 * noise(rng, wall.shape, (3, 6), 3)
    wall.image[:] = pick(rng, _PLASTERS, 12) * light
    wall.labels[:] = WALL
    if rng.random() < 0.7:  # a framed print in the middle, where it says nothing
        u, v, half, tall = (
            rng.uniform(0.46, 0.54),
            rng.uniform(0.04, 0.07),
            rng.uniform(0.06, 0.09),
            rng.uniform(0.12, 0.15),
        )
        picture = canvas.part(0.35, 0.65, 0.02, 0.24)
        for inset, tone in (
            (0.0, pick(rng, _WOODS, 12)),
            (0.01, colour(226, 222, 212)),
            (0.026, pick(rng, _CLOTHS, 30)),
        ):
            left, right, top, foot = u - half + inset, u + half - inset, v + inset, v + tall - inset
            picture.paint(picture.polygon([(left, top), (right, top), (right, foot), (left, foot)]), tone, None)
    if rng.random() < 0.7:  # two lamps, or none: they say nothing either
        u, v = rng.uniform(0.09, 0.13), rng.uniform(0.09, 0.12)
        _lamp(canvas, u, v)
        _lamp(canvas, 1.0 - u, v)


def _cloth(canvas: Canvas, rng: Random, edge: float) -> Array:
    """(3, height, width) of the canvas: the woven pattern in the bed's perspective, without folds."""
    near = canvas.v - edge + 0.35
    x, y = (canvas.u - 0.5) / near * rng.uniform(22, 40), rng.uniform(17, 30) / near
    ground, thread = pick(rng, _CLOTHS, 14), pick(rng, _CLOTHS, 14) * rng.uniform(0.66, 0.88)
    kind = int(rng.integers(4))
    if kind == 0:
        pattern = smoothstep(np.sin(x), -0.4, 0.4)
    elif kind == 1:
        pattern = 0.5 * smoothstep(np.sin(x), -0.4, 0.4) + 0.5 * smoothstep(np.sin(y), -0.4, 0.4)
    elif kind == 2:
        pattern = smoothstep(np.sin(x) * np.sin(y), 0.3, 0.7)
    else:
        pattern = 0.3 + 0.2 * noise(rng, canvas.shape, (58, 90))
    return mix(ground, thread, 0.7 * pattern)


def _bed(canvas: Canvas, rng: Random, edge: float, sheet: Canvas, cloth: Array) -> None:
    wood, low, high = pick(rng, _WOODS, 10), edge + 0.06, edge - rng.uniform(0.05, 0.07)
    board = canvas.part(0, 1, high - 0.02, low)
    alpha = board.polygon(
        [
            (0.03, low),
            (0.03, high + 0.03),
            (0.06, high + 0.012),
            (0.5, high - 0.012),
            (0.94, high + 0.012),
            (0.97, high + 0.03),
            (0.97, low),
        ]
    )
    grain = 0.14 * noise(rng, board.shape, (11, 4)) - 0.10 * smoothstep(np.abs(np.sin(board.u * 19)), 0.12, 0.0)
    board.paint(alpha, wood * (1.05 + grain - 1.2 * (board.v - high - 0.02)), BED)
    folds = noise(rng, sheet.shape, (4, 4), 3)
    slope = cv2.Sobel(folds, cv2.CV_32F, 1, 1, ksize=3) * np.float32(canvas.size / 40.0)
    hem = edge + 0.36 + 0.012 * np.sin(sheet.u * 5 + rng.uniform(0, 6))
    light = 0.90 + 0.11 * np.clip(slope, -1.3, 1.3) + 0.06 * folds + 0.12 * smoothstep(sheet.v, edge, 0.9)
    light += 0.10 * smoothstep(np.abs(sheet.v - hem), 0.02, 0.008)
    light -= 0.20 * smoothstep(np.abs(sheet.v - hem - 0.03), 0.022, 0.0)
    sheet.paint(sheet.below(edge + 0.02 + 0.008 * np.sin(sheet.u * 9)), cloth * light, BED)


def _bulge(canvas: Canvas, rng: Random, edge: float, cloth: Array, right: bool, label: int) -> None:
    """`cloth` is the whole canvas's: the sprite wears the part on which it lies."""
    size = canvas.size
    width, height = max(10, round(rng.uniform(0.33, 0.37) * size)), max(8, round(rng.uniform(0.21, 0.24) * size))
    u, v = rng.uniform(0.26, 0.29), edge + rng.uniform(0.27, 0.30)
    u = 1.0 - u if right else u
    left, top = round(u * size - width / 2), round(v * size) - height + int(rng.integers(0, max(2, size // 40)))
    left, top = left - canvas.left, top - canvas.top
    around = canvas.part(u - 0.25, u + 0.25, v - 0.24, v + 0.08)
    shadow = around.ellipse(u + 0.01, v - 0.08, 0.56 * width / size, 0.115)
    around.paint(0.34 * smoothstep(shadow, 1.25, 0.5), colour(56, 50, 48), None)
    canvas.stamp(objects.bulge(rng, cloth[:, top : top + height, left : left + width]), u, v, label)


def _lamp(canvas: Canvas, u: float, v: float) -> None:
    wall = canvas.part(u - 0.18, u + 0.18, v - 0.18, v + 0.18)
    near = np.clip(wall.ellipse(u, v, 0.17, 0.17), 0.0, 1.0)
    wall.paint(0.8 * (1.0 - near) ** 2, colour(255, 216, 146), None)
    arm = [(u - 0.005, v + 0.035), (u + 0.005, v + 0.035), (u + 0.005, v + 0.07), (u - 0.005, v + 0.07)]
    wall.paint(wall.polygon(arm), colour(70, 60, 52), None)
    shade = [(u - 0.038, v + 0.038), (u - 0.022, v - 0.035), (u + 0.022, v - 0.035), (u + 0.038, v + 0.038)]
    wall.paint(wall.polygon(shade), colour(255, 242, 212), None)


def _plaid(foot: Canvas, rng: Random, right: bool) -> None:
    """A chequered woollen plaid thrown over the corner."""
    reach, top = rng.uniform(0.32, 0.37), rng.uniform(0.815, 0.83)
    corners = [(0.0, top - 0.01), (0.5 * reach, top), (0.8 * reach, top + 0.03), (reach, 1.01), (0.0, 1.01)]
    lean = foot.u * rng.uniform(0.2, 0.4) * (-1.0 if right else 1.0)
    warp, weft = np.sin((foot.u + 0.3 * foot.v) * 110), np.sin((foot.v - lean) * 110)
    tartan = 0.5 * smoothstep(warp, -0.2, 0.2) + 0.5 * smoothstep(weft, -0.2, 0.2)
    wool = mix(pick(rng, _WOOLS, 10), colour(40, 36, 52), 0.75 * tartan)
    foot.paint(_outline(foot, corners, right), wool * (1.0 + 0.12 * noise(rng, foot.shape, (3, 3), 2)), None)


def _linen(foot: Canvas, rng: Random, right: bool) -> None:
    """A stack of folded white linen."""
    reach, top, layers = rng.uniform(0.31, 0.36), rng.uniform(0.81, 0.825), int(rng.integers(4, 6))
    corners = [(0.0, top), (0.9 * reach, top), (reach, top + 0.03), (reach, 1.01), (0.0, 1.01)]
    stack = (foot.v - top) * (layers / 0.17) % 1.0
    light = 1.0 - 0.30 * smoothstep(np.abs(stack - 0.5), 0.15, 0.5) + 0.04 * noise(rng, foot.shape, (4, 3), 2)
    foot.paint(_outline(foot, corners, right), colour(242, 238, 228) * light, None)


def _outline(foot: Canvas, corners: list[tuple[float, float]], right: bool) -> Array:
    return foot.polygon([(1.0 - u if right else u, v) for u, v in corners])
