"""Labels from vector files: polygons, and lines or points with a width, burned into grids."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import ConfigError, LabelError, RasterError, require
from pspnet.georaster.grids import Grid, turns_of
from pspnet.georaster.ground import widened
from pspnet.georaster.labels import LabelSource, box_text
from pspnet.georaster.vectors import Features, read_features
from pspnet.labels import IGNORE, LabelSpace


class VectorLabels:
    """Polygons (and lines or points with a width) as labels.

    class_field: the field with the class, by name or by code; None: all are `feature_class`. background: the class of
    what no feature covers; None: it is IGNORE. layer: of a file with several. area: polygons inside of which everything was labelled; outside is
    IGNORE. ignored: values of the field that are IGNORE. width_m: diameter of lines and points on the ground, in metres.
    Larger features are burned first, so that a small one on top of a large one is seen.
    """

    def __init__(
        self,
        path: str | Path,
        crs: Any,
        label_space: LabelSpace,
        *,
        class_field: str | None = "class",
        feature_class: str | None = None,
        background: str | None = None,
        area: str | Path | None = None,
        ignored: Sequence[str] = (),
        width_m: float = 0.0,
        layer: str | None = None,
    ) -> None:
        shapely = require("shapely", "raster")
        self.path, self.label_space, self.crs, self.layer = str(path), label_space, crs, layer
        self.background = IGNORE if background is None else label_space.index(background)
        features = read_features(path, crs, None if feature_class else class_field, layer)
        values = (
            np.full(len(features.geometries), label_space.index(feature_class))
            if feature_class is not None
            else _indices(features, label_space, set(ignored), self.path, class_field)
        )
        geometries = _with_width(features.geometries, width_m, crs, self.path)
        order = np.argsort(-shapely.area(geometries), kind="stable")
        self.geometries, self.values = geometries[order], values[order]
        self.area = None if area is None else shapely.union_all(read_features(area, crs).geometries)
        self._trees = threading.local()  # a tree cannot go to another process; it is made again there

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_trees"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _trees=threading.local())

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) of all features."""
        left, bottom, right, top = require("shapely", "raster").total_bounds(self.geometries).tolist()
        return left, bottom, right, top

    def meets(self, grid: Grid, swapped: bool = False) -> bool:
        """Whether a feature lies on the grid, background or not. swapped: if the file's x and y were exchanged."""
        shapely = require("shapely", "raster")
        box = shapely.box(*grid.bounds)
        if not swapped:
            return any(len(self._tree().query(shapely.box(*turn.bounds))) for turn in turns_of(grid))
        try:
            turned = read_features(self.path, self.crs, layer=self.layer, swapped=True)
        except RasterError:  # they lie outside of the Earth so
            return False
        return bool(shapely.intersects(turned.geometries, box).any())

    def touches(self, grid: Grid) -> bool:
        boxes = [require("shapely", "raster").box(*turn.bounds) for turn in turns_of(grid)]
        if self.area is not None and not any(self.area.intersects(box) for box in boxes):
            return False
        return self.background != IGNORE or any(len(self._tree().query(box)) for box in boxes)

    def read(self, grid: Grid) -> NDArray[np.uint8]:
        shape = (grid.height, grid.width)
        labels, inside = np.full(shape, self.background, np.uint8), np.zeros(shape, bool)
        for turn in turns_of(grid):
            self._burn(turn, labels, inside)
        if self.area is not None:
            labels[~inside] = IGNORE
        return labels

    def _burn(self, grid: Grid, labels: NDArray[np.uint8], inside: NDArray[np.bool_]) -> None:
        """Writes the features on a grid into `labels`, and where the labelled area lies into `inside`."""
        shapely, features = require("shapely", "raster"), require("rasterio.features", "raster")
        near = np.sort(self._tree().query(shapely.box(*grid.bounds)))
        if len(near):
            parts = shapely.clip_by_rect(self.geometries[near], *grid.bounds)  # a country's outline need not be walked
            has_area = shapely.area(parts) > 0
            burned = list(zip(parts[has_area], self.values[near][has_area].tolist(), strict=True))
            if burned:
                features.rasterize(burned, out=labels, transform=grid.transform)
        if self.area is not None:
            part = shapely.clip_by_rect(self.area, *grid.bounds)
            if not shapely.is_empty(part):
                inside |= features.geometry_mask([part], labels.shape, grid.transform, invert=True)

    def _tree(self) -> Any:
        if not hasattr(self._trees, "tree"):
            self._trees.tree = require("shapely", "raster").STRtree(self.geometries)
        return self._trees.tree


