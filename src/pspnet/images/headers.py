"""Width and height of an image file by our own readers, whose cost is bounded whatever the file says.

Image libraries parse a header wholly before they can be asked for a size. `read_header` takes a few milliseconds at most, so
that it may run in a server's event loop. It refuses what two parsers read in two ways (a TIFF that says its width twice),
since the size that was admitted must be the size that is decoded. Sources: ITU T.81 annex B (JPEG), W3C PNG 3rd edition,
TIFF 6.0 and BigTIFF, RFC 9649 (WebP), GIF89a, ISO 15444-1 annexes A and I (JPEG 2000), Netpbm's manual (PPM), Microsoft's
BITMAPINFOHEADER.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap

from pspnet.errors import ImageError

# Pillow's names. The one list of what this room decodes: no other decoder starts, whatever a file's content is.
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "JPEG2000", "PPM")
MAX_SEGMENTS = 4096  # of a JPEG before its first scan; an ICC profile of 16 MiB has 255
MAX_TAGS = 4096  # of a TIFF directory; GeoTIFFs have 20 to 60
MAX_BLOCKS = 65_536  # of 255 bytes in a GIF before its first image
MAX_COMMENT = 256 * 1024  # bytes of a GIF's comments: Pillow joins them block by block, in quadratic time
_TYPE_BYTES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)  # of TIFF's field types 0 to 18
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_NOT_FILL = re.compile(rb"[^\xff]")


@dataclass(frozen=True)
class Header:
    """format: one of FORMATS. height, width: in pixels as stored, before any turning."""

    format: str
    height: int
    width: int


def format_of(data: bytes) -> str | None:
    """One of FORMATS by a file's first bytes; None for any other file."""
    if data[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if data[:2] == b"BM":
        return "BMP"
    if data[:4] == b"\xff\x4f\xff\x51" or data[:12] == b"\0\0\0\x0cjP  \r\n\x87\n":
        return "JPEG2000"
    if data[:1] == b"P" and data[1:2] in b"123456" and data[2:3].isspace():
        return "PPM"
    return None


def read_header(data: bytes, name: str) -> Header:
    """What a file's first bytes say. Raises ImageError naming the file: no image that is read, cut off, or ambiguous."""
    kind = format_of(data)
    if kind is None:
        raise ImageError(
            f"'{name}' is no image that can be read (JPEG, PNG, TIFF, WebP, BMP, GIF, JPEG 2000, PPM), or its header "
            f"is damaged; it begins with {data[:8]!r}"
        )
    try:
        height, width = _SIZES[kind](data)
    except (struct.error, IndexError, ValueError) as error:
        if isinstance(error, HeaderError):
            raise ImageError(f"'{name}' has a damaged header: {error}") from error
        raise ImageError(f"'{name}' has a damaged header: it is cut off; copy it again") from error
    return Header(kind, height, width)


class HeaderError(ValueError):
    """Why a file is not read on."""


def _jpeg_size(data: bytes) -> tuple[int, int]:
    size = None
    for marker, start in jpeg_segments(data):
        if marker in _JPEG_FRAMES:
            if size is not None:  # Pillow takes the last, libjpeg refuses
                raise HeaderError("it says its size twice")
            size = struct.unpack_from(">HH", data, start + 3)
        if marker == 0xDA:
            break
    if size is None:
        raise HeaderError("it says no size before its first scan")
    return size[0], size[1]


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """(marker, where its length stands), up to the first scan."""
    at = 2
    for _ in range(MAX_SEGMENTS):
        at = data.find(b"\xff", at)  # as decoders do, bytes between segments are passed over
        while at >= 0 and data[at + 1] == 0xFF:
            end = _run_end(data, at)
            at = end - 1
        if at < 0:
            raise HeaderError("it ends before its first scan")
        marker = data[at + 1]
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # stuffed, or a marker without a length
            at += 2
            continue
        if marker == 0xD9:
            raise HeaderError("it ends before its first scan")
        yield marker, at + 2
        at += 2 + max(2, struct.unpack_from(">H", data, at + 2)[0])
    raise HeaderError(f"it has more than {MAX_SEGMENTS:,} segments before its first scan")


def _run_end(data: bytes, at: int) -> int:
    """Where a run of 0xFF that begins at `at` ends."""
    match = _NOT_FILL.search(data, at)
    if match is None:
        raise HeaderError("it ends before its first scan")
    return match.start()


def _png_size(data: bytes) -> tuple[int, int]:
    if data[12:16] != b"IHDR":
        raise HeaderError("its first chunk is not IHDR")
    width, height = struct.unpack_from(">II", data, 16)
    return height, width


def _tiff_size(data: bytes) -> tuple[int, int]:
    values = tiff_directory(data, None)
    sides = []
    for tag, what in ((257, "height"), (256, "width")):
        if tag not in values:
            raise HeaderError(f"its directory says no {what}")
        kind, count, at = values[tag]
        if count != 1 or kind not in (1, 3, 4, 16):
            raise HeaderError(f"its {what} is not one whole number")
        order = "<" if data[:2] == b"II" else ">"
        sides.append(int(struct.unpack_from(order + {1: "B", 3: "H", 4: "I", 16: "Q"}[kind], data, at)[0]))
    return sides[0], sides[1]


def tiff_directory(data: bytes | mmap, start: int | None) -> dict[int, tuple[int, int, int]]:
    """A TIFF directory: tag -> (field type, number of values, where they stand). start: None for the file's first.

    Refuses tags that come twice (Pillow takes the last, libtiff the first) and values that together are longer than the
    file: each is copied when it is read, so entries that share their bytes would multiply them.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    head, entry, inline = (8, 20, 8) if big else (2, 12, 4)
    word = order + ("Q" if big else "I")
    if start is None:
        (start,) = struct.unpack_from(word, data, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
    if count > MAX_TAGS:
        raise HeaderError(f"a directory of {count:,} tags (at most {MAX_TAGS:,} are read)")
    directory: dict[int, tuple[int, int, int]] = {}
    total = 0
    for number in range(count):
        at = start + head + number * entry
        tag, kind = struct.unpack_from(order + "HH", data, at)
        (values,) = struct.unpack_from(word, data, at + 4)
        start_of_values = at + (12 if big else 8)
        if tag in directory:
            raise HeaderError(f"its tag {tag} comes twice")
        size = values * (_TYPE_BYTES[kind] if kind < len(_TYPE_BYTES) else 1)
        if size > inline:
            total += size
            (start_of_values,) = struct.unpack_from(word, data, start_of_values)
        directory[tag] = (kind, values, start_of_values)
    if total > len(data):
        raise HeaderError("the values of its tags are together longer than the file")
    return directory


def _webp_size(data: bytes) -> tuple[int, int]:
    kind, body = data[12:16], data[20:30]
    if len(body) == 10 and kind == b"VP8X":
        return 1 + int.from_bytes(body[7:10], "little"), 1 + int.from_bytes(body[4:7], "little")
    if len(body) == 10 and kind == b"VP8 ":
        return int.from_bytes(body[8:10], "little") & 0x3FFF, int.from_bytes(body[6:8], "little") & 0x3FFF
    if len(body) >= 5 and kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    raise HeaderError("its first chunk is cut off or unknown")


def _gif_size(data: bytes) -> tuple[int, int]:
    """The screen, widened to hold the first image (as decoders do)."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + ((6 << (flags & 7)) if flags & 128 else 0)
    blocks = comment = 0
    while data[at] != 0x2C:
        if data[at] == 0x3B:
            raise HeaderError("it ends before its first image")
        if data[at] != 0x21:
            at, blocks = at + 1, blocks + 1
        else:
            is_comment = data[at + 1] == 0xFE
            at, comment = at + 2, comment + is_comment
            while data[at]:
                blocks, comment = blocks + 1, comment + data[at] * is_comment
                at += 1 + data[at]
                if blocks > MAX_BLOCKS:
                    break
            at, blocks = at + 1, blocks + 1
        if blocks > MAX_BLOCKS or comment > MAX_COMMENT:
            raise HeaderError(
                f"more than {MAX_COMMENT // 1024} KiB of comments, or too many blocks, before its first image"
            )
    left, top, wide, high = struct.unpack_from("<HHHH", data, at + 1)
    return max(height, top + high), max(width, left + wide)


def _bmp_size(data: bytes) -> tuple[int, int]:
    (size,) = struct.unpack_from("<I", data, 14)
    if size == 12:
        width, height = struct.unpack_from("<HH", data, 18)
    elif size in (40, 52, 56, 64, 108, 124):
        width, height = struct.unpack_from("<Ii", data, 18)  # a negative height: rows from the top
    else:
        raise HeaderError(f"its header has {size:,} bytes, which no BMP has")
    return abs(height), width


def _jpeg2000_size(data: bytes) -> tuple[int, int]:
    if data[:4] == b"\xff\x4f\xff\x51":
        width, height, left, top = struct.unpack_from(">IIII", data, 8)
        return height - top, width - left
    at, end = 12, len(data)
    for _ in range(64):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"jp2h":
            at, end = at + 8, min(end, at + length)
            continue
        if kind == b"ihdr":
            height, width = struct.unpack_from(">II", data, at + 8)
            return height, width
        if length < 8 or at + length >= end:
            break
        at += length
    raise HeaderError("it has no header box with its size")


def _ppm_size(data: bytes) -> tuple[int, int]:
    words = re.match(rb"P[1-6](?:\s|#[^\r\n]*[\r\n])+(\d{1,9})(?:\s|#[^\r\n]*[\r\n])+(\d{1,9})\s", data[:4096])
    if words is None:
        raise HeaderError("its first line has no width and height")
    return int(words[2]), int(words[1])


_SIZES = {
    "JPEG": _jpeg_size,
    "PNG": _png_size,
    "TIFF": _tiff_size,
    "WEBP": _webp_size,
    "GIF": _gif_size,
    "BMP": _bmp_size,
    "JPEG2000": _jpeg2000_size,
    "PPM": _ppm_size,
}
