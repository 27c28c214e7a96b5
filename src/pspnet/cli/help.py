"""How `pspnet --help` lists the commands: by what a reader wants to do, a whole sentence each."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperGroup

GROUPS: dict[str, tuple[str, ...]] = {
    "Use a model": ("segment", "raster", "serve", "playground", "models", "info"),
    "Train": ("demo", "train", "evaluate", "explore", "ablate", "adapt", "calibrate"),
    "Data": ("data",),
    "Ship": ("export", "import", "bench", "doctor"),
}


class GroupedCommands(TyperGroup):
    """Commands under headings. One that no heading names comes under "More", so that none is lost."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        commands = {name: command for name in self.list_commands(ctx) if (command := self.get_command(ctx, name))}
        named = {name for names in GROUPS.values() for name in names}
        groups = {**GROUPS, "More": tuple(name for name in commands if name not in named)}
        for title, names in groups.items():
            rows = [(name, first_sentence(commands[name].help or "")) for name in names if name in commands]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def first_sentence(text: str) -> str:
    """A help text up to its first full stop, in one line, without the stop."""
    line = " ".join(text.split("\n\n")[0].split())
    return re.split(r"\.(?:\s|$)", line, maxsplit=1)[0]
