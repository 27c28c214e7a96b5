"""Many rasters: each as if alone, parts put together bit for bit, failures listed, dead workers survived."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from pspnet.config import RasterConfig
from pspnet.errors import CheckpointError, ConfigError, OutputError, ServiceError
from pspnet.files import locked
from pspnet.raster import segment_raster, segment_rasters
from pspnet.raster.jobs import RasterJob, do_job, stitch
from pspnet.raster.segment_rasters import find_rasters
from support.rasters import MoodyEngine, broken, make_segmenter, read, scene, write_raster

SMALL = RasterConfig(tile_px=48, overlap_px=12, block_px=32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pspnet.predict.segmenter import Segmenter

    segmenter = make_segmenter()
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    Segmenter(segmenter.model, segmenter.card, device="cpu").save(path)
    return path


def write_inputs(folder: Path, count: int, side: int = 60) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        write_raster(folder / f"{number}.tif", scene(side, side + number, seed=number))
    return folder


def alone(model: Path, source: Path, target: Path, **settings: object) -> np.ndarray:
    from pspnet.predict.segmenter import Segmenter

    segment_raster(Segmenter.load(model, device="cpu"), source, target, SMALL, **settings)
    return read(target)


def test_a_folder_is_mapped_and_told_in_a_summary(model: Path, tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "in", 2)
    write_inputs(tmp_path / "in" / "deeper", 1)
    broken(tmp_path / "in" / "broken.tif")
    (tmp_path / "in" / "readme.md").touch()
    reports: list[tuple[int, int]] = []
    report = segment_rasters(
        model,
        inputs,
        tmp_path / "out",
        SMALL.changed(polygons="any.gpkg"),
        workers=1,
        device="cpu",
        progress=lambda done, total: reports.append((done, total)),
    )
    assert sorted(report.failed) == [str(inputs / "broken.tif")]
    assert "cannot be read" in report.failed[str(inputs / "broken.tif")]
    assert {Path(outcome.job.target).relative_to(tmp_path / "out").as_posix() for outcome in report.done} == {
        "0.tif",
        "1.tif",
        "deeper/0.tif",
    }
    assert reports[-1] == (3, 4)
    for name in ("0", "1", "deeper/0"):
        assert (tmp_path / "out" / f"{name}.gpkg").is_file()
        np.testing.assert_array_equal(
            read(tmp_path / "out" / f"{name}.tif"),
            alone(model, inputs / f"{name}.tif", tmp_path / "alone.tif", overwrite=True),
        )
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert len(summary["done"]) == 3
    assert list(summary["failed"]) == list(report.failed)
    config = SMALL.changed(polygons="any.gpkg", skip_errors=True)
    again = segment_rasters(model, inputs, tmp_path / "out", config, workers=1, device="cpu")
    assert len(again.skipped) == 3
    assert [outcome.unreadable for outcome in again.done] == [1]


def test_rows_of_a_raster_put_together_are_the_raster(tmp_path: Path) -> None:
    """A model that looks at whole windows: only equal windows and equal blending give equal maps."""
    source = write_raster(tmp_path / "in.tif", scene(420, 90))
    config = SMALL.changed(confidence=True)
    segmenter = make_segmenter(engine=MoodyEngine())
    segment_raster(segmenter, source, tmp_path / "whole.tif", config)
    jobs = [
        RasterJob(str(source), str(tmp_path / "out.tif"), None, rows)
        for rows in ((0, 96), (96, 224), (224, 416), (416, 420))
    ]
    for job in reversed(jobs):
        assert do_job(segmenter, job, config).error == ""
    views = segmenter.engine.computed  # type: ignore[attr-defined]
    assert do_job(segmenter, jobs[1], config).error == ""  # done twice, as a cluster may
    assert segmenter.engine.computed == views  # type: ignore[attr-defined]
    report = stitch(segmenter, jobs, config)
    assert (tmp_path / "out.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()
    assert (tmp_path / "out.tif.aux.xml").read_bytes() == (tmp_path / "whole.tif.aux.xml").read_bytes()
    assert sum(report.shares.values()) == pytest.approx(1)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "in.tif",
        "out.tif",
        "out.tif.aux.xml",
        "whole.tif",
        "whole.tif.aux.xml",
    ]


def test_a_map_whose_maker_was_killed_before_it_could_tell_is_made_anew(tmp_path: Path) -> None:
    """A cluster hands the job in again. What another program put there in the meantime stays."""
    source = write_raster(tmp_path / "in.tif", scene(90, 60))
    segmenter, job = make_segmenter(), RasterJob(str(source), str(tmp_path / "out.tif"))
    first = do_job(segmenter, job, SMALL)
    before = Path(job.target).read_bytes()
    again = do_job(segmenter, job, SMALL)
    assert (again.error, again.shares, again.data_share) == ("", first.shares, first.data_share)
    assert Path(job.target).read_bytes() == before
    Path(job.target).write_bytes(source.read_bytes())
    assert "exists" in do_job(segmenter, job, SMALL).error
    assert Path(job.target).read_bytes() == source.read_bytes()


def test_rows_without_data_are_parts_too(tmp_path: Path) -> None:
    pixels = scene(200, 60)
    pixels[:, 64:160] = 0
    source = write_raster(tmp_path / "in.tif", pixels, nodata=0)
    segmenter = make_segmenter()
    jobs = [RasterJob(str(source), str(tmp_path / "out.tif"), None, rows) for rows in ((0, 64), (64, 160), (160, 200))]
    assert [do_job(segmenter, job, SMALL).error for job in jobs] == ["", "", ""]
    stitch(segmenter, jobs, SMALL)
    segment_raster(segmenter, source, tmp_path / "whole.tif", SMALL)
    assert (tmp_path / "out.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()


def test_lists_and_wrong_lists(model: Path, tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "in", 2)
    (tmp_path / "list.txt").write_text(f"# two towns\n{inputs / '0.tif'}\n\n/vsicurl/https://example.org/far.tif\n")
    assert [name.name for _, name in find_rasters(tmp_path / "list.txt")] == ["0.tif", "far.tif"]
    assert find_rasters([inputs / "1.tif"]) == [(str(inputs / "1.tif"), Path("1.tif"))]
    write_inputs(tmp_path / "other", 1)
    with pytest.raises(ConfigError, match="would both become"):
        segment_rasters(model, [inputs / "0.tif", tmp_path / "other" / "0.tif"], tmp_path / "out", SMALL)
    (tmp_path / "empty").mkdir()
    for wrong, word in (
        (tmp_path / "empty", "holds no raster"),
        (tmp_path / "none.txt", "does not exist"),
        ([], "empty"),
    ):
        with pytest.raises(ConfigError, match=word):
            segment_rasters(model, wrong, tmp_path / "out", SMALL)
    with pytest.raises(CheckpointError):
        segment_rasters(tmp_path / "none.safetensors", inputs, tmp_path / "out", SMALL)


def test_maps_never_lie_among_the_rasters(model: Path, tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "in", 1)
    (inputs / "0.tif").rename(inputs / "0.tiff")  # no name meets
    (inputs / "deeper").mkdir()
    (tmp_path / "list.txt").write_text(str(inputs / "0.tiff"))
    for sources in (inputs, [inputs / "0.tiff"], tmp_path / "list.txt"):
        with pytest.raises(OutputError, match="among the inputs"):
            segment_rasters(model, sources, inputs, SMALL, workers=1, device="cpu")
    (inputs / "notes.txt").touch()
    report = segment_rasters(model, inputs, inputs / "deeper", SMALL, workers=1, device="cpu")
    assert len(report.done) == 1
    report = segment_rasters(model, inputs, inputs / "deeper", SMALL, workers=1, device="cpu")
    assert (len(report.done), len(report.skipped)) == (0, 1)  # the map is no raster to map
    assert "1 .txt (notes.txt)" in report.left_out.note()
    assert "1 a map of an earlier run (0.tif)" in report.left_out.note()


def test_a_summary_of_somebody_else_stays(model: Path, tmp_path: Path) -> None:
    inputs, summary = write_inputs(tmp_path / "in", 1), tmp_path / "out" / "summary.json"
    summary.parent.mkdir()
    summary.write_text('{"results": {}, "done": 1}')  # of photographs
    with pytest.raises(OutputError, match="exists; choose another name"):
        segment_rasters(model, inputs, summary.parent, SMALL, workers=1, device="cpu")
    assert summary.read_text() == '{"results": {}, "done": 1}'
    with locked(summary), pytest.raises(OutputError, match="is being written by another process"):
        segment_rasters(model, inputs, summary.parent, SMALL.changed(overwrite=True), workers=1, device="cpu")
    assert len(list(summary.parent.iterdir())) == 1


def kill_one(find: str, ready: Path, killed: list[int]) -> None:
    """Kills a child process whose command line holds `find`, once `ready` holds a map."""
    until = time.monotonic() + 240
    while time.monotonic() < until and not killed:
        if list(ready.glob("*.tif")):
            for child in psutil.Process().children(recursive=True):
                if find in " ".join(child.cmdline()):
                    killed.append(child.pid)
                    os.kill(child.pid, signal.SIGKILL)
                    return
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("cluster", [None, "local"])
def test_a_killed_worker_costs_nothing(model: Path, tmp_path: Path, cluster: str | None) -> None:
    """Two workers, one of them killed in the middle: every raster is mapped once, a divided one among them."""
    inputs = write_inputs(tmp_path / "in", 8, side=400)
    write_raster(inputs / "large.tif", scene(1600, 500))
    killed: list[int] = []
    out = tmp_path / "out"
    killer = threading.Thread(target=kill_one, args=("MapWorker" if cluster else "spawn_main", out, killed))
    killer.start()
    report = segment_rasters(
        model, inputs, out, SMALL, workers=2, device="cpu", cluster=cluster, split_megapixels=0.2, retries=2
    )
    killer.join()
    assert killed
    assert report.failed == {}
    assert len(report.done) == 9
    assert len({outcome.job.target for outcome in report.done}) == 9
    for source in sorted(inputs.iterdir()):
        np.testing.assert_array_equal(
            read(out / source.name), alone(model, source, tmp_path / "alone.tif", overwrite=True)
        )
    left = {p.name for p in out.iterdir()} - {
        f"{s.stem}{e}" for s in inputs.iterdir() for e in (".tif", ".tif.aux.xml")
    }
    assert left == {"summary.json"}


def test_a_cluster_that_does_not_start_is_one_clear_error(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    calls: list[str] = []

    def fail(address: str, **_: object) -> None:
        calls.append(address)
        raise Exception("The current node timed out during startup.\nmore")

    monkeypatch.setattr(ray, "init", fail)
    inputs = write_inputs(tmp_path / "in", 2)
    with pytest.raises(ServiceError, match=r"Ray does not start here: The current node timed out during startup\. Try"):
        segment_rasters(model, inputs, tmp_path / "out", SMALL, workers=2, cluster="local")
    with pytest.raises(ServiceError, match=r"no Ray cluster answers at '10\.0\.0\.1:6379'.*ray start --head"):
        segment_rasters(model, inputs, tmp_path / "out", SMALL, workers=2, cluster="10.0.0.1:6379")
    assert calls == ["local", "local", "10.0.0.1:6379"]
