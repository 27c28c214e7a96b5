"""A training step of PSPNet-50, ours beside a plain PyTorch PSPNet: time in turns, peak memory of each process.

    python benchmarks/training_step.py [--precision bf16] [--batch 4] [--size 241] [--threads 2] [--rounds 7]

The plain network is stated in plain_pspnet.py as semseg and MMSegmentation write it; bfloat16 autocast, channels-last,
SGD with momentum. Ours has the same layers; `ours, plain fusion` shows what the fold alone does. A step is forward, both losses,
backward, update. live MiB: the most that tensors held at once during a step, weights and momentum left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pspnet.bench.interleaved import Contestant, figures, serve, take_turns, wait_for_quiet

if TYPE_CHECKING:
    from pspnet import PSPNet

ROOT = Path(__file__).parents[1]
CLASSES = 150
CONTESTANTS = ("plain PyTorch", "ours, plain fusion", "ours")


def plain_step(images: Tensor, labels: Tensor, dtype: torch.dtype, model: nn.Module) -> Callable[[], Tensor]:
    """A step of a network that gives logits, or (logits, auxiliary logits), as such a loop is usually written."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    criterion = nn.CrossEntropyLoss(ignore_index=255)
    mean, std = (
        torch.tensor(values, device=images.device)[:, None, None]
        for values in ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    )

    def step() -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            outputs = model((images - mean) / std)
            logits, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
            loss = criterion(logits, labels) + sum(0.4 * criterion(other, labels) for other in auxiliary)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def our_step(
    images: Tensor, labels: Tensor, dtype: torch.dtype, model: PSPNet, compiled: bool = False
) -> Callable[[], Tensor]:
    """A step of ours as `pspnet train` takes it: its losses, its parameter groups. compiled: the network, not the loss."""
    from pspnet.config import TrainConfig
    from pspnet.losses import build_loss
    from pspnet.training.optimizer import build_optimizer
    from pspnet.training.step import total_loss

    config = TrainConfig(model=model.config)
    optimizer = build_optimizer(model, config.optimizer)
    criterion = build_loss(config.loss, model.config.num_classes).to(images.device)
    forward = torch.compile(model.forward_train) if compiled else model.forward_train

    def step() -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            outputs = forward(images)
            loss, _ = total_loss(outputs, labels, criterion, config, False)
            del outputs
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def prepare(job: dict[str, Any]) -> tuple[Callable[[], Any], dict[str, Any]]:
    from plain_pspnet import PlainPSPNet
    from pspnet import ModelConfig, PSPNet
    from pspnet.inspection import CallLedger

    torch.manual_seed(0)
    torch.set_num_threads(job["threads"])
    random = torch.Generator().manual_seed(0)
    side = job["size"]
    images = (torch.rand((job["batch"], 3, side, side), generator=random) * 255).contiguous(
        memory_format=torch.channels_last
    )
    labels = torch.randint(0, CLASSES, (job["batch"], side, side), generator=random)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[job["precision"]]
    if job["name"] == "plain PyTorch":
        model = PlainPSPNet(CLASSES).train().to(memory_format=torch.channels_last)
        step = plain_step(images, labels, dtype, model)
    else:
        fusion = "plain" if "plain" in job["name"] else "folded"
        network = PSPNet(ModelConfig(encoder="resnet50", num_classes=CLASSES, fusion=fusion))
        step = our_step(images, labels, dtype, network.train().to(memory_format=torch.channels_last))
    if job["profile"]:
        step()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            step()
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=45))
        return step, {}
    step()  # momentum is there from here on
    with CallLedger() as ledger:
        step()
    return step, {
        "live_mib": round(ledger.peak_bytes / 2**20, 1),
        "gflop": round(sum(c.flops for c in ledger.calls) / 1e9, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=241, help="px")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--wait", type=float, default=0, metavar="MINUTES", help="for a quiet moment, at most so long")
    parser.add_argument("--profile", choices=CONTESTANTS, help="show where one step's time goes, and end")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the result")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    common = {"precision": given.precision, "batch": given.batch, "size": given.size, "threads": given.threads}
    if given.child:
        serve(lambda: prepare(json.loads(given.child)))
    if given.profile:
        prepare({"name": given.profile, "profile": True} | common)
        return
    from pspnet.bench.machine import hardware
    from pspnet.bench.report import save_result

    wait_for_quiet(given.wait, report_line=lambda text: print(text, file=sys.stderr, flush=True))
    torch.set_num_threads(given.threads)
    machine = hardware(torch.device("cpu"))
    contestants = [
        Contestant(
            name,
            [sys.executable, __file__, "--child", json.dumps({"name": name, "profile": False} | common)],
            {"OMP_NUM_THREADS": str(given.threads)},
        )
        for name in CONTESTANTS
    ]
    results = take_turns(
        contestants, given.rounds, 0, report_line=lambda text: print(text, file=sys.stderr, flush=True)
    )
    first = results[CONTESTANTS[0]]
    if first.failure:
        sys.exit(f"{first.name}, with which the others are compared, did not run: {first.failure}")
    lines = [figures(result, first) for result in results.values()]
    print(
        f"{machine}\n\n{'':20s} {'ms':>8s} {'ratio':>6s} {'proc. ms':>9s} {'ratio':>6s} {'GFLOP':>6s} {'live MiB':>8s} {'peak MiB':>8s}"
    )
    for row in lines:
        if "failure" in row:
            print(f"{row['name']:20s} not run: {row['failure']}")
            continue
        print(
            f"{row['name']:20s} {row['ms']:8.0f} {row['ratio']:6.2f} {row['processor_ms']:9.0f} {row['processor_ratio']:6.2f} "
            f"{row['gflop']:6.0f} {row['live_mib']:8.0f} {row['peak_mib']:8.0f}"
        )
    print(f"-> {save_result(given.out, f'training-step-{given.precision}', machine, common | {'lines': lines})}")


if __name__ == "__main__":
    main()
