"""Processes that are measured in turns. Standard library only: it also runs in other projects' environments.

The parent starts one process for each contestant, waits until all are ready, and lets each run once per round. A child
calls `serve(work)`: it answers each line "go" with a line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import IO, Any, NoReturn

from pspnet.bench.process_memory import forget_peak, memory_mib

QUIET_LOAD = 0.15  # of a core, over a minute: what an idle system and this program's own start need


@dataclass(frozen=True)
class Contestant:
    """What is measured: a command whose process calls `serve`."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Measured:
    """One contestant's laps in seconds: by the clock, and of processor time over all its threads.

    ready_mib: resident memory when it was ready. peak_mib: the most while it ran. failure: why it could not run.
    """

    name: str
    wall_s: list[float] = field(default_factory=list)
    processor_s: list[float] = field(default_factory=list)
    ready_mib: float = 0.0
    peak_mib: float = 0.0
    about: dict[str, Any] = field(default_factory=dict)
    failure: str = ""

    @property
    def median_s(self) -> float:
        return median(self.wall_s)

    @property
    def median_processor_s(self) -> float:
        return median(self.processor_s)


def take_turns(
    contestants: Sequence[Contestant],
    rounds: int,
    warmups: int = 1,
    report_line: Callable[[str], None] = lambda line: None,
) -> dict[str, Measured]:
    """Each contestant runs once per round, after `warmups` rounds that do not count. One that fails is left out."""
    measured = {c.name: Measured(c.name) for c in contestants}
    running: dict[str, subprocess.Popen[str]] = {}
    try:
        for contestant in contestants:  # one after the other: two that load at once would disturb each other
            report_line(f"preparing {contestant.name}")
            process = subprocess.Popen(
                contestant.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, **contestant.environment},
            )
            running[contestant.name] = process
            _hear(process, measured[contestant.name])
        for turn in range(warmups + rounds):
            report_line(f"round {turn + 1} of {warmups + rounds}")
            for name, process in running.items():
                result = measured[name]
                if result.failure:
                    continue
                lap = _ask(process, result)
                if lap and turn >= warmups:
                    result.wall_s.append(lap["wall_s"])
                    result.processor_s.append(lap["processor_s"])
                    result.peak_mib = lap["peak_mib"]
    finally:
        for process in running.values():
            process.kill()
            process.communicate()
    return measured


def alternate(
    works: Mapping[str, Callable[[], Any]],
    rounds: int,
    warmups: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds that each work took in each round, in this process; in turns, so that a busy moment slows all of them.

    Rounds that only warm up come first. clock: `time.process_time` counts what this process computed, whatever others run.
    """
    laps: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(warmups + rounds):
        for name, work in works.items():
            began = clock()
            work()
            if turn >= warmups:
                laps[name].append(clock() - began)
    return laps


def ratios(slow: Measured, fast: Measured, processor: bool = False) -> list[float]:
    """slow / fast of each round, sorted: the middle one is the median of the pairs."""
    first, second = (slow.processor_s, fast.processor_s) if processor else (slow.wall_s, fast.wall_s)
    return sorted(a / b for a, b in zip(first, second, strict=False))


def figures(result: Measured, first: Measured | None = None) -> dict[str, Any]:
    """One contestant's row: medians in milliseconds, memory, what it says of itself, every lap; or why it did not run.

    first: the one it is compared with; `ratio` is the median over the rounds of (first's time / this one's in that round).
    """
    if result.failure:
        return {"name": result.name, "failure": result.failure}
    row: dict[str, Any] = {"name": result.name, "ms": round(result.median_s * 1e3, 2)}
    row["processor_ms"] = round(result.median_processor_s * 1e3, 2)
    if first is not None:
        row["ratio"] = round(median(ratios(first, result)), 3)
        row["processor_ratio"] = round(median(ratios(first, result, processor=True)), 3)
    row |= {"peak_mib": result.peak_mib, "beyond_mib": round(result.peak_mib - result.ready_mib, 1), **result.about}
    return row | {"wall_s": result.wall_s, "processor_s": result.processor_s}


def load_per_core() -> float | None:
    """Programs that wanted a processor during the last minute, for each core; None where the system does not say."""
    return os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else None


def wait_for_quiet(
    minutes: float,
    most: float = QUIET_LOAD,
    report_line: Callable[[str], None] = lambda line: None,
    look_s: float = 15.0,
) -> float | None:
    """Waits until the load of a core is below `most`, at most `minutes`, and returns the load. A long table that was made on
    a busy machine means nothing: whoever publishes one says this number beside it."""
    until = time.monotonic() + 60 * minutes
    while (load := load_per_core()) is not None and load > most and (left := until - time.monotonic()) > 0:
        report_line(f"load {load:.2f} a core; waiting for {most:.2f}, {left / 60:.0f} min at most")
        time.sleep(min(look_s, left))
    return load


def _ask(process: subprocess.Popen[str], result: Measured) -> dict[str, Any]:
    try:
        _pipe(process.stdin).write("go\n")
        _pipe(process.stdin).flush()
    except BrokenPipeError:
        pass  # it ended: its last words say why
    return _hear(process, result)


def _hear(process: subprocess.Popen[str], result: Measured) -> dict[str, Any]:
    for line in _pipe(process.stdout):
        if line.startswith("{"):
            said: dict[str, Any] = json.loads(line)
            result.failure = said.pop("failure", "")
            result.ready_mib = said.pop("ready_mib", result.ready_mib)
            result.about.update(said.pop("about", {}))
            return said
    words = _pipe(process.stderr).read().strip().splitlines()
    result.failure = words[-1] if words else f"it ended with exit code {process.wait()}"
    return {}


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def serve(prepare: Callable[[], tuple[Callable[[], Any], dict[str, Any]]]) -> NoReturn:
    """The child's side: prepares, then runs once for each line "go". prepare: () -> (work, facts to report)."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    try:
        work, about = prepare()
    except Exception as error:  # the parent shows it in its table
        _answer(answers, failure=f"{type(error).__name__}: {error}".splitlines()[0])
        sys.exit(1)
    forget_peak()
    _answer(answers, ready_mib=round(memory_mib("VmRSS"), 1), about=about)
    for _ in sys.stdin:
        wall, processor = time.perf_counter(), time.process_time()
        work()
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        _answer(answers, wall_s=wall, processor_s=processor, peak_mib=round(memory_mib("VmHWM"), 1))
    sys.exit(0)


def _answer(stream: IO[str], **values: Any) -> None:
    stream.write(json.dumps(values) + "\n")
    stream.flush()
