"""Contestants take turns in processes of their own; shares of the roof are counted from operations."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from pspnet.bench.interleaved import Contestant, Measured, ratios, take_turns
from pspnet.bench.machine import Hardware, Rate, convolution_rate, product_rate
from pspnet.bench.report import BenchReport
from pspnet.bench.run import bench, cell_of
from pspnet.bench.worker import flops_of
from pspnet.cli import app
from pspnet.config.model import ModelConfig
from pspnet.errors import ConfigError, OutputError
from support.paths import ROOT

SOURCE = str(ROOT / "src")
CHILD = """
import sys, time
sys.path.insert(0, {source!r})
from pspnet.bench.interleaved import serve
def prepare():
    if {fails!r} == "prepare": raise ValueError("no such thing\\nmore")
    print("chatter of a library")
    def work():
        if {fails!r} == "work": sys.exit("out of luck")
        open({log!r}, "a").write({name!r})
        block = bytearray({mib} * 2**20)
        for i in range(0, len(block), 4096): block[i] = 1
        time.sleep({seconds})
    return work, {{"flops": 7}}
serve(prepare)
"""


def child(name: str, log: Path, mib: int = 0, seconds: float = 0.0, fails: str = "") -> Contestant:
    code = CHILD.format(source=SOURCE, name=name, log=str(log), mib=mib, seconds=seconds, fails=fails)
    return Contestant(name, [sys.executable, "-c", code])


def test_turns(tmp_path: Path) -> None:
    log = tmp_path / "log"
    results = take_turns(
        [
            child("a", log, mib=60, seconds=0.05),
            child("b", log),
            child("c", log, fails="prepare"),
            child("d", log, fails="work"),
        ],
        rounds=3,
    )
    assert log.read_text() == "ab" * 4  # one warm-up
    a, b = results["a"], results["b"]
    assert len(a.wall_s) == len(b.wall_s) == 3
    assert a.median_s > 0.05 > b.median_s
    assert a.median_processor_s < a.median_s  # asleep most of the time
    assert 50 < a.peak_mib - a.ready_mib < 90
    assert b.peak_mib - b.ready_mib < 20
    assert a.about == {"flops": 7}
    assert ratios(a, b)[1] > 1
    assert results["c"].failure == "ValueError: no such thing"
    assert results["d"].failure == "out of luck"


def test_ratios_are_of_pairs() -> None:
    slow, fast = Measured("slow", [4.0, 9.0, 2.0]), Measured("fast", [2.0, 3.0, 2.0])
    assert ratios(slow, fast) == [1.0, 2.0, 3.0]


MACHINE = Hardware("A. Processor", "cpu", 8, 2, 16.0, "2", {"fp32": Rate(1e9, 1.5e9)}, {"fp32": Rate(1e9, 2e9)}, 0.5)
HEAD = {"model": "m", "engine": "torch", "precision": "fp32", "height": 4, "width": 5, "batch": 3}


def test_share_of_the_roof() -> None:
    laps = Measured("m", [2.0], [3.0], 100.0, 130.5, {"flops": 150_000_000, "engine": "torch"})
    cell = cell_of(HEAD, laps, MACHINE)
    assert cell.share == 0.05  # 0.15 GFLOP in 1.5 s on each of two threads; the roof is 2 GFLOP/s
    assert cell.images_per_s == 1.5
    assert (cell.peak_mib, cell.beyond_mib) == (130.5, 30.5)


def test_rates_are_measured() -> None:
    for measure in (product_rate, convolution_rate):
        rate = measure(torch.float32, torch.device("cpu"))
        assert 1e8 < rate.wall < 1e14
        assert rate.processor > 0.5 * rate.wall


def test_report(tmp_path: Path) -> None:
    laps = Measured("m", [2.0], [3.0], 100.0, 130.5, {"flops": 150_000_000})
    broken = Measured("m", failure="no memory")
    report = BenchReport(
        MACHINE,
        [cell_of(HEAD, laps, MACHINE), cell_of(HEAD, broken, MACHINE)],
        {"import pspnet": {"wall_s": 0.1, "processor_s": 0.05}},
    )
    text = str(report)
    assert "not run: no memory" in text
    assert "import pspnet 0.10 (0.05)" in text
    path = report.save(tmp_path)
    assert path.name.startswith("bench-a-processor-8-cores-20")
    assert json.loads(path.read_text())["cells"][0]["share"] == 0.05
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert report.save(tmp_path) == path  # ours of the same day and commit
    path.write_text('{"mine": 1}')
    with pytest.raises(OutputError, match="exists"):
        report.save(tmp_path)


def test_operations_count_the_fold() -> None:
    folded, plain = (
        flops_of(ModelConfig(encoder="resnet50", num_classes=150, fusion=f), 480, 480) for f in ("folded", "plain")
    )
    assert round(folded / 1e9) == 244
    assert round(plain / 1e9) == 312  # as counted elsewhere


def test_wrong_requests() -> None:
    with pytest.raises(ConfigError, match="tensorrt"):
        bench(engines=["tensorrt"])
    with pytest.raises(ConfigError, match="export a model"):
        bench(precisions=["int8"])
    result = CliRunner().invoke(app, ["bench", "--size", "big"])
    assert isinstance(result.exception, ConfigError)
    assert "HEIGHTxWIDTH" in str(result.exception)


@pytest.mark.slow
def test_a_small_run(tmp_path: Path) -> None:
    report = bench(
        ["scenes", "no_such_encoder"], ["torch"], ["fp32"], [(48, 64)], rounds=2, threads=1, device="cpu", starts=False
    )
    good, bad = report.cells
    assert good.failure == ""
    assert good.milliseconds > 0
    assert 0 < (good.share or 0) < 1
    assert "no_such_encoder" in bad.failure
