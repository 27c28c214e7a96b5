"""Folders that this process may read and write data in, where there is such a limit.

The playground serves people who may not be the one who started it: what they name, and what a data set points to by links,
lists, virtual rasters or sidecar files, must lie below its roots. The limit stands in the environment, so that a run that
the playground starts has it too, and every door that opens a file of data asks here: `pspnet.images`, `pspnet.georaster`,
the layouts' `existing` and class tables, and `pspnet.files` for what is written. Without a limit nothing is looked at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

from pspnet.errors import DataError, parsing

VARIABLE = "PSPNET_ONLY_BELOW"
DRIVERS = ("GTiff", "VRT", "PNG", "JPEG", "JP2OpenJPEG", "HFA")  # of GDAL; others may read what no path tells
MAX_VRT_BYTES, MAX_VRT_DEPTH = 8 * 2**20, 8


@contextmanager
def only_below(folders: Iterable[str | Path]) -> Iterator[None]:
    """Within the block this process, and those that it starts, read and write data below these folders only."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = os.pathsep.join(os.path.realpath(folder) for folder in folders)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before


def limits() -> tuple[str, ...] | None:
    """The folders, links resolved; None: no limit."""
    text = os.environ.get(VARIABLE)
    return None if text is None else tuple(folder for folder in text.split(os.pathsep) if folder)


def is_below(path: str | Path, folders: Iterable[str | Path]) -> bool:
    """Whether a path lies in one of the folders (resolved ones) after all of its own links are followed."""
    real = os.path.realpath(path)
    return any(real == str(folder) or real.startswith(str(folder).rstrip(os.sep) + os.sep) for folder in folders)


def check(path: str | Path) -> None:
    """Raises DataError for a path outside of the limit. It need not exist."""
    folders = limits()
    if folders is not None and not is_below(path, folders):
        raise DataError(
            f"'{path}' lies outside of the folders that may be used ({', '.join(folders)}), itself or by a link. Copy it "
            "there, or start the playground with a --root that holds it"
        )


def check_with_sidecars(path: str | Path) -> None:
    """As `check`, with the files beside it that share its name, which vector drivers open too (.dbf, .shx, .prj ...)."""
    if limits() is None:
        return
    path = Path(path)
    check(path)
    for other in path.parent.glob(f"{_escaped(path.stem)}.*"):
        check(other)


def check_raster(path: str, depth: int = 0) -> None:
    """As `check`, for what GDAL is about to open: an ordinary file, and what a virtual raster is made of."""
    if limits() is None:
        return
    if not os.path.isfile(path) or depth > MAX_VRT_DEPTH:
        raise DataError(f"'{path}' is no ordinary file; names for GDAL and addresses are not used within limits")
    check(path)
    with open(path, "rb") as file:
        head = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n")
        if not head.startswith(b"<"):
            return
        file.seek(0)
        text = file.read(MAX_VRT_BYTES + 1)
    with parsing(path, DataError, "is no virtual raster that can be read"):
        root = ElementTree.fromstring(text) if len(text) <= MAX_VRT_BYTES else None
    if root is None or root.tag != "VRTDataset":
        raise DataError(f"'{path}' describes a raster that lies elsewhere; GeoTIFFs and VRTs of files are read here")
    for node in root.iter():
        if not any(word in node.tag.lower() for word in ("filename", "sourcedataset")):
            is_note = node.tag == "SRS" or (
                node.tag == "MDI" and not re.search("DATASET|DEM", node.get("key", ""), re.IGNORECASE)
            )
            _check_named(path, (node.text or "", *node.attrib.values()), addresses=not is_note)
            continue
        name = (node.text or "").strip()
        relative = node.get("relativeToVRT", node.get("relativetoVRT", "0")) == "1"
        check_raster(os.path.join(os.path.dirname(path), name) if relative else name, depth + 1)


def _check_named(path: str, texts: Iterable[str], addresses: bool) -> None:
    """Whatever else in a virtual raster may name a file: of a grid of coordinates, a height model, a correction. addresses:
    whether those of the web are refused, which a note may hold."""
    for text in map(str.strip, texts):
        if text.startswith("/vsi") or (addresses and re.match(r"[a-z]+://", text, re.IGNORECASE)):
            raise DataError(f"'{path}' names '{text[:200]}'; names for GDAL and addresses are not used within limits")
        named = os.path.join(os.path.dirname(path), text)
        if 0 < len(text) < 4096 and "\0" not in text and (os.path.isabs(text) or os.path.lexists(named)):
            check(named)


def check_opened(driver: str, files: Iterable[str]) -> None:
    """An open raster: GDAL's driver, and the files that GDAL lists for it (its sources, and what lies beside it)."""
    if limits() is None:
        return
    if driver not in DRIVERS:
        raise DataError(
            f"rasters of GDAL's driver {driver} are not read within limits; there are: {', '.join(DRIVERS)}"
        )
    for path in files:
        check(path)


def _escaped(text: str) -> str:
    """A file's name as a pattern that means only itself."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)
