"""Activation checkpointing: an encoder's inner activations are computed again instead of being kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def checkpoint_blocks(encoder: nn.Module) -> None:
    """Makes every block of the encoder forget its inner activations and compute them again in the backward pass."""
    for block in blocks(encoder):
        inner = block.forward
        block.forward = partial(_again, block, inner)


def blocks(module: nn.Module) -> list[nn.Module]:
    """The parts that are made of several layers: residual blocks and their like, below lists and lone wrappers."""
    children = [child for child in module.children() if any(True for _ in child.parameters())]
    repeated: list[nn.Module] = []
    for child in children:
        if isinstance(child, (nn.Sequential, nn.ModuleList)) or len(children) == 1:
            repeated += blocks(child)
        elif any(True for _ in child.children()):
            repeated.append(child)
    return repeated


def _again(block: nn.Module, inner: Any, *inputs: Any, **options: Any) -> Any:
    if not (block.training and any(isinstance(value, Tensor) for value in inputs)):
        return inner(*inputs, **options)
    return checkpoint(inner, *inputs, use_reentrant=False, context_fn=partial(_contexts, block), **options)


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    return nullcontext(), _statistics_kept(block)


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Batch norms of the second pass must not move their running statistics: the first one did."""
    norms = [m for m in block.modules() if isinstance(m, (nn.BatchNorm2d, nn.SyncBatchNorm)) and m.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:  # the second pass must save what the first did, so tracking stays on and moves by nothing
        norm.momentum = 0.0
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked = norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
