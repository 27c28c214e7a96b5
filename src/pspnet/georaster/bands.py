"""Which band is which: what a file says of its bands, and the one place where bands are found again by name.

A model was trained on bands of files; other files give other names to the same bands, or the same number to another
band. `find_bands` is the only way from a model's bands to a file's: it takes what the names say, falls back on numbers
where the file says nothing, and refuses what contradicts. Red taken for blue is a wrong map that looks like a right one.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from pspnet.errors import RasterError, require
from pspnet.georaster.band_words import NUMBERED, meanings_of
from pspnet.georaster.grids import BandReader, colours_of, is_lossy
from pspnet.images.opacity import is_measured
from pspnet.tiling import Window

_LOOKED_PX = 256
_BLANK = 0.1  # share of pixels of 0 in all bands that no picture has by itself
RGB = ("red", "green", "blue")
OF_PHOTOGRAPHS = {1: ("grey",), 3: RGB, 4: (*RGB, "alpha")}  # by the number of channels
_CENTRAL = re.compile(r", central wavelength .*")  # "B4, central wavelength 665 nm": GDAL on Sentinel-2's products
_COLOURS = ("red", "green", "blue", "pan", "coastal", "rededge", "nir", "swir", "mwir", "lwir", "tir")  # GDAL's


@dataclass(frozen=True)
class BandInfo:
    """What a raster says of its bands. names: lower case, "" where it says nothing. alpha: numbers of alpha bands.

    dtypes, scales, offsets: of each band. palette: band 1 holds indices into a colour table, not brightness.
    """

    path: str
    names: tuple[str, ...]
    alpha: tuple[int, ...]
    dtypes: tuple[str, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    palette: bool

    @classmethod
    def of(cls, dataset: Any) -> BandInfo:
        """Of an open rasterio dataset. Raises RasterError for a container of several rasters, which has no band, and for
        complex numbers, of which no network knows what to make."""
        colours = colours_of(dataset)
        if not colours:
            inside = ", ".join(dataset.subdatasets)
            raise RasterError(
                f"'{dataset.name}' holds several rasters and no band of its own; name one of them: {inside}"
                if inside
                else f"'{dataset.name}' holds no band"
            )
        if any(kind.startswith("complex") for kind in dataset.dtypes):
            raise RasterError(f"'{dataset.name}' holds complex numbers; write its amplitude to a real raster first")
        if dataset.subdatasets:
            inside = ", ".join(dataset.subdatasets[:4])
            warnings.warn(
                f"'{dataset.name}' holds several rasters, and the first is read. Name another: {inside}", stacklevel=3
            )
        descriptions = [_CENTRAL.sub("", (text or "").strip().lower()) for text in dataset.descriptions]
        given = [text for text in descriptions if text]
        if len(set(given)) < len(given):  # one text for several bands tells none apart
            descriptions = [""] * len(descriptions)
        names = [
            text or (colour if colour in _COLOURS else "") for text, colour in zip(descriptions, colours, strict=True)
        ]
        if any(names.count(name) > 1 for name in names if name):
            names = descriptions
        alpha = tuple(i for i, colour in enumerate(colours, start=1) if colour == "alpha")
        return cls(
            dataset.name,
            tuple(names),
            alpha,
            tuple(dataset.dtypes),
            tuple(dataset.scales),
            tuple(dataset.offsets),
            colours[0] == "palette",
        )

    @classmethod
    def of_photograph(cls, path: str) -> BandInfo:
        """Of an image file that `images.read_image` gives as RGB."""
        return cls(path, RGB, (), ("uint8",) * 3, (1.0,) * 3, (0.0,) * 3, False)

    @property
    def count(self) -> int:
        return len(self.names)

    @property
    def plain(self) -> tuple[int, ...]:
        """Numbers of the bands that are not alpha."""
        return tuple(i for i in range(1, self.count + 1) if i not in self.alpha)

    def chosen(self, numbers: Sequence[int]) -> tuple[str, ...]:
        """Names of some bands; `band_N` (N: the number in the file) where the file gives none."""
        return tuple(self.names[n - 1] or f"band_{n}" for n in numbers)

    def differences(self, other: BandInfo, numbers: Sequence[int]) -> list[str]:
        """Why pixels of `other` cannot be compared with this file's, as sentences' parts; empty where nothing is known."""
        differences = []
        for what, ours, theirs in (
            ("type", self.dtypes, other.dtypes),
            ("scale", self.scales, other.scales),
            ("offset", self.offsets, other.offsets),
        ):
            mine, its = ([values[n - 1] for n in numbers if n <= len(values)] for values in (ours, theirs))
            if mine != its:
                differences.append(f"{what} {_listed(its)} instead of {_listed(mine)}")
        if self.palette != other.palette:
            differences.append("a palette" if other.palette else "no palette")
        return differences


def alpha_doubt(dataset: Any) -> str:
    """Why a raster's alpha band may be no opacity, by the middle of the raster; "" where it is, or there is none."""
    alpha = [i for i, colour in enumerate(colours_of(dataset), start=1) if colour == "alpha"]
    if not alpha:
        return ""
    height, width = min(_LOOKED_PX, dataset.height), min(_LOOKED_PX, dataset.width)
    top, left = (dataset.height - height) // 2, (dataset.width - width) // 2
    with suppress(require("rasterio.errors", "raster").RasterioError):
        if is_measured(dataset.read(alpha[-1], window=((top, top + height), (left, left + width)))):
            return (
                f"calls band {alpha[-1]} opacity (alpha), and it holds many values: pixels where it is 0 count as empty, and it "
                f"is left out of the bands. If it is near infrared, name the bands (bands=[1,2,3,{alpha[-1]}]) and say so in "
                f"the file: gdal_edit -colorinterp_{alpha[-1]} undefined FILE"
            )
    return ""


