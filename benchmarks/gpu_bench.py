"""What the parts of benchmarks/gpu.py share: sizes, networks, and how a call is timed on a card."""

from __future__ import annotations

import copy
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from plain_pspnet import PlainPSPNet
from pspnet import ModelConfig, PSPNet, Segmenter
from pspnet.bench.machine import Hardware

Row = dict[str, Any]
Work = Callable[[], Any]
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Sizes:
    """What is measured: the paper's network and crop, or the smallest that goes through every line."""

    encoder: str = "resnet50"
    bottlenecks: str = "resnet50"  # an encoder of bottlenecks, which gpu_fused.py wants
    classes: int = 150
    forward_px: int = 480
    crop_px: int = 473  # the paper's
    batch: int = 16
    image: tuple[int, int] = (512, 683)  # ADE20K's usual size
    protocol: str = "semseg-ms"
    scenes: int = 16
    seconds: float = 1.0  # of measuring a row
    most: int = 30  # calls of a row
    loading_s: float = 2.5  # of each number of workers


TINY = Sizes("resnet18", "resnet50", 5, 65, 65, 2, (64, 81), "slide", 2, 0.01, 2, 0.05)


@dataclass
class Bench:
    """One run: where, how large, and what came out."""

    device: torch.device
    sizes: Sizes
    machine: Hardware
    rows: dict[str, list[Row]] = field(default_factory=dict)
    networks: dict[str, Any] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Operations a second of the bfloat16 matrix product; of the float32 one on a processor without bfloat16."""
        return self.machine.products.get("bf16", self.machine.products["fp32"]).wall

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    def images(self, side: int, batch: int | None = None) -> Tensor:
        """(B, 3, side, side) on the device, 0..255, channels-last."""
        random = torch.Generator(self.device).manual_seed(0)
        shape = (batch or self.sizes.batch, 3, side, side)
        images = torch.rand(shape, generator=random, device=self.device) * 255
        return images.contiguous(memory_format=torch.channels_last)

    def ours(self, **choices: Any) -> PSPNet:
        choices = {"encoder": self.sizes.encoder, "num_classes": self.sizes.classes} | choices
        return self._made("ours", choices, lambda: PSPNet(ModelConfig(**choices)))

    def plain(self) -> PlainPSPNet:
        return self._made("plain", {}, lambda: PlainPSPNet(self.sizes.classes, self.sizes.encoder))

    def _made(self, kind: str, choices: Row, make: Callable[[], Network]) -> Network:
        """Each network is made once, in the CPU's memory, and handed out as a copy: a second is much on a lent card."""
        key = f"{kind} {choices}"
        if key not in self.networks:
            torch.manual_seed(0)
            self.networks[key] = alive(make())
        return copy.deepcopy(self.networks[key])

    def segmenter(self, engine: str = "torch") -> Segmenter:
        return Segmenter(self.ours(), device=str(self.device), precision="bf16", engine=engine)

    def place(self, model: nn.Module) -> Any:
        return model.to(self.device).to(memory_format=torch.channels_last)

    def autocast(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16)

    def time(self, name: str, work: Work, images: int, flops: int | None = None) -> Row:
        """A row: calls of `work` one after the other, as they come in use, after some that do not count."""
        self.free()
        before = torch.cuda.memory_allocated() if self.cuda else 0
        first, *_ = (self._seconds(work) for _ in range(3 if self.cuda else 1))  # libraries, plans, graphs
        calls = int(min(max(self.sizes.seconds / self._seconds(work), 3), self.sizes.most))
        row: Row = {"name": name}
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            ms = statistics.median(self._event_times(work, calls))
            peak = torch.cuda.max_memory_allocated()
            row |= {"mib": round(peak / 2**20), "beyond_mib": round((peak - before) / 2**20)}
        else:
            ms = statistics.median(self._seconds(work) for _ in range(calls)) * 1e3
        row |= {"ms": round(ms, 3), "images_per_s": round(images / ms * 1e3, 1), "calls": calls}
        row["first_call_s"] = round(first, 2)
        if flops is not None:
            row |= {"gflop": round(flops / 1e9, 1), "of_rate": round(flops / ms * 1e3 / self.rate, 4)}
        return row

    def _seconds(self, work: Work) -> float:
        self.wait()
        started = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - started

    def _event_times(self, work: Work, calls: int) -> list[float]:
        """Milliseconds on the card between the events around each call; the calls queue up as they do in use."""
        marks = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(calls)]
        for begin, end in marks:
            begin.record()
            work()
            end.record()
        self.wait()
        return [begin.elapsed_time(end) for begin, end in marks]

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def free(self) -> None:
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()


def alive(model: Network) -> Network:
    """Random weights, but every layer's output of usual size: the initial zeros of each block's last norm, on which a card
    is faster than on any trained network, become 0.2, and the norms' statistics are those of random images."""
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        nn.init.constant_(norm.weight, float(norm.weight.detach().max()) or 0.2)
    with torch.no_grad():
        model.train()(torch.rand(2, 3, 129, 129) * 255)
    for norm in norms:
        norm.momentum = 0.1
    return model.eval()


def counted(work: Work) -> int:
    """Floating-point operations of one eager call."""
    with FlopCounterMode(display=False) as counter, torch.random.fork_rng(devices=[]):
        work()
    return counter.get_total_flops()


@contextmanager
def cudnn(**switches: bool) -> Iterator[None]:
    """torch.backends.cudnn's switches, for a while."""
    before = {name: getattr(torch.backends.cudnn, name) for name in switches}
    try:
        for name, value in switches.items():
            setattr(torch.backends.cudnn, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(torch.backends.cudnn, name, value)
