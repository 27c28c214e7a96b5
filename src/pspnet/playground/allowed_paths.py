"""Which files the page may touch: those below the folders it was started with, symbolic links resolved.

What somebody writes is resolved once, and the resolved path is what is used from then on: a run has another working folder
than the page. Files that a data set points to are checked where they are opened (`pspnet.files.path_limits`), by the page and by
the runs that it starts; a data set's folder is looked through for links before anything in it is read.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pspnet.config import TrainConfig
from pspnet.config.paths import MAYBE_PATHS, path_fields
from pspnet.data.dataset import Dataset
from pspnet.errors import ConfigError
from pspnet.weights.bundled import bundled_models

MAX_FOLDERS = 300  # that a list on the page shows
MAX_ENTRIES = 2_000_000  # of a data set's folder that are looked at for links


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
        path = Path(os.path.realpath(self.folders[0] / given))
        if not self.holds(path):
            raise ConfigError(
                f"{what} = '{text}' lies outside the folders of this page: {', '.join(map(str, self.folders))}. Choose a "
                "file below them, or start the playground with another --root"
            )
        return path

    def shown(self, path: str | Path) -> str:
        """A path as the page writes it: from the first root where it lies there."""
        real = Path(path)
        return str(real.relative_to(self.folders[0])) if self.folders[0] in real.parents else str(real)

    def subfolders(self, depth: int = 3) -> list[str]:
        """Folders below the roots, as the page writes them: not hidden ones, and links only to places inside."""
        names: list[str] = []
        level = list(self.folders)
        for _ in range(depth):
            level = [child for parent in level for child in _children(parent) if self.holds(child)]
            names += [self.shown(child) for child in level]
            if len(names) > MAX_FOLDERS:
                break
        return sorted(names[:MAX_FOLDERS])

    def files(self, suffixes: Sequence[str], depth: int = 2) -> list[str]:
        """Files below the roots whose names end so, as the page writes them."""
        folders = [*self.folders, *(self.path(name) for name in self.subfolders(depth))]
        files = [file for folder in folders for file in _entries(folder) if file.suffix in suffixes and file.is_file()]
        return [self.shown(file) for file in files[:MAX_FOLDERS] if self.holds(file)]

    def resolve_settings(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of a run with every path in them resolved. Raises ConfigError for one outside.

        Paths are the fields of that type in the schema, and whatever among a layout's options could be one.
        """
        resolved = copy.deepcopy(dict(values))
        for name in (*path_fields(TrainConfig), *MAYBE_PATHS):
            *parents, leaf = name.split(".")
            node: Any = resolved
            for part in parents:
                node = node.get(part) if isinstance(node, dict) else None
            given = node.get(leaf) if isinstance(node, dict) else None
            if given and str(given) not in ("random", "imagenet", *bundled_models()):
                node[leaf] = str(self.path(given, name))
        data = resolved.get("data") or {}
        if data.get("root"):
            self.check_links(Path(data["root"]))
        for field in ("options", "val_options"):
            options = data.get(field) or {}
            for name, value in options.items():
                for text in _texts(value):
                    self._check_option(text, data.get("root"), f"data.{field}.{name}")
                if name == "classes" and isinstance(value, str) and Path(value).suffix.lower() in (".csv", ".json"):
                    options[name] = str(self._class_table(value, data.get("root")))
        return resolved

    def _check_option(self, text: str, root: str | None, what: str) -> None:
        """An option may name a file from the data set's folder, or from the first root; either must be inside."""
        given = Path(text).expanduser()
        if "\0" in text or ".." in given.parts:
            raise ConfigError(f"{what} = {text!r}: '..' is refused; write the path from the data set's folder on")
        folder = Path(root) if root else self.folders[0]
        base = folder if folder.is_dir() else folder.parent
        for candidate in (base / given, self.folders[0] / given):
            self.path(candidate, what)

    def _class_table(self, text: str, root: str | None) -> Path:
        """The class table that an option names: beside the data where it is there, else from the first root."""
        folder = Path(root) if root else self.folders[0]
        in_data_folder = (folder if folder.is_dir() else folder.parent) / Path(text).expanduser()
        return self.path(in_data_folder if in_data_folder.is_file() else text, "classes")

    def check_links(self, root: Path) -> None:
        """Refuses a data set's folder in which a link leads outside, before anything in it is read."""
        visited: set[str] = set()
        waiting, entries = [str(root)] if root.is_dir() else [], 0
        while waiting:
            folder = os.path.realpath(waiting.pop())
            if folder in visited:
                continue
            visited.add(folder)
            try:
                listed = list(os.scandir(folder))
            except OSError:  # may not be read: whoever reads it says so
                continue
            entries += len(listed)
            if entries > MAX_ENTRIES:
                raise ConfigError(f"'{root}' holds more than {MAX_ENTRIES:,} files; choose a folder further down")
            for entry in listed:
                if entry.is_symlink() and not self.holds(entry.path):
                    raise ConfigError(
                        f"'{entry.path}' is a link to '{os.path.realpath(entry.path)}', which lies outside the folders of "
                        f"this page ({', '.join(map(str, self.folders))}); start the playground with a --root that holds it"
                    )
                if entry.is_dir():
                    waiting.append(entry.path)

    def check_dataset(self, dataset: Dataset) -> None:
        """Refuses an opened data set that holds a path outside, wherever in it the path stands."""
        for file in _paths_in(dataset):
            if not self.holds(file):
                raise ConfigError(
                    f"'{file}' of this data set lies outside the folders of this page "
                    f"({', '.join(map(str, self.folders))}); start the playground with a --root that holds it"
                )


def _paths_in(value: Any, visited: set[int] | None = None, depth: int = 0) -> Iterator[Path]:
    """Every Path that an object of this package holds, in its attributes, lists and tables."""
    visited = set() if visited is None else visited
    if id(value) in visited or depth > 12:
        return
    visited.add(id(value))
    if isinstance(value, Path):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _paths_in(inner, visited, depth + 1)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for inner in value:
            if not isinstance(inner, (int, float, str)):
                yield from _paths_in(inner, visited, depth + 1)
    elif type(value).__module__.startswith("pspnet."):
        names = [*getattr(value, "__dict__", {}), *getattr(type(value), "__slots__", ())]
        for name in names:
            yield from _paths_in(getattr(value, name, None), visited, depth + 1)


def _children(folder: Path) -> list[Path]:
    return [entry for entry in _entries(folder) if entry.is_dir()]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
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
