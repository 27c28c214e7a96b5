"""Memory that was freed goes back to the system now and then.

glibc keeps freed blocks for reuse in a heap for each thread. Batches of changing shape, made by one thread and let go by
others, leave holes there, and under steady load the process would grow for hours without anything being held.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

EVERY_S = 5.0


def trimmer(every_s: float = EVERY_S) -> Callable[[], None]:
    """A function to call often; each `every_s` seconds it gives free memory back. Does nothing where there is no glibc."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # musl, macOS, Windows
        return lambda: None
    last = time.monotonic()

    def call() -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= every_s:
            last = now
            trim(0)

    return call
