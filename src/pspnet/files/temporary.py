"""Names of files that are being written, and the removal of those that dead processes left."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from contextlib import suppress
from pathlib import Path

from pspnet.machine import at_work

LONGEST_NAME = 255  # bytes of a file's name on the usual file systems
_LEFTOVER = re.compile(r"\.pspnet-(\d+)-([0-9a-f]{6})-[0-9a-f]{8}\.part(\.[^.]*)?$")
_SWEEP_EVERY_S = 60.0
_swept: dict[str, float] = {}  # folder -> when its leftovers were last looked for


def temporary_path(path: Path) -> Path:
    """With the target's ending: libraries choose a format by it."""
    ending = path.suffix if len(os.fsencode(path.suffix)) <= 20 else ""
    short = short_name(path.name[: len(path.name) - len(ending)])
    return path.with_name(f".{short}.pspnet-{os.getpid()}-{host()}-{secrets.token_hex(4)}.part{ending}")


def sweep(folder: Path) -> None:
    """Removes what dead processes of this machine left in a folder; looked for once a minute at most."""
    key, now = os.path.abspath(folder), time.monotonic()
    if now - _swept.get(key, -_SWEEP_EVERY_S) < _SWEEP_EVERY_S:
        return
    _swept[key] = now
    for name in os.listdir(folder):
        leftover = _LEFTOVER.search(name)
        if leftover is None or leftover[2] != host():
            continue
        path = folder / name
        with suppress(OSError):
            if not at_work(int(leftover[1]), path.lstat().st_mtime):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def short_name(name: str) -> str:
    """At most 150 bytes of a name, so that something can be added to it."""
    data = os.fsencode(name)
    return name if len(data) <= 150 else f"{os.fsdecode(data[:140])}{hashlib.sha256(data).hexdigest()[:8]}"


def host() -> str:
    return hashlib.sha256(socket.gethostname().encode("utf-8", "replace")).hexdigest()[:6]