def gap_doubts(dataset: Any, numbers: Sequence[int], nodata: float | None = None) -> list[str]:
    """Why a raster's gaps may not be told from its data, by nine windows: many pixels of 0 in all bands that nothing calls
    'no data', or a nodata value in a file whose compression alters values."""
    reader = BandReader(dataset, numbers, [0.0] * len(numbers), nodata)
    if is_lossy(dataset) and any(value is not None for value in reader.nodata):
        return [
            "has a nodata value and a compression that alters values (JPEG): pixels near its border are almost that value, and "
            "count as data. Give it a mask: nearblack -setmask IN -o OUT.tif"
        ]
    if reader.has_gaps:
        return []
    side, blank, looked = _LOOKED_PX // 2, 0, 0
    height, width = min(side, dataset.height), min(side, dataset.width)
    for top in np.linspace(0, dataset.height - height, 3).astype(int).tolist():
        for left in np.linspace(0, dataset.width - width, 3).astype(int).tolist():
            with suppress(require("rasterio.errors", "raster").RasterioError):
                pixels, _ = reader.read(Window(top, left, height, width))
                blank += int((pixels == 0).all(axis=0).sum())
                looked += pixels[0].size
    if blank <= _BLANK * looked:
        return []
    return [
        f"holds 0 in all bands in some {blank / looked:.0%} of its pixels and does not call it 'no data': is that a black collar? "
        "Then say so: gdal_edit -a_nodata 0 FILE, or nodata = 0"
    ]


