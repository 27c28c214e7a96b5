"""The parts of a network with their shapes, parameters and operations, and what the whole costs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pspnet.config.model import ModelConfig
from pspnet.inspection.calls import CallLedger
from pspnet.inspection.costs import Cost, forward_cost, training_cost
from pspnet.inspection.rates import Machine, measure_machine
from pspnet.nn import PSPNet
from pspnet.nn.pyramid import PyramidPooling


@dataclass(frozen=True)
class Stage:
    """A part of the network: its output (channels, height, width), parameters, and operations for one image."""

    name: str
    shape: tuple[int, ...]
    parameters: int
    flops: int


@dataclass(frozen=True)
class ModelInfo:
    """What `model_info` counted. `segment` is one image's forward pass, `train` a step of `batch` images with momentum SGD
    in float32. Memory is what the process grows by, without the ~0.8 GB of Python and PyTorch before a network is made.
    pyramid: its levels and their channels in words; empty without."""

    config: ModelConfig
    height: int
    width: int
    batch: int
    stages: tuple[Stage, ...]
    parameters: int
    segment: Cost
    train: Cost
    machine: Machine
    pyramid: str = ""

    def __str__(self) -> str:
        rows = [("part", "output", "parameters", "GFLOP")]
        for stage in self.stages:
            shape = " x ".join(map(str, stage.shape)) or "(training only)"
            rows.append((stage.name, shape, f"{stage.parameters:,}", f"{stage.flops / 1e9:.2f}"))
        rows.append(("all", "", f"{self.parameters:,}", f"{self.segment.flops / 1e9:.2f}"))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [
            f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]:>{widths[3]}}"
            for row in rows
        ]
        lines += [self.pyramid] if self.pyramid else []
        size = f"{self.height} x {self.width} px"
        for name, cost in ((f"one image, {size}", self.segment), (f"training step, {self.batch} x {size}", self.train)):
            lines.append(
                f"{name}: {cost.flops / 1e9:.1f} GFLOP, about {cost.memory_bytes / 2**20:.0f} MiB, "
                f"about {cost.seconds(self.machine):.2g} s"
            )
        return "\n".join([*lines, f"float32, measured just now on {self.machine}"])


def model_info(
    model: ModelConfig | PSPNet, height: int = 480, width: int = 480, batch: int = 1, machine: Machine | None = None
) -> ModelInfo:
    """Shapes, parameters, operations, and predicted memory and time of a network.

    height, width: of the images, px. batch: images of a training step. machine: rates to predict times with; None: the
    CPU's, measured now. Operations are counted 2 for each multiply-add, in convolutions, matrix products and attention.
    """
    config = model.config if isinstance(model, PSPNet) else model
    with torch.device("meta"):
        network = PSPNet(config)
    with _usual_kernels():
        stages, segment = _stages(network, height, width), forward_cost(network, height, width)
        parameters = sum(p.numel() for p in network.parameters())
        train = training_cost(network, batch, height, width)
    rates = machine or measure_machine()
    words = pyramid_words(network.pyramid)
    return ModelInfo(config, height, width, batch, stages, parameters, segment, train, rates, words)


def pyramid_words(pyramid: PyramidPooling) -> str:
    """How many channels each level has: the input's, divided by the number of levels and rounded down, unless set."""
    if not pyramid.bins:
        return ""
    bins = ", ".join(map(str, pyramid.bins))
    return f"pyramid: {len(pyramid.bins)} levels ({bins}) of {pyramid.width} channels each, beside the input's {pyramid.in_channels}"


@contextmanager
def _usual_kernels() -> Iterator[None]:
    """Under deterministic algorithms, tensors without memory go other ways than real ones of a CPU: in small pieces."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)


def _stages(network: PSPNet, height: int, width: int) -> tuple[Stage, ...]:
    network.eval()
    image = torch.empty(1, network.config.in_bands, height, width, device="meta")
    part_of = _parts(network)
    with torch.no_grad(), CallLedger() as ledger, _running_part(network, part_of, ledger) as shapes:
        network(image)
    with torch.no_grad():  # apart: a pass that needs the last feature alone does not hand the others out
        features = network.encoder(network.normalise(image))
    names = [name for name in dict.fromkeys(part_of.values()) if name.startswith("encoder ")]
    shapes.update({name: tuple(feature.shape[1:]) for name, feature in zip(names, features, strict=True)})
    counts: dict[str, int] = defaultdict(int)
    for parameter in network.parameters():
        counts[part_of[id(parameter)]] += parameter.numel()
    return tuple(
        Stage(name, shapes.get(name, ()), counts[name], ledger.flops_of[name])
        for name in dict.fromkeys(part_of.values())
    )


def _parts(network: PSPNet) -> dict[int, str]:
    """id of each parameter -> the part of the network it belongs to, in order. The encoder's parts are its features:
    a parameter belongs to the first one that depends on it."""
    encoder = network.encoder.eval()
    parameters = list(encoder.parameters())
    frozen = [parameter for parameter in parameters if not parameter.requires_grad]
    encoder.requires_grad_(True)
    features = encoder(torch.empty(1, network.config.in_bands, 64, 64, device="meta"))
    stage_of: dict[int, int] = {}
    for stage, feature in enumerate(features):
        gradients = torch.autograd.grad(feature.sum(), parameters, retain_graph=True, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                stage_of.setdefault(id(parameter), stage)
    for parameter in frozen:
        parameter.requires_grad_(False)
    strides = encoder.strides
    names = [f"encoder {index + 1}, stride {stride}" for index, stride in enumerate(strides)]
    parts = {key: names[stage] for key, stage in sorted(stage_of.items(), key=lambda item: item[1])}
    for name, child in network.named_children():
        for parameter in child.parameters():
            parts.setdefault(id(parameter), name if name != "encoder" else names[-1])
    return parts


@contextmanager
def _running_part(network: PSPNet, part_of: dict[int, str], ledger: CallLedger) -> Iterator[dict[str, tuple[int, ...]]]:
    """Tells the ledger which part is running, and gives the shape of each later part's output (C, h, w) when it has run."""
    shapes: dict[str, tuple[int, ...]] = {}

    def enter(module: nn.Module, _: Any) -> None:
        first = next(module.parameters(), None)
        if first is not None:
            ledger.part = part_of[id(first)]

    def shape_of(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _, __, output: shapes.update({name: tuple(output.shape[1:])})

    hooks = [module.register_forward_pre_hook(enter) for module in network.modules()]
    for name, child in network.named_children():
        if name != "encoder":
            hooks.append(child.register_forward_hook(shape_of(name)))
    try:
        yield shapes
    finally:
        for hook in hooks:
            hook.remove()
