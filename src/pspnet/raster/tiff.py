"""Cloud-optimised GeoTIFF (COG) from compressed tiles that lie on disk already.

GDAL's own COG driver reads every pixel again, twice; this file only copies bytes, so that finishing a map costs no
more than copying it, and a map of 10^12 pixels that is mostly empty costs what its tiles cost. GDAL still decides what
georeferencing looks like: it writes a 16 x 16 px GeoTIFF in memory, whose tags are copied.

Layout (https://docs.ogc.org/is/21-026/21-026.html): header, all directories with their offset tables, then the tiles,
smallest overview first, in rows. Tiles that are missing have offset 0: GDAL reads them as nodata.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import require
from pspnet.georaster.grids import Grid
from pspnet.labels import Colour

# tags that GDAL writes for the software, the place on the Earth, its own metadata and nodata
COPIED = (305, 33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113)
SHORT, LONG, LONG8, ASCII = 3, 4, 16, 2
SIZES = {1: 1, ASCII: 1, SHORT: 2, LONG: 4, 5: 8, 12: 8, LONG8: 8}
# Tells GDAL that the layout is COG's, and how tiles are framed: their size before them, their last 4 bytes again after
# them, so that a reader far away needs one request a tile. The last blank makes room for a later editor's "YES".
GHOST = (
    b"LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\n"
    b"BLOCK_TRAILER=LAST_4_BYTES_REPEATED\nKNOWN_INCOMPATIBLE_EDITION=NO\n "
)


@dataclass(frozen=True)
class Level:
    """One resolution. tiles: (band, row, column) -> (offset, length) in the file that holds them."""

    height: int
    width: int
    tiles: Mapping[tuple[int, int, int], tuple[int, int]]


@dataclass(frozen=True)
class Tag:
    """One entry of a directory: its number, type, count and bytes."""

    number: int
    kind: int
    count: int
    data: bytes


def georeference_tags(grid: Grid, descriptions: Sequence[str], nodata: int, metadata: Mapping[str, str]) -> list[Tag]:
    """What GDAL writes for a grid, bands' names, nodata and dataset metadata, as raw tags."""
    rasterio = require("rasterio", "raster")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.MemoryFile(ext=".tif") as memory:
            with memory.open(
                driver="GTiff",
                width=16,
                height=16,
                count=len(descriptions),
                dtype="uint8",
                crs=grid.crs,
                transform=grid.transform,
                nodata=nodata,
                ENDIANNESS="LITTLE",
            ) as dataset:
                dataset.update_tags(**metadata)
                for number, description in enumerate(descriptions, start=1):
                    dataset.set_band_description(number, description)
            content = bytes(memory.getbuffer())
    return [tag for tag in _classic_tags(content) if tag.number in COPIED]


