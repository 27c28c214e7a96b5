"""What the published recipes cost on a machine of GPUs, reckoned from measured parts: the table of docs/scale.md.

    python benchmarks/scale.py --tflops 250 --loader 101 --loader-cityscapes 11 [--gpus 8] [--links 200]

--tflops: what one GPU reaches in a training step (benchmarks/gpu.py: gflop / ms). --loader: images a second that one core
reads and augments (the same run, "1 workers"); Cityscapes' PNGs of 2048 x 1024 px are another matter. --links: GB/s that a GPU's gradients travel at. Operations are counted on
each recipe's own network at its own crop (forward, both losses' inputs, backward), so nothing is scaled from another one.
A step's gradients travel while it computes backward, so they only count where they take longer.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))

import torch  # noqa: E402

from pspnet.config import TrainConfig  # noqa: E402
from pspnet.config.recipes import read_recipe  # noqa: E402
from pspnet.inspection import CallLedger  # noqa: E402
from pspnet.nn import PSPNet  # noqa: E402
from pspnet.nn.pspnet import weights_follow  # noqa: E402

SAMPLES = {"ade20k": 20_210, "cityscapes": 2_975, "voc": 10_582}  # images of each training split (VOC: with SBD's)
COARSE = 19_998  # Cityscapes' coarsely labelled ones, which a recipe may add
BACKWARD_SHARE = 2 / 3  # of a step's operations: convolutions backward twice, forward once


def step_cost(config: TrainConfig) -> tuple[float, int]:
    """(GFLOP of one image in training, weights), of the recipe's network at its crop."""
    crop = config.augmentation.crop
    assert crop is not None
    with torch.device("meta"), weights_follow():
        network = PSPNet(config.model).train()
    images = torch.empty(2, config.model.in_bands, *crop, device="meta")  # two: a norm over one value has no variance
    with CallLedger() as ledger:
        outputs = network.forward_train(images)
        logits = [outputs.logits, outputs.auxiliary] if outputs.auxiliary is not None else [outputs.logits]
        sum(value.sum() for value in logits).backward()
    return sum(call.flops for call in ledger.calls) / 1e9 / 2, sum(p.numel() for p in network.parameters())


def row(path: Path, given: argparse.Namespace) -> dict[str, Any]:
    recipe = read_recipe(path)
    config = TrainConfig(**recipe | {"data": {**recipe["data"], "root": "not read"}})
    samples = SAMPLES[str(config.data.format)] + (COARSE if "train_extra" in (config.data.train_splits or ()) else 0)
    loader = given.loader_cityscapes if config.data.format == "cityscapes" else given.loader
    steps = config.total_steps(samples)
    gflop, weights = step_cost(config)
    per_gpu = config.batch_size / given.gpus
    compute_s = per_gpu * gflop / 1e3 / given.tflops
    gradients_s = (
        2 * (given.gpus - 1) / given.gpus * 4 * weights / 1e9 / given.links
    )  # a ring: each value twice, float32
    step_s = max(compute_s, compute_s * (1 - BACKWARD_SHARE) + gradients_s)
    return {
        "recipe": path.stem,
        "steps": steps,
        "batch": config.batch_size,
        "crop": config.augmentation.crop,
        "gflop_image": round(gflop),
        "millions": round(weights / 1e6, 1),
        "gradients_mb": round(4 * weights / 1e6),
        "hours": round(steps * step_s / 3600, 1),
        "gradients_share": round(gradients_s / step_s, 3),
        "images_per_s": round(config.batch_size / step_s),
        "cores": round(config.batch_size / step_s / loader, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tflops", type=float, required=True, help="of one GPU in a training step")
    parser.add_argument("--loader", type=float, required=True, help="images/s that one core reads and augments")
    parser.add_argument("--loader-cityscapes", type=float, required=True, help="the same of Cityscapes' images")
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--links", type=float, default=200, help="GB/s of a GPU's gradients")
    parser.add_argument("recipes", nargs="*", type=Path, help="default: recipes/published")
    given = parser.parse_args()
    print("| recipe | steps x batch | crop | GFLOP an image | weights | images/s | hours | gradients | cores |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for path in given.recipes or sorted((ROOT / "recipes" / "published").glob("*.yaml")):
        figures = row(path, given)
        print(
            f"| `{figures['recipe']}` | {figures['steps']:,} x {figures['batch']} | {figures['crop'][0]} x {figures['crop'][1]} | "
            f"{figures['gflop_image']:,} | {figures['millions']} M | {figures['images_per_s']} | {figures['hours']} | "
            f"{figures['gradients_mb']} MB, {figures['gradients_share']:.0%} of a step | {figures['cores']} |"
        )


if __name__ == "__main__":
    main()
