"""The files of a folder that a command works on: one way to list them, which counts and names what it leaves out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pspnet.errors import DataError

MOST_FOLDERS = 200_000  # links between folders can make a tree without end


@dataclass
class Listing:
    """files: sorted paths below the folder. left_out: why -> paths of what was passed over."""

    files: list[Path] = field(default_factory=list)
    left_out: dict[str, list[Path]] = field(default_factory=dict)

    def pass_over(self, why: str, path: Path) -> None:
        self.left_out.setdefault(why, []).append(path)

    def note(self, names: int = 3) -> str:
        """What was left out in a line: "3 left out: 2 .heic (a.heic, b.heic), 1 hidden (._c.jpg)"; empty for nothing."""
        total = sum(len(paths) for paths in self.left_out.values())
        parts = []
        for why, paths in sorted(self.left_out.items()):
            named = ", ".join(path.name for path in paths[:names]) + (" ..." if len(paths) > names else "")
            parts.append(f"{len(paths)} {why} ({named})")
        return f"{total} left out: {', '.join(parts)}" if total else ""


def list_files(folder: str | Path, suffixes: Sequence[str], skip: Callable[[Path], str] | None = None) -> Listing:
    """The files below a folder with one of the endings (in any case), its sub-folders' too, sorted by path.

    Links to folders are followed (not into a folder that they lie in). Left out are hidden files and folders (._x.jpg
    and __MACOSX of a Mac), links to nothing, pipes, and files with other endings. skip: says why another file is left
    out, "" to keep it. Raises DataError where the folder cannot be listed.
    """
    listing = Listing()
    folder, endings = Path(folder), {suffix.lower() for suffix in suffixes}
    count = 0

    def walk(current: Path, above: tuple[str, ...]) -> None:
        nonlocal count
        count += 1
        if count > MOST_FOLDERS:
            raise DataError(f"'{folder}' has more than {MOST_FOLDERS:,} folders, links between them counted")
        try:
            with os.scandir(current) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(f"'{current}' cannot be listed: {error.strerror or error}") from error
        for entry in inside:
            path = current / entry.name
            hidden = entry.name.startswith(".") or entry.name == "__MACOSX"
            if _is_folder(entry):
                real = os.path.realpath(path)
                if not hidden and real not in above:
                    walk(path, (*above, real))
            elif path.suffix.lower() not in endings:
                if not hidden:
                    listing.pass_over(path.suffix.lower() or "without an ending", path)
            elif hidden:
                listing.pass_over("hidden", path)
            elif not path.is_file():
                listing.pass_over("no file (a link to nothing, a pipe)", path)
            elif skip is not None and (why := skip(path)):
                listing.pass_over(why, path)
            else:
                listing.files.append(path)

    walk(folder, (os.path.realpath(folder),))
    listing.files.sort()
    return listing


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False
