"""The machine: what it is called, and how fast it multiplies. The better of two rates is a network's roof: a matrix
product, and a 3x3 convolution like PSPNet's own, since the two need not run in the same library: on AMD processors
PyTorch's float32 matrix product reaches less than half of its convolution's rate."""

from __future__ import annotations

import datetime
import os
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pspnet import __version__
from pspnet.machine import memory_bytes, processor_name, source_commit
from pspnet.predict.engines import has_bfloat16

SIDE = {"cpu": 2048, "cuda": 8192}  # of the square matrices


@dataclass(frozen=True)
class Rate:
    """Operations per second (2 for a multiply-add): by the clock, and per second of processor time times the number of
    threads, which other programs on the machine do not lower."""

    wall: float
    processor: float

    def __str__(self) -> str:
        return f"{self.processor / 1e12:.3f} ({self.wall / 1e12:.3f} by the clock)"


@dataclass(frozen=True)
class Hardware:
    """What the figures belong to. products, convolutions: precision -> Rate of a square matrix product, and
    of a 3x3 convolution; load: programs that wanted the processor before the run."""

    name: str
    device: str
    cores: int
    threads: int
    memory_gib: float
    torch: str
    products: dict[str, Rate]
    convolutions: dict[str, Rate]
    load: float

    @property
    def slug(self) -> str:
        """The name as a part of a file's name."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.name} {self.cores} cores".lower()).strip("-")

    def roof(self, precision: str) -> float | None:
        """Operations per second of processor time over all threads; None for a precision that was not measured."""
        rates = [kind[precision].processor for kind in (self.products, self.convolutions) if precision in kind]
        return max(rates, default=None)

    def __str__(self) -> str:
        lines = [
            f"{self.name}, {self.cores} cores, {self.threads} threads used, {self.memory_gib:.0f} GiB, torch "
            f"{self.torch}, load {self.load:.1f}"
        ]
        for kind, rates in (("matrix product", self.products), ("3x3 convolution", self.convolutions)):
            lines.append(f"{kind}, TFLOP/s: " + ", ".join(f"{name} {rate}" for name, rate in rates.items()))
        return "\n".join(lines)


def hardware(device: torch.device) -> Hardware:
    """This machine, its rates measured now (a second or two)."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    precisions = {"fp32": torch.float32} | ({"bf16": torch.bfloat16} if has_bfloat16(device) else {})
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        memory = torch.cuda.get_device_properties(device).total_memory
    else:
        name, memory = processor_name(), memory_bytes()
    return Hardware(
        name,
        device.type,
        os.cpu_count() or 1,
        torch.get_num_threads(),
        round(memory / 2**30, 1),
        torch.__version__,
        {name: product_rate(dtype, device) for name, dtype in precisions.items()},
        {name: convolution_rate(dtype, device) for name, dtype in precisions.items()},
        round(load, 1),
    )


def product_rate(dtype: torch.dtype, device: torch.device) -> Rate:
    """Of a square matrix product, 2048 a side (8192 on a GPU)."""
    side = SIDE[device.type]
    left, right = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
    return _rate(lambda: left @ right, 2 * side**3, device)


def convolution_rate(dtype: torch.dtype, device: torch.device) -> Rate:
    """Of a 3x3 convolution 512 -> 512 at 60 x 60, PSPNet-50's most frequent one (16 images on a GPU)."""
    images = torch.rand(16 if device.type == "cuda" else 1, 512, 60, 60, device=device).to(dtype)
    images = images.contiguous(memory_format=torch.channels_last)
    kernels = torch.rand(512, 512, 3, 3, device=device).to(dtype).contiguous(memory_format=torch.channels_last)
    return _rate(lambda: F.conv2d(images, kernels, padding=1), 2 * images.numel() * 512 * 9, device)


@torch.inference_mode()
def _rate(work: Callable[[], Tensor], operations: int, device: torch.device, rounds: int = 9) -> Rate:
    walls, processors = [], []
    work()
    for _ in range(rounds):
        _wait(device)
        wall, processor = time.perf_counter(), time.process_time()
        work()
        _wait(device)
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    best = operations / min(walls)
    busy = best if device.type == "cuda" else operations * torch.get_num_threads() / statistics.median(processors)
    return Rate(best, busy)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def commit() -> str:
    """The source's commit; the release where there is no checkout."""
    return source_commit() or __version__


def stamp(hardware_slug: str, source: str | None = None) -> str:
    """hardware-date-commit: how a file of results is named. source: the commit, where it is known otherwise."""
    return f"{hardware_slug}-{datetime.date.today():%Y%m%d}-{source or commit()}"
