"""Runs what a guide shows: its blocks of Python in one namespace, its commands in this process (a start takes seconds)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pspnet.cli import _run


def blocks(page: Path, *languages: str) -> list[tuple[str, str]]:
    """(language, code) of a page's fenced blocks in these languages, in their order; of all without languages."""
    fenced = re.findall(r"^```([^\n]*)\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return [(language, code) for language, code in fenced if not languages or language in languages]


class GuideRunner:
    """Runs blocks one after the other, as a reader would, with what makes them short.

    additions: first words of a command -> arguments that are added to it. replaced: text in a command or in Python -> what
    stands for it. stand_ins: a command -> a function called in its place. `unused` says which of these met nothing.
    """

    def __init__(
        self,
        additions: Mapping[str, Sequence[str]] | None = None,
        replaced: Mapping[str, str] | None = None,
        stand_ins: Mapping[str, Callable[[], object]] | None = None,
    ) -> None:
        self.additions, self.replaced, self.stand_ins = additions or {}, replaced or {}, stand_ins or {}
        self.names: dict[str, Any] = {}
        self.unused = {*self.additions, *self.replaced, *self.stand_ins}

    def run(self, language: str, code: str) -> None:
        for long, short in self.replaced.items():
            if long in code:
                self.unused -= {long}
                code = code.replace(long, short)
        if language == "python":
            exec(compile(code, "guide", "exec"), self.names)
            return
        for line in code.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                self.command(words)

    def command(self, words: list[str]) -> None:
        """`pspnet ...` must end with 0; installing, starting other programs and moving about is left to the reader."""
        line = " ".join(words)
        if line in self.stand_ins:
            self.unused -= {line}
            self.stand_ins[line]()
            return
        assert words[0] == "pspnet", f"{line!r} runs in no test: mark its block `text`, or give it a stand-in"
        start = next((start for start in self.additions if line.startswith(start)), "")
        self.unused -= {start}
        assert _run([*words[1:], *self.additions.get(start, [])], debug=True) == 0, line
