"""Runs that end early: killed, out of disk, stopped by a broken block. Nothing finished is lost, nothing is doubled."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pspnet.errors import OutputError, RasterError
from pspnet.georaster.parts import parts_of
from pspnet.raster import Progress, segment_raster
from pspnet.raster.tile_store import TileStore
from support.paths import ROOT
from support.rasters import MoodyEngine, broken, make_segmenter, read, scene, write_raster

SMALL = {"tile_px": 48, "overlap_px": 12, "block_px": 32}
RUN = """
import sys
sys.path.insert(0, {tests!r})
from support.rasters import MoodyEngine, make_segmenter
from pspnet.raster import segment_raster
segment_raster(make_segmenter(engine=MoodyEngine(pause=0.15)), sys.argv[1], sys.argv[2], tile_px=48, overlap_px=12,
               block_px=32, confidence=True)
"""


def committed(target: Path) -> int:
    """Rows that the journal calls finished."""
    journal = target.with_name(target.name + ".journal")
    lines = journal.read_bytes().split(b"\n")[:-1] if journal.is_file() else []
    return int(json.loads(lines[-1])["rows"]) if len(lines) > 1 else 0


def test_a_killed_run_goes_on_and_ends_with_the_same_file(tmp_path: Path) -> None:
    source = write_raster(tmp_path / "in.tif", scene(400, 100))
    segment_raster(make_segmenter(engine=MoodyEngine()), source, tmp_path / "straight.tif", confidence=True, **SMALL)
    target = tmp_path / "out.tif"
    code = RUN.format(tests=str(ROOT / "tests"))
    with subprocess.Popen([sys.executable, "-c", code, str(source), str(target)]) as process:
        started = time.monotonic()
        while committed(target) < 64:
            assert time.monotonic() - started < 120
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert not target.exists()
    before = committed(target)
    assert 64 <= before < 400
    with open(target.with_name("out.tif.part"), "ab") as file:  # what was being written when the process died
        file.write(b"half a tile")
    with open(target.with_name("out.tif.journal"), "ab") as file:
        file.write(b'{"rows": 400, "byt')
    engine = MoodyEngine()
    report = segment_raster(make_segmenter(engine=engine), source, target, confidence=True, **SMALL)
    assert report.resumed_rows == before
    assert engine.computed <= 3 * (-(-(400 - before) // 36) + 2)  # the rest, and the row of windows before it
    assert target.read_bytes() == (tmp_path / "straight.tif").read_bytes().replace(b"straight", b"out")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "in.tif",
        "out.tif",
        "out.tif.aux.xml",
        "straight.tif",
        "straight.tif.aux.xml",
    ]


def test_a_run_interrupted_at_every_place_ends_with_the_same_map(tmp_path: Path) -> None:
    source = write_raster(tmp_path / "in.tif", scene(230, 60))
    segment_raster(make_segmenter(engine=MoodyEngine()), source, tmp_path / "straight.tif", **SMALL)

    class StopError(Exception):
        pass

    def stop_at(pixels: int):  # type: ignore[no-untyped-def]
        def progress(now: Progress) -> None:
            if now.done_px >= pixels:
                raise StopError

        return progress

    for share in (0.3, 0.7, 1.0):
        target = tmp_path / f"{share}.tif"
        with pytest.raises(StopError):
            segment_raster(
                make_segmenter(engine=MoodyEngine(pause=0.05)),
                source,
                target,
                progress=stop_at(round(230 * 60 * share)),
                **SMALL,
            )
        assert not target.exists()
        segment_raster(make_segmenter(engine=MoodyEngine()), source, target, **SMALL)
        np.testing.assert_array_equal(read(target), read(tmp_path / "straight.tif"))


def test_a_full_disk_is_told_and_the_work_kept(tmp_path: Path) -> None:
    source = write_raster(tmp_path / "in.tif", scene(300, 200))
    target = tmp_path / "out.tif"
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the system then answers a write with an error
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, hard))
    try:
        with pytest.raises(OutputError, match=r"out.tif.part' cannot be written: .* What was finished is kept"):
            segment_raster(make_segmenter(engine=MoodyEngine()), source, target, confidence=True, **SMALL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert not target.exists()
    rows = committed(target)
    assert rows > 0
    report = segment_raster(make_segmenter(engine=MoodyEngine()), source, target, confidence=True, **SMALL)
    assert report.resumed_rows == rows


def test_a_broken_block_ends_the_run_and_may_be_skipped(tmp_path: Path) -> None:
    source, target = broken(tmp_path / "in.tif"), tmp_path / "out.tif"
    with pytest.raises(RasterError, match=r"rows 1\d\d to 1\d\d.*skip_errors.*kept"):
        segment_raster(make_segmenter(), source, target, **SMALL)
    rows = committed(target)
    assert rows >= 64
    report = segment_raster(make_segmenter(), source, target, skip_errors=True, **SMALL)
    assert report.resumed_rows == rows
    assert report.unreadable == [(128, 64, 32, 32)]
    write_raster(tmp_path / "whole.tif", scene(200, 150))
    segment_raster(make_segmenter(), tmp_path / "whole.tif", tmp_path / "whole_map.tif", **SMALL)
    expected = read(tmp_path / "whole_map.tif")
    expected[128:160, 64:96] = 255
    np.testing.assert_array_equal(read(target), expected)


def test_unfinished_work_of_another_run_is_never_used(tmp_path: Path) -> None:
    source, target = broken(tmp_path / "in.tif"), tmp_path / "out.tif"
    with pytest.raises(RasterError, match="cannot be read"):
        segment_raster(make_segmenter(), source, target, **SMALL)
    with pytest.raises(RasterError, match=r"other settings \(tile_px\)"):
        segment_raster(make_segmenter(), source, target, skip_errors=True, **{**SMALL, "tile_px": 64})
    other = make_segmenter(temperature=2.0)
    with pytest.raises(RasterError, match=r"other settings \(model\)"):
        segment_raster(other, source, target, skip_errors=True, **SMALL)
    os.utime(source, (1, 1))
    with pytest.raises(RasterError, match=r"other settings \(source_state\)"):
        segment_raster(make_segmenter(), source, target, skip_errors=True, **SMALL)
    assert committed(target) > 0
    report = segment_raster(other, source, target, skip_errors=True, overwrite=True, **SMALL)
    assert report.resumed_rows == 0


def stopped(tmp_path: Path, rows: int = 96, **changes: Any) -> tuple[Path, Path]:
    """A raster, and the unfinished work of its map after at least that many rows."""
    source, target = write_raster(tmp_path / "in.tif", scene(300, 100)), tmp_path / "out.tif"

    class StopError(Exception):
        pass

    def progress(now: Progress) -> None:
        if committed(target) >= rows:
            raise StopError

    with pytest.raises(StopError):
        segment_raster(make_segmenter(engine=MoodyEngine(pause=0.02)), source, target, progress=progress, **SMALL)
    assert committed(target) >= rows
    return source, target


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 255
    path.write_bytes(data)


def cut(path: Path, offset: int) -> None:
    os.truncate(path, path.stat().st_size // 2)


def drop_second_line(path: Path, offset: int) -> None:
    lines = path.read_bytes().split(b"\n")
    lines[1] = b"x" + lines[1]
    path.write_bytes(b"\n".join(lines))


def other_json(path: Path, offset: int) -> None:
    lines = path.read_bytes().split(b"\n")
    lines[-2] = b'{"bytes": "x"}'
    path.write_bytes(b"\n".join(lines))


@pytest.mark.parametrize(
    ("ending", "damage", "offset"),
    [
        ("part", flip, 12),  # a header
        ("part", flip, 200),  # a tile
        ("part", cut, 0),
        ("journal", drop_second_line, 0),
        ("journal", other_json, 0),
    ],
)
def test_damaged_work_is_done_again(tmp_path: Path, ending: str, damage: Any, offset: int) -> None:
    source, target = stopped(tmp_path)
    segment_raster(make_segmenter(engine=MoodyEngine()), source, tmp_path / "straight.tif", **SMALL)
    damage(Path(f"{target}.{ending}"), offset)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = segment_raster(make_segmenter(engine=MoodyEngine()), source, target, **SMALL)
    np.testing.assert_array_equal(read(target), read(tmp_path / "straight.tif"))
    if ending == "part":
        assert any("damaged or cut off; the work goes on from row" in str(one.message) for one in caught)
        assert report.resumed_rows < 300


@pytest.mark.parametrize("gone", ["part", "journal"])
def test_half_of_unfinished_work_is_never_used(tmp_path: Path, gone: str) -> None:
    source, target = stopped(tmp_path)
    Path(f"{target}.{gone}").unlink()
    if gone == "journal":  # what lies there may be somebody's
        with pytest.raises(RasterError, match=r"without its journal.*--overwrite"):
            segment_raster(make_segmenter(engine=MoodyEngine()), source, target, **SMALL)
    with pytest.warns(UserWarning, match="goes on from row 0") if gone == "part" else nullcontext():
        report = segment_raster(
            make_segmenter(engine=MoodyEngine()), source, target, overwrite=gone == "journal", **SMALL
        )
    assert report.resumed_rows == 0
    assert target.is_file()


@pytest.mark.parametrize("content", [b"[]\n", b"hello\n", b'{"a": 1}\n', b"\xff\xfe\n", b""])
def test_a_journal_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    source, target = stopped(tmp_path)
    Path(f"{target}.journal").write_bytes(content)
    with pytest.raises(RasterError, match="damaged, or of another pspnet"):
        segment_raster(make_segmenter(engine=MoodyEngine()), source, target, **SMALL)


def test_a_raster_with_its_old_size_and_time_is_another_one(tmp_path: Path) -> None:
    source, target = stopped(tmp_path)
    before = source.stat()
    content = bytearray(source.read_bytes())
    content[-1] ^= 1
    source.write_bytes(content)
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(RasterError, match=r"other settings \(source_state\)"):
        segment_raster(make_segmenter(engine=MoodyEngine()), source, target, **SMALL)


def mosaic(path: Path, *parts: str) -> Path:
    """A VRT of 100 x 300 px from files of one size beside it, one over the other."""
    sources = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}">'
        + "".join(
            f'<SimpleSource><SourceFilename relativeToVRT="1">{part}</SourceFilename><SourceBand>{band}</SourceBand>'
            "</SimpleSource>"
            for part in parts
        )
        + "</VRTRasterBand>"
        for band in (1, 2, 3)
    )
    path.write_text(
        '<VRTDataset rasterXSize="100" rasterYSize="300"><GeoTransform>500000,1,0,5000000,0,-1</GeoTransform>'
        f"<SRS>EPSG:25832</SRS>{sources}</VRTDataset>"
    )
    return path


def test_parts_of_mosaics_count_for_resuming_and_as_inputs(tmp_path: Path) -> None:
    part = write_raster(tmp_path / "a.tif", scene(300, 100))
    inner = mosaic(tmp_path / "inner.vrt", "a.tif")
    outer = mosaic(tmp_path / "outer.vrt", "inner.vrt")
    assert {Path(file).name for file in parts_of(outer)} == {"a.tif", "inner.vrt", "outer.vrt"}
    before = part.read_bytes()
    for source in (outer, inner, f"GTIFF_DIR:1:{part}", f"/vsisubfile/0_,{part}"):
        with pytest.raises(OutputError, match="is an input"):
            segment_raster(make_segmenter(), source, part, overwrite=True, **SMALL)
    assert part.read_bytes() == before


def test_a_mosaic_that_only_gdal_can_read_is_read(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.tif", scene(300, 100), nodata=0)
    good, odd = mosaic(tmp_path / "good.vrt", "a.tif"), mosaic(tmp_path / "odd.vrt", "a.tif")
    for path in (good, odd):  # only where nodata is known is the mosaic's description looked at
        path.write_text(re.sub("(<VRTRasterBand[^>]*>)", r"\1<NoDataValue>0</NoDataValue>", path.read_text()))
    odd.write_text(odd.read_text() + "<x/>")  # two roots: no XML, and GDAL does not mind
    for path in (good, odd):
        segment_raster(make_segmenter(), path, path.with_suffix(".tif"), **SMALL)
    np.testing.assert_array_equal(read(tmp_path / "good.tif"), read(tmp_path / "odd.tif"))


def test_a_raster_that_changes_while_it_is_read_makes_no_map(tmp_path: Path) -> None:
    source, target = write_raster(tmp_path / "in.tif", scene(300, 100)), tmp_path / "out.tif"

    def progress(now: Progress) -> None:
        os.utime(source)

    with pytest.raises(RasterError, match="changed while it was read"):
        segment_raster(make_segmenter(engine=MoodyEngine(pause=0.02)), source, target, progress=progress, **SMALL)
    assert not target.exists()


def test_no_output_replaces_what_is_read(tmp_path: Path) -> None:
    source, model = write_raster(tmp_path / "in.tif", scene(200, 100)), tmp_path / "m.gpkg"
    model.write_bytes(b"weights")
    with pytest.raises(OutputError, match="is an input"):
        segment_raster(make_segmenter(), source, tmp_path / "o.tif", inputs=[model], polygons=model, overwrite=True)
    (tmp_path / "o.tif.aux.xml").write_text("mine")
    with pytest.raises(OutputError, match=r"o.tif.aux.xml' exists"):
        segment_raster(make_segmenter(), source, tmp_path / "o.tif", **SMALL)


def test_two_runs_do_not_write_one_map(tmp_path: Path) -> None:
    source, target = write_raster(tmp_path / "in.tif", scene(300, 100)), tmp_path / "out.tif"
    busy = TileStore(target, 32, {}, overwrite=False)
    with pytest.raises(OutputError, match="another process"):
        segment_raster(make_segmenter(), source, target, **SMALL)
    busy.discard()
    segment_raster(make_segmenter(), source, target, **SMALL)
