"""benchmarks/peers.py without the other projects: which rows there are, and what a row says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import peers

    return peers


def jobs(peers: Any, monkeypatch: pytest.MonkeyPatch, *options: str, bfloat16: bool = True) -> list[dict[str, Any]]:
    monkeypatch.setattr(sys, "argv", ["peers.py", *options])
    collected: list[dict[str, Any]] = peers.jobs_of(peers.parse(), bfloat16)
    return collected


def test_who_is_measured(peers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [job["name"] for job in jobs(peers, monkeypatch)]
    assert names[0] == "mmsegmentation"  # the others are compared with it
    assert {"smp U-Net", "smp DeepLabV3+", "torchvision DeepLabV3", "SegFormer-B0"} < set(names)
    assert {"ours openvino int8", "ours onnxruntime int8", "ours openvino bf16"} < set(names)
    assert not [name for job in [jobs(peers, monkeypatch, bfloat16=False)] for name in job if "bf16" in name["name"]]
    assert len([job for job in jobs(peers, monkeypatch, "--only", "SegFormer-B0") if job["kind"] == "theirs"]) == 2
    trained = jobs(peers, monkeypatch, "--model", "scenes")
    assert {job["kind"] for job in trained} == {"trained"}
    assert trained[0]["name"] == "scenes torch fp32"


def test_rows_say_what_differs(peers: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from pspnet.bench.interleaved import Measured

    three = [
        {"kind": "theirs", "name": "mmsegmentation", "note": "the same"},
        {"kind": "theirs", "name": "SegFormer-B0", "note": "another"},
        {"kind": "ours", "name": "ours openvino int8", "note": ""},
        {"kind": "ours", "name": "ours torch fp32", "note": ""},
    ]
    labels = np.zeros((4, 4), np.uint8)
    for number, job in enumerate(three):
        job["key"] = f"job{number}"
        labels[0, 0] = number
        np.save(tmp_path / f"job{number}.npy", labels)
    about = {"gflop": 300.0, "parameters": 4e7}
    results = {
        "mmsegmentation": Measured("mmsegmentation", [2.0], [2.0], about=about),
        "SegFormer-B0": Measured("SegFormer-B0", [1.0], [1.0], about=about),
        "ours openvino int8": Measured("ours openvino int8", [0.5], [0.5], about=about | {"mean_iou": 0.71234}),
        "ours torch fp32": Measured("ours torch fp32", failure="out of memory"),
    }
    rows = peers.rows_of(three, results, tmp_path)
    assert "equal_labels" not in rows[1]  # another network: its labels are not comparable
    assert rows[2]["equal_labels"] == 0.9375
    shown = {line[:30].strip(): line[30:] for line in peers.table(rows, 1).splitlines()}
    assert shown["ours openvino int8"].split()[:7] == ["500", "4.00", "500", "4.00", "300", "40.0", "0"]
    assert shown["ours openvino int8"].split()[7:] == ["93.750%", "71.23%"]
    assert shown["SegFormer-B0"].endswith("another")
    assert shown["ours torch fp32"] == " not run: out of memory"
