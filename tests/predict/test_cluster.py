"""Images on a cluster: each once, in the words of one machine, whatever dies."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
from typer.testing import CliRunner

from pspnet import LabelSpace, ModelConfig, PSPNet, Segmenter
from pspnet.errors import CheckpointError, ConfigError, ServiceError
from pspnet.predict import cluster
from pspnet.predict.cluster import on_cluster, on_machines, read_card
from pspnet.predict.folders import FolderReport, find_images, run_files
from pspnet.predict.image_results import ImageFile, ImageOptions
from pspnet.weights.checkpoint import ModelCard
from support.folders import segment_files
from support.paths import ROOT


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = ModelConfig(encoder="resnet18", num_classes=3, encoder_options={"depth": 3}, bins=(1, 2), reduce=False)
    segmenter = Segmenter(PSPNet(config), ModelCard(LabelSpace(("sea", "land", "sky"))), device="cpu", precision="fp32")
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    return segmenter.save(path)


def photos(folder: Path, count: int, side: int = 40) -> Path:
    (folder / "deeper").mkdir(parents=True)
    for number in range(count):
        image = np.random.default_rng(number).integers(0, 256, (side, side + number, 3), np.uint8)
        cv2.imwrite(str(folder / ("deeper" if number % 2 else "") / f"{number}.png"), image)
    return folder


def in_this_process(monkeypatch: pytest.MonkeyPatch, repeat: int = 1) -> None:
    """A cluster of one worker, which does every item `repeat` times and the last one first."""

    def run(
        items: Sequence[str], worker: type, arguments: tuple[Any, ...], workers: int | None, address: str
    ) -> Iterator[str]:
        work = worker(*arguments)
        yield from (work(item) for item in items[::-1] for _ in range(repeat))

    monkeypatch.setattr(cluster, "on_cluster", run)


def many_machines(model: Path, files: Sequence[ImageFile], out: Path, **choices: bool) -> FolderReport:
    run, space = partial(on_machines, model, "local", device="cpu"), read_card(model).label_space
    return last(run_files(run, files, out, ImageOptions(), space, **choices))


def last(steps: Iterator[FolderReport]) -> FolderReport:
    *_, report = steps
    return report


def test_the_same_as_on_one_machine(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_this_process(monkeypatch, repeat=2)
    folder = photos(tmp_path / "in", 4)
    (folder / "broken.jpg").write_bytes(b"no picture")
    files = find_images([folder])
    alone = last(segment_files(Segmenter.load(model, device="cpu"), files, tmp_path / "alone"))
    many = many_machines(model, files, tmp_path / "many")
    assert many.failures == alone.failures  # the caller's spelling of the path, the same words
    assert sorted(many.results, key=lambda one: one["file"]) == alone.results  # each once, though each was done twice
    names = sorted(str(p.relative_to(tmp_path / "alone")) for p in (tmp_path / "alone").rglob("*.*"))
    assert names == sorted(str(p.relative_to(tmp_path / "many")) for p in (tmp_path / "many").rglob("*.*"))
    for name in (one for one in names if one.endswith(".png")):
        assert (tmp_path / "many" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert json.loads((tmp_path / "many" / "summary.json").read_text())["done"] == 4
    again = many_machines(model, files, tmp_path / "many", skip_existing=True)
    assert (again.skipped, len(again.results), len(again.failures)) == (4, 0, 1)


def test_what_cannot_be_is_told_before_a_cluster_starts(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "on_cluster", lambda *_: pytest.fail("a cluster was started"))
    files = find_images([photos(tmp_path / "in", 2)])
    (tmp_path / "cut.safetensors").write_bytes(model.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors"):
        many_machines(tmp_path / "cut.safetensors", files, tmp_path / "out")


def test_a_cluster_that_is_lost_leaves_what_it_finished(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(items: Sequence[str], worker: type, arguments: tuple[Any, ...], *_: object) -> Iterator[str]:
        yield worker(*arguments)(items[0])
        raise ServiceError("the cluster was lost")

    monkeypatch.setattr(cluster, "on_cluster", lost)
    files = find_images([photos(tmp_path / "in", 3)])
    with pytest.raises(ServiceError):
        many_machines(model, files, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["done"] == 1
    in_this_process(monkeypatch)
    again = many_machines(model, files, tmp_path / "out", skip_existing=True)
    assert (again.skipped, len(again.results)) == (1, 2)


def test_the_command(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pspnet.cli import app

    in_this_process(monkeypatch)
    given = [str(model), str(photos(tmp_path / "in", 2)), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["segment", *given, "--cluster", "local", "--workers", "1", "--no-overlay"])
    assert done.exit_code == 0, done.output
    assert "2 of 2 images" in done.output
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.*")) == ["0.png", "1.png", "summary.json"]
    refused = CliRunner().invoke(app, ["segment", *given, "--workers", "3"])
    assert isinstance(refused.exception, ConfigError)
    assert "--cluster" in str(refused.exception)


class Slow:
    """Says where it ran."""

    def __call__(self, item: str) -> str:
        time.sleep(0.5)
        return f"{item} {os.getpid()}"


@pytest.mark.slow
def test_a_killed_worker_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))  # Ray's processes import this file for `Slow`
    killed: list[int] = []

    def kill_one() -> None:
        begun.wait(240)
        until = time.monotonic() + 60
        while time.monotonic() < until and not killed:
            for child in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):  # it ended while it was looked at
                    if "MapWorker" in " ".join(child.cmdline()):
                        child.kill()
                        killed.append(child.pid)
                        return
            time.sleep(0.1)

    begun = threading.Event()
    killer = threading.Thread(target=kill_one)
    killer.start()
    collected = []
    for outcome in on_cluster([str(number) for number in range(24)], Slow, (), 2, "local"):
        collected.append(outcome.split())
        begun.set()
    killer.join()
    assert killed
    assert sorted(int(item) for item, _ in collected) == list(range(24))
    assert len({process for _, process in collected}) >= 2
