"""Ground that is trained on and scored on: tiles that overlap, two dates of one place, two exports of one town."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.data.class_faults import some
from pspnet.data.dataset import Dataset, Ground
from pspnet.data.faults import Fault
from pspnet.errors import RasterError, require
from pspnet.georaster.grids import Grid
from pspnet.georaster.vectors import move

_LEAST = 0.001  # share of the scored ground below which a common border is meant


def shared_ground(split: str, scored: Dataset, other: str, trained: Dataset) -> list[Fault]:
    """A fault where some of the ground of `scored` belongs to `trained` too; nothing where either has no place."""
    ours, theirs = scored.ground(), trained.ground()
    if not ours or not theirs:
        return []
    shapely, crs = require("shapely", "raster"), ours[0][1].crs
    try:
        areas, known = _areas(ours, crs), _areas(theirs, crs)
    except RasterError:  # one has no coordinate system: nobody knows
        return []
    tree, shares = shapely.STRtree(known), np.zeros(len(areas))
    for index, area in enumerate(areas):
        near = tree.query(area)
        if len(near):
            shares[index] = shapely.area(shapely.intersection(area, shapely.union_all(known[near]))) / shapely.area(
                area
            )
    share = float(np.average(shares, weights=shapely.area(areas)))
    if share < _LEAST:
        return []
    names = list(dict.fromkeys(ours[index][0] for index in np.flatnonzero(shares > _LEAST).tolist()))
    return [
        Fault(
            "warning",
            "ground",
            names[0],
            f"{share:.0%} of the ground of {split} is trained on too ({other}), also where the pictures differ: {some(names)}",
            "Divide by place, not by file or date: a score on ground that was trained on is too high",
        )
    ]


def _areas(ground: Sequence[Ground], crs: Any) -> NDArray[Any]:
    outlines = np.array([_outline(grid) for _, grid in ground], object)
    for system in {grid.crs for _, grid in ground} - {crs}:
        which = np.array([grid.crs == system for _, grid in ground])
        outlines[which] = move(
            outlines[which], None if system is None else system.to_wkt(), crs, ground[int(which.argmax())][0]
        )
    return outlines


def _outline(grid: Grid) -> Any:
    xs, ys = grid.to_map([0, grid.width, grid.width, 0], [0, 0, grid.height, grid.height])
    return require("shapely", "raster").Polygon(list(zip(xs, ys, strict=True)))
