"""Notes in the cache: kept whole, few, and never the reason why something fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pspnet.files import cache, keep_note, path_limits, read_note


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PSPNET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_was_kept_is_read_again(folder: Path) -> None:
    assert read_note("bands-1.json") == {}
    keep_note("bands-1.json", {"a": [1.5]})
    assert read_note("bands-1.json") == {"a": [1.5]}
    assert [path.name for path in folder.iterdir()] == ["bands-1.json"]
    data = (folder / "bands-1.json").read_bytes()
    for other in (b"[1]", b"{", b"\xff", b"[" * 100_000, data.replace(b"1.5", b"1.4"), b'{"a": [1.5]}'):
        (folder / "bands-1.json").write_bytes(other)
        assert read_note("bands-1.json") == {}


def test_the_oldest_notes_of_a_kind_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "KEPT_NOTES", 2)
    keep_note("engine-1.json", {})
    for number in range(4):
        keep_note(f"bands-{number}.json", {})
        os.utime(folder / f"bands-{number}.json", (number, number))
    keep_note("bands-9.json", {})
    assert sorted(path.name for path in folder.iterdir()) == ["bands-3.json", "bands-9.json", "engine-1.json"]


def test_nothing_fails_where_it_cannot_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write_bytes(b"a file")
    keep_note("bands-1.json", {})
    assert read_note("bands-1.json") == {}
    monkeypatch.delenv("PSPNET_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    keep_note("bands-1.json", {})
    assert read_note("bands-1.json") == {}


def test_limits_on_data_do_not_reach_the_cache(folder: Path, tmp_path: Path) -> None:
    with path_limits.only_below([tmp_path / "data"]):
        keep_note("bands-1.json", {"a": 1})
        assert read_note("bands-1.json") == {"a": 1}