def find_bands(
    info: BandInfo, names: Sequence[str], numbers: Sequence[int] = (), wanted: Sequence[int] | None = None
) -> tuple[int, ...]:
    """Numbers of a file's bands, in the order of a model's.

    names, numbers: of the bands that the model was trained on, in its files (numbers may be unknown). wanted: what the
    user says; it is only checked. By name in any spelling, B02, B03, B04 of Sentinel-2 and Landsat too; a name `band_N`
    means number N. A file that names no band is read by number, with a warning. Raises RasterError where a band is
    missing, or the file's names say that it is not there.
    """
    listed = ", ".join(names)
    if wanted is not None:
        if len(wanted) != len(names):
            raise RasterError(
                f"bands = {tuple(wanted)} names {len(wanted)} bands; the model reads {len(names)}: {listed}"
            )
        if max(wanted) > info.count or min(wanted) < 1:
            raise RasterError(f"'{info.path}' has no band {max(wanted)}, only 1 to {info.count}")
        return tuple(wanted)
    if info.palette:
        raise RasterError(
            f"'{info.path}' has one band of indices into a palette, which are no brightness: "
            f"gdal_translate -expand rgb makes it three bands. The model reads {len(names)}: {listed}"
        )
    if len(info.plain) < len(names):
        raise RasterError(
            f"'{info.path}' has {len(info.plain)} band{'s' * (len(info.plain) != 1)} besides alpha; the model reads "
            f"{len(names)}: {listed}"
        )
    exact = [info.names.index(name) + 1 if name and name in info.names else 0 for name in map(str.lower, names)]
    if all(exact):
        return tuple(exact)
    numbered = [NUMBERED.fullmatch(name.lower()) for name in names]
    if all(numbered):
        found_numbers = tuple(int(match[1]) for match in numbered if match)
        if max(found_numbers) > info.count or set(found_numbers) & set(info.alpha):
            raise RasterError(
                f"'{info.path}' has the bands 1 to {info.count}; the model reads {listed}: give bands=..."
            )
        said = [name for n in found_numbers if (name := info.names[n - 1]) and not NUMBERED.fullmatch(name)]
        if said and numbers:  # trained on files that named nothing; who names numbers by hand knows what they mean
            warnings.warn(
                f"the model knows its bands by their numbers alone ({listed}), and '{info.path}' calls them {', '.join(said)}. Make "
                "sure that they stood in this order in training; else give bands=... with their numbers",
                stacklevel=4,
            )
        return found_numbers
    there = meanings_of(info.names, names)
    needed = meanings_of(names, info.names)
    if any(info.names[n - 1] and not NUMBERED.fullmatch(info.names[n - 1]) for n in info.plain):
        missing = [
            name for name, meaning in zip(names, needed, strict=True) if not meaning or there.count(meaning) != 1
        ]
        if missing:
            bands = ", ".join(f"{n} {info.names[n - 1] or '(no name)'}" for n in info.plain)
            raise RasterError(
                f"'{info.path}' has no band that is surely {' or '.join(missing)}; it has {bands}. The model reads "
                f"{listed}. Give bands=... with their numbers in this order"
            )
        return tuple(there.index(meaning) + 1 for meaning in needed)
    return _by_number(info, names, numbers)


def _by_number(info: BandInfo, names: Sequence[str], numbers: Sequence[int]) -> tuple[int, ...]:
    """The bands of a file that names none: those with the trained numbers, else the first ones."""
    if numbers and max(numbers) <= info.count and not set(numbers) & set(info.alpha):
        chosen = tuple(numbers)
    else:
        chosen = info.plain[: len(names)]
    in_order = chosen == info.plain
    if not in_order:
        reason = "as in training" if chosen == tuple(numbers) else "the first ones"
        warnings.warn(
            f"'{info.path}' has {len(info.plain)} bands that do not say what they are; bands {chosen} are taken as "
            f"{', '.join(names)} ({reason}). Give bands=... if they are in another order",
            stacklevel=5,
        )
    return chosen


def compare_bands(model: Sequence[str], data: Sequence[str]) -> str:
    """Why a data set's bands are not those that a model reads, or "" where they are or nobody can know.

    Names are compared by meaning, in order: red and B04 are one band.
    """
    if len(model) != len(data):
        return f"it has {len(data)} bands ({', '.join(data)}), the model reads {len(model)}: {', '.join(model)}"
    ours, theirs = meanings_of(model, data), meanings_of(data, model)
    known = [(a, b) for a, b in zip(ours, theirs, strict=True) if a and b]
    if all(a == b for a, b in known):
        return ""
    return f"its bands are {', '.join(data)}, the model reads {', '.join(model)}, in this order"


def _listed(values: Sequence[Any]) -> str:
    """One value where all are equal, else all."""
    some = values[:1] if len(set(values)) == 1 else values
    return ", ".join(f"{value:g}" if isinstance(value, (float, np.floating)) else str(value) for value in some)
