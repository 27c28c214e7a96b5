"""Labels of a raster: another raster or a vector file, in any coordinate system, resolution and extent.

Both answer one question: which label has each pixel of a grid? A label raster is sampled at the pixels' centres; a
vector file is burned. What lies outside of it, or where it has no data, is IGNORE.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import ConfigError, LabelError, RasterError, require
from pspnet.georaster.grids import Grid, OpenRasters, grid_of
from pspnet.georaster.vectors import Features, read_features
from pspnet.label_images import Holds, LabelPicture, labels_of, whole_numbers
from pspnet.labels import IGNORE, LabelSpace
from pspnet.tiling import Window


class LabelSource(Protocol):
    """Labels that lie somewhere on the Earth, in the file `path`."""

    path: str
    label_space: LabelSpace

    def read(self, grid: Grid) -> NDArray[np.uint8]:
        """(grid.height, grid.width) labels 0..K-1 and IGNORE. Raises LabelError for codes without a class."""
        ...

    def touches(self, grid: Grid) -> bool:
        """Whether a label may lie on the grid; told without reading pixels."""
        ...


class RasterLabels:
    """A raster as labels. The nearest label pixel's value counts: labels are never mixed.

    holds: one band of the class table's codes, or its colours (three bands, or one with a palette).
    """

    def __init__(self, path: str | Path, label_space: LabelSpace, holds: Holds = "codes") -> None:
        self.path, self.label_space, self.holds, self._open = str(path), label_space, holds, OpenRasters()
        dataset = self._open.get(self.path)
        self.grid = grid_of(dataset)
        kinds = {np.dtype(kind).kind for kind in dataset.dtypes}
        if not kinds <= set("iubf"):
            raise LabelError(f"'{self.path}' holds {dataset.dtypes[0]} values; labels are whole numbers")

    def touches(self, grid: Grid) -> bool:
        return _meet(bounds_in(self.grid, grid.crs, self.path), grid.bounds)

    def read(self, grid: Grid) -> NDArray[np.uint8]:
        rasterio = require("rasterio", "raster")
        try:
            dataset = self._open.get(self.path)
            if grid.crs == self.grid.crs:
                values, known = _sampled(dataset, self.grid, grid)
            else:
                _same_kind(self.grid, grid, self.path)
                vrt = require("rasterio.vrt", "raster")
                with vrt.WarpedVRT(
                    dataset,
                    crs=grid.crs,
                    transform=grid.transform,
                    width=grid.width,
                    height=grid.height,
                    add_alpha=True,
                ) as warped:
                    values, known = warped.read(list(range(1, dataset.count + 1))), warped.dataset_mask() > 0
        except rasterio.errors.RasterioIOError as error:
            raise LabelError(f"'{self.path}' cannot be read: {error.__cause__ or error}. Copy it again") from error
        labels = np.full(known.shape, IGNORE, np.uint8)
        if known.any():
            picture = label_picture(dataset, values[:, known][:, None], self.path)
            labels[known] = labels_of(picture, self.label_space, self.holds, self.path)[0]
        return labels


def label_picture(dataset: Any, values: NDArray[Any], path: str) -> LabelPicture:
    """(bands, h, w) values of a raster as a label picture: one band of codes, with its palette, or three of colours; a
    further band is alpha. Raises LabelError for another number of bands, and for fractions."""
    if values.dtype.kind == "f":
        values = whole_numbers(values, path)
    kinds = [kind.name for kind in dataset.colorinterp]
    alpha = values[kinds.index("alpha")].astype(np.uint8) if "alpha" in kinds else None
    plain = values[[i for i, kind in enumerate(kinds) if kind != "alpha"]]
    if len(plain) == 1:
        palette = None
        if kinds[0] == "palette":
            colours = dataset.colormap(1)
            palette = np.array([colours.get(i, (0, 0, 0))[:3] for i in range(max(colours) + 1)], np.uint8)
        return LabelPicture(plain[0], alpha, palette)
    if len(plain) != 3:
        raise LabelError(
            f"'{path}' has {len(plain)} bands; labels are one band of codes, or three of colours. Is it an image?"
        )
    return LabelPicture(plain.transpose(1, 2, 0), alpha)


def _sampled(dataset: Any, own: Grid, grid: Grid) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """(bands, h, w) values under the centres of a grid in the same coordinate system, and where there are any."""
    rows, columns = np.mgrid[: grid.height, : grid.width]
    # a centre that lies on a border between two label pixels up to rounding belongs to the one after it, everywhere
    x, y = own.to_pixels(*grid.to_map(columns + 0.5, rows + 0.5))
    columns, rows = np.floor(x + 1e-6).astype(np.int64), np.floor(y + 1e-6).astype(np.int64)
    known = (rows >= 0) & (rows < own.height) & (columns >= 0) & (columns < own.width)
    values: NDArray[Any] = np.zeros((dataset.count, *known.shape), dataset.dtypes[0])
    if not known.any():
        return values, known
    top, left = int(rows[known].min()), int(columns[known].min())
    place = Window(top, left, int(rows[known].max()) - top + 1, int(columns[known].max()) - left + 1)
    around = ((place.top, place.bottom), (place.left, place.right))
    at = rows[known] - top, columns[known] - left
    values[:, known] = dataset.read(window=around)[:, at[0], at[1]]
    known[known] = dataset.read_masks(1, window=around)[at] > 0
    return values, known


class VectorLabels:
    """Polygons (and lines or points with a width) as labels.

    class_field: the field with the class, by name or by code; None: all are `feature_class`. background: the class of
    what no feature covers; None: it is IGNORE. area: polygons inside of which everything was labelled; outside is
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
        self.path, self.label_space, self.crs = str(path), label_space, crs
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

    def touches(self, grid: Grid) -> bool:
        box = require("shapely", "raster").box(*grid.bounds)
        if self.area is not None and not self.area.intersects(box):
            return False
        return self.background != IGNORE or bool(len(self._tree().query(box)))

    def read(self, grid: Grid) -> NDArray[np.uint8]:
        shapely, features = require("shapely", "raster"), require("rasterio.features", "raster")
        box, shape = shapely.box(*grid.bounds), (grid.height, grid.width)
        labels = np.full(shape, self.background, np.uint8)
        near = np.sort(self._tree().query(box))
        if len(near):
            parts = shapely.clip_by_rect(self.geometries[near], *grid.bounds)  # a country's outline need not be walked
            kept = shapely.area(parts) > 0
            burned = list(zip(parts[kept], self.values[near][kept].tolist(), strict=True))
            if burned:
                features.rasterize(burned, out=labels, transform=grid.transform)
        if self.area is not None:
            inside = shapely.clip_by_rect(self.area, *grid.bounds)
            outside = (
                np.ones(shape, bool)
                if shapely.is_empty(inside)
                else features.geometry_mask([inside], shape, grid.transform)
            )
            labels[outside] = IGNORE
        return labels

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
    found, unknown = np.zeros(len(features.values), np.int64), dict[str, int]()
    for place, value in enumerate(features.values):
        text = (
            str(int(value))
            if isinstance(value, (int, float, np.number)) and value == value and value == int(value)
            else str(value)
        )
        index = by_name.get(text, by_code.get(text))
        if index is None:
            unknown[text] = unknown.get(text, 0) + 1
        else:
            found[place] = index
    if unknown:
        listed = ", ".join(f"{text!r} ({count} features)" for text, count in list(unknown.items())[:5])
        raise LabelError(
            f"'{path}': the field {field!r} has values that no class has: {listed}. Classes: "
            f"{', '.join(space.names)}. Add them to the class table, or name them in ignored"
        )
    return found


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
    if crs is None or not crs.is_geographic:
        unit = 1.0 if crs is None else crs.linear_units_factor[1]
        result[flat] = shapely.buffer(geometries[flat], width_m / 2 / unit)
        return result
    # a degree is shorter from west to east: widen in a plane where both are metres at the feature's latitude
    for place in np.flatnonzero(flat):
        north = 111_320.0  # metres of a degree of latitude
        east = north * max(np.cos(np.radians(shapely.bounds(geometries[place])[[1, 3]].mean())), 1e-3)
        scale = np.array([east, north])
        wide = shapely.buffer(shapely.transform(geometries[place], lambda p, s=scale: p * s), width_m / 2)
        result[place] = shapely.transform(wide, lambda p, s=scale: p / s)
    return result


def bounds_in(grid: Grid, crs: Any, name: str) -> tuple[float, float, float, float]:
    """A grid's bounds in another coordinate system."""
    if grid.crs == crs:
        return grid.bounds
    _same_kind(grid, Grid(crs, grid.transform, 1, 1), name)
    warp = require("rasterio.warp", "raster")
    left, bottom, right, top = warp.transform_bounds(grid.crs, crs, *grid.bounds)
    return left, bottom, right, top


def _same_kind(one: Grid, two: Grid, name: str) -> None:
    if (one.crs is None) != (two.crs is None):
        known, unknown = ("has one", "image has none") if two.crs is None else ("has none", "image has one")
        raise RasterError(
            f"'{name}' cannot be placed on its image: of a coordinate system, it {known}, the {unknown}. "
            "Give both the same"
        )


def _meet(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
