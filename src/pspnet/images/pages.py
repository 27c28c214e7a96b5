"""Files that hold more than one picture: pages of a TIFF, frames of an animation. Only the first one is read.

A photograph's further pictures are told by whoever reads it; a label's are refused: nobody can know which page is meant.
Reduced copies (overviews, thumbnails) and masks of a TIFF are no further pictures, nor is what a phone puts behind a JPEG.
Time is proportional to the file's bytes, as in `images.headers`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.images.headers import format_of, tiff_directory
from pspnet.labels import IGNORE

MAX_PAGES = 1000  # directories of a TIFF that are counted
_REDUCED, _MASK = 1, 4  # bits of TIFF 6.0's NewSubfileType (tag 254)
_NODATA, _SCALE, _TRANSFORM, _KEYS = 42113, 33550, 34264, 34735  # GDAL's nodata; GeoTIFF's grid and coordinate system


def further_pictures(path: str | Path) -> str:
    """What a file holds beside its first picture, such as "3 pages"; "" for one picture, and for what cannot be read."""
    try:
        with open(path, "rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            return further_pictures_in(data)
    except (OSError, ValueError):
        return ""


def further_pictures_in(data: bytes | mmap) -> str:
    """As `further_pictures`, of a file's bytes. Raises nothing: what is damaged is told by the decoder."""
    kind = format_of(data[:16])
    try:
        if kind == "TIFF":
            pages = _pages(data)
            return f"{pages} pages" if pages > 1 else ""
        if kind == "GIF":
            return "an animation" if _second_frame(data) else ""
        if kind == "PNG":  # APNG: its control chunk stands before the pixels
            at = data.find(b"acTL", 0, max(data.find(b"IDAT"), 0))
            return "an animation" if at > 0 and struct.unpack_from(">I", data, at + 4)[0] > 1 else ""
        if kind == "WEBP":
            return "an animation" if data[12:16] == b"VP8X" and data[20] & 2 else ""
    except (struct.error, IndexError, ValueError):
        return ""
    return ""


@dataclass(frozen=True)
class GeoTags:
    """What a GeoTIFF says besides its colours. nodata: the value that means nothing, as text, "" for none. masked: a mask
    lies in the file. placed: it has a grid on the Earth."""

    nodata: str = ""
    masked: bool = False
    placed: bool = False


def geo_tags(path: str | Path) -> GeoTags:
    """The GeoTags of a file; the defaults for what is no TIFF, and for what cannot be read."""
    try:
        with open(path, "rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            if format_of(data[:16]) != "TIFF":
                return GeoTags()
            uses, first = [use for use, _ in _directories(data)], tiff_directory(data, None)
            _, count, at = first.get(_NODATA, (0, 0, 0))
            nodata = data[at : at + min(count, 64)].split(b"\0")[0].decode("ascii", "replace").strip()
            placed = _KEYS in first and (_SCALE in first or _TRANSFORM in first)
            return GeoTags(nodata, any(use & _MASK for use in uses), placed)
    except (OSError, ValueError, IndexError, struct.error):
        return GeoTags()


def nodata_doubt(tags: GeoTags, pixels: NDArray[Any], labels: NDArray[np.uint8] | None = None) -> str:
    """What a GeoTIFF that is read as a photograph, as (H, W, bands) of 8 bits, says of pixels without data; "" for nothing.
    labels: those of the pixels; what is ignored does not count."""
    if labels is not None and labels.shape == pixels.shape[:2]:
        pixels = pixels[labels != IGNORE]
    if tags.masked and pixels.size:
        return "has a mask that hides some of its pixels"
    with suppress(ValueError):
        hidden = float((pixels == float(tags.nodata)).all(axis=-1).mean()) if pixels.size else 0.0
        return f"calls {tags.nodata} 'no data', which {hidden:.1%} of its pixels hold" if hidden else ""
    return ""


def _pages(data: bytes | mmap) -> int:
    return sum(not use & (_REDUCED | _MASK) for use, _ in _directories(data))


def _directories(data: bytes | mmap) -> Iterator[tuple[int, int]]:
    """(NewSubfileType, where it stands) of each directory of a TIFF."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    word, head, entry = (order + "Q", 8, 20) if big else (order + "I", 2, 12)
    (start,) = struct.unpack_from(word, data, 8 if big else 4)
    read = set[int]()
    while start and start not in read and len(read) < MAX_PAGES:
        read.add(start)
        kind, _, at = tiff_directory(data, start).get(254, (0, 0, 0))
        yield struct.unpack_from(order + ("H" if kind == 3 else "I"), data, at)[0] if kind in (3, 4) else 0, start
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
        (start,) = struct.unpack_from(word, data, start + head + count * entry)


def _second_frame(data: bytes | mmap) -> bool:
    """Whether another image follows the first one of a GIF."""
    at, images = 13 + _table(data[10]), 0
    while data[at] != 0x3B:
        if data[at] == 0x2C:
            images += 1
            if images == 2:
                return True
            at += 11 + _table(data[at + 9])  # descriptor, its colours, and the code size
        elif data[at] == 0x21:
            at += 2
        else:
            return False
        while data[at]:  # blocks of up to 255 bytes
            at += 1 + data[at]
        at += 1
    return False


def _table(flags: int) -> int:
    """Bytes of a GIF's colour table."""
    return 6 << (flags & 7) if flags & 128 else 0
