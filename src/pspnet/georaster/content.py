"""Files of data whose content is something else: a description of data that lie elsewhere.

GDAL chooses a driver by a file's content, whatever its ending says. A labels.geojson that holds <OGRVRTDataSource> shows
another file of this machine, <OGRWFSDataSource> and <GDAL_WMS> ask a server, "gdal_streamed_alg" runs GDAL's own commands,
and what a driver does not know may be handed to another program (gpsbabel). So a file begins as its ending says, or is
refused.
"""

from __future__ import annotations

import os
from pathlib import Path

from pspnet.errors import RasterError
from pspnet.files import path_limits

_JSON, _XML, _SQLITE = (b"{", b"[", b"\x1e"), (b"<",), (b"SQLite format 3\0",)
_VECTORS = {
    ".geojson": _JSON,
    ".json": _JSON,
    ".kml": _XML,
    ".gml": _XML,
    ".gpkg": _SQLITE,
    ".sqlite": _SQLITE,
    ".fgb": (b"fgb",),
    ".parquet": (b"PAR1",),
    ".shp": (b"\x00\x00\x27\x0a",),
}
_TEXTS = (*_JSON, *_XML)
_PIXELS = (".tif", ".tiff", ".img", ".jp2", ".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp")
_DESCRIPTIONS = (b"<ogrvrt", b"<ogrwfs", b"gdal_streamed_alg")  # as GDAL looks for them: anywhere at the beginning
MOST_BYTES = 2**20


def check_vector(path: str) -> None:
    """Raises RasterError for a file that is none of its ending's, and for one that describes others. Folders (.gdb) and names
    for GDAL pass; within the limits of `path_limits` only the endings above do."""
    if not os.path.isfile(path):
        return
    head, ending = _head(path), Path(path).suffix.lower()
    starts = _VECTORS.get(ending)
    if starts is None and path_limits.limits() is not None:
        raise RasterError(f"'{path}': vector files that are read here end in {', '.join(_VECTORS)}")
    if starts is not None and not head.startswith(starts):
        raise RasterError(f"'{path}' is no {ending} file: it begins with {head[:16]!r}")
    text = head.lower() if starts is None or starts[0] in _TEXTS else b""
    if any(mark in text for mark in _DESCRIPTIONS):
        raise RasterError(f"'{path}' holds no features but describes data that lie elsewhere; give those data")


def check_pixels(path: str) -> None:
    """Raises RasterError for a file with an image's ending that holds a description in XML or JSON."""
    if Path(path).suffix.lower() in _PIXELS and os.path.isfile(path) and _head(path, 64).startswith(_TEXTS[:2] + _XML):
        raise RasterError(
            f"'{path}' is no image but a text, which may describe data that lie elsewhere: give those data, or name it .vrt "
            "or .xml if you know what it holds"
        )


def _head(path: str, size: int = MOST_BYTES) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(size).lstrip(b"\xef\xbb\xbf \t\r\n")
    except OSError:  # whoever opens it says so
        return b""
