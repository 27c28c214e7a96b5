"""Batch norm over all devices of a run. torch's own SyncBatchNorm exists for GPUs only; this adds processors.

torch's and Lightning's conversion is not used: it turns timm's norm-with-activation layers (EfficientNet, MobileNet)
into bare norms and so drops their activation without a word.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


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
