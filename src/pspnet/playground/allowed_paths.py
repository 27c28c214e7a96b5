"""Which files the page may touch: those below the folders it was started with, symbolic links resolved."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pspnet.data.dataset import Dataset
from pspnet.errors import ConfigError

MAX_FOLDERS = 300  # that a list on the page shows
PATH_FIELDS = ("data.root", "init_from", "model.encoder_weights")  # settings of a run that name files


class Roots:
    """The folders that a page may read and write. Relative paths are taken from the first one.

    Raises ConfigError when a folder does not exist.
    """

    def __init__(self, folders: Sequence[str | Path]) -> None:
        if not folders:
            raise ConfigError("no root was given; the page needs at least one folder to work in")
        for folder in folders:
            if not Path(folder).is_dir():
                raise ConfigError(f"root '{folder}' is not a folder; give one that exists")
        self.folders = tuple(Path(folder).resolve() for folder in folders)

    def holds(self, path: str | Path) -> bool:
        """Whether a path lies in a root after all of its links are followed. It need not exist."""
        real = Path(os.path.realpath(path))
        return any(real == root or root in real.parents for root in self.folders)

    def path(self, text: str | Path, what: str = "path") -> Path:
        """The real path behind what somebody wrote. Raises ConfigError for '..' and for anything outside the roots."""
        given = Path(str(text).strip()).expanduser()
        if "\0" in str(text):
            raise ConfigError(f"{what} = {str(text)!r}: a path holds no zero byte")
        if ".." in given.parts:
            raise ConfigError(f"{what} = '{text}': '..' is refused; write the path from the root on")
        found = Path(os.path.realpath(self.folders[0] / given))
        if not self.holds(found):
            raise ConfigError(
                f"{what} = '{text}' lies outside the folders of this page: {', '.join(map(str, self.folders))}. Choose a "
                "file below them, or start the playground with another --root"
            )
        return found

    def shown(self, path: str | Path) -> str:
        """A path as the page writes it: from the first root where it lies there."""
        real = Path(path)
        return str(real.relative_to(self.folders[0])) if self.folders[0] in real.parents else str(real)

    def subfolders(self, depth: int = 3) -> list[str]:
        """Folders below the roots, as the page writes them: not hidden ones, and links only to places inside."""
        found: list[str] = []
        level = list(self.folders)
        for _ in range(depth):
            level = [child for parent in level for child in _children(parent) if self.holds(child)]
            found += [self.shown(child) for child in level]
            if len(found) > MAX_FOLDERS:
                break
        return sorted(found[:MAX_FOLDERS])

    def check_settings(self, values: dict[str, Any]) -> None:
        """Refuses settings of a run that name a file outside: known fields, and any text among the layout's options."""
        for name in PATH_FIELDS:
            place: Any = values
            for part in name.split("."):
                place = place.get(part) if isinstance(place, dict) else None
            if place and place not in ("random", "imagenet"):
                self.path(place, name)
        data = values.get("data") or {}
        for field in ("options", "val_options"):
            for text in _texts(data.get(field) or {}):
                if os.sep in text or ".." in text or Path(text).exists():
                    self.path(text, f"data.{field}")

    def check_dataset(self, dataset: Dataset) -> None:
        """Refuses a data set whose files lie outside, by a link or by a list of files."""
        for file in dataset.sources():
            if not self.holds(file):
                raise ConfigError(
                    f"'{file}' of this data set lies outside the folders of this page "
                    f"({', '.join(map(str, self.folders))}); start the playground with a --root that holds it"
                )


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if not p.name.startswith(".") and p.is_dir())
    except OSError:  # may not be read, or is gone by now
        return []


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts(inner)
