"""What this machine is, in one spelling: processor, commit, living processes, memory handed back to the system."""

from __future__ import annotations

import ctypes
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

TRIM_EVERY_S = 5.0
BUSY = 0.5  # of the processors


def processor_name() -> str:
    """The processor as Linux tells it ("Intel(R) Xeon(R) ... family 6"), else as Python does; never empty."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    fields: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())  # the first processor's
    # ARM has no "model name"; some virtual machines hide it, and then the family is all there is
    name = fields.get("model name") or fields.get("CPU part") or platform.processor() or platform.machine()
    return f"{name} family {fields['cpu family']}" if "cpu family" in fields else name


def source_commit() -> str | None:
    """The commit of the source that runs (12 digits), with a '+' where files were changed since; None outside of git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def usable_cores() -> int:
    """Cores that this process may use; on macOS and Windows, where nobody tells, all there are."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def is_busy() -> bool:
    """Whether other programs keep half of the processors at work, where the system tells: rates measured now are too low."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > BUSY * (os.cpu_count() or 1)


def keep_address_for_this_program(one: socket.socket) -> None:
    """Before `bind`: a port whose last program has just ended is free at once, and one in use stays its program's.

    On Windows SO_REUSEADDR would let two programs have one port; there the opposite option is set.
    """
    exclusive = getattr(socket, "SO_EXCLUSIVEADDRUSE", None)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR if exclusive is None else exclusive, 1)


def memory_bytes() -> int:
    """Memory of the machine; 0 where the system does not tell."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0


def free_memory_bytes() -> int:
    """Memory that programs can still take, a container's limit heeded; 0 where the system does not tell."""
    free = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        free += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError, IndexError):
        pass
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        if limit != "max":
            free.append(max(int(limit) - int(used), 0))
    except (OSError, ValueError):
        pass
    return min(free, default=0)


def at_work(pid: int, known_at: float) -> bool:
    """Whether the process that had this id at the time `known_at` (seconds since 1970) is still at work on this machine.

    Where /proc tells, a process that ended and was not yet waited for is not at work, and neither is another one that
    got the same id later.
    """
    if sys.platform == "win32":  # os.kill(pid, 0) would send Ctrl-C there
        return _windows_process(pid)
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it lives, as another user's
        pass
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        booted = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    except (OSError, StopIteration):
        return True
    if fields[0] in ("Z", "X"):
        return False
    began = int(booted.split()[1]) + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return began <= known_at + 5.0  # btime is a whole second, and clocks are set


def _windows_process(pid: int) -> bool:
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009  the attribute exists on Windows only
    handle = kernel.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
    if not handle:
        return bool(kernel.GetLastError() == 5)  # access denied: it lives, as another user's
    code = ctypes.c_ulong()
    kernel.GetExitCodeProcess(handle, ctypes.byref(code))
    kernel.CloseHandle(handle)
    return code.value == 259  # STILL_ACTIVE


def give_memory_back() -> None:
    """Hands freed memory back to the system now. Does nothing where there is no glibc.

    glibc keeps freed blocks for reuse in a heap for each thread. Arrays of changing size, made by one thread and let go
    by others, leave holes there, and a process would grow for hours without anything being held.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


def memory_trimmer(every_s: float = TRIM_EVERY_S) -> Callable[[], None]:
    """A function to call often; each `every_s` seconds it does what `give_memory_back` does."""
    last = time.monotonic()

    def call() -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= every_s:
            last = now
            give_memory_back()

    return call


def _malloc_trim() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # musl, macOS, Windows
        return None
    return trim
