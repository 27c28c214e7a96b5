"""Writing files: whole or not at all, never over an input, leftovers removed, one process at a time."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pspnet.errors import OutputError
from pspnet.files import (
    Inputs,
    check_output,
    locked,
    named_files,
    new_file,
    new_files,
    new_folder,
    temporary,
    write_bytes,
)
from pspnet.raster.tile_store import TileStore
from pspnet.training.run_folder import RunFolder


@pytest.fixture(autouse=True)
def fresh_sweeps() -> None:
    temporary._swept.clear()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "one.txt"
    write_bytes(target, b"first", durable=True)
    assert target.read_bytes() == b"first"
    with pytest.raises(ZeroDivisionError), new_file(target) as part:
        part.write_bytes(b"half" * (1 // 0))
    assert target.read_bytes() == b"first"
    assert names(target.parent) == ["one.txt"]


def test_the_temporary_name_keeps_the_ending_and_fits(tmp_path: Path) -> None:
    for name in ("a" * 240 + ".png", "ä" * 120 + ".tif", "x.tar.gz"):
        with new_file(tmp_path / name) as part:
            assert part.suffix == Path(name).suffix
            part.write_bytes(b"x")
        assert (tmp_path / name).read_bytes() == b"x"


def test_what_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    for path, code, words in (
        (file / "run" / "x", 2, "is a file, not a folder"),
        (tmp_path / ("a" * 300), 1, "the name is too long"),
        (tmp_path, 2, "is a folder"),
    ):
        with pytest.raises(OutputError, match=words) as caught:
            write_bytes(path, b"x")
        assert caught.value.exit_code == code
    assert file.read_bytes() == b""


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    def full() -> None:
        with new_file(tmp_path / "x.bin", after="The old one is kept") as part:
            part.write_bytes(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"x\.bin' cannot be written: the disk is full\. The old one is kept"):
        full()
    assert names(tmp_path) == []


def test_an_output_is_never_an_input(tmp_path: Path) -> None:
    source = tmp_path / "data" / "a.tif"
    source.parent.mkdir()
    source.write_bytes(b"precious")
    (tmp_path / "link.tif").symlink_to(source)
    os.link(source, tmp_path / "hard.tif")
    outputs = (source, tmp_path / "link.tif", tmp_path / "hard.tif", tmp_path / "data" / ".." / "data" / "a.tif")
    given = (source, source.parent, f"GTIFF_DIR:1:{source}", f"/vsisubfile/0_100,{source}", f'NETCDF:"{source}":band')
    for output in outputs:
        for text in given:
            with pytest.raises(OutputError, match="is an input") as caught:
                write_bytes(output, b"x", inputs=[text])
            assert caught.value.exit_code == 2
    assert source.read_bytes() == b"precious"
    write_bytes(source.parent / "new.tif", b"x", inputs=[source.parent])  # what was not there was no input


def test_names_inside_of_a_name_for_gdal(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(b"")
    assert named_files(f"/vsizip/{archive}/inner/b.tif") == [str(archive)]
    assert named_files(f"/vsizip/{{{archive}}}/b.tif") == [str(archive)]
    assert named_files("/vsicurl/http://127.0.0.1:9/x.tif") == []
    assert Inputs([archive]).find(tmp_path / "no") is None


def test_what_exists_is_kept_without_overwrite(tmp_path: Path) -> None:
    target = tmp_path / "scores.json"
    write_bytes(target, b"mine", overwrite=False)
    with pytest.raises(OutputError, match="exists; choose another name, or replace it: overwrite"):
        write_bytes(target, b"yours", overwrite=False)
    target.unlink()

    def late() -> None:
        with new_file(target, overwrite=False) as part:
            part.write_bytes(b"late")
            target.write_bytes(b"quicker")

    with pytest.raises(OutputError, match="another process has written it"):
        late()
    assert target.read_bytes() == b"quicker"
    assert names(tmp_path) == ["scores.json"]


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    write_bytes("/dev/null", b"x")
    assert not Path("/dev/null").is_file()
    with pytest.raises(OutputError, match="not an ordinary file"), new_file("/dev/null"):
        pass


def test_files_that_belong_together(tmp_path: Path) -> None:
    target = tmp_path / "m.xml"
    for content in (b"1", b"2"):
        with new_files(target) as part:
            (part / "m.xml").write_bytes(content)
            (part / "m.bin").write_bytes(content)
        assert (target.read_bytes(), target.with_suffix(".bin").read_bytes()) == (content, content)

    def over_an_input() -> None:
        with new_files(target, inputs=[tmp_path / "m.bin"]) as part:
            (part / "m.xml").write_bytes(b"3")
            (part / "m.bin").write_bytes(b"3")

    with pytest.raises(OutputError, match=r"m\.bin' is an input"):
        over_an_input()
    assert target.read_bytes() == b"2"
    assert names(tmp_path) == ["m.bin", "m.xml"]


def test_a_folder_takes_the_place_of_another(tmp_path: Path) -> None:
    target = tmp_path / "chips"
    with new_folder(target) as part:
        (part / "a").write_bytes(b"1")
    with pytest.raises(OutputError, match="exists and is not empty"), new_folder(target):
        pass
    with pytest.raises(OutputError, match="holds an input"), new_folder(target, inputs=[target / "a"], overwrite=True):
        pass
    with pytest.raises(ZeroDivisionError), new_folder(target, overwrite=True):
        raise ZeroDivisionError
    assert names(target) == ["a"]
    with new_folder(target, overwrite=True) as part:
        (part / "b").write_bytes(b"2")
    assert names(target) == ["b"]
    assert names(tmp_path) == ["chips"]


def test_leftovers_of_dead_processes_go(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom pspnet.files import new_file\n"
        "with new_file(sys.argv[1]) as part:\n    part.write_bytes(b'half'); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.bin")], check=False)
    assert len(names(tmp_path)) == 1
    with new_file(tmp_path / "living.txt") as part:
        part.write_bytes(b"1")
        temporary._swept.clear()
        write_bytes(tmp_path / "y.bin", b"whole")
        assert part.exists()  # a living process is still at it
    assert names(tmp_path) == ["living.txt", "y.bin"]


def without_fcntl(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., Any] = builtins.__import__

    def missing(name: str, *rest: Any, **named: Any) -> Any:
        if name in ("fcntl", "msvcrt"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", missing)


@pytest.mark.parametrize("system_locks", [True, False])
def test_one_process_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system_locks: bool) -> None:
    if not system_locks:
        without_fcntl(monkeypatch)
    with locked(tmp_path / "run"):
        with pytest.raises(OutputError, match="is being written by another process"), locked(tmp_path / "run"):
            pass
        with locked(tmp_path / "other"):
            pass
    with locked(tmp_path / "run"):
        pass
    assert names(tmp_path) == []
    (tmp_path / ".run.lock").write_text(f"{2**22 - 7} {temporary.host()} 1")  # of a process that is gone
    with locked(tmp_path / "run"):
        pass


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="the system has no such flag")
def test_what_is_changed_where_it_lies_is_no_link(tmp_path: Path) -> None:
    """A folder of a stranger's may hold links under the names of our locks, journals and logs."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    (tmp_path / ".run.lock").symlink_to(victim)
    with pytest.raises(OutputError, match="is a link"), locked(tmp_path / "run"):
        pass
    (tmp_path / "map.tif.part").symlink_to(victim)
    with pytest.raises(OutputError, match="is a link"):
        TileStore(tmp_path / "map.tif", 32, {}, overwrite=True)
    (tmp_path / "map.tif.part").unlink()
    (tmp_path / "map.tif.journal").symlink_to(victim)
    TileStore(tmp_path / "map.tif", 32, {}, overwrite=True).close()  # a journal of its own takes the link's place
    run = RunFolder(tmp_path / "one")
    run.path.mkdir()
    run.metrics.symlink_to(victim)
    with pytest.raises(OutputError, match="is a link"):
        run.append_metrics(step=1)
    assert victim.read_bytes() == b"mine"


def test_a_refusal_comes_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a file, not a folder"):
        check_output(Path(__file__) / "deep" / "m.onnx")
    check_output(tmp_path / "new" / "m.onnx")
    assert not (tmp_path / "new").exists()
