"""Vector files (GeoJSON, GeoPackage, shapefile, File Geodatabase ...): read, repaired, moved to a raster's system.

What cannot be used is left out and counted: features without a geometry, polygons that collapsed to a line. What could be
read in two ways is refused by name: a file of several layers, a field that is not there.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import RasterError, parsing, reason_of, require
from pspnet.files import path_limits
from pspnet.georaster.content import check_vector

VECTOR_SUFFIXES = (".gpkg", ".geojson", ".json", ".shp", ".fgb", ".parquet", ".kml", ".gml", ".gdb", ".sqlite")
# code pages of a .dbf that say nothing: none, "ANSI", and Windows' own that every program writes
_SILENT_CODE_PAGES = (0x00, 0x03, 0x57)


@dataclass(frozen=True)
class Features:
    """geometries: (N,) shapely, two-dimensional and valid, in one CRS. values: (N,) of the field asked for, or None; an
    empty value (NULL, NaN, blank text) is None."""

    geometries: NDArray[Any]
    values: NDArray[Any] | None


def is_vector(path: Path) -> bool:
    """Whether a path is a vector file by its name; a File Geodatabase is a folder."""
    suffix = path.suffix.lower()
    return suffix in VECTOR_SUFFIXES and (path.is_dir() if suffix == ".gdb" else path.is_file())


def read_features(
    path: str | Path,
    crs: Any,
    field: str | None = None,
    layer: str | None = None,
    bounds: tuple[float, float, float, float] | None = None,
    swapped: bool = False,
) -> Features:
    """All features of a layer, in the coordinate system `crs` (a rasterio CRS; None: the raster has none).

    layer: its name; None: the only one there is, or the one that a path "FILE|layername=NAME" (as QGIS writes it) names.
    bounds: only features that touch this box (left, bottom, right, top), in `crs`. swapped: with the file's x and y
    exchanged. Self-intersections are repaired, a
    third dimension is dropped; features without geometry and polygons without area are left out, with a warning that
    counts them. Raises RasterError naming the file: it cannot be read, has several layers or no such field, or has a CRS
    where the raster has none (or the other way round).
    """
    shapely = require("shapely", "raster")
    name = str(path)
    meta, wkb, column = _read(path, field, layer)
    with parsing(name, RasterError, "holds a damaged geometry"):
        geometries = shapely.from_wkb(wkb)
    there = ~(shapely.is_missing(geometries) | shapely.is_empty(geometries))
    _tell(name, int((~there).sum()), "no geometry")
    geometries = geometries[there]
    if swapped:
        geometries = shapely.transform(geometries, lambda points: points[:, ::-1])
    geometries = move(geometries, meta["crs"], crs, name)
    _tell_crossing(geometries, crs, name)
    values = None if column is None else np.array([_value(v) for v in column[there].tolist()], object)
    polygons = shapely.get_dimensions(geometries) == 2
    broken = ~shapely.is_valid(geometries)
    geometries[broken] = shapely.make_valid(geometries[broken])
    mixed = broken & polygons
    geometries[mixed] = [_areas_of(geometry) for geometry in geometries[mixed]]
    is_used = ~polygons | (shapely.area(geometries) > 0)
    _tell(name, int((~is_used).sum()), "no area (its corners lie on a line)")
    if bounds is not None:
        is_used &= shapely.intersects(geometries, shapely.box(*bounds))
    return Features(geometries[is_used], None if values is None else values[is_used])


def field_values(path: str | Path, field: str, layer: str | None = None) -> list[Any]:
    """The values of a field, None where empty, of features that have a geometry. Raises RasterError naming the file."""
    _, wkb, column = _read(path, field, layer)
    assert column is not None
    return [_value(value) for value, shape in zip(column.tolist(), wkb, strict=True) if shape is not None]


def _read(
    path: str | Path, field: str | None, layer: str | None, recode: bool = False
) -> tuple[Any, NDArray[Any], NDArray[Any] | None]:
    """(meta, WKB geometries, values of the field) of one layer. recode: texts' encoding is found out by us."""
    pyogrio, name = require("pyogrio", "raster"), str(path)
    if "|layername=" in name:
        name, layer = name.split("|layername=", 1)
    recode = recode or _silent_encoding(Path(name))
    options = {"encoding": "ISO-8859-1"} if recode else {}
    path_limits.check_with_sidecars(name)
    check_vector(name)
    with _nothing_fetched(pyogrio, Path(name)):
        return _features(pyogrio, name, field, layer, recode, options)


