"""An exponential moving average of a network's weights: often a better model than the last one, at no cost in time."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from pspnet.nn.pspnet import PSPNet


class AveragedModel(nn.Module):
    """Holds `model`, the average; `update` moves it towards another network after each step.

    value = d value + (1 - d) new, with d = min(decay, (1 + n) / (10 + n)) after n updates, so that the random
    initial weights are soon forgotten. Running statistics are averaged too, counters copied.
    """

    updates: Tensor

    def __init__(self, model: PSPNet, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, model: PSPNet) -> None:
        # read back as a Python number once per step: the count is on the processor of the weights
        n = int(self.updates)
        decay = min(self.decay, (1 + n) / (10 + n))
        mine, new = self.model.state_dict(), model.state_dict()
        moving = [name for name, value in mine.items() if value.is_floating_point()]
        torch._foreach_lerp_([mine[name] for name in moving], [new[name] for name in moving], 1.0 - decay)
        for name in mine.keys() - set(moving):
            mine[name].copy_(new[name])
        self.updates += 1

    def train(self, mode: bool = True) -> AveragedModel:
        """Stays in evaluation mode: its statistics are averages, never a batch's."""
        return super().train(False)
