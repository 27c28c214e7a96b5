"""Files and folders that appear whole or not at all: written under a temporary name, then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pspnet.errors import OutputError
from pspnet.files.output_checks import Inputs, check_output, check_output_folder, is_device
from pspnet.files.system_errors import writing
from pspnet.files.temporary import sweep, temporary_path


@contextmanager
def new_file(
    path: str | Path,
    *,
    inputs: Inputs | Iterable[str | Path] = (),
    overwrite: bool = True,
    durable: bool = False,
    after: str = "",
    also: tuple[type[Exception], ...] = (),
) -> Iterator[Path]:
    """A temporary name beside `path`, with the same ending; what was written there becomes `path` when the block ends.

    durable: the content is on the disk before the name is, so that a power cut loses the new file or the old, not both.
    Makes the folder. The rest as in `check_output` and `writing`. Raises OutputError.
    """
    path = Path(path)
    check_output(path, inputs=inputs, overwrite=overwrite)
    if is_device(path):
        raise OutputError(f"'{path}' is not an ordinary file; give the name of one", exit_code=2)
    with writing(path, after, also):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        part = temporary_path(path)
        try:
            yield part
            _publish(part, path, overwrite, durable)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def new_files(
    path: str | Path,
    *,
    inputs: Inputs | Iterable[str | Path] = (),
    overwrite: bool = True,
    durable: bool = False,
    after: str = "",
) -> Iterator[Path]:
    """A temporary folder for a file that has others beside it (.xml with .bin): all appear at the end, `path` last.

    While the others change, `path` is not there: no reader meets a new half with an old one. Raises OutputError.
    """
    path, inputs = Path(path), inputs if isinstance(inputs, Inputs) else Inputs(inputs)
    check_output(path, inputs=inputs, overwrite=overwrite)
    with writing(path, after):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        part = temporary_path(path)
        try:
            part.mkdir()
            yield part
            files = sorted(part.iterdir(), key=lambda file: file.name == path.name)
            for file in files:
                check_output(path.parent / file.name, inputs=inputs, overwrite=overwrite)
            if len(files) > 1:
                path.unlink(missing_ok=True)
            for file in files:
                _publish(file, path.parent / file.name, overwrite, durable)
        finally:
            shutil.rmtree(part, ignore_errors=True)


@contextmanager
def new_folder(path: str | Path, *, inputs: Iterable[str | Path] = (), overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place, with all that is in it, when the block ends.

    An empty folder may be replaced; one with files only with `overwrite`. Raises OutputError.
    """
    path, inputs = Path(path), list(inputs)
    with writing(path):
        check_output_folder(path, inputs=inputs, overwrite=overwrite)
        real = os.path.realpath(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        part, old = temporary_path(path), temporary_path(path)
        try:
            part.mkdir()
            yield part
            if path.is_dir():
                os.replace(real, old)
            os.replace(part, real)
        finally:
            shutil.rmtree(part, ignore_errors=True)
            if not os.path.lexists(path) and old.is_dir():
                os.replace(old, path)  # the new one could not take its place
            shutil.rmtree(old, ignore_errors=True)


def own_folder(parent: str | Path, name: str) -> Path:
    """A new folder for files of this process alone, to be removed by it; where it is killed, the next one does.

    Raises OutputError.
    """
    parent = Path(parent)
    with writing(parent):
        parent.mkdir(parents=True, exist_ok=True)
        sweep(parent)
        folder = temporary_path(parent / name)
        folder.mkdir(mode=0o700)
    return folder


def write_bytes(
    path: str | Path,
    data: bytes,
    *,
    inputs: Inputs | Iterable[str | Path] = (),
    overwrite: bool = True,
    durable: bool = False,
) -> None:
    """Writes a file whole or not at all, and makes its folder. A device or a pipe is written to. Raises OutputError."""
    if is_device(Path(path)):
        with writing(path):
            Path(path).write_bytes(data)
        return
    with new_file(path, inputs=inputs, overwrite=overwrite, durable=durable) as part:
        part.write_bytes(data)


def write_text(
    path: str | Path,
    text: str,
    *,
    inputs: Inputs | Iterable[str | Path] = (),
    overwrite: bool = True,
    durable: bool = False,
) -> None:
    """As `write_bytes`, a text in UTF-8. Names that are not UTF-8 are written with the bytes replaced by '?'."""
    data = text.encode("utf-8", "replace")
    write_bytes(path, data, inputs=inputs, overwrite=overwrite, durable=durable)


def _publish(part: Path, path: Path, overwrite: bool, durable: bool) -> None:
    with suppress(OSError):
        if path.is_file():
            shutil.copymode(path, part)
    if durable:
        _to_disk(part)
    if overwrite:
        os.replace(part, path)
    else:
        try:
            os.link(part, path)  # unlike a rename it fails where somebody was quicker
        except FileExistsError:
            raise OutputError(f"'{path}' exists: another process has written it meanwhile") from None
        except OSError:  # a file system without hard links
            os.replace(part, path)
    if durable:
        _to_disk(path.parent)


def _to_disk(path: Path) -> None:
    with suppress(PermissionError):  # Windows opens no folder
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