def _features(
    pyogrio: Any, name: str, field: str | None, layer: str | None, recode: bool, options: Mapping[str, str]
) -> tuple[Any, NDArray[Any], NDArray[Any] | None]:
    try:
        layers = [str(one) for one, kind in pyogrio.list_layers(name) if kind is not None]
        if layer is None and len(layers) > 1:
            raise RasterError(
                f"'{name}' holds {len(layers)} layers: {', '.join(layers[:8])}. Name the one to take: layer = "
                f"{layers[0]} (for a file that is named in a setting: {Path(name).name}|layername={layers[0]})"
            )
        if layer is not None and layer not in layers:
            raise RasterError(f"'{name}' has no layer {layer!r}; it has: {', '.join(layers) or 'none with geometries'}")
        layer = layer or (layers[0] if layers else None)
        stored = [str(text) for text in pyogrio.read_info(name, layer=layer, **options)["fields"]]
        fields = [_recoded(text) if recode else text for text in stored]
        if field is not None and field not in fields:
            raise RasterError(f"'{name}' has no field {field!r}; it has: {', '.join(fields) or 'none'}")
        columns = [] if field is None else [stored[fields.index(field)]]
        meta, _, wkb, field_values = pyogrio.raw.read(name, layer=layer, columns=columns, force_2d=True, **options)
    except UnicodeDecodeError as error:
        if recode or not name.lower().endswith(".shp"):
            raise RasterError(f"'{name}' holds text in another encoding than it says: {error}") from error
        return _read(name, field, layer, recode=True)  # its .cpg does not tell the truth
    except RasterError:
        raise
    except Exception as error:  # whatever a strange file makes GDAL's drivers raise
        raise RasterError(f"'{name}' cannot be read as a vector file: {reason_of(error)}") from error
    if wkb is None:
        raise RasterError(f"'{name}' is a table without geometries")
    if field is None:
        return meta, wkb, None
    column = field_values[0]
    if recode and column.dtype == object:
        column = np.array([_recoded(value) if isinstance(value, str) else value for value in column], object)
    return meta, wkb, column


@contextmanager
def _nothing_fetched(pyogrio: Any, path: Path) -> Iterator[None]:
    """A .gml asks no server for its schema, and no .gfs that GDAL writes beside it stays."""
    if path.suffix.lower() != ".gml":
        yield
        return
    notes, fetches = path.with_suffix(".gfs"), pyogrio.get_gdal_config_option("GML_DOWNLOAD_SCHEMA")
    known = notes.exists()
    pyogrio.set_gdal_config_options({"GML_DOWNLOAD_SCHEMA": False})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({"GML_DOWNLOAD_SCHEMA": fetches})
        if not known:
            notes.unlink(missing_ok=True)


def _silent_encoding(path: Path) -> bool:
    """A shapefile that does not say how its texts are encoded: no .cpg, and a code page in the .dbf that says nothing."""
    table = path.with_suffix(".dbf")
    if path.suffix.lower() != ".shp" or path.with_suffix(".cpg").exists() or not table.is_file():
        return False
    with table.open("rb") as file:
        head = file.read(30)
    return len(head) == 30 and head[29] in _SILENT_CODE_PAGES


