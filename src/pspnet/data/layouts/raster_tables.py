"""What rasters say about themselves: the classes in their labels, and each band's mean, deviation and range."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import ConfigError, DataError, require
from pspnet.files import keep_note, read_note
from pspnet.georaster.grids import BandReader, colours_of, open_raster
from pspnet.georaster.labels import label_picture
from pspnet.georaster.vectors import field_values, is_vector
from pspnet.images.label_images import Holds, codes_of
from pspnet.labels import IGNORE, MAX_CLASSES, LabelSpace, read_classes
from pspnet.tiling import Window, windows

MANY_CODES = 40  # without names: more often numbers of objects than of classes
PLACES, PLACE_PX = 5, 256  # windows along each side of a raster that its bands are measured on, and their size


@dataclass(frozen=True)
class BandStatistics:
    """mean, std, low, high: (bands,) of the pixels with data, in the bands' own units. pixels: how many were looked at."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    pixels: int


def band_statistics(images: Sequence[Path], indexes: Sequence[Sequence[int]], nodata: float | None) -> BandStatistics:
    """indexes: the band numbers of each image. Measured once on windows spread over the rasters, then kept in the cache
    (`pspnet.files.cache`): opening a data set writes nothing into it.

    A raster that changed is measured again. Raises DataError where no window holds data.
    """
    parts = []
    for folder in dict.fromkeys(image.parent for image in images):
        note = f"bands-{hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:24]}.json"
        known = read_note(note)
        fresh = {}
        for image, numbers in zip(images, indexes, strict=True):
            if image.parent != folder:
                continue
            state = image.stat()
            key = f"{image.name} {state.st_size} {state.st_mtime_ns} {list(numbers)} {nodata}"
            fresh[key] = known[key] if key in known else _measure(image, numbers, nodata)
            parts.append(np.array(fresh[key], np.float64))
        if not fresh.keys() <= known.keys():
            keep_note(note, {**known, **fresh})
    with_data = [part for part in parts if part[0, 0] > 0]
    if not with_data:
        raise DataError(
            f"'{images[0]}' ({len(images)} images): no pixel with data was found where the bands are measured. "
            "Look at the files' nodata value"
        )
    count, sums, squares = (np.sum([part[row] for part in with_data], axis=0) for row in range(3))
    mean = sums / count
    # float64 sums of squares: exact enough below 2^26 grey levels, where their difference still has digits
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    low = np.min([part[3] for part in with_data], axis=0)
    high = np.max([part[4] for part in with_data], axis=0)
    return BandStatistics(
        tuple(mean.tolist()), tuple(std.tolist()), tuple(low.tolist()), tuple(high.tolist()), int(count[0])
    )


def _measure(image: Path, indexes: Sequence[int], nodata: float | None) -> list[list[float]]:
    """Rows: count, sum, sum of squares, least, greatest; a column for each band."""
    count = len(indexes)
    moments = np.zeros((5, count))
    moments[3], moments[4] = np.inf, -np.inf
    with open_raster(str(image)) as dataset:
        reader = BandReader(dataset, indexes, [0.0] * count, nodata)
        height, width = min(PLACE_PX, dataset.height), min(PLACE_PX, dataset.width)
        rows = np.unique(np.linspace(0, dataset.height - height, PLACES).astype(int)).tolist()
        columns = np.unique(np.linspace(0, dataset.width - width, PLACES).astype(int)).tolist()
        for window in (Window(row, column, height, width) for row in rows for column in columns):
            for pixels, valid in _readable(reader, window):
                values = (pixels if valid is None else pixels[:, valid]).reshape(count, -1).astype(np.float64)
                if values.shape[1]:
                    moments[:3] += [np.full(count, values.shape[1]), values.sum(axis=1), (values**2).sum(axis=1)]
                    moments[3] = np.minimum(moments[3], values.min(axis=1))
                    moments[4] = np.maximum(moments[4], values.max(axis=1))
    if not moments[0, 0]:
        moments[3:] = 0
    return moments.tolist()


