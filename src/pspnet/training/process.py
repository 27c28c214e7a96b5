"""What a run changes in the process that it runs in, and puts back when it ends."""

from __future__ import annotations

import logging
import os
import random
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

from pspnet.config.encoders import encoder_family
from pspnet.config.train import TrainConfig
from pspnet.errors import RunInterrupted, require


@contextmanager
def process_of_a_run(config: TrainConfig) -> Iterator[Interruption]:
    """All of what is below at once. Gives what remembers a signal."""
    with (
        random_numbers_put_back(),
        _switches(config),
        _quiet_libraries(),
        _remembered_signals() as interruption,
    ):
        yield interruption


class Interruption:
    """Ctrl-C and SIGTERM as a wish to stop after the current step, with a checkpoint written first: the first of them is
    remembered in `signal`; a second Ctrl-C stops at once (KeyboardInterrupt)."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = self.signal or number


def interrupted(number: int, step: int, steps: int, run_dir: Path) -> RunInterrupted:
    """What a run ends with when it was asked to stop."""
    name = signal.Signals(number).name
    return RunInterrupted(
        f"stopped by {name} after step {step} of {steps}. Go on with: pspnet train --resume {run_dir}", number
    )


@contextmanager
def _remembered_signals() -> Iterator[Interruption]:
    """Handlers belong to the main thread; in another thread nothing is caught, and the process's own handlers hold."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before: dict[int, Any] = {
        number: signal.signal(number, interruption.handle) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def random_numbers_put_back() -> Iterator[None]:
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


@contextmanager
def _switches(config: TrainConfig) -> Iterator[None]:
    """The process's switches as the run wants them; the caller's are restored."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    try:
        if config.deterministic:
            torch.use_deterministic_algorithms(True, warn_only=True)
            os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # cuBLAS repeats bit for bit only with a fixed workspace
        # trying every kernel takes minutes for networks of many depthwise convolutions (H100: EfficientNet-Lite2 had made no
        # step after 20 s; without it, after 1 s) and begins anew for each size of progressive_resizing
        tries = config.device == "cuda" and encoder_family(config.model.encoder).name.startswith(("resnet", "swin"))
        torch.backends.cudnn.benchmark = tries and not config.deterministic
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
        if config.deterministic:
            os.environ.pop("CUBLAS_WORKSPACE_CONFIG")
            if workspace is not None:
                os.environ["CUBLAS_WORKSPACE_CONFIG"] = workspace


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Without the hints that Fabric and torch print for the writers of training loops."""
    require("lightning_fabric", "train")  # sets its logger's level when it is imported
    logger = logging.getLogger("lightning_fabric")
    before = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        for text in (
            ".*srun.*command is available.*",
            ".*GPU available but not used.*",
            ".*The `srun` command.*",
            ".*This process .* is multi-threaded, use of fork.*",
            ".*LeafSpec.* is deprecated.*",
        ):
            warnings.filterwarnings("ignore", message=text)
        try:
            yield
        finally:
            logger.setLevel(before)
