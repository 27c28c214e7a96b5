"""Random numbers: fixed for each batch of a run, and none of the caller's are used up."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_all(seed: int, batch: int, rank: int) -> None:
    """Sets every global random generator to a state that (seed, batch, rank) fixes."""
    words = np.random.SeedSequence([seed, batch, rank]).generate_state(3, np.uint64)
    torch.manual_seed(int(words[0] >> np.uint64(1)))
    np.random.seed(int(words[1] & np.uint64(0xFFFFFFFF)))
    random.seed(int(words[2]))


@contextmanager
def own_random_numbers() -> Iterator[None]:
    """The caller's random generators are as they were when a run is over."""
    python, numpy, state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(state)
        if gpus:
            torch.cuda.set_rng_state_all(gpus)
