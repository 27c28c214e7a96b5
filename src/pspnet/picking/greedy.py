"""Greedy k-centre (Sener and Savarese 2018, "Active learning for convolutional neural networks: a core-set approach", arXiv:
1708.00489), each candidate's distance weighted by how unsure the model is of it.

Uncertainty alone picks a dozen frames of the one street that the model does not know; distance alone picks whatever is odd,
a black picture say, though the model has no doubt about it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import ConfigError


def greedy_choice(
    features: NDArray[np.float32],
    uncertainty: NDArray[np.float32],
    count: int,
    known: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(N, C) features of unit length and (N,) uncertainty >= 0 -> which candidates (count,), the best first, and the distance
    (count,) of each to what was known or chosen before it.

    Distances are those of unit vectors, 0 to 2. known: (M, C) features of what is labelled already. The first choice without
    them is the one that the model is most unsure of, at a distance of 2.

    >>> angle = np.radians([0, 1, 90, 180])
    >>> features = np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32)
    >>> unsure = np.float32([0.9, 0.8, 0.3, 0.0])
    >>> order, distance = greedy_choice(features, unsure, 3)
    >>> order, distance.round(2)                # the second is unsure too, but as good as labelled with the first
    (array([0, 2, 1]), array([2.  , 1.41, 0.02], dtype=float32))

    Raises ConfigError where there are fewer candidates than `count`.
    """
    if not 1 <= count <= len(features):
        raise ConfigError(f"count = {count}: there are {len(features)} candidates; choose 1 to {len(features)}")
    distance = np.full(len(features), 2.0, np.float32)
    for row in () if known is None else known:
        distance = np.minimum(distance, _distances(features, row))
    left = np.ones(len(features), bool)
    order, at = np.zeros(count, np.int64), np.zeros(count, np.float32)
    for rank in range(count):
        value = np.where(left, uncertainty * distance, -1.0)
        if value.max() <= 0:  # all that is left is certain, or a copy: the farthest comes first
            value = np.where(left, distance, -1.0)
        best = int(value.argmax())
        order[rank], at[rank], left[best] = best, distance[best], False
        distance = np.minimum(distance, _distances(features, features[best]))
    return order, at


def _distances(features: NDArray[np.float32], row: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.sqrt(np.maximum(2 - 2 * (features @ row), 0)).astype(np.float32)
