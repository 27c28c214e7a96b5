"""Pooling by matrix products where a device's own operator refuses a size: Apple's GPUs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pspnet import ModelConfig, PSPNet
from pspnet.nn import blocks


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """MPS's rule in place of the operators: input sizes must be divisible by output sizes."""
    refused: list[tuple[int, int]] = []

    def ruled(operator: Any) -> Any:
        def pool(features: Tensor, bins: int) -> Tensor:
            if features.shape[-2] % bins or features.shape[-1] % bins:
                refused.append((features.shape[-2], features.shape[-1]))
                raise RuntimeError("Adaptive pool MPS: input sizes must be divisible by output sizes.")
            return operator(features, bins)

        return pool

    monkeypatch.setattr(F, "adaptive_avg_pool2d", ruled(F.adaptive_avg_pool2d))
    monkeypatch.setattr(F, "adaptive_max_pool2d", ruled(F.adaptive_max_pool2d))
    return refused


@pytest.mark.parametrize("pool", ["avg", "max"])
def test_a_network_pools_any_size_where_the_operator_refuses_it(
    pool: str, refusals: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = PSPNet(ModelConfig(encoder="resnet18", encoder_options={"depth": 3}, num_classes=3, pool=pool)).eval()
    images = torch.rand(2, 3, 57, 83) * 255
    with pytest.raises(RuntimeError, match="MPS"):  # what a Mac would meet
        network(images)
    assert refusals
    monkeypatch.setattr(blocks, "OWN_POOLING", ("mps", "cpu"))
    actual = network(images)
    actual.sum().backward()
    ours = [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]
    monkeypatch.undo()
    network.zero_grad()
    wanted = network(images)
    wanted.sum().backward()
    theirs = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    spread = float(wanted.detach().std())
    torch.testing.assert_close(actual, wanted, atol=1e-5 * spread, rtol=1e-5)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4 * float(other.abs().max() + 1e-6), rtol=1e-3)


def test_which_devices_pool_by_themselves() -> None:
    assert "mps" in blocks.OWN_POOLING
    assert not {"cpu", "cuda"} & set(blocks.OWN_POOLING)
