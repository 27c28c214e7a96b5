"""Outputs checked before the work starts: they can be written, replace nothing unasked, and are never an input."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from pspnet.errors import DataError, OutputError
from pspnet.files import path_limits
from pspnet.files.system_errors import writing


def check_output(path: str | Path, *, inputs: Inputs | Iterable[str | Path] = (), overwrite: bool = True) -> None:
    """Refuses, before any work, an output that cannot or must not be written.

    inputs: what the command reads. A file counts by what it is (links and hard links are seen through); a folder stands
    for every file in it; a name with a GDAL prefix (/vsizip/..., GTIFF_DIR:1:...) for the files it names. overwrite:
    whether an existing file may be replaced. Raises OutputError.
    """
    path = Path(path)
    _check_limits(path)
    with writing(path):
        if path.is_dir():
            raise OutputError(f"'{path}' is a folder; give the name of a file", exit_code=2)
        if os.path.lexists(path) and not is_device(path):
            used = (inputs if isinstance(inputs, Inputs) else Inputs(inputs)).find(path)
            if used is not None:
                same = "" if str(used) == str(path) else f" ('{used}')"
                raise OutputError(f"'{path}' is an input{same}; an output never replaces an input", exit_code=2)
            if not overwrite:
                raise OutputError(f"'{path}' exists; choose another name, or replace it: overwrite (--overwrite)")
        check_folder(path.parent)


def check_output_folder(path: str | Path, *, inputs: Iterable[str | Path] = (), overwrite: bool = False) -> None:
    """Refuses a folder for outputs that holds an input or lies in one; without `overwrite`, one that has files in it. Raises
    OutputError."""
    path = Path(path)
    check_folder(path)
    with writing(path):
        real = os.path.realpath(path)
        for given in inputs:
            for name in named_files(given):
                if os.path.commonpath([real, os.path.realpath(name)]) in (real, os.path.realpath(name)):
                    raise OutputError(
                        f"'{path}' holds an input ('{given}') or lies in it; give a folder outside of what is read",
                        exit_code=2,
                    )
        if not overwrite and path.is_dir() and any(path.iterdir()):
            raise OutputError(
                f"'{path}' exists and is not empty; choose another name, or replace it: overwrite (--overwrite)"
            )


def check_results_folder(folder: str | Path, inputs: Iterable[str | Path], within: Iterable[str | Path] = ()) -> None:
    """Refuses a folder for results that is a folder of inputs: who looks there next would take results for inputs.

    inputs: what the command reads: files, which stand for the folders they lie in, or folders. within: folders below the one
    for results that get results too. Links are seen through. A folder below one of the inputs' is allowed. Raises
    OutputError.
    """
    sources: dict[tuple[int, int], str] = {}
    for given in inputs:
        for name in named_files(given):
            near = name if os.path.isdir(name) else os.path.dirname(os.path.abspath(name))
            with suppress(OSError, ValueError):
                sources.setdefault(_identity(near), os.fspath(given))
    for path in map(Path, dict.fromkeys((folder, *within))):
        with suppress(OSError, ValueError):  # not there yet
            if (source := sources.get(_identity(path))) is not None:
                among = "" if source == str(path) else f" ('{source}')"
                raise OutputError(
                    f"results in '{path}' would lie among the inputs{among}, where the next run takes them for such; give "
                    f"them a folder of their own, such as '{Path(folder) / 'results'}'",
                    exit_code=2,
                )


def holds_keys(path: str | Path, keys: Iterable[str]) -> bool:
    """Whether a file is a JSON object with these keys: how a command tells its own results of an earlier run."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return isinstance(content, dict) and set(keys) <= content.keys()
    except Exception:  # nothing there, or whatever somebody wrote
        return False


def _check_limits(path: Path) -> None:
    try:
        path_limits.check(path)
    except DataError as error:
        raise OutputError(str(error), exit_code=2) from None


def check_folder(folder: str | Path) -> None:
    """Refuses a folder for outputs that neither exists nor can be made, or may not be written to. Raises OutputError."""
    folder = Path(folder)
    with writing(folder):
        near = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(parent))
        if not near.is_dir():
            raise OutputError(f"'{folder}' cannot be written: '{near}' is a file, not a folder", exit_code=2)
        if not os.access(near, os.W_OK):
            raise OutputError(f"'{folder}' cannot be written: '{near}' is not a folder that you may write to")


class Inputs:
    """What a command reads, looked up by what a file is. Give one to many calls of `check_output`."""

    def __init__(self, given: Iterable[str | Path] = ()) -> None:
        self._given = list(given)
        self._known: dict[tuple[int, int], str] | None = None

    def find(self, path: str | Path) -> str | None:
        """The input that an existing `path` is, or None."""
        try:
            identity = _identity(path)
        except (OSError, ValueError):
            return None  # nothing there, or a dangling link
        if self._known is None:
            self._known = {}
            for name in self._names():
                with suppress(OSError, ValueError):
                    self._known.setdefault(_identity(name), name)
        return self._known.get(identity)

    def _names(self) -> Iterator[str]:
        for given in self._given:
            for name in named_files(given):
                if os.path.isdir(name):
                    for folder, _, files in os.walk(name):
                        yield from (os.path.join(folder, file) for file in files)
                else:
                    yield name


def named_files(text: str | Path) -> list[str]:
    """The files and folders of this machine that a name means: itself, or those inside of a name for GDAL.

    "/vsizip/{/data/a.zip}/b.tif" -> ["/data/a.zip"], "/vsisubfile/0_100,/data/a.tif" -> ["/data/a.tif"].
    """
    whole = os.fspath(text)
    with suppress(OSError, ValueError):
        if os.path.exists(whole):
            return [whole]
    if len(whole) > 4096 or not (":" in whole or whole.startswith("/vsi")):
        return []
    cuts = [i for i, character in enumerate(whole) if character in '/:,"{}?&='][:200]
    cuts.append(len(whole))
    pieces = []
    for start in [0, *cuts]:
        for begin in (start, start + 1):  # with a leading slash and without
            for end in cuts:
                piece = whole[begin:end]
                if piece.strip("/") and os.path.isfile(piece):
                    pieces.append(re.sub("^/+", "/", piece))
    return list(dict.fromkeys(pieces))


def _identity(path: str | Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def is_device(path: Path) -> bool:
    """Whether writing goes to a device, a pipe or the like, which a rename would destroy."""
    try:
        return path.exists() and not path.is_file() and not path.is_dir()
    except (OSError, ValueError):
        return False
