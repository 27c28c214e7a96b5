"""What each choice of ModelConfig costs: parameters, operations, processor time. The table of docs/choosing.md.

    python benchmarks/choices.py [--rounds 5] [--only fpn] [--json OUT.json]

Operations are counted for one 480 x 480 image on tensors without memory (2 per multiply-add; convolutions and matrix
products only). Time is the processor time of one thread for one 240 x 240 image in float32. The choices take turns, so
that a busy machine slows all of them, and the median ratio to the first line is what to read.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from pspnet.config.model import ModelConfig
from pspnet.machine import processor_name, source_commit
from pspnet.nn import PSPNet

COUNTED_PX, TIMED_PX, CLASSES = 480, 240, 19

# name: what differs from the paper's ResNet-50; the first line is the measure of the others
CHOICES: dict[str, dict[str, Any]] = {
    "resnet50, bilinear, output stride 8": {},
    "output stride 16": {"output_stride": 16},
    "output stride 32": {"output_stride": 32},
    "output stride 32, unet": {"output_stride": 32, "decoder": "unet"},
    "output stride 32, fpn": {"output_stride": 32, "decoder": "fpn"},
    "progressive decoder": {"decoder": "progressive"},
    "progressive decoder and pyramid": {"decoder": "progressive", "pyramid": "progressive"},
    "unet decoder": {"decoder": "unet"},
    "fpn decoder": {"decoder": "fpn"},
    "pointrend": {"pointrend": True},
    "unet decoder, pointrend": {"decoder": "unet", "pointrend": True},
    "no pyramid": {"bins": ()},
    "one global bin": {"bins": (1,)},
    "bins 1, 3, 5, 6": {"bins": (1, 3, 5, 6)},
    "plain fusion": {"fusion": "plain"},
    "no reduction": {"reduce": False},
    "resnet18": {"encoder": "resnet18"},
    "resnet101": {"encoder": "resnet101"},
    "efficientnet_b0": {"encoder": "efficientnet_b0"},
    "mobilenetv2": {"encoder": "mobilenetv2"},
    "mobilenetv2 x 0.35": {"encoder": "mobilenetv2", "encoder_options": {"width_multiplier": 0.35}},
    "swin_tiny, fpn": {"encoder": "swin_tiny", "decoder": "fpn"},
    "convnext_tiny, output stride 32, fpn": {"encoder": "convnext_tiny", "output_stride": 32, "decoder": "fpn"},
}


def config_of(changes: dict[str, Any]) -> ModelConfig:
    # the auxiliary head only runs in training: it is no part of what an image costs
    return ModelConfig(**{"encoder": "resnet50", "num_classes": CLASSES, "auxiliary": "none"} | changes)


def size_of(config: ModelConfig) -> tuple[float, float]:
    """Parameters in millions and operations in GFLOP."""
    with torch.device("meta"):
        model = PSPNet(config).eval()
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            model(torch.empty(1, 3, COUNTED_PX, COUNTED_PX))
    return sum(p.numel() for p in model.parameters()) / 1e6, counter.get_total_flops() / 1e9


def seconds(config: ModelConfig) -> float:
    """Processor time of one image, after a small one that warms up."""
    torch.manual_seed(0)
    model = PSPNet(config).eval()
    image = torch.rand(1, 3, TIMED_PX, TIMED_PX) * 255
    with torch.inference_mode():
        model(image[..., :64, :64])
        start = time.process_time()
        model(image)
        return time.process_time() - start


def measure(choices: dict[str, dict[str, Any]], rounds: int) -> list[dict[str, Any]]:
    configs = {name: config_of(changes) for name, changes in choices.items()}
    times: dict[str, list[float]] = {name: [] for name in configs}
    for _ in range(rounds):
        for name, config in configs.items():
            times[name].append(seconds(config))
    first = next(iter(times.values()))
    rows = []
    for name, config in configs.items():
        parameters, operations = size_of(config)
        ratios = [t / f for t, f in zip(times[name], first, strict=True)]
        rows.append(
            {
                "choice": name,
                "parameters_millions": round(parameters, 1),
                "gflop_480": round(operations, 1),
                "seconds_240": round(statistics.median(times[name]), 3) if rounds else None,
                "time_ratio": round(statistics.median(ratios), 2) if rounds else None,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="times each choice is timed; 0 counts only")
    parser.add_argument("--only", default="", help="choices whose name holds this, and the first line")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = list(CHOICES)
    rows = measure({n: CHOICES[n] for n in names if n == names[0] or arguments.only in n}, arguments.rounds)
    print("| choice | parameters | operations | time |\n|---|---|---|---|")
    for row in rows:
        took = f"{row['time_ratio']:.2f}" if arguments.rounds else "-"
        print(f"| {row['choice']} | {row['parameters_millions']:.1f} M | {row['gflop_480']:.0f} GFLOP | {took} |")
    if arguments.json:
        header = {
            "date": datetime.date.today().isoformat(),
            "commit": source_commit(),
            "processor": processor_name(),
            "threads": 1,
            "torch": torch.__version__,
            "classes": CLASSES,
            "rounds": arguments.rounds,
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(header | {"choices": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
