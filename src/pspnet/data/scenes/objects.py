"""The things whose class only the picture can tell: a hull, a facade, a bulge of cloth. And trees.

None of these functions is told where it is: no argument carries the context. With the same random state a boat and a
car, a village house and a skyscraper, a pillow and a folded blanket are the same pixels. Sizes in pixels.
"""

from __future__ import annotations

import cv2
import numpy as np

from pspnet.data.scenes.brush import Array, Random, Sprite, colour, grid, mix, palette, pick, polygon, smoothstep

PAINTS = palette(
    (150, 36, 44),
    (36, 78, 140),
    (226, 222, 212),
    (32, 110, 104),
    (216, 176, 60),
    (58, 62, 70),
    (120, 34, 60),
    (92, 128, 74),
)
WALLS = palette(
    (150, 108, 92), (196, 182, 158), (150, 150, 148), (178, 150, 124), (142, 140, 144), (206, 200, 190), (132, 98, 88)
)
LEAVES = palette((62, 92, 42), (84, 108, 48), (48, 78, 44), (96, 112, 58))


def hull(rng: Random, width: int) -> Sprite:
    """A painted body with a glazed cabin and no wheels, keel or number plate in sight."""
    height = max(6, round(width * rng.uniform(0.48, 0.56)))
    x, y = grid(height, width)
    scale = np.array([width, height])
    bow, deck, lean = rng.uniform(0.0, 0.06), rng.uniform(0.44, 0.52), rng.uniform(-0.05, 0.05)
    outline = [
        (bow, deck),
        (0.30, deck - 0.05),
        (0.72, deck - 0.05),
        (1.0 - bow, deck + 0.02),
        (0.985, 0.72),
        (0.93, 0.93),
        (0.84, 1.0),
        (0.14, 1.0),
        (0.06, 0.9),
        (0.015, 0.68),
    ]
    top = np.array(
        [(0.24, deck), (0.34 + lean, 0.06), (0.42 + lean, 0.0), (0.62 + lean, 0.0), (0.70 + lean, 0.07), (0.80, deck)]
    )
    middle = np.array([0.52, deck * 0.56])
    body, cabin = polygon(np.array(outline) * scale, height, width), polygon(top * scale, height, width)
    glass = polygon((middle + (top - middle) * np.array([0.80, 0.62])) * scale, height, width)
    paint = pick(rng, PAINTS, 14)
    rgb: Array = paint * (
        1.18 - 0.55 * smoothstep(y, deck, 1.0) + 0.14 * smoothstep(y, deck + 0.1, deck) + 0.05 * np.cos(7 * x)
    )
    stripe = np.exp(-(((y - deck - 0.16) / 0.035) ** 2))
    rgb = mix(rgb, np.clip(paint * 0.5 + 110, 0, 245), 0.7 * stripe)
    roof = np.clip(paint * rng.uniform(0.75, 1.15) + 12, 0, 250) * (1.12 - 0.4 * y)
    rgb = mix(rgb, roof, cabin * (1.0 - body))
    window = mix(colour(52, 64, 78), colour(176, 194, 206), smoothstep(x * 0.8 - y + 0.1 * np.sin(9 * x), -0.1, 0.5))
    pillar = smoothstep(np.abs(x - 0.53 - lean), 0.012, 0.03)
    return Sprite(mix(rgb, window, glass * pillar), np.maximum(body, cabin))


def facade(rng: Random, width: int, height: int) -> Sprite:
    """A wall of windows, lit from one side, under a plain cornice: nothing says how tall the rest of the town is."""
    x, y = grid(height, width)
    wall = pick(rng, WALLS, 12)
    columns, rows = int(rng.integers(3, 6)), max(2, round(height / width * rng.uniform(3.2, 4.6)))
    sun = 0.10 if rng.random() < 0.5 else -0.10
    rgb = wall * (1.08 - 0.16 * y + sun * (0.5 - x))
    across, down = (x * 0.94 + 0.03) * columns % 1.0, (y * 0.95 + 0.02) * rows % 1.0
    soft_x, soft_y = 0.9 * columns / width, 0.9 * rows / height
    pane_x = smoothstep(rng.uniform(0.24, 0.34) - np.abs(across - 0.5), -soft_x, soft_x)
    pane_y = smoothstep(rng.uniform(0.26, 0.36) - np.abs(down - 0.5), -soft_y, soft_y)
    glow = rng.random((rows, columns), dtype=np.float32)
    lights = cv2.resize(glow, (width, height), interpolation=cv2.INTER_NEAREST)
    pane = mix(colour(48, 58, 72), colour(150, 168, 182), smoothstep(lights, 0.35, 1.0) * (1.1 - 0.5 * down))
    rgb = mix(rgb, pane, 0.92 * pane_x * pane_y)
    rgb = mix(rgb, wall * 1.16, 0.5 * smoothstep(np.abs(down - 0.98), 0.03 + soft_y, 0.03))
    if rng.random() < 0.5:
        rgb = mix(rgb, rgb * 0.62, smoothstep(x, 0.86, 0.86 + 1.5 / width))
    rgb = mix(rgb, wall * 0.72, 0.8 * smoothstep(y, 4.0 / height, 2.0 / height))
    return Sprite(rgb, np.ones((height, width), np.float32))


def tree(rng: Random, width: int, height: int) -> Sprite:
    """A crown of leaves: a soft ellipse eaten by noise, bright where the light falls."""
    x, y = grid(height, width)
    lumps = cv2.resize(rng.random((5, 5), dtype=np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    leaves = cv2.resize(rng.random((14, 14), dtype=np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    reach = np.sqrt(((x - 0.5) / 0.5) ** 2 + ((y - 0.52) / 0.52) ** 2)
    alpha = smoothstep(1.12 - reach - 0.45 * (1.0 - lumps) - 0.25 * (1.0 - leaves), 0.0, 0.12)
    light = 0.62 + 0.35 * lumps + 0.38 * leaves - 0.45 * (y - 0.4) + 0.16 * (0.5 - x)
    return Sprite(pick(rng, LEAVES, 12) * light, alpha)


def bulge(rng: Random, cloth: Array) -> Sprite:
    """A stuffed rectangle with pulled corners in the cloth that it is given, (3, h, w): shading is all that shows it."""
    height, width = cloth.shape[1:]
    x, y = grid(height, width)
    dx, dy = np.abs(x - 0.5) * 2.0, np.abs(y - 0.5) * 2.0
    # a superellipse whose sides are drawn in between the corners, as a filled pillow's are
    drawn_in = np.maximum(dx * (1.05 + 0.10 * (1.0 - dy**2)), dy * (1.05 + 0.14 * (1.0 - dx**2)))
    reach = 0.45 * drawn_in + 0.55 * (dx**3.6 + dy**3.6) ** (1 / 3.6)
    alpha = smoothstep(reach, 1.0, 1.0 - 5.0 / width)
    crease = cv2.resize(rng.random((4, 6), dtype=np.float32) - 0.5, (width, height), interpolation=cv2.INTER_CUBIC)
    rim = smoothstep(reach, 0.62, 1.0)
    facing = (y - 0.5) * 1.5 + (x - 0.5) * 0.5  # light falls from above and a little from the left
    light = 1.07 - 0.26 * rim * (0.5 + facing) - 0.06 * smoothstep(facing, -0.6, 0.8) + 0.18 * crease
    return Sprite(cloth * light, alpha)
