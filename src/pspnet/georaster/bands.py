"""Which band is which: what a file says of its bands, and the one place where bands are found again by name.

A model was trained on bands of files; other files give other names to the same bands, or the same number to another
band. `find_bands` is the only way from a model's bands to a file's: it takes what the names say, falls back on numbers
where the file says nothing, and refuses what contradicts. Red taken for blue is a wrong map that looks like a right one.
"""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pspnet.errors import RasterError
from pspnet.georaster.grids import colours_of

# One word for each part of the spectrum, and how files of several languages and makers spell it.
_SPELLINGS = {
    "red": "red r rot rouge rojo rosso vermelho",
    "green": "green g gruen grün vert verde",
    "blue": "blue b blau bleu azul blu",
    "nir": "nir nir1 ir infrared nearinfrared nearir infrarot infrarouge",
    "nir_narrow": "nirnarrow narrownir nir2 nir08",
    "rededge": "rededge re edge vegetationrededge rededge1",
    "rededge2": "rededge2 vegetationrededge2",
    "rededge3": "rededge3 vegetationrededge3",
    "coastal": "coastal coastalblue coastalaerosol aerosol ultrablue",
    "yellow": "yellow y gelb jaune",
    "swir": "swir",
    "swir1": "swir1 swir16 shortwaveinfrared1",
    "swir2": "swir2 swir22 shortwaveinfrared2",
    "pan": "pan panchromatic",
}
_WORDS = {spelling: word for word, text in _SPELLINGS.items() for spelling in text.split()}
# Band numbers of sensors: Sentinel-2 (ESA's user handbook), Landsat 8 and 9 OLI, Landsat 4 to 7 (USGS).
_SENTINEL2 = {
    "1": "coastal",
    "2": "blue",
    "3": "green",
    "4": "red",
    "5": "rededge",
    "6": "rededge2",
    "7": "rededge3",
    "8": "nir",
    "8a": "nir_narrow",
    "9": "water_vapour",
    "10": "cirrus",
    "11": "swir1",
    "12": "swir2",
}
_OLI = {
    "1": "coastal",
    "2": "blue",
    "3": "green",
    "4": "red",
    "5": "nir",
    "6": "swir1",
    "7": "swir2",
    "8": "pan",
    "9": "cirrus",
    "10": "tir1",
    "11": "tir2",
}
_TM = {"1": "blue", "2": "green", "3": "red", "4": "nir", "5": "swir1", "7": "swir2", "8": "pan"}
RGB = ("red", "green", "blue")
OF_PHOTOGRAPHS = {1: ("grey",), 3: RGB, 4: (*RGB, "alpha")}  # by the number of channels
_SENSOR_BAND = re.compile(r"(sr_|toa_)?b(?:and)?[ _]?(0?)(\d{1,2}a?)")
_NUMBERED = re.compile(r"(?:band|channel|layer|bd)[ _-]?0*(\d{1,3})")
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
        descriptions = [(text or "").strip().lower() for text in dataset.descriptions]
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
    numbered = [_NUMBERED.fullmatch(name.lower()) for name in names]
    if all(numbered):
        found_numbers = tuple(int(match[1]) for match in numbered if match)
        if max(found_numbers) > info.count or set(found_numbers) & set(info.alpha):
            raise RasterError(
                f"'{info.path}' has the bands 1 to {info.count}; the model reads {listed}: give bands=..."
            )
        return found_numbers
    there = _meanings(info.names, names)
    needed = _meanings(names, info.names)
    if any(info.names[n - 1] and not _NUMBERED.fullmatch(info.names[n - 1]) for n in info.plain):
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
    ours, theirs = _meanings(model, data), _meanings(data, model)
    known = [(a, b) for a, b in zip(ours, theirs, strict=True) if a and b]
    if all(a == b for a, b in known):
        return ""
    return f"its bands are {', '.join(data)}, the model reads {', '.join(model)}, in this order"


def _meanings(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """What each name means, "" where that is unknown. others: the names on the other side, which may tell the sensor."""
    sensor = _sensor(names)
    meanings = []
    for name in names:
        text = name.strip().lower()
        match = _SENSOR_BAND.fullmatch(text)
        if match and not _NUMBERED.fullmatch(text):
            meanings.append(sensor.get(match[3], ""))
        elif _NUMBERED.fullmatch(text):
            # a position says nothing about the spectrum; among positions it is the number that counts
            positions = any(_NUMBERED.fullmatch(other.strip().lower()) for other in others)
            meanings.append(text if positions else "")
        else:
            meanings.append(_word(text))
    return meanings


def _word(text: str) -> str:
    """The part of the spectrum that a description names: "Red", "B4 - Red (665 nm)", "near infrared"."""
    joined = re.sub(r"[^a-zü0-9]", "", text)
    if joined in _WORDS:
        return _WORDS[joined]
    parts = [part for part in re.split(r"[^a-zü0-9]+", text) if len(part) > 1]  # "B 4" is not blue
    pairs = [a + b for a, b in itertools.pairwise(parts)]
    for candidates in (pairs, parts):  # "red edge" before "red"
        words = {_WORDS[part] for part in candidates if part in _WORDS}
        if len(words) == 1:
            return words.pop()
        if words:
            return ""
    return text


def _sensor(names: Sequence[str]) -> dict[str, str]:
    """What each band number means to the sensor whose bands these are: only numbers that cannot mean anything else."""
    matches = [match for name in names if (match := _SENSOR_BAND.fullmatch(name.strip().lower()))]
    codes = [match[3] for match in matches]
    if any(match[2] for match in matches) or "8a" in codes or "12" in codes or sorted(codes) == ["2", "3", "4", "8"]:
        return _SENTINEL2  # B02: only Sentinel-2 (and HLS, whose colours are the same) writes two digits
    possible = [table for table in (_SENTINEL2, _OLI, _TM) if all(code in table for code in codes)]
    if any(match[1] for match in matches):  # SR_B2: Earth Engine's Landsat
        possible = [table for table in possible if table is not _SENTINEL2]
    if "1" not in codes and len(possible) > 1:
        # without band 1, which is Landsat 7's blue, no colour image of that sensor can be meant
        possible = [table for table in possible if table is not _TM]
    return {code: possible[0][code] for code in codes if possible and len({table[code] for table in possible}) == 1}


def _listed(values: Sequence[Any]) -> str:
    """One value where all are equal, else all."""
    some = values[:1] if len(set(values)) == 1 else values
    return ", ".join(f"{value:g}" if isinstance(value, (float, np.floating)) else str(value) for value in some)
