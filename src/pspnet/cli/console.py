"""What commands share in showing things: the console, a progress bar, and how a command refuses."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from pspnet.terminal import PlainConsole, printable

console = PlainConsole(soft_wrap=True)


def fail(message: str) -> NoReturn:
    """Ends the command as wrongly used: exit code 2."""
    from pspnet.errors import ConfigError

    raise ConfigError(message)


def options_of(texts: list[str] | None) -> dict[str, Any]:
    """["size=128", "classes=a.csv"] -> {"size": 128, "classes": "a.csv"}; values are read as YAML."""
    from pspnet.config import with_overrides

    return with_overrides({}, texts or [])


def each(advance: Callable[[int], None]) -> Callable[[int, int], None]:
    """A bar's function as the callback (done, total) that long jobs call after each item, or again for none."""
    last = 0

    def advance_to(done: int, _total: int) -> None:
        nonlocal last
        advance(done - last)
        last = done

    return advance_to


LINE_EVERY_S = 60.0  # where no bar can be drawn: a log file, a batch system


def minute_lines(title: str) -> Callable[[str], None]:
    """A function that prints "TITLE: TEXT" to standard error, at most once a minute; the first line after a minute."""
    last = time.monotonic()

    def line(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_EVERY_S:
            last = time.monotonic()
            print(printable(f"{title}: {text}"), file=sys.stderr, flush=True)

    return line


def sides_of(text: str) -> tuple[int, int]:
    """ "480x640" -> (480, 640), "480" -> (480, 480). Ends the command where it is neither."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        fail(f"--size {text}: a number of pixels such as 480, or HEIGHTxWIDTH such as 1024x2048")
    return int(sides[0]), int(sides[-1])


@contextmanager
def progress_bar(title: str, total: int | None, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """A bar with rate and time left; gives a function to advance it. total: None where nobody knows it yet."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    errors = PlainConsole(stderr=True)
    if not errors.is_terminal:
        done, line = 0, minute_lines(title)

        def count_up(count: int) -> None:
            nonlocal done
            done += count
            line(f"{done}" + (f" of {total}" if total else "") + f" {unit}")

        yield count_up
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task(title, total=total, rate="")

        def advance(count: int) -> None:
            bar.advance(task, count)
            speed = bar.tasks[0].speed
            bar.update(task, rate=f"{speed:.3g} {unit}/s" if speed else "")

        yield advance
