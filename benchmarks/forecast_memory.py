"""Memory as `pspnet info` and `pspnet train` foretell it, beside what a process takes: encoders of each family, two sizes (Linux).

    python benchmarks/forecast_memory.py [--encoders resnet18 mobilenetv2 ...] [--classes 150] [--passes train:4:256 train:2:512 segment:1:512]

Prints measured / foretold as a Markdown table: above 1 the process takes more. Asked: the estimate within 25 % of what the
process takes, 0.80 to 1.33 here. Independent of what else runs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

import torch  # noqa: E402

from pspnet.config import ModelConfig  # noqa: E402
from pspnet.inspection.costs import forward_cost, training_cost  # noqa: E402
from pspnet.nn import PSPNet  # noqa: E402
from support.process_memory import measured_bytes  # noqa: E402

ENCODERS = ("resnet18", "resnet50", "efficientnet_b0", "tf_efficientnet_lite0", "mobilenetv2", "swin_tiny")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", nargs="+", default=ENCODERS)
    parser.add_argument("--passes", nargs="+", default=["train:4:256", "train:2:512", "segment:1:512"])
    parser.add_argument("--classes", type=int, default=150)
    given = parser.parse_args()
    columns = []
    for text in given.passes:
        mode, count, side = text.split(":")
        columns += [(mode, int(count), int(side), bf16) for bf16 in (False, True)]
    heads = [f"{mode} {count} x {side}, {'bf16' if bf16 else 'fp32'}" for mode, count, side, bf16 in columns]
    print("| encoder | " + " | ".join(heads) + " |\n|" + " --- |" * (len(heads) + 1))
    for encoder in given.encoders:
        values = {"encoder": encoder, "num_classes": given.classes}
        cells = []
        for mode, count, side, bf16 in columns:
            with torch.device("meta"):
                network = PSPNet(ModelConfig.model_validate(values)).to(torch.bfloat16 if bf16 else torch.float32)
            one_image = mode == "segment"
            cost = forward_cost(network, side, side) if one_image else training_cost(network, count, side, side)
            taken = measured_bytes(values, mode, count, side, bf16)
            cells.append(f"{taken / 2**20:.0f} / {cost.memory_bytes / 2**20:.0f} = {taken / cost.memory_bytes:.2f}")
        print(f"| {encoder} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
