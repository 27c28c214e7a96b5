"""The terminal shows text as it is. Names of files, classes and models are other people's: brackets in them are no
markup, ":car:" is no picture, and a control character is shown, not obeyed."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import Any

from rich.console import Console
from rich.text import Text

# all but tab and new line; also what turns the direction of the text after it round
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class PlainConsole(Console):
    """rich's console without its markup, emoji codes and highlighting. Styles are given as `style=` or as a Text."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)


def printable(text: str) -> str:
    """The text with control characters written out: a file's name must not colour or clear a terminal.

    >>> printable("\\x1b[31mred.png")
    '\\\\x1b[31mred.png'
    >>> printable("\\u202egnp.exe")
    '\\\\u202egnp.exe'
    """
    return _CONTROL.sub(_written_out, text)


def _written_out(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def show_any_text() -> None:
    """Lets standard output and error take any text: what their encoding lacks is written as \\udce9, \\u65e5 ..."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            with suppress(ValueError, OSError):
                stream.reconfigure(errors="backslashreplace")


def duration(seconds: float) -> str:
    """3725.0 -> '1:02:05'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@contextmanager
def progress_bar(
    title: str, total: int | None, unit: str = "images", *, quiet: bool = False
) -> Iterator[Callable[..., None]]:
    """A bar with rate and time left; gives a function to advance it. Where no bar can be drawn, a line each minute.

    total: None where nobody knows it yet; the function takes it too, `advance(1, total=20)`. quiet: nothing is shown.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    errors = PlainConsole(stderr=True)
    if quiet:
        yield lambda count, total=None: None
        return
    if not errors.is_terminal:
        done, line = 0, minute_lines(title)

        def count_up(count: int, total: int | None = total) -> None:
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

        def advance(count: int, total: int | None = total) -> None:
            bar.update(task, advance=count, total=total)
            speed = bar.tasks[0].speed
            bar.update(task, rate=f"{speed:.3g} {unit}/s" if speed else "")

        yield advance


def each(advance: Callable[..., None]) -> Callable[[int, int], None]:
    """A bar's function as the callback (done, total) that long jobs call after each item, or again for none."""
    last = 0

    def advance_to(done: int, total: int) -> None:
        nonlocal last
        advance(done - last, total=total)
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
