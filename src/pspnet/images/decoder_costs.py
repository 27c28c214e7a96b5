"""What makes a decoder work far more than an image's pixels need, refused before one starts.

A comment of 4 MiB in a GIF took Pillow 10 s, 6,000 TIFF tags that share one value 1.2 GB, a JPEG of 12,000 scans minutes.
Time is proportional to the file's bytes. The limits of TIFF directories and GIF comments are those of `headers.py`.
"""

from __future__ import annotations

import re
import struct

from pspnet.errors import ImageError
from pspnet.images.headers import MAX_SEGMENTS, HeaderError, jpeg_segments, tiff_directory

MAX_SCANS = 100  # of a JPEG; progressive files of cameras and of mozjpeg have 6 to 20
MAX_EXIF = 2 * 65_536  # bytes of a JPEG's Exif segments, which Pillow joins and parses
MAX_CHUNKS = 65_536  # of a PNG; libpng writes 8 KiB each
MAX_OTHER_CHUNKS = 4096  # of a PNG that hold no pixels: texts, profiles, frames' controls
_SUB_DIRECTORIES = (0x8769, 0x8825, 0xA005)  # Exif, GPS, Interoperability: read by Pillow while it loads
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # in a scan: not a stuffed byte, a restart or padding


def check_file(data: bytes, kind: str, name: str) -> None:
    """Refuses a file whose decoding would cost far more than its pixels. kind: of `read_header`. Raises ImageError."""
    try:
        if kind == "JPEG":
            _check_scans(data)
        elif kind == "PNG":
            _check_chunks(data)
        elif kind == "TIFF":
            _check_sub_directories(data)
    except (struct.error, IndexError) as error:
        raise ImageError(f"'{name}' is cut off; copy it again") from error
    except HeaderError as error:
        raise ImageError(f"'{name}' is refused: {error}") from error


def _check_scans(data: bytes) -> None:
    """Counts a JPEG's scans up to its end of image; what lies behind (a phone's film) is not looked at."""
    at = scans = segments = exif = 0
    for marker, start in jpeg_segments(data):
        length = struct.unpack_from(">H", data, start)[0]
        if marker == 0xDA:
            at, scans = start + length, 1
            break
        if marker == 0xE1 and data[start + 2 : start + 8] == b"Exif\0\0":
            exif += length
    if exif > MAX_EXIF:
        raise HeaderError(f"{exif:,} bytes of Exif (one segment has 65,533)")
    while (match := _JPEG_MARKER.search(data, at)) is not None:
        marker, at = data[match.start() + 1], match.end()
        if marker == 0xD9:
            return
        if marker == 0x01 or marker == 0xD8:
            continue
        scans, segments = scans + (marker == 0xDA), segments + 1
        if scans > MAX_SCANS or segments > MAX_SEGMENTS:
            raise HeaderError(f"a JPEG of more than {MAX_SCANS} scans (cameras write 1, progressive files 6 to 20)")
        if at + 2 > len(data):
            return
        at += struct.unpack_from(">H", data, at)[0]


def _check_chunks(data: bytes) -> None:
    at, others = 8, 0
    for number in range(MAX_CHUNKS + 1):
        if at + 8 > len(data):
            return  # cut off: the decoder says so
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IEND":
            return
        if kind == b"IHDR" and number:
            raise HeaderError("it says its size twice")
        others += kind != b"IDAT"
        if others > MAX_OTHER_CHUNKS:
            break
        at += 12 + length
    raise HeaderError(f"a PNG of more than {MAX_OTHER_CHUNKS:,} chunks without pixels, or {MAX_CHUNKS:,} in all")


def _check_sub_directories(data: bytes) -> None:
    order = "<" if data[:2] == b"II" else ">"
    waiting: list[int | None] = [None]
    for _ in range(1 + len(_SUB_DIRECTORIES)):
        values = tiff_directory(data, waiting.pop()) if waiting else {}
        for tag in _SUB_DIRECTORIES:
            kind, count, at = values.get(tag, (0, 0, 0))
            if count == 1 and kind in (4, 13, 16):
                waiting.append(struct.unpack_from(order + ("Q" if kind == 16 else "I"), data, at)[0])
    if waiting:
        raise HeaderError("its directories go round in a circle")
