"""What a device computes and moves in a second, measured by small runs of what networks are made of."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pspnet.inspection.calls import DENSE, DILATED_BACKWARD, GROUPED, GROUPED_BACKWARD, tensor_bytes
from pspnet.machine import is_busy


@dataclass(frozen=True)
class Machine:
    """Rates measured on a device. flops_per_s: of each kind of call, two for a multiply-add. bytes_per_s: read plus
    written, into new memory. seconds_per_call: of the smallest call. rough: other programs kept the processors at work."""

    device: str
    flops_per_s: Mapping[str, float]
    bytes_per_s: float
    seconds_per_call: float
    rough: bool = False

    def __str__(self) -> str:
        rates = f"{self.device}: {self.flops_per_s[DENSE] / 1e9:.0f} GFLOP/s, {self.bytes_per_s / 1e9:.1f} GB/s"
        return f"{rates}; rough, since the machine is busy" if self.rough else rates


def measure_machine(device: str = "cpu", seconds: float = 0.4, dtype: torch.dtype = torch.float32) -> Machine:
    """The device's rates, from small runs of what networks are made of; takes about `seconds`."""
    gpu = device.startswith("cuda")
    rough = not gpu and is_busy()  # before our own runs count as work
    side = 8192 if gpu else 512  # small enough to be finished before another program cuts in
    left, right = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
    long = torch.rand(2**28 if gpu else 2**22, device=device).to(dtype)  # on a CPU 16 MiB: as large as feature maps are
    maps = torch.rand(16 if gpu else 1, 192, 32, 32, device=device).to(dtype).requires_grad_()
    kernels = torch.rand(192, 1, 5, 5, device=device).to(dtype).requires_grad_()
    tiny, share = torch.rand(1, device=device), seconds / 6
    operations = 2 * kernels[0].numel() * maps.numel()

    def depthwise(dilation: int) -> Tensor:
        return F.conv2d(maps, kernels, padding=2 * dilation, dilation=dilation, groups=192)

    def backward(dilation: int) -> float:
        filtered = depthwise(dilation)
        return (
            2
            * operations
            / _fastest(
                lambda: torch.autograd.grad(filtered, (maps, kernels), filtered, retain_graph=True), device, share
            )
        )

    return Machine(
        device,
        {
            DENSE: 2 * side**3 / _fastest(lambda: left @ right, device, share),
            GROUPED: operations / _fastest(lambda: depthwise(1).detach(), device, share),
            GROUPED_BACKWARD: backward(1),
            DILATED_BACKWARD: backward(2),
        },
        2 * tensor_bytes(long) / _fastest(lambda: long + 1, device, share),
        _fastest(lambda: tiny + tiny, device, share),
        rough,
    )


def _fastest(work: Callable[[], Any], device: str, seconds: float) -> float:
    """Seconds of the fastest run: other programs can only make it slower."""
    best, end = math.inf, time.perf_counter() + seconds
    work()
    while time.perf_counter() < end or best == math.inf:
        start = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return best
