"""Unfinished work on disk: a part file of compressed tiles and a journal, from which a killed run goes on.

OUT.part holds the tiles, one after the other, each behind a header that says which it is. OUT.journal is text, a JSON
object a line: first what the run is, then, after each committed row of tiles, how far the part file counts. Bytes
beyond the last committed length are what a killed process was writing; they are cut off.

Every header, tile and line has a checksum. Work goes on from the last commit before the first damage, so that what was
altered or lost on the disk is computed again, never used.
"""

from __future__ import annotations

import json
import os
import struct
import warnings
import zlib
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import RasterError
from pspnet.files import locked, not_through_links, write_bytes, writing

FORMAT = 2  # of part and journal; 1 had no checksums
HEADER = struct.Struct("<HHIIQII")  # level, band, row, column, bytes that follow, their checksum, the header's own
Key = tuple[int, int, int, int]  # level (0 is full resolution), band (from 0), row, column of the tile
KEPT = "What was finished is kept and will be used when the same command is repeated"


class TileStore:
    """Compressed square tiles of bytes on disk, with a directory in memory.

    target: the file that the tiles are for; part file and journal lie beside it. settings: what the run is; only a
    run with equal settings may go on. `state` is what the last commit said: rows done, counts, blocks left out.
    Raises RasterError where there is unfinished work of another run, or files that are none, without overwrite;
    OutputError where another process writes them.
    """

    def __init__(self, target: Path, block_px: int, settings: Mapping[str, Any], overwrite: bool) -> None:
        self.target, self.block_px = target, block_px
        self.part, self.journal = target.with_name(target.name + ".part"), target.with_name(target.name + ".journal")
        self.places: dict[Key, tuple[int, int]] = {}
        self.state: dict[str, Any] = {"bytes": 0}
        # as it will be read back
        self.settings: dict[str, Any] = json.loads(json.dumps({"pspnet_raster": FORMAT, **settings}))
        self._open = ExitStack()
        with writing_to(self.part), ExitStack() as opening:
            opening.enter_context(locked(self.part))
            # not open(..., "w+b"): it would empty the file before it is known whose it is
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
            number = not_through_links(str(self.part), flags)
            self.file: BinaryIO = opening.enter_context(os.fdopen(number, "r+b", 0))
            commits = self._commits_of_this_run(overwrite)
            self._go_on_from(commits)
            lines = (
                [self.settings, *commits[: commits.index(self.state) + 1]] if self.state in commits else [self.settings]
            )
            write_bytes(self.journal, b"".join(map(_line, lines)), durable=True)
            self.lines: BinaryIO = opening.enter_context(open(self.journal, "ab", 0, opener=not_through_links))
            self._open = opening.pop_all()
        self.end = self.state["bytes"]

    def put(self, key: Key, data: bytes) -> None:
        """Appends one compressed tile."""
        with writing_to(self.part):
            self.file.seek(self.end)
            _write(self.file, _header(key, data) + data)
        self.places[key] = (self.end + HEADER.size, len(data))
        self.end += HEADER.size + len(data)

    def get(self, key: Key) -> bytes | None:
        """A compressed tile, or None where nothing was stored: nodata all over."""
        if key not in self.places:
            return None
        offset, length = self.places[key]
        self.file.seek(offset)
        return self.file.read(length)

    def tile(self, key: Key) -> NDArray[np.uint8] | None:
        """A tile's pixels, (block_px, block_px)."""
        data = self.get(key)
        if data is None:
            return None
        return np.frombuffer(zlib.decompress(data), np.uint8).reshape(self.block_px, self.block_px)

    def commit(self, **state: Any) -> None:
        """Makes everything so far safe: tiles first, then the journal's line."""
        with writing_to(self.part):
            os.fsync(self.file.fileno())
            self.state = {**self.state, **state, "bytes": self.end}
            _write(self.lines, _line(self.state))
            os.fsync(self.lines.fileno())

    def close(self) -> None:
        """Leaves the files for a later run."""
        self._open.close()

    def discard(self) -> None:
        """Removes the files."""
        self.file.close()
        self.lines.close()
        self.part.unlink(missing_ok=True)
        self.journal.unlink(missing_ok=True)
        self.close()

    def _commits_of_this_run(self, overwrite: bool) -> list[dict[str, Any]]:
        """The journal's commits where it is this run's; none for new work. Raises RasterError for another's."""
        there = self.journal.is_file()
        lines = _read_lines(self.journal) if there else []
        settings, *commits = lines or [None]
        if settings == self.settings:
            return [line for line in commits if line is not None]
        if overwrite or (not there and os.fstat(self.file.fileno()).st_size == 0):
            return []
        if not there:
            why = f"'{self.part}' is there without its journal: it is not known what it is"
        elif settings is None or "pspnet_raster" not in settings:
            why = f"'{self.journal}' is damaged, or of another pspnet: it is not known what it is"
        else:
            changed = [k for k in self.settings.keys() | settings.keys() if self.settings.get(k) != settings.get(k)]
            raise RasterError(
                f"'{self.journal}' belongs to an unfinished run with other settings "
                f"({', '.join(sorted(changed))}). Repeat that run to finish it, or discard it: overwrite (--overwrite)"
            )
        raise RasterError(f"{why}. Move it away, or discard it: overwrite (--overwrite)")

    def _go_on_from(self, commits: list[dict[str, Any]]) -> None:
        """Finds the tiles again by walking over their headers, and takes the last commit that lies before any damage."""
        offset, size = 0, os.fstat(self.file.fileno()).st_size
        promised = max((commit["bytes"] for commit in commits), default=0)
        ends: list[tuple[int, Key, tuple[int, int]]] = []
        while offset + HEADER.size <= min(promised, size):
            self.file.seek(offset)
            head = self.file.read(HEADER.size)
            *key, length, check, header_check = HEADER.unpack(head)
            level, band, row, column = key
            if zlib.crc32(head[:-4]) != header_check or offset + HEADER.size + length > size:
                break
            if zlib.crc32(self.file.read(length)) != check:
                break
            span = (offset + HEADER.size, length)
            offset += HEADER.size + length
            ends.append((offset, (level, band, row, column), span))
        good = [commit for commit in commits if commit["bytes"] <= offset]
        if good:
            self.state = good[-1]
        if self.state["bytes"] < promised:
            warnings.warn(
                f"'{self.part}' is damaged or cut off; the work goes on from row {self.state.get('rows', 0)}",
                stacklevel=4,
            )
        self.places = {key: span for end, key, span in ends if end <= self.state["bytes"]}
        self.file.truncate(self.state["bytes"])


