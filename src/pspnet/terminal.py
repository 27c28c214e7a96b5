"""The terminal shows text as it is. Names of files, classes and models are other people's: brackets in them are no
markup, ":car:" is no picture, and a control character is shown, not obeyed."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
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
