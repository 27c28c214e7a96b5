"""What a run's folder tells about its run, whoever wrote it: a folder that makes no sense is one "damaged" run.

Besides what training writes (see `pspnet.training.run_folder`), the page keeps in a run's folder:

    recipe.yaml      what was asked for
    waiting.json     there while the run waits in the queue: when it was put there, and whether to go on or to begin
    process.json     process id and start of the latest process
    log.txt          everything that its processes printed
"""

from __future__ import annotations

import json
import math
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pspnet.machine import at_work

RECIPE, WAITING, PROCESS, LOG = "recipe.yaml", "waiting.json", "process.json", "log.txt"
ACTIVE = ("starting", "preparing", "running", "validating")


@dataclass(frozen=True)
class RunState:
    """What a folder tells about its run. status: queued, starting, preparing, running, validating, finished, stopped,
    failed, damaged. message: why it ended, where that is known. state: state.json, as far as it can be understood."""

    path: Path
    status: str
    message: str
    state: dict[str, Any]

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def active(self) -> bool:
        return self.status in ACTIVE

    @property
    def takes_place(self) -> bool:
        """Whether it computes on this machine: another one's runs, in a shared folder, let ours begin."""
        return self.active and self.state.get("host", socket.gethostname()) == socket.gethostname()

    @property
    def can_resume(self) -> bool:
        return self.status in ("stopped", "failed")


def read_run(path: Path) -> RunState:
    """What a folder tells now."""
    try:
        return _understood(path)
    except Exception as error:  # whatever somebody's files hold: one run, not the page
        words = f"its folder cannot be understood ({type(error).__name__}: {str(error)[:200]})"
        return RunState(path, "damaged", words, {})


def _understood(path: Path) -> RunState:
    process = read_json(path / PROCESS)
    if not {"pid", "started"} <= process.keys():
        process = {}
    alive = bool(process) and at_work(process["pid"], process["started"])
    state = read_json(path / "state.json")
    if (path / WAITING).exists():
        return RunState(path, "queued", "waits for the runs before it", state)
    if alive and float(state.get("updated", 0)) < float(process["started"]):
        return RunState(path, "starting", "the process loads its libraries", state)
    if not state:
        if alive:
            return RunState(path, "preparing", "reading the data", state)
        reason = "ended before its first step; its log says why" if process else "was taken out of the queue"
        return RunState(path, "failed" if process else "stopped", reason, state)
    status, message = str(state.get("status", "failed")), str(state.get("message", ""))
    if status in ACTIVE and not process and not {"host", "pid"} <= state.keys():
        return RunState(path, "damaged", f"state.json says {status}, and not which process of which machine", state)
    working = status in ACTIVE and state.get("host") == socket.gethostname()
    if working and not _is_at_work(state):
        status = "killed"
    if status == "killed" or (process and not alive and status in ACTIVE):
        return RunState(
            path,
            "stopped",
            f"its process (id {state.get('pid', 'unknown')}) ended without a word: killed, or out of memory. "
            "Resume goes on from the last saved state",
            state,
        )
    if status == "interrupted":
        return RunState(path, "stopped", message.split(" Go on with:")[0], state)
    if status not in (*ACTIVE, "finished", "failed"):
        return RunState(path, "damaged", "state.json says no status that there is", state)
    return RunState(path, status, message, state)


def _is_at_work(state: dict[str, Any]) -> bool:
    pid = int(state.get("pid", -1))
    return pid > 1 and at_work(pid, float(state.get("updated", 0.0)))


def read_json(path: Path) -> dict[str, Any]:
    """A small JSON file of a run, cleaned; empty where there is none, it is being replaced, or is no such file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return _clean(values) if isinstance(values, dict) else {}
    except Exception:  # whatever is in it
        return {}


_TEXTS, _WHOLE = ("status", "message", "host", "how"), ("pid", "step", "steps")


def _clean(values: dict[str, Any]) -> dict[str, Any]:
    """What a file of a run says, without what is not of the kind that it should be: somebody else may have written it."""
    cleaned: dict[str, Any] = {}
    for name, value in values.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if name in _TEXTS:
            if isinstance(value, str):
                cleaned[name] = value
        elif number and abs(value) < 2**62:
            cleaned[name] = int(value) if name in _WHOLE else float(value)
    return cleaned


def is_of_run(pid: int, path: Path) -> bool:
    """Whether a process was started for this run, as far as the system tells: a folder's word is not enough to end one."""
    if pid <= 1:
        return False
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return not Path("/proc/self/cmdline").exists()  # a system that does not tell
    names = {os.fsencode(path), os.fsencode(path / RECIPE), os.fsencode(os.path.realpath(path))}
    is_training = b"train" in words and any(os.path.basename(word) == b"pspnet" for word in words)
    return is_training or not names.isdisjoint(words)
