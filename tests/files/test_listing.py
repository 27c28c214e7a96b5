"""Listing a folder: what is found, what is left out, links that lead in circles."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pspnet.errors import DataError
from pspnet.files import list_files


def test_what_is_left_out_is_counted_and_named(tmp_path: Path) -> None:
    for name in (
        "a.jpg",
        "B.JPEG",
        "deep/c.jpg",
        "._a.jpg",
        "d.heic",
        "e.HEIC",
        "notes",
        "__MACOSX/._a.jpg",
        ".git/x.jpg",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "gone.jpg").symlink_to("nothing.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    actual = list_files(tmp_path, (".jpg", ".jpeg"))
    assert [str(path.relative_to(tmp_path)) for path in actual.files] == ["B.JPEG", "a.jpg", "deep/c.jpg"]
    assert actual.note() == (
        "6 left out: 2 .heic (d.heic, e.HEIC), 1 hidden (._a.jpg), "
        "2 no file (a link to nothing, a pipe) (gone.jpg, pipe.jpg), 1 without an ending (notes)"
    )
    assert list_files(tmp_path / "folder.jpg", (".jpg",)).note() == ""


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    (disk / "ulm").mkdir(parents=True)
    (disk / "ulm" / "a.jpg").write_bytes(b"x")
    data = tmp_path / "data"
    data.mkdir()
    (data / "ulm").symlink_to(disk / "ulm", target_is_directory=True)
    (disk / "ulm" / "loop").symlink_to(disk / "ulm", target_is_directory=True)
    (data / "self").symlink_to(data / "self")
    assert [str(path.relative_to(data)) for path in list_files(data, (".jpg",)).files] == ["ulm/a.jpg"]


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be listed"):
        list_files(tmp_path / "gone", (".jpg",))


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg"))).write_bytes(b"x")
    assert len(list_files(tmp_path, (".jpg",)).files) == 1
