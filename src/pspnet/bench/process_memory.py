"""What this process takes. Standard library only, as `interleaved` is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

MIB = 2**20


def forget_peak() -> None:
    """Linux then counts the peak from here, not from the loading of libraries and the making of graphs."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def memory_mib(kind: Literal["VmRSS", "VmHWM"]) -> float:
    """Resident now (VmRSS), or the most since the peak was forgotten (VmHWM). Where /proc is missing: the peak of the whole
    life for both, 0 on Windows, which does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) / 1024
    except OSError:
        return _life_peak_mib()


def _life_peak_mib() -> float:
    try:
        import resource
    except ImportError:
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (MIB if sys.platform == "darwin" else 1024)
