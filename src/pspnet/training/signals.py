"""Ctrl-C and SIGTERM as a wish to stop after the current step, with a checkpoint written first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from pspnet.errors import RunInterrupted


class Interruption:
    """The first Ctrl-C or SIGTERM is remembered in `signal`; a second Ctrl-C stops at once (KeyboardInterrupt)."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = self.signal or number


@contextmanager
def remembered_signals() -> Iterator[Interruption]:
    """Handlers belong to the main thread; in another thread nothing is caught, and the process's own handlers hold."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before: dict[int, Any] = {
        number: signal.signal(number, interruption.handle) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupted(number: int, step: int, steps: int, run_dir: Path) -> RunInterrupted:
    """What a run ends with when it was asked to stop."""
    name = signal.Signals(number).name
    return RunInterrupted(
        f"stopped by {name} after step {step} of {steps}. Go on with: pspnet train --resume {run_dir}", number
    )
