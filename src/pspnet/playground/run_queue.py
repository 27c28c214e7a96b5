"""Runs as processes of their own. A run is its folder: the page starts, stops and queues, and otherwise only reads."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pspnet.config import TrainConfig
from pspnet.errors import ConfigError, TrainingError
from pspnet.files import not_through_links, wait_for_lock, write_text
from pspnet.files.path_limits import is_below
from pspnet.playground.run_state import LOG, PROCESS, RECIPE, WAITING, RunState, is_of_run, read_json, read_run
from pspnet.training.run_folder import new_run_dir

# -P: a file in the working folder is no module of the program
PROGRAM = (sys.executable, "-P", "-m", "pspnet", "train")


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
            folders = [p for p in self.folder.iterdir() if self._is_run(p)]
            return [p.name for p in sorted(folders, key=lambda p: -_changed(p))]
        except OSError:
            return []

    def _is_run(self, path: Path) -> bool:
        """A folder here with a recipe or a config, none of them a link to elsewhere."""
        here = [os.path.realpath(self.folder)]
        files = [path / RECIPE, path / "config.yaml"]
        return any(file.is_file() for file in files) and all(is_below(file, here) for file in (path, *files))

    def path(self, name: str) -> Path:
        """The folder of a run. Raises TrainingError for a name that is none, or when it is gone."""
        if (
            not isinstance(name, str)
            or not name
            or "\0" in name
            or len(os.fsencode(name)) > 255
            or Path(name).name != name
            or name in (".", "..")
        ):
            raise ConfigError(f"run = {name!r}: choose one of the list")
        path = self.folder / name
        if path.is_dir() and not is_below(path, [os.path.realpath(self.folder)]):
            raise ConfigError(f"run = '{name}': a link to another folder is no run of this page")
        if not path.is_dir():
            raise TrainingError(
                f"the folder of the run '{name}' is gone ('{path}'). Was it moved or removed? Choose another run"
            )
        return path

    def state(self, name: str) -> RunState:
        """What the folder tells now. Raises TrainingError when it is gone; one that makes no sense is "damaged"."""
        path = self.path(name)
        self._reap()
        return read_run(path)

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
        source = read_json(state.path / PROCESS) if starting else state.state
        number = int(source.get("pid", -1))
        if not is_of_run(number, state.path):
            raise TrainingError(
                f"the run '{name}' says that process {number} computes it, which is not so; it is left alone"
            )
        with suppress(ProcessLookupError):  # it ended a moment ago
            os.kill(number, signal.SIGTERM)

    def tick(self) -> None:
        """Starts what waits, as far as there is room. Called again and again while the page is served."""
        if not self.folder.is_dir():
            return
        self._reap()
        with self._lock():
            names = self.names()
            waiting = sorted(
                (n for n in names if (self.folder / n / WAITING).exists()),
                key=lambda n: read_json(self.folder / n / WAITING).get("since", 0.0),
            )
            if waiting:
                busy = sum(self.state(n).takes_place for n in names if n not in waiting)
                for name in waiting[: max(0, self.at_once - busy)]:
                    self._start(self.folder / name)

    def log(self, name: str, characters: int = 6000) -> str:
        """The end of what a run's processes printed."""
        try:
            file = self.path(name) / LOG
            if not is_below(file, [os.path.realpath(self.folder)]):
                return ""
            with file.open("rb") as stream:
                stream.seek(max(0, file.stat().st_size - 4 * characters))
                text = stream.read(4 * characters).decode("utf-8", "replace")
        except OSError:
            return ""
        return text[-characters:]

    def _enqueue(self, path: Path, how: str) -> None:
        write_text(path / WAITING, json.dumps({"since": time.time(), "how": how}))

    def _start(self, path: Path) -> None:
        """Starts a process that outlives this one: a session of its own, its words in a file."""
        how = read_json(path / WAITING).get("how", "start")
        what = ["--resume", str(path)] if how == "resume" else [str(path / RECIPE)]
        with plain_words(path), open(path / LOG, "ab", opener=not_through_links) as log:
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
        with open(self.folder / ".queue.lock", "ab", opener=not_through_links) as file:
            wait_for_lock(file)
            yield


@contextmanager
def plain_words(path: Path) -> Iterator[None]:
    """Turns what the system says about a file into what a reader can do about it."""
    try:
        yield
    except OSError as error:
        raise TrainingError(in_plain_words(error, path)) from error


def in_plain_words(error: OSError, path: Path | str = "") -> str:
    """A full disk, a folder that is gone and the like, said plainly, with the next step."""
    where = error.filename or path
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