def write_cog(
    path: Path,
    tiles: BinaryIO,
    levels: Sequence[Level],
    bands: int,
    block_px: int,
    georeference: Sequence[Tag],
    colours: Sequence[Colour],
) -> None:
    """Writes `levels` (full resolution first) of `bands` uint8 bands, whose tiles are DEFLATE streams in `tiles`.

    colours: of the values of the first band; the palette. Raises OSError.
    """
    total = sum(length + 8 for level in levels for _, length in level.tiles.values())
    slots = sum(bands * -(-level.height // block_px) * -(-level.width // block_px) for level in levels)
    big = total + 12 * slots + 2**20 >= 2**32
    start = 16 if big else 8
    ghost = b"GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n" % len(GHOST) + GHOST
    start_of_data = _aligned(start + len(ghost))
    tables = [
        [
            np.zeros((bands, -(-level.height // block_px), -(-level.width // block_px)), kind)
            for kind in (np.dtype("<u8" if big else "<u4"), np.dtype("<u4"))
        ]
        for level in levels
    ]

    def directories() -> list[bytes]:
        directories, at = [], start_of_data
        for index, (level, (offsets, lengths)) in enumerate(zip(levels, tables, strict=True)):
            tags = _image_tags(level, bands, block_px, offsets, lengths, colours, overview=index > 0)
            tags += list(georeference) if index == 0 else [t for t in georeference if t.number == 42113]
            block = _directory(tags, at, big, last=index == len(levels) - 1)
            directories.append(block)
            at += len(block)
        return directories

    at = start_of_data + sum(len(block) for block in directories())
    copies = []  # (offset, length) of each tile, in the order of the new file
    for level, (offsets, lengths) in reversed(list(zip(levels, tables, strict=True))):
        for key in sorted(level.tiles):
            source, length = level.tiles[key]
            offsets[key], lengths[key] = at + 4, length
            copies.append((source, length))
            at += 4 + length + 4
    with open(path, "wb") as file:
        file.write(
            struct.pack("<2sHHHQ", b"II", 43, 8, 0, start_of_data)
            if big
            else struct.pack("<2sHI", b"II", 42, start_of_data)
        )
        file.write(ghost.ljust(start_of_data - start, b"\0"))
        file.writelines(directories())
        for source, length in copies:
            tiles.seek(source)
            data = tiles.read(length)
            file.write(b"".join((struct.pack("<I", length), data, data[-4:])))


def _image_tags(
    level: Level,
    bands: int,
    block_px: int,
    offsets: NDArray[Any],
    lengths: NDArray[Any],
    colours: Sequence[Colour],
    overview: bool,
) -> list[Tag]:
    palette = np.zeros((3, 256), "<u2")
    palette[:, : len(colours)] = np.array(colours, "<u2").T * 257  # 8 bits to TIFF's 16
    tags = [
        _numbers(254, LONG, int(overview)),  # a reduced-resolution version of another image
        _numbers(256, LONG, level.width),
        _numbers(257, LONG, level.height),
        _numbers(258, SHORT, *[8] * bands),
        _numbers(259, SHORT, 8),  # bits per sample; DEFLATE
        _numbers(262, SHORT, 3),  # colours come from the palette
        _numbers(277, SHORT, bands),
        _numbers(284, SHORT, 2 if bands > 1 else 1),  # each band has tiles of its own
        Tag(320, SHORT, 768, palette.tobytes()),
        _numbers(322, LONG, block_px),
        _numbers(323, LONG, block_px),
        Tag(324, LONG8 if offsets.itemsize == 8 else LONG, offsets.size, offsets.tobytes()),
        Tag(325, LONG, lengths.size, lengths.tobytes()),
        _numbers(339, SHORT, *[1] * bands),  # unsigned whole numbers
    ]
    if bands > 1:
        tags.append(_numbers(338, SHORT, *[0] * (bands - 1)))  # what the further bands are: unspecified
    return tags


def _numbers(number: int, kind: int, *values: int) -> Tag:
    return Tag(number, kind, len(values), struct.pack(f"<{len(values)}{'H' if kind == SHORT else 'I'}", *values))


def _directory(tags: Sequence[Tag], start: int, big: bool, last: bool) -> bytes:
    """A directory at `place`: sorted entries, the next directory's place (right behind this one), long values."""
    tags = sorted(tags, key=lambda tag: tag.number)
    count, entry, inline = ("<Q", "<HHQ", 8) if big else ("<H", "<HHI", 4)
    head = _aligned(struct.calcsize(count) + len(tags) * (struct.calcsize(entry) + inline) + inline)
    table, values = bytearray(struct.pack(count, len(tags))), bytearray()
    for tag in tags:
        table += struct.pack(entry, tag.number, tag.kind, tag.count)
        if len(tag.data) <= inline:
            table += tag.data.ljust(inline, b"\0")
        else:
            table += struct.pack("<Q" if big else "<I", start + head + len(values))
            values += tag.data.ljust(_aligned(len(tag.data)), b"\0")
    following = 0 if last else start + head + len(values)
    table += struct.pack("<Q" if big else "<I", following)
    return bytes(table.ljust(head, b"\0") + values)


def _aligned(size: int) -> int:
    return -(-size // 16) * 16


def _classic_tags(content: bytes) -> list[Tag]:
    """The tags of a little-endian classic TIFF's first directory."""
    (offset,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, offset)
    tags = []
    for index in range(count):
        at = offset + 2 + 12 * index
        number, kind, many = struct.unpack_from("<HHI", content, at)
        size = SIZES.get(kind, 1) * many
        begin = at + 8 if size <= 4 else struct.unpack_from("<I", content, at + 8)[0]
        tags.append(Tag(number, kind, many, content[begin : begin + size]))
    return tags
