"""Threads that compute, whichever the engine."""

from __future__ import annotations

import os
import sys

from pspnet.machine import usable_cores

_threads: int | None = None


def set_threads(count: int) -> None:
    """Lets every engine that is opened from now on compute in `count` threads."""
    global _threads
    _threads = count
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


def asked_threads() -> int | None:
    """What `set_threads` said, if anything."""
    return _threads


def thread_count() -> int:
    """Threads of an engine: what `set_threads` said, else PyTorch's number, else OMP_NUM_THREADS, else the cores."""
    if _threads is not None:
        return _threads
    if "torch" in sys.modules:
        return int(sys.modules["torch"].get_num_threads())
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) > 0 else usable_cores()
