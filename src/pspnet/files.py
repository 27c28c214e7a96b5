"""The one way to write: whole or not at all, never over an input, and told in one wording when it cannot be.

A file is written under a temporary name beside its place and then renamed. A process that is killed leaves only the
temporary name, `.NAME.pspnet-PID-HOST-RANDOM.part.ENDING`; the next one that writes into the folder removes it.

    with new_file("model.safetensors", durable=True) as part:      # `part` becomes the file when the block ends well
        save_file(state, part)
    check_output(out, inputs=[photo], overwrite=False)             # before hours of work, not after
    with locked("runs/one"): ...                                   # one process at a time

Every failure is an OutputError: exit code 1, or 2 where the command asked for the wrong thing (an input, a folder).
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from pspnet import path_limits
from pspnet.errors import DataError, OutputError
from pspnet.machine import at_work

LONGEST_NAME = 255  # bytes of a file's name on the usual file systems
_LEFTOVER = re.compile(r"\.pspnet-(\d+)-([0-9a-f]{6})-[0-9a-f]{8}\.part(\.[^.]*)?$")
_SWEEP_EVERY_S = 60.0
_swept: dict[str, float] = {}  # folder -> when its leftovers were last looked for
_REASONS = {
    errno.ENOSPC: "the disk is full",
    getattr(errno, "EDQUOT", -1): "your quota of the disk is used up",  # Windows has no such number
    errno.EROFS: "the file system can only be read",
    errno.EACCES: "you may not write there",
    errno.EPERM: "you may not write there",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENOTDIR: "a part of its path is a file, not a folder",
}


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
        if os.path.lexists(path) and not _is_device(path):
            used = (inputs if isinstance(inputs, Inputs) else Inputs(inputs)).find(path)
            if used is not None:
                same = "" if str(used) == str(path) else f" ('{used}')"
                raise OutputError(f"'{path}' is an input{same}; an output never replaces an input", exit_code=2)
            if not overwrite:
                raise OutputError(f"'{path}' exists; choose another name, or replace it with --overwrite")
        check_folder(path.parent)


def check_output_folder(path: str | Path, *, inputs: Iterable[str | Path] = (), overwrite: bool = False) -> None:
    """Refuses a folder for outputs that has files in it, without `overwrite`; with it, one that holds an input or lies in
    one. Raises OutputError."""
    path = Path(path)
    check_folder(path)
    with writing(path):
        if not path.is_dir() or not any(path.iterdir()):
            return
        if not overwrite:
            raise OutputError(f"'{path}' exists and is not empty; choose another name, or replace it with --overwrite")
        real = os.path.realpath(path)
        for given in inputs:
            for name in named_files(given):
                if os.path.commonpath([real, os.path.realpath(name)]) in (real, os.path.realpath(name)):
                    raise OutputError(
                        f"'{path}' holds an input ('{given}') or lies in it; an output never replaces an input",
                        exit_code=2,
                    )


def _check_limits(path: Path) -> None:
    try:
        path_limits.check(path)
    except DataError as error:
        raise OutputError(str(error), exit_code=2) from None


def check_folder(folder: str | Path) -> None:
    """Refuses a folder for outputs that neither exists nor can be made, or may not be written to. Raises OutputError."""
    folder = Path(folder)
    with writing(folder):
        near = next(place for place in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(place))
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
    found = []
    for start in [0, *cuts]:
        for begin in (start, start + 1):  # with a leading slash and without
            for end in cuts:
                piece = whole[begin:end]
                if piece.strip("/") and os.path.isfile(piece):
                    found.append(re.sub("^/+", "/", piece))
    return list(dict.fromkeys(found))


@contextmanager
def writing(path: str | Path, after: str = "", also: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turns the system's errors into one OutputError that names `path` and the reason.

    after: a sentence for the end of the message, what is kept say. also: exceptions of a library that mean the same.
    """
    kinds: tuple[type[Exception], ...] = (OSError, *also)
    try:
        yield
    except OutputError:
        raise
    except kinds as error:
        raise OutputError(f"'{path}' cannot be written: {reason(error)}{'. ' + after if after else ''}") from error


def reason(error: BaseException) -> str:
    """Why the system refused, in plain words."""
    if isinstance(error, OSError) and error.errno is not None:
        return _REASONS.get(error.errno, error.strerror or str(error))
    return " ".join(str(error).split()) or type(error).__name__


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
    if _is_device(path):
        raise OutputError(f"'{path}' is not an ordinary file; give the name of one", exit_code=2)
    with writing(path, after, also):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        part = _temporary(path)
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
        _sweep(path.parent)
        part = _temporary(path)
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
        _sweep(path.parent)
        part, old = _temporary(path), _temporary(path)
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
        _sweep(parent)
        folder = _temporary(parent / name)
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
    if _is_device(Path(path)):
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


