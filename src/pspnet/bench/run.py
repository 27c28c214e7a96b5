"""The run: every model at every size, its engines and precisions in turns."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch

from pspnet.bench.interleaved import Contestant, Measured, take_turns
from pspnet.bench.machine import Hardware, hardware
from pspnet.bench.report import BenchReport, TableCell
from pspnet.bench.startup import start_times
from pspnet.errors import ConfigError
from pspnet.predict.engine_choice import ENGINE_NAMES
from pspnet.predict.engines import pick_device
from pspnet.predict.exported import is_exported


def bench(
    models: Sequence[str] = ("resnet50",),
    engines: Sequence[str] = ("torch", "openvino", "onnxruntime"),
    precisions: Sequence[str] = ("fp32", "bf16"),
    sizes: Sequence[int | tuple[int, int]] = (480,),
    batches: Sequence[int] = (1,),
    *,
    rounds: int = 7,
    threads: int | None = None,
    device: str = "auto",
    classes: int = 150,
    starts: bool = True,
    report_line: Callable[[str], None] = lambda line: None,
) -> BenchReport:
    """Measures models x engines x precisions x sizes x batches, from images in memory to labels.

    models: checkpoints, exported models (which run in their own engine), names of bundled models; or names of encoders:
    a PSPNet of `classes` classes with random weights. sizes: px, one number for both sides or (height, width).
    precisions that the machine has not are left out. threads: None: all that PyTorch takes.
    """
    wrong = sorted(set(engines) - set(ENGINE_NAMES))
    if wrong or rounds < 1:
        raise ConfigError(
            f"engine = {wrong[0]!r}: {', '.join(ENGINE_NAMES)}" if wrong else f"rounds = {rounds}: at least 1"
        )
    if bad := sorted(set(precisions) - {"fp32", "bf16"}):
        raise ConfigError(f"precision = {bad[0]!r}: fp32 or bf16. For int8 export a model and give its file")
    if threads:
        torch.set_num_threads(threads)
    where = pick_device(device)
    report_line("matrix products")
    machine = hardware(where)
    cells: list[TableCell] = []
    for model in models:
        for height, width in [(s, s) if isinstance(s, int) else s for s in sizes]:
            for batch in batches:
                cells += _in_turns(
                    model, engines, precisions, height, width, batch, rounds, classes, machine, report_line
                )
    return BenchReport(machine, cells, start_times() if starts else {})


def _in_turns(
    model: str,
    engines: Sequence[str],
    precisions: Sequence[str],
    height: int,
    width: int,
    batch: int,
    rounds: int,
    classes: int,
    machine: Hardware,
    report_line: Callable[[str], None],
) -> list[TableCell]:
    contestants: list[Contestant] = []
    heads: list[dict[str, Any]] = []
    ways = (
        [("its own", "as exported")]
        if is_exported(model)
        else [
            (e, p) for e in engines for p in precisions if p in machine.products and (e, p) != ("onnxruntime", "bf16")
        ]
    )
    for engine, precision in ways:
        head = {
            "model": model,
            "engine": engine,
            "precision": precision,
            "height": height,
            "width": width,
            "batch": batch,
        }
        job = json.dumps(head | {"threads": machine.threads, "device": machine.device, "classes": classes})
        command = [sys.executable, "-m", "pspnet.bench.worker", job]
        contestants.append(
            Contestant(
                f"{model} {engine} {precision} {batch} x {height} x {width}",
                command,
                {"OMP_NUM_THREADS": str(machine.threads)},
            )
        )
        heads.append(head)
    measured = take_turns(contestants, rounds, report_line=report_line)
    return [cell_of(head, measured[c.name], machine) for head, c in zip(heads, contestants, strict=True)]


def cell_of(head: dict[str, Any], measured: Measured, machine: Hardware) -> TableCell:
    """One line of the table from one contestant's laps."""
    head = head | {"engine": measured.about.get("engine", head["engine"])}
    if measured.failure:
        return TableCell(**head, failure=measured.failure)
    flops, processor = measured.about["flops"], measured.median_processor_s
    busy = processor / machine.threads if machine.device == "cpu" else measured.median_s
    roof = machine.roof(head["precision"])
    return TableCell(
        **head,
        milliseconds=round(measured.median_s * 1e3, 2),
        processor_ms=round(processor * 1e3, 2),
        images_per_s=round(head["batch"] / measured.median_s, 3),
        gflop=round(flops / 1e9, 2),
        share=None if roof is None else round(flops / busy / roof, 4),
        peak_mib=measured.peak_mib,
        beyond_mib=round(measured.peak_mib - measured.ready_mib, 1),
    )
