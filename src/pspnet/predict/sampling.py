"""Where a resized pixel lies between coarse ones, and the mean it takes: rounded as PyTorch rounds it, in float32."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


def mix(first: Any, second: Any, share: Any) -> Any:
    """The weighted mean of two arrays; two products and a sum, so that it is the same for arrays and tensors."""
    return first * (1 - share) + second * share


@lru_cache(maxsize=32)
def neighbours(
    source: int, target: int, align_corners: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """For each target position: the two source positions it lies between, and the share of the second."""
    rows = np.arange(target, dtype=np.float32)
    if align_corners:
        position = rows * np.float32((source - 1) / (target - 1) if target > 1 else 0.0)
    else:
        position = ((rows + np.float32(0.5)) * np.float32(source / target) - np.float32(0.5)).clip(min=0)
    first = position.astype(np.int64).clip(max=source - 1)
    table = first, (first + 1).clip(max=source - 1), position - first.astype(np.float32)
    for values in table:
        values.setflags(write=False)
    return table
