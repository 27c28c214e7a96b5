"""The processes of one run: who am I, how many are we, and taking the same turn at the same step.

Processes are started by Lightning (devices=2 on one machine), by torchrun or by SLURM.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import lightning.pytorch as pl
import torch
import torch.distributed as dist

RUN_DIR_VARIABLE = "PSPNET_RUN_DIR"  # how the first process tells those that Lightning starts where the run is


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
    """The run's folder, in a process that Lightning started beside the first one; None in the first."""
    return os.environ.get(RUN_DIR_VARIABLE) if int(os.environ.get("LOCAL_RANK", "0")) > 0 else None


def agree(trainer: pl.Trainer, *numbers: int) -> list[int]:
    """The greatest of each number over all processes: every process must take the same turn at the same step."""
    if trainer.world_size == 1:
        return list(numbers)
    device = trainer.strategy.root_device if dist.get_backend() == "nccl" else torch.device("cpu")
    tensor = torch.tensor(numbers, dtype=torch.int64, device=device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return [int(value) for value in tensor.tolist()]


def agree_sum(trainer: pl.Trainer, numbers: list[float]) -> list[float]:
    """The sum of each number over all processes."""
    if trainer.world_size == 1:
        return numbers
    device = trainer.strategy.root_device if dist.get_backend() == "nccl" else torch.device("cpu")
    tensor = torch.tensor(numbers, dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return [float(value) for value in tensor.tolist()]
