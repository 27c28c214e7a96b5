"""What a network costs, before it runs: shapes, parameters, operations, memory and time.

    print(model_info(ModelConfig(encoder="resnet50"), height=473, width=473, batch=4))

The network is run once on tensors that have shapes but no memory, forward, backward and update; every operation is
noted. So the prediction follows from the network itself, for any configuration, in seconds, on any machine.
"""

from __future__ import annotations

import math
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from pspnet.config.loss import LossConfig
from pspnet.config.model import ModelConfig
from pspnet.heap import Heap
from pspnet.losses import SegmentationLoss
from pspnet.nn import PSPNet

aten = torch.ops.aten


# kinds of calls, by what limits them: on a CPU, PyTorch's depthwise convolutions run at a third of a matrix product's
# rate forward, at a fiftieth backward, and dilated ones at a hundredth
DENSE, GROUPED, GROUPED_BACKWARD, DILATED_BACKWARD = "dense", "grouped", "grouped backward", "dilated grouped backward"
KINDS = (DENSE, GROUPED, GROUPED_BACKWARD, DILATED_BACKWARD)

PASSES = 3  # in which the allocator's holes are found: the first pass begins with an empty heap
# what a process takes beside tensors, as measured (docs/log/encoders.md): pages of libraries and kernels that a first pass
# loads, and freed blocks that the C library's allocator keeps
LOADED_BYTES, KEPT_BYTES = 25 * 2**20, 32 * 2**20


@dataclass(frozen=True)
class Machine:
    """Rates measured on a device. flops_per_s: of each kind of call, two for a multiply-add. bytes_per_s: read plus
    written, into new memory. seconds_per_call: of the smallest call."""

    device: str
    flops_per_s: Mapping[str, float]
    bytes_per_s: float
    seconds_per_call: float

    def __str__(self) -> str:
        return f"{self.device}: {self.flops_per_s[DENSE] / 1e9:.0f} GFLOP/s, {self.bytes_per_s / 1e9:.1f} GB/s"


class Call(NamedTuple):
    """One operation of PyTorch: its kind, floating-point operations, and bytes read and written."""

    kind: str
    flops: int
    traffic_bytes: int


@dataclass(frozen=True)
class Cost:
    """Of one pass: floating-point operations, the largest memory held at once, and every call."""

    flops: int
    memory_bytes: int
    calls: tuple[Call, ...]

    def seconds(self, machine: Machine) -> float:
        """Each call takes as long as its arithmetic or its traffic, whichever is longer (the roofline), plus its start."""
        return sum(
            max(call.flops / machine.flops_per_s[call.kind], call.traffic_bytes / machine.bytes_per_s)
            + machine.seconds_per_call
            for call in self.calls
        )


@dataclass(frozen=True)
class Stage:
    """A part of the network: its output (channels, height, width), parameters, and operations for one image."""

    name: str
    shape: tuple[int, ...]
    parameters: int
    flops: int


@dataclass(frozen=True)
class ModelInfo:
    """What `model_info` found. `segment` is one image's forward pass, `train` a step of `batch` images with momentum SGD
    in float32. Memory is what the process grows by, without the ~0.8 GB of Python and PyTorch before a network is made."""

    config: ModelConfig
    height: int
    width: int
    batch: int
    stages: tuple[Stage, ...]
    parameters: int
    segment: Cost
    train: Cost
    machine: Machine

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
        size = f"{self.height} x {self.width} px"
        for name, cost in ((f"one image, {size}", self.segment), (f"training step, {self.batch} x {size}", self.train)):
            lines.append(
                f"{name}: {cost.flops / 1e9:.1f} GFLOP, about {cost.memory_bytes / 2**20:.0f} MiB, "
                f"about {cost.seconds(self.machine):.2g} s"
            )
        return "\n".join([*lines, f"float32 on {self.machine} (measured just now)"])


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
    return ModelInfo(config, height, width, batch, stages, parameters, segment, train, machine or measure_machine())


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
    with torch.no_grad(), CallLedger() as ledger, _parts_told(network, part_of, ledger) as shapes:
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


