"""Archives that a user has downloaded: where they come from, whether they are whole, and how they are unpacked."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from pspnet.errors import DataError, parsing
from pspnet.files import Inputs, check_output, new_file

Progress = Callable[[int, int], None]  # (files done, files in all)
_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz")
_WAY_OUT = "It may be cut off or need a password; download it again or unpack it by hand"


@dataclass(frozen=True)
class PublishedArchive:
    """Where a data set comes from. where: how to get it and its terms, for a user to read.

    counts: images of each split. checksums: archive name -> "md5:..." or "sha1:...", where they are public.
    finish: what is left to do once the archives lie unpacked in a folder; it returns notes for the user.
    """

    where: str
    counts: Mapping[str, int]
    checksums: Mapping[str, str] = field(default_factory=dict)
    finish: Callable[[Path, Progress | None], list[str]] | None = None


def verify(archive: Path, checksums: Mapping[str, str]) -> bool:
    """Whether the archive's checksum is public and right. Raises DataError when it is public and differs."""
    expected = checksums.get(archive.name)
    if expected is None:
        return False
    kind, _, digest = expected.partition(":")
    with archive.open("rb") as stream:
        file_digest = hashlib.file_digest(stream, kind).hexdigest()
    if file_digest != digest:
        raise DataError(
            f"'{archive}' has the {kind} checksum {file_digest}, the published file {digest}: it is cut off, altered or "
            "another edition. Download it again, or turn the verification off when you know that it is right"
        )
    return True


def unpack(
    archive: Path,
    out: Path,
    progress: Progress | None = None,
    overwrite: bool = False,
    given: Iterable[str | Path] = (),
) -> int:
    """Unpacks a zip or tar below `out` and returns the number of files. Files that are there already are left.

    Refused before anything is written: members that would land outside `out`, links and devices, too little disk space;
    and, without overwrite, a file of another size that lies where a member goes: it is not this archive's.
    Each file is written whole or not at all, so an interrupted run is continued by the next. Zips inside a zip are
    unpacked too. given: other archives of the same call, which no member may replace. Raises DataError naming the archive and
    the member.
    """
    if not archive.is_file():
        raise DataError(f"'{archive}' does not exist; give the archive that you have downloaded")
    if not archive.name.lower().endswith(_SUFFIXES):
        raise DataError(f"'{archive}' is no archive that is understood ({', '.join(_SUFFIXES)})")
    with parsing(archive, DataError, "cannot be unpacked", _WAY_OUT), _members(archive) as (sizes, stream_of):
        for name in sizes:
            _check_name(archive, name)
        missing = {name: size for name, size in sizes.items() if not _is_there(out / name, size)}
        inputs = Inputs([archive, *given])
        for name in missing:
            check_output(out / name, inputs=inputs, overwrite=overwrite)
        _check_space(archive, out, sum(missing.values()))
        for done, name in enumerate(missing, start=1):
            with stream_of(name) as source:
                _write(out / name, source, archive)
            if progress is not None:
                progress(done, len(missing))
    inner = [out / name for name in sizes if name.lower().endswith(".zip")] if archive.suffix.lower() == ".zip" else []
    return len(sizes) + sum(unpack(path, path.parent, progress, overwrite, given) for path in inner)


@contextmanager
def _members(archive: Path) -> Iterator[tuple[dict[str, int], Callable[[str], IO[bytes]]]]:
    """The regular files in an archive with their sizes, and a function that opens one."""
    if archive.suffix.lower() == ".zip":
        with zipfile.ZipFile(archive) as zipped:
            infos = {info.filename: info for info in zipped.infolist() if not info.is_dir()}
            for info in infos.values():
                if info.external_attr >> 28 == 0xA:  # the upper four bits of the Unix mode: a symbolic link
                    raise _refused(archive, info.filename, "is a link")
            yield {name: info.file_size for name, info in infos.items()}, zipped.open
        return
    with tarfile.open(archive) as tarred:
        members = {}
        for member in tarred.getmembers():
            if member.isreg():
                members[member.name] = member
            elif not member.isdir():
                raise _refused(archive, member.name, "is a link or a device")

        def stream_of(name: str) -> IO[bytes]:
            stream = tarred.extractfile(members[name])
            assert stream is not None  # a regular file
            return stream

        yield {name: member.size for name, member in members.items()}, stream_of


def _check_name(archive: Path, name: str) -> None:
    """No member may leave the folder, by any system's reading of its name."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[0] == "/" or ".." in parts or ":" in parts[0] or "\0" in name:
        raise _refused(archive, name, "would be written outside the folder")


def _refused(archive: Path, name: str, why: str) -> DataError:
    return DataError(
        f"'{archive}' is refused: its member '{name}' {why}. Nothing was unpacked. Get the archive from its publisher"
    )


def _check_space(archive: Path, out: Path, needed: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out).free
    if needed > free:
        raise DataError(f"'{archive}' needs {needed / 1e9:.1f} GB in '{out}', where {free / 1e9:.1f} GB are free")


def _is_there(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _write(path: Path, source: IO[bytes], archive: Path) -> None:
    with new_file(path, inputs=[archive]) as part, part.open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
