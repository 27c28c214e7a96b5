"""The machine: what it is called, and how fast it multiplies matrices. That rate is the roof of a network's."""

from __future__ import annotations

import datetime
import os
import platform
import re
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from pspnet.engines import has_bfloat16

SIDE = {"cpu": 2048, "cuda": 8192}  # of the square matrices


@dataclass(frozen=True)
class Rate:
    """Operations per second (2 for a multiply-add) of a matrix product: by the clock, and per second of processor
    time times the number of threads, which other programs on the machine do not lower."""

    wall: float
    processor: float


@dataclass(frozen=True)
class Hardware:
    """What the figures belong to. rates: precision -> Rate; load: programs that wanted the processor before the run."""

    name: str
    device: str
    cores: int
    threads: int
    memory_gib: float
    torch: str
    rates: dict[str, Rate]
    load: float

    @property
    def slug(self) -> str:
        """The name as a part of a file's name."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.name} {self.cores} cores".lower()).strip("-")

    def __str__(self) -> str:
        rates = ", ".join(f"{name} {rate.processor / 1e12:.3f} ({rate.wall / 1e12:.3f} by the clock)"
                          for name, rate in self.rates.items())
        return (f"{self.name}, {self.cores} cores, {self.threads} threads used, {self.memory_gib:.0f} GiB, torch "
                f"{self.torch}, load {self.load:.1f}\nmatrix product {SIDE[self.device]}^3, TFLOP/s: {rates}")


def hardware(device: torch.device) -> Hardware:
    """This machine, its rates measured now (a second or two)."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    precisions = {"fp32": torch.float32} | ({"bf16": torch.bfloat16} if has_bfloat16(device) else {})
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        memory = torch.cuda.get_device_properties(device).total_memory
    else:
        name, memory = processor_name(), _memory_bytes()
    rates = {precision: matrix_rate(dtype, device) for precision, dtype in precisions.items()}
    return Hardware(
        name, device.type, os.cpu_count() or 1, torch.get_num_threads(), round(memory / 2**30, 1), torch.__version__,
        rates, round(load, 1),
    )  # fmt: skip


def matrix_rate(dtype: torch.dtype, device: torch.device, rounds: int = 9) -> Rate:
    """The rate of a square matrix product, PyTorch's own kernels; the clock's is of the best run."""
    side = SIDE[device.type]
    left, right = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
    operations = 2 * side**3
    walls, processors = [], []
    left @ right
    for _ in range(rounds):
        if device.type == "cuda":
            torch.cuda.synchronize()
        wall, processor = time.perf_counter(), time.process_time()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    best = operations / min(walls)
    if device.type == "cuda":
        return Rate(best, best)
    return Rate(best, operations * torch.get_num_threads() / statistics.median(processors))


def processor_name() -> str:
    """As Linux tells it, else Python."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        fields = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        family = f" family {fields['cpu family']}" if "cpu family" in fields else ""  # some machines hide the model
        return fields.get("model name", platform.processor()) + family
    except OSError:
        return platform.processor() or platform.machine()


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0


def commit() -> str:
    """The source's commit; the release where there is no checkout."""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return done.stdout.strip()
    from importlib.metadata import version

    return version("pspnet")


def stamp(hardware_slug: str) -> str:
    """hardware-date-commit: how a file of results is named."""
    return f"{hardware_slug}-{datetime.date.today():%Y%m%d}-{commit()}"
