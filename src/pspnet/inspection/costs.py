"""Operations, memory and time of a forward pass and of a training step, from one run without memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from pspnet.config.loss import LossConfig
from pspnet.inspection.calls import DENSE, Call, CallLedger, tensor_bytes
from pspnet.inspection.rates import Machine
from pspnet.losses import SegmentationLoss
from pspnet.nn import PSPNet

PASSES = 3  # in which the allocator's holes are found: the first pass begins with an empty heap
# what a process takes beside tensors, as measured (docs/log/encoders.md): pages of libraries and kernels that a first pass
# loads, and freed blocks that the C library's allocator keeps
LOADED_BYTES, ALLOCATOR_BYTES = 25 * 2**20, 16 * 2**20
# of the heap of a training step, beyond what the simulation has: holes, and what operations take inside. Blocks that are mapped leave
# none. Without it a process took up to 1.5 times the estimate (docs/log/encoders.md, benchmarks/forecast_memory.py)
TRAINING_HOLES = 0.25
# times the roofline's time: what a training step took on a processor, 1.33 to 2.25 times with four families (docs/log/encoders.md)
TRAINING_SLOWER = 1.7


@dataclass(frozen=True)
class Cost:
    """Of one pass: floating-point operations, the largest memory held at once, every call, and how many times longer than the
    roofline such passes took where they were measured."""

    flops: int
    memory_bytes: int
    calls: tuple[Call, ...]
    slower: float = 1.0

    def seconds(self, machine: Machine) -> float:
        """Each call takes as long as its arithmetic or its traffic, whichever is longer (the roofline), plus its start."""
        return self.slower * sum(
            max(call.flops / machine.flops_per_s[call.kind], call.traffic_bytes / machine.bytes_per_s)
            + machine.seconds_per_call
            for call in self.calls
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
    memory = _resident_bytes(network) + 4 * image.numel() + ledger.heap.peak_bytes + bytes_besides_tensors(network)
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
    with CallLedger(TRAINING_HOLES) as ledger:
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
    optimizer_bytes = 4 * values_per_weight * weights + (4 * weights if dtype == torch.bfloat16 else 0)
    resident = (
        _resident_bytes(network)
        + int(optimizer_bytes)
        + 4 * images.numel()
        + tensor_bytes(labels)
        + bytes_besides_tensors(network)
    )
    step = ledger.calls[: len(ledger.calls) // PASSES]
    # the update reads and writes weight, gradient and what is kept
    step.append(Call(DENSE, 0, int(weights * 4 * (3 + 2 * values_per_weight))))
    return Cost(sum(call.flops for call in step), resident + ledger.heap.peak_bytes, tuple(step), TRAINING_SLOWER)


def _resident_bytes(network: nn.Module) -> int:
    """Of the weights: float32 in bfloat16 too, where autocast makes a layer's copy when it comes to it."""
    return sum(4 * value.numel() for value in [*network.parameters(), *network.buffers()])


def bytes_besides_tensors(network: nn.Module) -> int:
    """What a pass takes that no tensor holds: oneDNN's copy of a weight in its own order, libraries, the allocator's rest."""
    return LOADED_BYTES + ALLOCATOR_BYTES + max(map(tensor_bytes, network.parameters()), default=0)
