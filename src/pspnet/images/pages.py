"""Files that hold more than one picture: pages of a TIFF, frames of an animation. Only the first one is read.

A photograph's further pictures are told by whoever reads it; a label's are refused: nobody can know which page is meant.
Reduced copies (overviews, thumbnails) and masks of a TIFF are no further pictures, nor is what a phone puts behind a JPEG.
Time is proportional to the file's bytes, as in `images.headers`.
"""

from __future__ import annotations

import struct
from mmap import ACCESS_READ, mmap
from pathlib import Path

from pspnet.images.headers import format_of, tiff_directory

MAX_PAGES = 1000  # directories of a TIFF that are counted
_REDUCED, _MASK = 1, 4  # bits of TIFF 6.0's NewSubfileType (tag 254)


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


def _pages(data: bytes | mmap) -> int:
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    word, head, entry = (order + "Q", 8, 20) if big else (order + "I", 2, 12)
    (start,) = struct.unpack_from(word, data, 8 if big else 4)
    pages, read = 0, set[int]()
    while start and start not in read and len(read) < MAX_PAGES:
        read.add(start)
        kind, _, at = tiff_directory(data, start).get(254, (0, 0, 0))
        use = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, at)[0] if kind in (3, 4) else 0
        pages += not use & (_REDUCED | _MASK)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
        (start,) = struct.unpack_from(word, data, start + head + count * entry)
    return pages


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
