"""The paper's claim on real pictures: no pyramid (a dilated FCN), one bin, and PSPNet, otherwise equal, several seeds each.

    python benchmarks/pyramid_table.py run DATASET DIR --out OUT [--seeds 3] [--steps 500] [--set name=value ...]
    python benchmarks/pyramid_table.py table OUT...

DATASET: camvid, labelmefacade or dubai; DIR its folder with train and val. `run` leaves OUT/DATASET.json and no models; runs that
it already holds are not made again. `table` prints Markdown: the mean over the seeds, each seed's score, and the 95 % interval of
the difference to the FCN (Student's t over the seeds, which share the order of the images).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean
from typing import Any

from seeds import Rows, each, gains, interval, scores_of_training

DESIGNS: dict[str, list[int]] = {"FCN, no bins": [], "one bin": [1], "PSPNet, bins 1 2 3 6": [1, 2, 3, 6]}
FORMATS = {"camvid": "camvid", "labelmefacade": "folder", "dubai": "folder"}
TURNS = {"camvid": [-10, 10], "labelmefacade": [-10, 10], "dubai": [-180, 180]}


def recipe(dataset: str, root: str, bins: list[int], seed: int, steps: int) -> dict[str, Any]:
    """Half the image's size, stride 16, one resize at the end: what context there is comes through the pyramid."""
    return {
        "model": {
            "encoder": "tf_efficientnet_lite0",
            "encoder_weights": "imagenet",
            "mean": [127.5] * 3,
            "std": [127.5] * 3,
            "input_scale": 0.5,
            "output_stride": 16,
            "dilation": "contracted",
            "decoder_channels": 128,
            "bins": bins,
            "auxiliary": "none",
        },
        "data": {"format": FORMATS[dataset], "root": root, "val_split": None, "cache": "memory"},
        "augmentation": {
            "scale_range": [0.6, 1.6],
            "rotate_range": TURNS[dataset],
            "blur": False,
            "jitter": True,
            "jitter_hue": 10,
            "crop": [352, 448],
        },
        "loss": {"class_weights": "tempered"},
        "optimizer": {"name": "adamw", "learning_rate": 0.0005, "weight_decay": 0.02, "head_lr_factor": 4},
        "schedule": {"warmup_steps": 50},
        "batch_size": 8,
        "steps": steps,
        "ema": 0.99,
        "seed": seed,
        "check_data": False,
        "rare_classes": "off",
        "pictures": 0,
    }


def run(given: argparse.Namespace) -> None:
    from pspnet import open_dataset

    rows = Rows(given.out / f"{given.dataset}.json")
    val = open_dataset(FORMATS[given.dataset], given.root, "val")
    for seed in range(given.seeds):  # seed by seed, so that a run that is stopped leaves whole rows
        for name, bins in DESIGNS.items():
            if rows.has(design=name, seed=seed):
                continue
            values = recipe(given.dataset, str(given.root), bins, seed, given.steps)
            folder = given.out / f"{given.dataset}-{seed}-{len(bins)}"
            scores = scores_of_training(values, given.set, val, given.device, folder)
            del scores["iou"]
            rows.add({"design": name, "seed": seed, "steps": given.steps, **scores})
            print(given.dataset, rows.rows[-1], flush=True)


def table(given: argparse.Namespace) -> None:
    print("| data | network | mean IoU | each seed | against the FCN, 95 % |\n| --- | --- | --- | --- | --- |")
    for path in (path for out in given.outs for path in sorted(out.glob("*.json"))):
        base = Rows(path).by_seed(design="FCN, no bins")
        for name in DESIGNS:
            scores = Rows(path).by_seed(design=name)
            gain = interval(gains(scores, base)) if name != "FCN, no bins" else ""
            print(f"| {path.stem} | {name} | {fmean(scores.values()):.1f} | {each(scores)} | {gain} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    one = verbs.add_parser("run")
    one.add_argument("dataset", choices=FORMATS)
    one.add_argument("root", type=Path)
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--seeds", type=int, default=3)
    one.add_argument("--steps", type=int, default=500)
    one.add_argument("--device", default="cpu")
    one.add_argument("--set", action="append", default=[])
    one.set_defaults(do=run)
    two = verbs.add_parser("table")
    two.add_argument("outs", type=Path, nargs="+")
    two.set_defaults(do=table)
    given = parser.parse_args()
    given.do(given)


if __name__ == "__main__":
    main()
