"""One process at a time: locks that end with their process, however that ends."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from pspnet.errors import OutputError
from pspnet.files.system_errors import not_through_links, writing
from pspnet.files.temporary import LONGEST_NAME, host, short_name
from pspnet.machine import at_work


@contextmanager
def locked(path: str | Path, what: str = "") -> Iterator[None]:
    """Holds `path` (a file or a folder, there or not) for this process. Raises OutputError where another one holds it.

    The lock is the file .NAME.lock beside it; it ends with its process, however that ends. what: how an error calls it.
    """
    path = Path(path)
    lock = path.with_name(f".{short_name(path.name)}.lock")
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
        file = open(lock, "a+b", buffering=0, opener=not_through_links)  # noqa: SIM115  closed by who holds the lock
        try:
            held = _lock_file(file)
            if held is None:  # a system without locks: the file belongs to the process whose id is in it
                file.seek(0)
                held = not _living(file.read(100))
            if not held:
                raise OutputError(f"{what} is being written by another process; wait for it, or choose another name")
            if _same_file(file, lock):  # else the holder before removed it between the two
                file.truncate(0)
                file.write(f"{os.getpid()} {host()} {time.time():.0f}\n".encode())
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
    return words[1] != host() or at_work(int(words[0]), float(words[2]))


def _same_file(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
