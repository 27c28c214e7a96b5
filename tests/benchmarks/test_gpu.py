"""benchmarks/gpu.py at its smallest on a processor: every part but the compiled ones gives figures, and time is kept."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
COMPILED = {"compiled training", "compiled forward"}  # a minute each of a processor's compiler


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module, with a machine whose rates nobody waits for."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu
    from pspnet.bench.machine import Hardware, Rate

    rates = {"fp32": Rate(1e11, 1e11)}
    machine = Hardware("a processor", "cpu", 1, 1, 1.0, torch.__version__, rates, rates, 0.0)
    monkeypatch.setattr(gpu, "hardware", lambda device: machine)
    return gpu


def run(gpu: Any, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--tiny", "--device", "cpu", "--commit", "0000000", *options])
    with pytest.raises(SystemExit) as end:
        gpu.main()
    return int(end.value.code or 0)


@pytest.mark.slow
def test_every_part_gives_figures(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [name for name, _, _ in gpu.PARTS if name not in COMPILED]
    assert run(gpu, monkeypatch, "--only", ",".join(parts), "--seconds", "10000", "--out", str(tmp_path)) == 0
    (path,) = tmp_path.glob("gpu-a-processor-1-cores-*-0000000.json")
    content = json.loads(path.read_text())["parts"]
    assert list(content) == [*parts, "data loading beside training"]
    rows = {(part, row["name"]): row for part, part_rows in content.items() for row in part_rows}
    unmeasured = {name for name, row in rows.items() if "failure" in row}
    assert unmeasured <= {("forward", "smp PSPNet, to labels"), ("training", "smp PSPNet")}
    assert rows["labels", "scenes, float32"]["equal_labels"] == 1
    assert rows["labels", "scenes, bfloat16"]["equal_labels"] > 0.99
    assert rows["labels", "scenes, float32"]["right"] > 0.7
    by_hand = rows["forward", "ours, fused by hand"]
    assert 0 < by_hand["error"] < 1.5 * by_hand["error_eager"]
    # the fold leaves out what the plain network computes
    assert rows["forward", "ours, eager"]["gflop"] < rows["forward", "plain PyTorch"]["gflop"]
    assert rows["training", "ours, eager"]["gflop"] > 2.5 * rows["forward", "ours, eager"]["gflop"]
    assert rows["training", "ours, eager"]["of_rate"] > 0
    shown = capsys.readouterr().out
    assert all(name in shown for _, name in rows)


@pytest.mark.slow
def test_fused_by_hand_is_the_same_network(gpu: Any) -> None:
    from gpu_bench import TINY, Bench
    from gpu_fused import fused

    bench = Bench(torch.device("cpu"), TINY, gpu.hardware(None))
    model, images = bench.ours(encoder=TINY.bottlenecks), bench.images(65)
    with torch.inference_mode():
        wanted = model.coarse_logits(images)
        torch.testing.assert_close(
            fused(model, torch.float32)(images), wanted, rtol=1e-3, atol=1e-3 * float(wanted.std())
        )


def test_what_no_longer_fits_is_left_out(gpu: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert run(gpu, monkeypatch, "--seconds", "0", "--out", str(tmp_path)) == 0
    (path,) = tmp_path.glob("*.json")
    parts = json.loads(path.read_text())["parts"]
    assert all(rows[0]["failure"].startswith("left out") for name, rows in parts.items() if rows)


def test_a_part_that_fails_is_a_row_and_exit_code_1(gpu: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(bench: Any) -> list[Any]:
        raise MemoryError("no room")

    monkeypatch.setattr(
        gpu, "PARTS", [("first", 0.0, fails), ("second", 0.0, lambda bench: [{"name": "a", "value": 1.0}])]
    )
    assert run(gpu, monkeypatch, "--seconds", "10000", "--out", str(tmp_path)) == 1
    (path,) = tmp_path.glob("*.json")
    parts = json.loads(path.read_text())["parts"]
    assert parts["first"][0]["failure"] == "MemoryError: no room"
    assert parts["second"] == [{"name": "a", "value": 1.0}]