def writing_to(path: Path) -> AbstractContextManager[None]:
    """Turns the system's errors into ones that say which file, why, and that the work so far is kept."""
    return writing(path, after=KEPT)


def _header(key: Key, data: bytes) -> bytes:
    head = HEADER.pack(*key, len(data), zlib.crc32(data), 0)[:-4]
    return head + struct.pack("<I", zlib.crc32(head))


def _line(content: Mapping[str, Any]) -> bytes:
    """A line of the journal with its checksum."""
    return json.dumps({**content, "check": _check(content)}).encode() + b"\n"


def _check(content: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def _read_lines(journal: Path) -> list[dict[str, Any] | None]:
    """The journal's lines, None for a damaged one; the last may have been cut off by the end of its process."""
    lines: list[dict[str, Any] | None] = []
    for line in journal.read_bytes().split(b"\n")[:-1]:
        content = None
        try:
            content = json.loads(line)
            check = content.pop("check")
        except Exception:  # whatever is wrong with it
            lines.append(
                None if not isinstance(content, dict) else content if content.get("pspnet_raster") == 1 else None
            )
            continue
        lines.append(content if check == _check(content) else None)
    return lines


def _write(file: BinaryIO, data: bytes) -> None:
    """All of it. The files have no buffer: what a full disk refuses must not be tried again when they are closed."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
