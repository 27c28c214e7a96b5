"""What commands share in showing things: the console, a progress bar, and how a command refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from pspnet.terminal import PlainConsole

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
    """A bar's function as the callback (done, total) that long jobs call after each item."""
    return lambda _done, _total: advance(1)


@contextmanager
def progress_bar(title: str, total: int | None, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """A bar with rate and time left; gives a function to advance it. total: None where nobody knows it yet."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=PlainConsole(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total, rate="")

        def advance(count: int) -> None:
            bar.advance(task, count)
            speed = bar.tasks[0].speed
            bar.update(task, rate=f"{speed:.3g} {unit}/s" if speed else "")

        yield advance
