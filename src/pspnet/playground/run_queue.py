"""Runs as processes of their own. A run is its folder: the page starts, stops and queues, and otherwise only reads.

Besides what training writes (see `pspnet.training.run_folder`), the page keeps in a run's folder:

    recipe.yaml      what was asked for
    waiting.json     there while the run waits in the queue: when it was put there, and whether to go on or to begin
    process.json     process id and start of the latest process
    log.txt          everything that its processes printed
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pspnet.config import TrainConfig
from pspnet.errors import ConfigError, TrainingError
from pspnet.files import write_text
from pspnet.machine import at_work
from pspnet.training.run_folder import RunFolder, new_run_dir

# -P: a file in the working folder is no module of the program
PROGRAM = (sys.executable, "-P", "-m", "pspnet", "train")
RECIPE, WAITING, PROCESS, LOG = "recipe.yaml", "waiting.json", "process.json", "log.txt"
ACTIVE = ("starting", "preparing", "running", "validating")


@dataclass(frozen=True)
class RunState:
    """What a folder tells about its run. status: queued, starting, preparing, running, validating, finished, stopped,
    failed. message: why it ended, where that is known. state: state.json."""

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
    def can_resume(self) -> bool:
        return self.status in ("stopped", "failed")


class RunQueue:
    """The runs in one folder, of which `at_once` compute at the same time; the others wait in the order they came.

    program: what is started, with a recipe or with --resume and a folder behind it.
    """

    def __init__(self, folder: Path, at_once: int = 1, program: Sequence[str] = PROGRAM) -> None:
        self.folder, self.at_once, self.program = folder, at_once, tuple(program)
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def names(self) -> list[str]:
        """Every run of the folder, the latest first. Empty where the folder is gone."""
        try:
            found = [p for p in self.folder.iterdir() if (p / RECIPE).is_file() or (p / "config.yaml").is_file()]
            return [p.name for p in sorted(found, key=lambda p: -_changed(p))]
        except OSError:
            return []

    def path(self, name: str) -> Path:
        """The folder of a run. Raises TrainingError for a name that is none, or when it is gone."""
        if not name or Path(name).name != name or name in (".", ".."):
            raise ConfigError(f"run = {name!r}: choose one of the list")
        path = self.folder / name
        if not path.is_dir():
            raise TrainingError(
                f"the folder of the run '{name}' is gone ('{path}'). Was it moved or removed? Choose another run"
            )
        return path

    def state(self, name: str) -> RunState:
        """What the folder tells now. Raises TrainingError when it is gone."""
        path = self.path(name)
        self._reap()
        process = _read(path / PROCESS)
        alive = bool(process) and at_work(int(process["pid"]), float(process["started"]))
        state = _read(path / "state.json")
        if (path / WAITING).exists():
            return RunState(path, "queued", "waits for the runs before it", state)
        if alive and float(state.get("updated", 0)) < float(process["started"]):
            return RunState(path, "starting", "the process loads its libraries", state)
        if not state:
            if alive:
                return RunState(path, "preparing", "reading the data", state)
            reason = "ended before its first step; its log says why" if process else "was taken out of the queue"
            return RunState(path, "failed" if process else "stopped", reason, state)
        status, message = RunFolder.open(path).status(), str(state.get("message", ""))
        if status == "killed" or (process and not alive and status in ACTIVE):
            return RunState(
                path,
                "stopped",
                f"its process (id {state['pid']}) ended without a word: killed, or out of memory. "
                "Resume goes on from the last saved state",
                state,
            )
        if status == "interrupted":
            return RunState(path, "stopped", message.split(" Go on with:")[0], state)
        return RunState(path, status, message, state)

    def submit(self, config: TrainConfig) -> str:
        """Writes the recipe into a new folder and puts it into the queue; returns the run's name."""
        with plain_words(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._lock():
                path = new_run_dir(config.changed(run_dir=None), self.folder)
                if path.parent != self.folder:
                    raise ConfigError(f"name = '{config.name}': a run's name is a folder's name, without '/'")
                path.mkdir()
                try:
                    given = config.changed(run_dir=path).model_dump(mode="json", exclude_unset=True)
                    write_text(path / RECIPE, _yaml(given))
                    self._enqueue(path, "start")
                except OSError:
                    _remove(path)
                    raise
        self.tick()
        return path.name

    def resume(self, name: str) -> None:
        """Puts a stopped run into the queue again. Raises TrainingError for one that is not stopped."""
        state = self.state(name)
        if not state.can_resume:
            raise TrainingError(f"the run '{name}' is {state.status}: only a stopped or failed run can be resumed")
        with plain_words(state.path):
            self._enqueue(state.path, "resume" if (state.path / "config.yaml").exists() else "start")
        self.tick()

    def stop(self, name: str) -> None:
        """Asks a run to save its state and end (SIGTERM), or takes it out of the queue."""
        state = self.state(name)
        if state.status == "queued":
            (state.path / WAITING).unlink(missing_ok=True)
            return
        if not state.active:
            raise TrainingError(f"the run '{name}' is {state.status}: there is nothing to stop")
        starting = state.status == "starting" or not state.state
        source = _read(state.path / PROCESS) if starting else state.state
        with suppress(ProcessLookupError):  # it ended a moment ago
            os.kill(int(source["pid"]), signal.SIGTERM)

    def tick(self) -> None:
        """Starts what waits, as far as there is room. Called again and again while the page is served."""
        if not self.folder.is_dir():
            return
        self._reap()
        with self._lock():
            names = self.names()
            waiting = sorted(
                (n for n in names if (self.folder / n / WAITING).exists()),
                key=lambda n: float(_read(self.folder / n / WAITING).get("since", 0)),
            )
            if waiting:
                busy = sum(self.state(n).active for n in names if n not in waiting)
                for name in waiting[: max(0, self.at_once - busy)]:
                    self._start(self.folder / name)

    def log(self, name: str, characters: int = 6000) -> str:
        """The end of what a run's processes printed."""
        try:
            text = (self.path(name) / LOG).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        return text[-characters:]

    def _enqueue(self, path: Path, how: str) -> None:
        write_text(path / WAITING, json.dumps({"since": time.time(), "how": how}))

    def _start(self, path: Path) -> None:
        """Starts a process that outlives this one: a session of its own, its words in a file."""
        how = _read(path / WAITING).get("how", "start")
        what = ["--resume", str(path)] if how == "resume" else [str(path / RECIPE)]
        with plain_words(path), (path / LOG).open("ab") as log:
            log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {how}\n".encode())
            log.flush()
            child = subprocess.Popen(
                [*self.program, *what],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=path,
            )
            self._children[child.pid] = child
            write_text(path / PROCESS, json.dumps({"pid": child.pid, "started": time.time()}))
        (path / WAITING).unlink(missing_ok=True)

    def _reap(self) -> None:
        for pid, child in list(self._children.items()):
            if child.poll() is not None:
                self._children.pop(pid, None)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One at a time among threads and among servers of the same folder."""
        with (self.folder / ".queue.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


@contextmanager
def plain_words(place: Path) -> Iterator[None]:
    """Turns what the system says about a file into what a reader can do about it."""
    try:
        yield
    except OSError as error:
        raise TrainingError(in_plain_words(error, place)) from error


def in_plain_words(error: OSError, place: Path | str = "") -> str:
    """A full disk, a folder that is gone and the like, said plainly, with the next step."""
    where = error.filename or place
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"the disk is full: '{where}' could not be written. Free some space, then try again"
    if error.errno == errno.ENOENT:
        return f"'{where}' is gone. Was the folder moved or removed? Reload the page and choose again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"'{where}' may not be read or written by the user who started the playground; change its permissions"
    return f"'{where}': {error.strerror or error}"


def _yaml(values: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


def _read(path: Path) -> dict[str, Any]:
    """A small JSON file; empty where there is none or it is being replaced."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _remove(path: Path) -> None:
    for file in path.iterdir():
        file.unlink(missing_ok=True)
    path.rmdir()


def _changed(path: Path) -> float:
    """When a run was made."""
    for name in (RECIPE, "config.yaml"):
        try:
            return (path / name).stat().st_mtime
        except OSError:
            continue
    return 0.0
