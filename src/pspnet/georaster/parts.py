"""The files of this machine that a raster is made of: they decide its pixels, and no output may replace them."""

from __future__ import annotations

import html
import os
import re
from contextlib import suppress
from pathlib import Path

from pspnet.errors import RasterError
from pspnet.files import named_files
from pspnet.georaster.grids import open_raster

_SOURCE = re.compile(r"<(?:SourceFilename|SourceDataset)[^>]*>([^<]*)<")
_REMOTE = re.compile(r"^(?!file:)\w+://|/vsi(?:curl|s3|gs|az|adls|oss|swift|webhdfs)\b")
LARGEST_VRT = 64 * 2**20  # bytes of a mosaic's description that are looked through
DEEPEST = 8  # mosaics of mosaics


def parts_of(source: str | Path) -> tuple[str, ...]:
    """Absolute paths: the file itself, its side files, a mosaic's parts (their own too), the archive it lies in.

    Empty for a raster behind a URL. A raster that cannot be opened is made of what its name says.
    """
    if _REMOTE.search(str(source)):
        return ()  # not opened: GDAL remembers a server's silence as a file that does not exist
    parts: dict[str, None] = {}

    def add(name: str) -> None:
        for file in named_files(name):
            if os.path.isfile(file):
                parts.setdefault(os.path.abspath(file))

    def look(name: str, depth: int) -> None:
        add(name)
        files: list[str] = []
        with suppress(RasterError), open_raster(name) as dataset:
            files = [str(file) for file in dataset.files]
        if name.lower().endswith(".vrt"):
            files += _named_in(Path(name))
        for file in files:
            new = os.path.abspath(file) not in parts
            add(file)
            if new and depth < DEEPEST and file.lower().endswith(".vrt"):
                look(file, depth + 1)

    look(str(source), 0)
    return tuple(parts)


def state_of(source: str | Path) -> list[list[str | int]]:
    """[path, bytes, time of change, time of status change] of each part, to notice that one is another.

    The second time is the system's own: a file that was put there with an old time (cp -p, rsync -t) has a new one.
    """
    states: list[list[str | int]] = []
    for file in sorted(parts_of(source)):
        if not file.lower().endswith(".ovr"):  # overviews do not decide the pixels that are read
            with suppress(OSError):
                status = os.stat(file)
                states.append([file, status.st_size, status.st_mtime_ns, status.st_ctime_ns])
    return states


def _named_in(vrt: Path) -> list[str]:
    """What a mosaic's description names, GDAL's own list leaves out what has a prefix."""
    try:
        if vrt.stat().st_size > LARGEST_VRT:
            return []
        text = vrt.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return []
    names = [html.unescape(name).strip() for name in _SOURCE.findall(text)]
    return [name for given in names if given for name in (given, str(vrt.parent / given))]
