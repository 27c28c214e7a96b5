"""The words of bands: spellings of one colour, numbers of sensors, and what a list of names means together."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

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
_SENSOR_BAND = re.compile(r"(sr_|toa_)?b(?:and)?[ _]?(0?)(\d{1,2}a?)")
NUMBERED = re.compile(r"(?:band|channel|layer|bd)[ _-]?0*(\d{1,3})")


def meanings_of(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """What each name means, "" where that is unknown. others: the names on the other side, which may tell the sensor."""
    sensor = _sensor(names)
    meanings = []
    for name in names:
        text = name.strip().lower()
        match = _SENSOR_BAND.fullmatch(text)
        if match and not NUMBERED.fullmatch(text):
            meanings.append(sensor.get(match[3], ""))
        elif NUMBERED.fullmatch(text):
            # a position says nothing about the spectrum; among positions it is the number that counts
            positions = any(NUMBERED.fullmatch(other.strip().lower()) for other in others)
            meanings.append(text if positions else "")
        else:
            meanings.append(word_of(text))
    return meanings


def word_of(text: str) -> str:
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