@contextmanager
def locked(path: str | Path, what: str = "") -> Iterator[None]:
    """Holds `path` (a file or a folder, there or not) for this process. Raises OutputError where another one holds it.

    The lock is the file .NAME.lock beside it; it ends with its process, however that ends. what: how an error calls it.
    """
    path = Path(path)
    lock = path.with_name(f".{_short(path.name)}.lock")
    with writing(path):
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = _take(lock, what or f"'{path}'")
    try:
        yield
    finally:
        with suppress(OSError):
            lock.unlink()  # while it is held: who waits for this file finds that the name is another's
        file.close()
        with suppress(OSError):
            lock.unlink()  # Windows removes no open file


def _take(lock: Path, what: str) -> IO[bytes]:
    """The lock file, open and held. Raises OutputError where it is another's."""
    for _ in range(100):
        file = open(lock, "a+b", buffering=0)  # noqa: SIM115  closed by who holds the lock
        try:
            held = _lock_file(file)
            if held is None:  # a system without locks: the file belongs to the process whose id is in it
                file.seek(0)
                held = not _living(file.read(100))
            if not held:
                raise OutputError(f"{what} is being written by another process; wait for it, or choose another name")
            if _same_file(file, lock):  # else the holder before removed it between the two
                file.truncate(0)
                file.write(f"{os.getpid()} {_host()} {time.time():.0f}\n".encode())
                return file
        except BaseException:
            file.close()
            raise
        file.close()
    raise OutputError(f"{what} is being written by other processes; wait for them, or choose another name")


def wait_for_lock(file: IO[bytes]) -> None:
    """Returns when this process holds the lock of an open file; it ends when the file is closed. At once where the
    system has no locks."""
    while _lock_file(file) is False:
        time.sleep(0.02)


def _lock_file(file: IO[bytes]) -> bool | None:
    """Locks an open file for this process: True, or False where another holds it; None where the system has no locks."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError:  # some network file systems
        return None
    except ImportError:
        pass
    try:
        import msvcrt
    except ImportError:
        return None
    windows: Any = msvcrt
    try:
        file.seek(LONGEST_NAME)  # a byte that nobody reads: Windows forbids reading what is locked
        windows.locking(file.fileno(), windows.LK_NBLCK, 1)
    except OSError:
        return False
    return True


def _living(owner: bytes) -> bool:
    """Whether "PID HOST SINCE" is a process at work; of another machine nobody knows, so it counts as one."""
    words = owner.decode("ascii", "replace").split()
    if len(words) != 3 or not words[0].isdigit() or not words[2].isdigit():
        return False
    return words[1] != _host() or at_work(int(words[0]), float(words[2]))


def _same_file(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


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


def _sweep(folder: Path) -> None:
    """Removes what dead processes of this machine left in a folder; looked for once a minute at most."""
    key, now = os.path.abspath(folder), time.monotonic()
    if now - _swept.get(key, -_SWEEP_EVERY_S) < _SWEEP_EVERY_S:
        return
    _swept[key] = now
    for name in os.listdir(folder):
        found = _LEFTOVER.search(name)
        if found is None or found[2] != _host():
            continue
        path = folder / name
        with suppress(OSError):
            if not at_work(int(found[1]), path.lstat().st_mtime):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _temporary(path: Path) -> Path:
    """With the target's ending: libraries choose a format by it."""
    ending = path.suffix if len(os.fsencode(path.suffix)) <= 20 else ""
    short = _short(path.name[: len(path.name) - len(ending)])
    return path.with_name(f".{short}.pspnet-{os.getpid()}-{_host()}-{secrets.token_hex(4)}.part{ending}")


def _short(name: str) -> str:
    """At most 150 bytes of a name, so that something can be added to it."""
    data = os.fsencode(name)
    return name if len(data) <= 150 else f"{os.fsdecode(data[:140])}{hashlib.sha256(data).hexdigest()[:8]}"


def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode("utf-8", "replace")).hexdigest()[:6]


def _identity(path: str | Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _is_device(path: Path) -> bool:
    """Whether writing goes to a device, a pipe or the like, which a rename would destroy."""
    try:
        return path.exists() and not path.is_file() and not path.is_dir()
    except (OSError, ValueError):
        return False
