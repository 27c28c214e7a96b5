"""Unfinished work on disk: a part file of compressed tiles and a journal, from which a killed run goes on.

OUT.part holds the tiles, one after the other, each behind a header that says which it is. OUT.journal is text, a JSON
object a line: first what the run is, then, after each committed row of tiles, how far the part file counts. Bytes
beyond the last committed length are what a killed process was writing; they are cut off.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import RasterError

HEADER = struct.Struct("<HHIIQ")  # level, band, row, column, bytes that follow
Key = tuple[int, int, int, int]  # level (0 is full resolution), band (from 0), row, column of the tile


class TileStore:
    """Compressed square tiles of bytes on disk, with a directory in memory.

    target: the file that the tiles are for; part file and journal lie beside it. settings: what the run is; only a
    run with equal settings may go on. `state` is what the last commit said: rows done, counts, blocks left out.
    """

    def __init__(self, target: Path, block_px: int, settings: Mapping[str, Any], overwrite: bool) -> None:
        self.target, self.block_px = target, block_px
        self.part, self.journal = target.with_name(target.name + ".part"), target.with_name(target.name + ".journal")
        self.places: dict[Key, tuple[int, int]] = {}
        self.state: dict[str, Any] = {"bytes": 0}
        wanted = json.loads(json.dumps({"pspnet_raster": 1, **settings}))  # as it will be read back
        with writing_to(self.part):
            target.parent.mkdir(parents=True, exist_ok=True)
            # not open(..., "w+b"): it would empty the file before the lock says whose it is
            self.file: BinaryIO = os.fdopen(os.open(self.part, os.O_RDWR | os.O_CREAT, 0o666), "r+b", 0)
            try:
                _lock(self.file, self.part)
                lines = self._journal_lines()
                goes_on = bool(lines) and lines[0] == wanted
                if lines and not goes_on and not overwrite:
                    changed = sorted(k for k in wanted.keys() | lines[0].keys() if wanted.get(k) != lines[0].get(k))
                    raise RasterError(
                        f"'{self.journal}' belongs to an unfinished run with other settings "
                        f"({', '.join(changed)}). Repeat that run to finish it, or discard it: overwrite"
                    )
                if goes_on and len(lines) > 1:
                    self.state = lines[-1]
                self.file.truncate(self.state["bytes"])
                self._index()
                self._write_journal([wanted, *lines[1:]] if goes_on else [wanted])  # without a line that was cut off
                self.lines: BinaryIO = open(self.journal, "ab", 0)  # noqa: SIM115  closed by close()
            except BaseException:
                self.file.close()
                raise
        self.end = self.state["bytes"]

    def put(self, key: Key, data: bytes) -> None:
        """Appends one compressed tile."""
        with writing_to(self.part):
            self.file.seek(self.end)
            _write(self.file, HEADER.pack(*key, len(data)) + data)
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
            _write(self.lines, json.dumps(self.state).encode() + b"\n")
            os.fsync(self.lines.fileno())

    def close(self) -> None:
        """Leaves the files for a later run."""
        try:
            self.file.close()
        finally:
            self.lines.close()

    def discard(self) -> None:
        """Removes the files."""
        self.close()
        self.part.unlink(missing_ok=True)
        self.journal.unlink(missing_ok=True)

    def _journal_lines(self) -> list[dict[str, Any]]:
        """The journal's whole lines; the last one may have been cut off by the end of its process."""
        if not self.journal.is_file():
            return []
        lines = []
        for line in self.journal.read_bytes().split(b"\n")[:-1]:
            try:
                lines.append(json.loads(line))
            except ValueError:
                break
        return lines

    def _write_journal(self, lines: list[dict[str, Any]]) -> None:
        whole = self.journal.with_name(self.journal.name + ".tmp")
        whole.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        os.replace(whole, self.journal)

    def _index(self) -> None:
        """Finds the tiles again by walking over their headers."""
        offset, end = 0, self.state["bytes"]
        while offset < end:
            self.file.seek(offset)
            *key, length = HEADER.unpack(self.file.read(HEADER.size))
            level, band, row, column = key
            self.places[level, band, row, column] = (offset + HEADER.size, length)
            offset += HEADER.size + length


def _write(file: BinaryIO, data: bytes) -> None:
    """All of it. The files have no buffer: what a full disk refuses must not be tried again when they are closed."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _lock(file: BinaryIO, path: Path) -> None:
    """Two processes must not write to one part file. The lock ends with its process, however that ends."""
    try:
        import fcntl
    except ImportError:  # Windows itself refuses to open a file twice for writing
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RasterError(
            f"'{path}' is being written by another process; wait for it, or choose another name"
        ) from None


class writing_to:  # noqa: N801  reads as a statement
    """Turns the system's errors into ones that say which file, why, and that the work so far is kept."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError):
            raise RasterError(
                f"'{self.path}' cannot be written: {error.strerror or error}. What was finished is kept "
                "and will be used when the same command is repeated"
            ) from error
