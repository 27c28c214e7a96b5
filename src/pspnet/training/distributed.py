"""The processes of one run: who am I, how many are we, agreeing on the same turn, and batch norm over all of them.

Processes are started by Fabric (devices=2 on one machine), by torchrun or by SLURM.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pspnet.config.train import TrainConfig
from pspnet.errors import require

RUN_DIR_VARIABLE = "PSPNET_RUN_DIR"  # how the first process tells those that Fabric starts where the run is


class Launch(NamedTuple):
    """What an outside launcher decided. rank: this process among all of the run's."""

    rank: int
    devices: int
    nodes: int


def outside_launch() -> Launch | None:
    """The launch by torchrun or by SLURM's srun that this process is part of; None where there is none."""
    env = os.environ
    if "LOCAL_WORLD_SIZE" in env and "RANK" in env:  # torchrun
        local = int(env["LOCAL_WORLD_SIZE"])
        return Launch(int(env["RANK"]), local, int(env["WORLD_SIZE"]) // local)
    if "SLURM_PROCID" in env and int(env.get("SLURM_NTASKS", "1")) > 1 and "SLURM_STEP_ID" in env:  # srun
        nodes = int(env.get("SLURM_NNODES", "1"))
        return Launch(int(env["SLURM_PROCID"]), int(env["SLURM_NTASKS"]) // nodes, nodes)
    return None


def started_by_first() -> str | None:
    """The run's folder, in a process that Fabric started beside the first one; None in the first."""
    return os.environ.get(RUN_DIR_VARIABLE) if int(os.environ.get("LOCAL_RANK", "0")) > 0 else None


def is_first() -> bool:
    """Whether this process is the one of its run that writes. Known before any process is started."""
    launch = outside_launch()
    return started_by_first() is None and (launch is None or launch.rank == 0)


@contextmanager
def launched(config: TrainConfig) -> Iterator[Any]:
    """Lightning's Fabric with all processes of the run started and joined; its process group ends with the block.

    Of Fabric we use the launch, DistributedDataParallel, clipping and skipped gradient exchange. Its precision is not used
    (see `step.autocast`). Raises MissingExtraError where it is not installed.
    """
    fabric_library = require("lightning_fabric", "train")
    from lightning_fabric.plugins.environments import SLURMEnvironment
    from lightning_fabric.strategies import DDPStrategy

    assert isinstance(config.devices, int)  # a resolved config
    strategy: Any = "auto"
    if config.devices * config.nodes > 1:
        strategy = DDPStrategy(
            find_unused_parameters=config.unfreeze_step is not None,
            gradient_as_bucket_view=True,
            process_group_backend="nccl" if config.device == "cuda" else "gloo",
        )
    launch = outside_launch()
    by_slurm = launch is not None and "SLURM_PROCID" in os.environ and "RANK" not in os.environ
    fabric = fabric_library.Fabric(
        accelerator=config.device,
        devices=config.devices,
        num_nodes=config.nodes,
        strategy=strategy,
        plugins=[SLURMEnvironment(auto_requeue=False)] if by_slurm else None,
    )
    try:
        fabric.launch()
        yield fabric
    finally:
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()  # else a second run of this program would meet the first one's


def agree(fabric: Any, *numbers: int) -> list[int]:
    """The greatest of each number over all processes: every process must take the same turn at the same step."""
    if fabric.world_size == 1:
        return list(numbers)
    return [int(value) for value in _reduced(fabric, torch.tensor(numbers, dtype=torch.int64), dist.ReduceOp.MAX)]


def agree_sum(fabric: Any, numbers: list[float]) -> list[float]:
    """The sum of each number over all processes."""
    if fabric.world_size == 1:
        return numbers
    return [float(value) for value in _reduced(fabric, torch.tensor(numbers, dtype=torch.float64), dist.ReduceOp.SUM)]


def _reduced(fabric: Any, tensor: Tensor, operation: Any) -> list[Any]:
    tensor = tensor.to(fabric.device if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(tensor, op=operation)
    values: list[Any] = tensor.tolist()
    return values


# Batch norm over all devices. torch's own SyncBatchNorm exists for GPUs only; this adds processors. torch's conversion is
# not used: it turns timm's norm-with-activation layers (EfficientNet, MobileNet) into bare norms and so drops their
# activation without a word.


class _SumOverProcesses(torch.autograd.Function):
    """The sum of every process's tensor. Its gradient is the sum of every process's gradient."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        return _summed(values)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return _summed(gradient)


def _summed(values: Tensor) -> Tensor:
    total = values.clone()
    dist.all_reduce(total)
    return total


class SharedBatchNorm(nn.BatchNorm2d):
    """BatchNorm2d whose batch is the images of every process, in training; then `after`.

    (B, C, H, W) -> (B, C, H, W). Sums of values and of squared distances from the shared mean are added up over the
    processes, differentiably, so gradients are those of one large batch. In evaluation it is BatchNorm2d.
    """

    def __init__(self, norm: nn.BatchNorm2d, after: nn.Module) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.after = after

    def forward(self, input: Tensor) -> Tensor:
        if not (self.training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return self.after(super().forward(input))
        count = input.new_tensor([input.numel() / input.shape[1]], dtype=torch.float32)
        sums = _SumOverProcesses.apply(torch.cat([input.float().sum(dim=(0, 2, 3)), count]))
        total = sums[-1].detach()
        mean = sums[:-1] / total
        centred = input.float() - mean[:, None, None]
        variance = _SumOverProcesses.apply(centred.square().sum(dim=(0, 2, 3))) / total
        self._remember(mean.detach(), variance.detach() * (total / (total - 1).clamp(min=1)))
        scale = torch.rsqrt(variance + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        output = centred * scale[:, None, None]
        if self.bias is not None:
            output = output + self.bias[:, None, None]
        return self.after(output.to(input.dtype))

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


class SharedBatchNormGpu(nn.SyncBatchNorm):
    """torch's SyncBatchNorm, then `after`."""

    def __init__(self, norm: nn.BatchNorm2d, after: nn.Module) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.after = after

    def forward(self, input: Tensor) -> Tensor:
        return self.after(super().forward(input))


def share_batch_norm(module: nn.Module, gpu: bool) -> nn.Module:
    """Replaces every BatchNorm2d below `module` by one that spans the processes. The state dict keeps its names."""
    if isinstance(module, nn.BatchNorm2d) and not isinstance(module, SharedBatchNorm):
        # timm's BatchNormAct2d is a BatchNorm2d that ends with a dropout and an activation of its own
        after = nn.Sequential(*(part for _, part in module.named_children()))
        shared: Any = (SharedBatchNormGpu if gpu else SharedBatchNorm)(module, after)
        shared.load_state_dict(module.state_dict())
        return shared
    for name, child in list(module.named_children()):
        setattr(module, name, share_batch_norm(child, gpu))
    return module
