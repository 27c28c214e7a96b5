"""Photograph or raster: what an image file itself says about its bands.

A photograph is grey, RGB, RGBA or CMYK, and its file says so. Everything else that a TIFF or a JPEG 2000 may hold is a
raster and is read as one, with all its bands: a decoder for photographs would take the first of them for three colours, or
near infrared for opacity.
"""

from __future__ import annotations

import re
import struct
from mmap import ACCESS_READ, mmap
from pathlib import Path

from pspnet.images.headers import format_of, tiff_directory

_COLOURS_OF = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}  # TIFF's PhotometricInterpretation -> colour samples
# Sentinel-2's and Landsat's names of files with one band
_BAND_FILE = re.compile(r"(?:T\d{2}[A-Z]{3}_\d{8}T\d{6}_B(?:\d{2}|8A)(?:_\d0m)?|L[COTEM]0[4-9]_\w+_B\d{1,2})$")
_KINDS = {0: "grey", 1: "grey", 2: "RGB", 3: "a palette", 5: "CMYK", 6: "YCbCr", 8: "Lab"}


def is_raster(path: str | Path) -> bool:
    """Whether an image file's bands are not those of a photograph. False where it cannot be read: reading it tells why.

    One band of a satellite's product in a file of its own (..._B02_10m.jp2, ..._SR_B4.TIF) is a raster, though it is stored as
    grey: three times the same band is no colour picture.
    """
    if _BAND_FILE.search(Path(path).stem):
        return True
    try:
        with open(path, "rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            return bool(why_no_photograph(data, format_of(data[:16]) or ""))
    except (OSError, ValueError):
        return False


def why_no_photograph(data: bytes | mmap, kind: str) -> str:
    """What a file's bands are where they are not grey, RGB, RGBA or CMYK by what it says itself; "" for a photograph.

    data: the file's bytes, or a map of them. kind: of `read_header`. A TIFF of four samples of which only the first is
    said to be grey, or a fourth beside RGB that nobody calls alpha, is a raster: near infrared shown as opacity, or one
    band taken for three colours, would be wrong without a word. Raises nothing: what cannot be read is told elsewhere.
    """
    try:
        if kind == "TIFF":
            return _tiff_bands(data)
        if kind == "JPEG2000":
            return _jpeg2000_bands(data)
    except (struct.error, IndexError, ValueError):
        return ""
    return ""


def _tiff_bands(data: bytes | mmap) -> str:
    """TIFF 6.0, tags 258 (bits), 262 (photometric), 277 (samples per pixel), 338 (what the further ones are; 1 and 2: alpha)
    and 339 (3: floating point)."""
    values = tiff_directory(data, None)

    def numbers(tag: int, default: list[int]) -> list[int]:
        kind, count, at = values.get(tag, (0, 0, 0))
        if kind not in (1, 3, 4) or not 0 < count <= 65_536:
            return default
        order = "<" if data[:2] == b"II" else ">"
        return list(struct.unpack_from(f"{order}{count}{ {1: 'B', 3: 'H', 4: 'I'}[kind] }", data, at))

    (photometric,), (samples,), extra = numbers(262, [1])[:1], numbers(277, [1])[:1], numbers(338, [])
    colours = _COLOURS_OF.get(photometric, samples)
    if samples > 1 and (max(numbers(258, [8])) > 16 or 3 in numbers(339, [1])):
        return f"{samples} bands of {max(numbers(258, [8]))} bits" + " in floating point" * (3 in numbers(339, [1]))
    if samples <= colours or (samples == colours + 1 and extra[:1] in ([1], [2])):
        return ""
    return (
        f"{samples} bands, of which it says only that {colours} {'is' if colours == 1 else 'are'} {_KINDS[photometric]}"
    )


def _jpeg2000_bands(data: bytes | mmap) -> str:
    """ISO 15444-1: the component count of the image header, and whether a channel definition calls one opacity."""
    if data[:4] == b"\xff\x4f\xff\x51":
        (count,) = struct.unpack_from(">H", data, 40)
        return "" if count in (1, 3) else f"{count} bands that do not say what they are"
    header = data.find(b"ihdr", 0, 4096)
    count, bits = struct.unpack_from(">HB", data, header + 12) if header >= 0 else (1, 7)
    if count > 1 and bits != 255 and bits & 127 > 7:  # written as bits - 1; 255: each band has its own
        return f"{count} bands of {(bits & 127) + 1} bits"
    definition = data.find(b"cdef", 0, 65_536)
    opacity = False
    if definition >= 0:
        (entries,) = struct.unpack_from(">H", data, definition + 4)
        kinds = [struct.unpack_from(">H", data, definition + 8 + 6 * i)[0] for i in range(min(entries, 16))]
        opacity = any(kind in (1, 2) for kind in kinds)
    return "" if count in (1, 3) or (count in (2, 4) and opacity) else f"{count} bands that do not say what they are"
