"""Every call that PyTorch makes: its operations, its traffic, and the memory of the tensors alive at once."""

from __future__ import annotations

import math
import weakref
from collections import defaultdict
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from pspnet.inspection.heap import Heap

aten = torch.ops.aten
# kinds of calls, by what limits them: on a CPU, PyTorch's depthwise convolutions run at a third of a matrix product's
# rate forward, at a fiftieth backward, and dilated ones at a hundredth
DENSE, GROUPED, GROUPED_BACKWARD, DILATED_BACKWARD = "dense", "grouped", "grouped backward", "dilated grouped backward"
KINDS = (DENSE, GROUPED, GROUPED_BACKWARD, DILATED_BACKWARD)


class Call(NamedTuple):
    """One operation of PyTorch: its kind, floating-point operations, and bytes read and written."""

    kind: str
    flops: int
    traffic_bytes: int


class CallLedger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every call that PyTorch makes inside it: operations, traffic, and the memory of tensors alive at once.

    For tensors of the meta device, and real ones too, whose fused attention counts as traffic only. What was there
    before is not counted: only tensors made inside. more_heap: see `Heap`.
    """

    def __init__(self, more_heap: float = 0.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        self.flops_of: dict[str, int] = defaultdict(int)
        self.part = ""  # whom the operations are put down to
        self.live_bytes = self.peak_bytes = 0
        self.heap = Heap(more_heap)  # what the C library's allocator takes for them, holes included
        self._alive: dict[int, int] = {}  # address of a storage -> its bytes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        kind, flops = _work(func.overloadpacket, args, result)
        self.flops_of[self.part] += flops
        if not func.is_view:
            inputs = [value for value in tree_iter((args, kwargs)) if isinstance(value, Tensor)]
            outputs = [value for value in tree_iter(result) if isinstance(value, Tensor)]
            self.calls.append(Call(kind, flops, sum(map(tensor_bytes, inputs)) + sum(map(tensor_bytes, outputs))))
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


def tensor_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