def forward_cost(network: PSPNet, height: int, width: int) -> Cost:
    """Of one image's forward pass. network: without memory (device meta)."""
    network.eval()
    dtype = next(network.parameters()).dtype
    image = torch.empty(1, network.config.in_bands, height, width, device="meta", dtype=dtype)
    with torch.no_grad(), CallLedger() as ledger:
        for _ in range(PASSES):
            network(image)
    calls = ledger.calls[: len(ledger.calls) // PASSES]
    memory = _resident_bytes(network) + _bytes(image) + ledger.heap.peak_bytes + bytes_beside_tensors(network)
    return Cost(sum(call.flops for call in calls), memory, tuple(calls))


def training_cost(
    network: PSPNet,
    batch: int,
    height: int,
    width: int,
    values_per_weight: float = 1.0,
    input_scale: float | None = None,
) -> Cost:
    """Of one training step. network: without memory (device meta); in bfloat16, what autocast computes in it is halved.

    values_per_weight: that the optimiser, and an average of the weights, keep for each of them (momentum: 1, AdamW: 2).
    """
    config = network.config
    network.train()
    dtype = next(network.parameters()).dtype
    images = torch.empty(batch, config.in_bands, height, width, device="meta", dtype=dtype)
    labels = torch.zeros(batch, height, width, dtype=torch.int64, device="meta")
    criterion = SegmentationLoss(LossConfig(), config.num_classes, None).to("meta")
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    with CallLedger() as ledger:
        for _ in range(PASSES):
            outputs = network.forward_train(images, input_scale)
            loss = criterion(outputs.logits, labels)
            if outputs.auxiliary is not None:
                loss = loss + criterion(outputs.auxiliary, labels)
            if outputs.image_logits is not None:
                loss = loss + outputs.image_logits.square().mean()  # as small as its own loss
            if outputs.points is not None:
                logits = outputs.points.logits
                loss = loss + criterion(logits, labels.flatten(1)[:, :1].expand(-1, logits.shape[2]))
            loss.backward()
            del outputs, loss
            for parameter in learning:
                parameter.grad = None
    # in bfloat16: weights, gradients and the optimiser's values are of 4 bytes, with a copy of 2 for autocast
    weights = sum(parameter.numel() for parameter in learning)
    kept = 4 * values_per_weight * weights + (4 * weights if dtype == torch.bfloat16 else 0)
    whole = sum(4 * value.numel() for value in [*network.parameters(), *network.buffers()])
    resident = whole + int(kept) + 4 * images.numel() + _bytes(labels) + bytes_beside_tensors(network)
    step = ledger.calls[: len(ledger.calls) // PASSES]
    # the update reads and writes weight, gradient and what is kept
    step.append(Call(DENSE, 0, int(weights * 4 * (3 + 2 * values_per_weight))))
    return Cost(sum(call.flops for call in step), resident + ledger.heap.peak_bytes, tuple(step))


class CallLedger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every call that PyTorch makes inside it: operations, traffic, and the memory of tensors alive at once.

    For tensors of the meta device, and real ones too, whose fused attention counts as traffic only. What was there
    before is not counted: only tensors made inside.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        self.flops_of: dict[str, int] = defaultdict(int)
        self.part = ""  # whom the operations are put down to
        self.live_bytes = self.peak_bytes = 0
        self.heap = Heap()  # what the C library's allocator takes for them, holes included
        self._alive: dict[int, int] = {}  # address of a storage -> its bytes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        kind, flops = _work(func.overloadpacket, args, result)
        self.flops_of[self.part] += flops
        if not func.is_view:
            inputs = [value for value in tree_iter((args, kwargs)) if isinstance(value, Tensor)]
            outputs = [value for value in tree_iter(result) if isinstance(value, Tensor)]
            self.calls.append(Call(kind, flops, sum(map(_bytes, inputs)) + sum(map(_bytes, outputs))))
            given = {tensor.untyped_storage()._cdata for tensor in inputs}
            for tensor in outputs:
                if tensor.untyped_storage()._cdata not in given:  # else written in place, maybe into a weight
                    self._hold(tensor.untyped_storage())
        return result

    def _hold(self, storage: torch.UntypedStorage) -> None:
        address = storage._cdata
        if address not in self._alive:
            self._alive[address] = storage.nbytes()
            self.live_bytes += storage.nbytes()
            self.peak_bytes = max(self.peak_bytes, self.live_bytes)
            self.heap.take(address, storage.nbytes())
            weakref.finalize(storage, self._release, address)

    def _release(self, address: int) -> None:
        self.live_bytes -= self._alive.pop(address)
        self.heap.give(address)


def _work(call: Any, args: Any, result: Any) -> tuple[str, int]:
    """(kind, operations), 2 for each multiply-add of convolutions and matrix products; the rest is traffic."""
    if call is aten.convolution or call is aten._convolution:
        inputs, weight, transposed, groups = args[0], args[1], args[6], args[8]
        cells = inputs if transposed else result  # each cell of the one meets the whole kernel
        return (GROUPED if groups > 1 else DENSE), 2 * cells.numel() * math.prod(weight.shape[1:])
    if call is aten.convolution_backward:
        (gradient, inputs, weight), dilation, transposed, (groups, wanted) = args[:3], args[6], args[7], args[9:11]
        cells = inputs if transposed else gradient
        flops = sum(wanted[:2]) * 2 * cells.numel() * math.prod(weight.shape[1:])
        backward = DILATED_BACKWARD if max(dilation) > 1 else GROUPED_BACKWARD
        return (backward if groups > 1 else DENSE), flops
    if call is aten.mm or call is aten.bmm:
        return DENSE, 2 * result.numel() * args[0].shape[-1]
    if call is aten.addmm or call is aten.baddbmm:
        return DENSE, 2 * result.numel() * args[1].shape[-1]
    return DENSE, 0


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
def _parts_told(network: PSPNet, part_of: dict[int, str], ledger: CallLedger) -> Iterator[dict[str, tuple[int, ...]]]:
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


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _resident_bytes(network: nn.Module) -> int:
    return sum(map(_bytes, [*network.parameters(), *network.buffers()]))


def bytes_beside_tensors(network: nn.Module) -> int:
    """What a pass takes that no tensor holds: oneDNN's copy of a weight in its own order, libraries, the allocator's rest."""
    return LOADED_BYTES + KEPT_BYTES + max(map(_bytes, network.parameters()), default=0)


def measure_machine(device: str = "cpu", seconds: float = 0.4, dtype: torch.dtype = torch.float32) -> Machine:
    """The device's rates, from small runs of what networks are made of; takes about `seconds`."""
    gpu = device.startswith("cuda")
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
        2 * _bytes(long) / _fastest(lambda: long + 1, device, share),
        _fastest(lambda: tiny + tiny, device, share),
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