def _recoded(text: str) -> str:
    """Bytes that were read one by one (ISO-8859-1), as UTF-8 where they are that, else as Windows-1252. Text of another
    encoding is hardly ever valid UTF-8 by chance: each accented letter would have to be a lead byte and its followers."""
    raw = text.encode("latin-1", errors="replace")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")


def _value(value: Any) -> Any:
    """A field's value, None where it is empty."""
    if (
        value is None
        or (isinstance(value, float) and np.isnan(value))
        or (isinstance(value, str) and not value.strip())
    ):
        return None
    return value.strip() if isinstance(value, str) else value


def _areas_of(geometry: Any) -> Any:
    """The polygons of what a repair made of a polygon; its lines and points have no pixel."""
    shapely = require("shapely", "raster")
    parts = [part for part in shapely.get_parts(geometry) if shapely.get_dimensions(part) == 2]
    return shapely.union_all(parts) if parts else shapely.Polygon()


def _tell(name: str, count: int, what: str) -> None:
    if count:
        warnings.warn(f"'{name}': {count} feature{'s have' if count > 1 else ' has'} {what}; left out", stacklevel=4)


def _tell_crossing(geometries: NDArray[Any], crs: Any, name: str) -> None:
    """Warns of features that span more than half of the Earth: drawn from 179 to -179, one covers all but two degrees."""
    shapely = require("shapely", "raster")
    if crs is None or not (crs.is_geographic or crs.is_projected) or not len(geometries):
        return
    parts, of = shapely.get_parts(geometries, return_index=True)  # cut at 180 degrees, its two halves are no fault
    boxes = shapely.bounds(parts)
    half = np.pi / crs.units_factor[1] if crs.is_geographic else 20_037_508 / crs.linear_units_factor[1]
    wide = len(np.unique(of[boxes[:, 2] - boxes[:, 0] > half]))
    if wide:
        warnings.warn(
            f"'{name}': {wide} feature{'s reach' if wide > 1 else ' reaches'} more than half around the Earth and count as drawn. "
            "If they cross 180 degrees of longitude, cut them there first: ogr2ogr -wrapdateline -t_srs EPSG:4326 OUT IN",
            stacklevel=4,
        )


def move(geometries: NDArray[Any], source: Any, target: Any, name: str) -> NDArray[Any]:
    """Geometries from one coordinate system to another. Raises RasterError where only one of the two is known."""
    shapely, pyproj = require("shapely", "raster"), require("pyproj", "raster")
    if target is None or source is None:
        if (target is None) != (source is None):
            known, unknown = ("it has", "the raster has none") if target is None else ("it has none", "the raster has")
            raise RasterError(
                f"'{name}' cannot be placed on the raster: of a coordinate system, {known}, {unknown}. "
                "Give the other one its coordinate system first"
            )
        return geometries
    problem = f"has {source!r}, which is no coordinate system that is known"
    with parsing(name, RasterError, problem, "Give a code such as EPSG:4326"):
        before, after = pyproj.CRS.from_user_input(source), pyproj.CRS.from_user_input(_wkt(target))
    if before.equals(after, ignore_axis_order=True):
        return geometries
    problem = f"is in {before.name!r}, which cannot be brought to the raster's {after.name!r}"
    with parsing(name, RasterError, problem, "A local system goes with rasters of the same system only"):
        transformer = pyproj.Transformer.from_crs(before, after, always_xy=True)

    def transform(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(transformer.transform(points[:, 0], points[:, 1]))

    moved = shapely.transform(geometries, transform)
    lost = ~np.isfinite(shapely.bounds(moved)).all(axis=1) & ~shapely.is_empty(geometries)
    if lost.any():
        raise RasterError(f"'{name}': {int(lost.sum())} geometries lie outside of what {after.name!r} can show")
    return moved


def _wkt(crs: Any) -> Any:
    """A rasterio CRS as text that pyproj reads; anything else as it is."""
    return crs.to_wkt() if type(crs).__module__.startswith("rasterio") else crs