def _indices(
    features: Features, space: LabelSpace, ignored: set[str], path: str, field: str | None
) -> NDArray[np.int64]:
    """Class indices of field values: names of classes, or their codes."""
    assert features.values is not None
    by_name = {name: index for index, name in enumerate(space.names)} | dict.fromkeys(ignored, IGNORE)
    by_code = {str(code): index for index, code in enumerate(space.codes)} | dict.fromkeys(
        map(str, space.ignored_codes), IGNORE
    )
    indices, unknown = np.zeros(len(features.values), np.int64), dict[str, int]()
    for position, value in enumerate(features.values):
        if value is None:
            indices[position] = IGNORE
            continue
        text = (
            str(int(value))
            if isinstance(value, (int, float, np.number)) and value == value and value == int(value)
            else str(value)
        )
        index = by_name.get(text, by_code.get(text))
        if index is None:
            unknown[text] = unknown.get(text, 0) + 1
        else:
            indices[position] = index
    empty = sum(value is None for value in features.values)
    if empty:
        warnings.warn(
            f"'{path}': {empty} features have no value in the field {field!r}; what they cover counts as unlabelled",
            stacklevel=4,
        )
    if unknown:
        listed = ", ".join(f"{text!r} ({count} features)" for text, count in list(unknown.items())[:5])
        raise LabelError(
            f"'{path}': the field {field!r} has values that no class has: {listed}. Classes: "
            f"{', '.join(space.names)}. Add them to the class table, or name them in ignored"
        )
    return indices


def _with_width(geometries: NDArray[Any], width_m: float, crs: Any, path: str) -> NDArray[Any]:
    """Lines and points as areas; polygons as they are."""
    shapely = require("shapely", "raster")
    flat = shapely.get_dimensions(geometries) < 2
    if not flat.any():
        return geometries
    if width_m <= 0:
        raise ConfigError(
            f"'{path}' holds {int(flat.sum())} lines or points, which have no area: give width_m, their "
            "width on the ground in metres, such as 6 for a road"
        )
    result = geometries.copy()
    result[flat] = widened(geometries[flat], width_m, crs)
    return result


def refuse_missed(rasters: Sequence[tuple[Path, Grid, LabelSource]], files: Sequence[tuple[Path, Path]]) -> None:
    """A vector file of which no feature lies on any of its images: with a background all would be that, without a word."""
    of_file: dict[Path, list[tuple[Path, Grid, VectorLabels]]] = {}
    for (image, grid, source), (_, label) in zip(rasters, files, strict=True):
        if isinstance(source, VectorLabels) and len(source.geometries):
            of_file.setdefault(label, []).append((image, grid, source))
    for label, uses in of_file.items():
        missed = [image for image, grid, source in uses if not source.meets(grid)]
        if len(missed) < len(uses):
            if missed and uses[0][2].background != IGNORE:
                warnings.warn(
                    f"no feature of '{label}' lies on {len(missed)} of {len(uses)} images, such as '{missed[0]}': all of them is "
                    "the background class. Where they were not looked through, say what was: area = FILE of polygons",
                    stacklevel=3,
                )
            continue
        image, grid, source = uses[0]
        hint = (
            "With x and y exchanged they would: the file holds latitude before longitude; write it again, longitude first"
            if any(source.meets(grid, swapped=True) for _, grid, source in uses)
            else "Look at the coordinate systems of both"
        )
        more = f" nor the other {len(uses) - 1} images" if len(uses) > 1 else ""
        raise LabelError(
            f"'{label}' {box_text(source.bounds)} does not overlap '{image}' {box_text(grid.bounds)}{more}: left, bottom, right, "
            f"top, both in the image's coordinate system. {hint}"
        )
