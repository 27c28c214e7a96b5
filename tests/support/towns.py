"""Small rasters and vectors in the likeness of published satellite data: same types, grids, coordinate systems, vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from pyproj import Transformer
from rasterio.transform import from_origin

from support.rasters import scene, write_raster

CLASSES = ("water", "field", "houses")
COLOURS = {
    "water": (200, 260, 180, 60),
    "field": (300, 480, 340, 900),
    "houses": (620, 640, 700, 560),
}  # blue .. near infrared


def make_town(folder: Path, side: int = 192) -> Path:
    """town/images/{west,east}.tif, town/landuse.gpkg: four float64 bands of 11 bits, UTM 31N with pixels of 1.00005 m,
    and polygons in degrees, drawn by hand: one crosses itself, one has a third dimension. Nobody labelled the south.
    """
    images = folder / "images"
    images.mkdir(parents=True)
    pixel, west, north = 1.00005, 592_000.0, 5_751_000.0
    labels = _land_use(side, 2 * side)
    spectrum = np.array([COLOURS[name] for name in CLASSES], np.float64)
    texture = scene(side, 2 * side, bands=4).astype(np.float64) - 128
    pixels = np.clip(spectrum[labels].transpose(2, 0, 1) + texture / 2, 1, 2047).round()
    for name, left in (("west", 0), ("east", side)):
        write_raster(
            images / f"{name}.tif",
            pixels[:, :, left : left + side],
            crs="EPSG:32631",
            nodata=0,
            tiled=False,
            transform=from_origin(west + left * pixel, north, pixel, pixel),
            photometric="minisblack",
        )
        _name_bands(images / f"{name}.tif")
    right, south, half = west + 2 * side * pixel, north - 0.9 * side * pixel, west + side * pixel
    river = shapely.box(west, north - 0.3 * side * pixel, right, north)
    shapes: list[tuple[Any, str]] = [
        (river, "water"),
        (shapely.box(west, south, right, north - 0.3 * side * pixel), "field"),
    ]
    for column, row in _houses(side, 2 * side):
        x, y = west + column * pixel, north - row * pixel
        size = side / 12 * pixel
        shapes.append((shapely.box(x, y - size, x + size, y), "houses"))
    shapes[-1] = (shapely.force_3d(shapes[-1][0], 12.0), "houses")
    x, y = half, north - 0.15 * side * pixel  # a bow tie in the river
    shapes.append((shapely.Polygon([(x, y), (x + 20, y + 20), (x + 20, y), (x, y + 20)]), "water"))
    _write(folder / "landuse.gpkg", shapes, "EPSG:32631", "EPSG:4326")
    return folder


def write_labelled(folder: Path, side: int = 96) -> Path:
    """images/ and labels/ of two small RGB rasters with three classes: the plain layout of the format "raster"."""
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for number, name in enumerate(("a", "b")):
        write_raster(folder / "images" / f"{name}.tif", scene(side, side, seed=number))
        write_raster(folder / "labels" / f"{name}.tif", _land_use(side, side)[None].astype(np.uint8) + 1)
    return folder


def make_suburb(folder: Path, side: int = 128) -> Path:
    """suburb/pan.tif, suburb/buildings.geojson: 16-bit panchromatic, UTM 16N, 0.5 m, nodata 0; outlines without a class."""
    folder.mkdir(parents=True)
    pixels = scene(side, side, bands=1).astype(np.uint16) * 4
    pixels[:, :, :10] = 0
    write_raster(
        folder / "pan.tif", pixels, crs="EPSG:32616", transform=from_origin(733_000, 3_725_000, 0.5, 0.5), nodata=0
    )
    boxes = [
        (shapely.box(733_000 + x, 3_725_000 - y - 8, 733_000 + x + 8, 3_725_000 - y), "building")
        for x, y in ((10, 5), (40, 20), (20, 44))
    ]
    _write(folder / "buildings.geojson", boxes, "EPSG:32616", "EPSG:32616", field=None)
    return folder


def make_streets(folder: Path, side: int = 128) -> Path:
    """streets/pan.tif, streets/roads.geojson: 16-bit panchromatic in degrees (0.3 m), centre lines."""
    folder.mkdir(parents=True)
    step = 2.7e-6
    left, top = -115.17, 36.24
    write_raster(
        folder / "pan.tif",
        scene(side, side, bands=1).astype(np.uint16) * 8,
        crs="EPSG:4326",
        transform=from_origin(left, top, step, step),
    )
    lines = [
        (shapely.LineString([(left, top - 40 * step), (left + side * step, top - 50 * step)]), "road"),
        (shapely.LineString([(left + 30 * step, top), (left + 40 * step, top - side * step)]), "road"),
    ]
    _write(folder / "roads.geojson", lines, "EPSG:4326", "EPSG:4326", field=None)
    return folder


def _land_use(height: int, width: int) -> np.ndarray:
    labels = np.ones((height, width), np.int64)
    labels[: round(0.3 * height)] = 0
    size = height // 12
    for column, row in _houses(height, width):
        labels[row : row + size, column : column + size] = 2
    return labels


def _houses(height: int, width: int) -> list[tuple[int, int]]:
    step = height // 6
    return [
        (column, row)
        for row in range(round(0.4 * height), height - step, step)
        for column in range(step // 2, width - step, step)
    ]


def _name_bands(path: Path) -> None:
    import rasterio

    with rasterio.open(path, "r+") as file:
        file.descriptions = ("blue", "green", "red", "nir")


def _write(path: Path, shapes: list[tuple[Any, str]], crs: str, target: str, field: str | None = "class") -> None:
    geometries = np.array([shape for shape, _ in shapes], object)
    if crs != target:
        move = Transformer.from_crs(crs, target, always_xy=True)
        heights = shapely.has_z(geometries)
        flat = shapely.transform(geometries, lambda p: np.column_stack(move.transform(p[:, 0], p[:, 1])))
        geometries = np.where(heights, shapely.force_3d(flat, 12.0), flat)
    columns = [np.array([name for _, name in shapes], object)] if field else [np.arange(len(shapes))]
    pyogrio.raw.write(
        path,
        shapely.to_wkb(geometries),
        columns,
        [field or "id"],
        geometry_type="Unknown",
        crs=target,
        driver="GPKG" if path.suffix == ".gpkg" else "GeoJSON",
    )
