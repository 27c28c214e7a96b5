"""What commands share: the console, settings as name=value, and how a command refuses."""

from __future__ import annotations

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


def sides_of(text: str) -> tuple[int, int]:
    """ "480x640" -> (480, 640), "480" -> (480, 480). Ends the command where it is neither."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        fail(f"--size {text}: a number of pixels such as 480, or HEIGHTxWIDTH such as 1024x2048")
    return int(sides[0]), int(sides[-1])