def _readable(reader: BandReader, window: Window) -> Iterator[tuple[NDArray[Any], NDArray[np.bool_] | None]]:
    """A window, or those of its 8 x 8 parts that can be decoded: the doctor reports the rest, with its sample."""
    errors = require("rasterio.errors", "raster")
    try:
        yield reader.read(window)
        return
    except errors.RasterioIOError:
        parts = windows(window.height, window.width, (-(-window.height // 8), -(-window.width // 8)))
    for part in parts:
        with suppress(errors.RasterioIOError):
            yield reader.read(Window(window.top + part.top, window.left + part.left, part.height, part.width))


def classes_of(
    files: Sequence[Path],
    base: Path,
    classes: str | Path | None,
    class_field: str,
    layer: str | None,
    feature_class: str | None,
    background: str | None,
    ignored: Sequence[str],
    holds: Holds = "codes",
) -> LabelSpace:
    """The class table: the one given, classes.csv in `base`, or what the label files hold, in sorted order.

    holds: what label rasters hold. Raises ConfigError where a table is needed: too many values, none, or colours.
    """
    if classes is not None:
        inside = base / str(classes)
        return read_classes(inside if inside.is_file() else classes)
    if (base / "classes.csv").is_file():
        return read_classes(base / "classes.csv")
    if holds == "colours":
        raise ConfigError(f"decode = colours: '{base}' has no classes.csv that says which colour is which class")
    if feature_class is not None:
        return LabelSpace(tuple(dict.fromkeys([*([background] if background else []), feature_class])))
    names: dict[str, None] = {background: None} if background else {}
    codes: dict[int, str] = {}
    colours: dict[int, tuple[int, int, int]] = {}
    for path in dict.fromkeys(files):
        if not is_vector(path):
            _codes(path, codes, colours)
        else:
            values = field_values(path, class_field, layer)
            names |= dict.fromkeys(sorted({_text(v) for v in values if v is not None} - set(ignored)))
    codes = _without_255(codes, base)
    if codes and names:
        raise ConfigError(
            f"'{base}' has label rasters and label vectors: write a classes.csv that says which code is which class"
        )
    if not codes and not names:
        raise ConfigError(f"'{base}': no label holds a class; write a classes.csv, or look at the labels")
    if max(len(codes), len(names)) > MAX_CLASSES:
        raise ConfigError(
            f"'{base}': the labels hold {max(len(codes), len(names))} different values; is {class_field!r} "
            "the field with the class, and are the label rasters no photographs?"
        )
    if names:
        return LabelSpace(tuple(names))
    order = sorted(codes)
    if len(order) > MANY_CODES and all(codes[code] == f"class_{code}" for code in order):
        warnings.warn(
            f"'{base}': the labels hold {len(order)} different values, and no class table names them: are they numbers of objects "
            "(instances)? Each becomes a class. Write a classes.csv",
            stacklevel=3,
        )
    shown = tuple(colours[code] for code in order) if all(code in colours for code in order) else ()
    if len(set(shown)) < len(shown):
        shown = ()
    return LabelSpace(tuple(codes[code] for code in order), shown, tuple(order), (IGNORE,))


def _codes(path: Path, codes: dict[int, str], colours: dict[int, tuple[int, int, int]]) -> None:
    """Values of a label raster with data, their names and colours where the file has them."""
    with open_raster(str(path)) as dataset:
        palette = dataset.colormap(1) if colours_of(dataset)[0] == "palette" else {}
        names = json.loads(dataset.tags().get("CLASSES", "{}"))
        for _, window in dataset.block_windows(1):
            known = dataset.read_masks(1, window=window) > 0
            picture = label_picture(dataset, dataset.read(window=window)[:, known][:, None], str(path))
            for code in np.unique(codes_of(picture, str(path))).tolist():
                if code not in codes:
                    codes[code] = str(names.get(str(code), f"class_{code}"))
                    if code in palette:
                        colours[code] = tuple(palette[code][:3])
            if len(codes) > MAX_CLASSES + 1:
                return


def _without_255(codes: dict[int, str], base: Path) -> dict[int, str]:
    """Codes that are classes where no table says so: 255 is one of a mask of two values, else it is ignored, with a word."""
    if IGNORE not in codes or codes[IGNORE] != f"class_{IGNORE}":
        return codes
    others = {code: name for code, name in codes.items() if code != IGNORE}
    if len(others) < 2:  # a mask: 255 is what it shows
        return codes
    warnings.warn(
        f"'{base}': the labels hold 255 beside {len(others)} other values, and no class table says what it is: it is "
        "ignored. Write a classes.csv, with the row 255,NAME,red,green,blue if it is a class",
        stacklevel=4,
    )
    return others


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, (float, np.floating)) and value == int(value) else str(value)
