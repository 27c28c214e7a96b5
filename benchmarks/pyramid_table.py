"""The paper's claim on real pictures: no pyramid (a dilated FCN), one bin, and PSPNet, otherwise equal, several seeds each.

    python benchmarks/pyramid_table.py run DATASET DIR --out OUT [--seeds 3] [--steps 500] [--set name=value ...]
    python benchmarks/pyramid_table.py table OUT...

DATASET: camvid, labelmefacade or dubai; DIR its folder with train and val. `run` leaves OUT/DATASET.json and no models; runs that
it already holds are not made again. `table` prints Markdown: the mean over the seeds, each seed's score, and the 95 % interval of
the difference to the FCN (Student's t over the seeds, which share the order of the images).
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

DESIGNS: dict[str, list[int]] = {"FCN, no bins": [], "one bin": [1], "PSPNet, bins 1 2 3 6": [1, 2, 3, 6]}
T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365}  # two-sided, by degrees of freedom
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
        "pictures": 0,
    }


def run(given: argparse.Namespace) -> None:
    from pspnet import Segmenter, open_dataset, train
    from pspnet.config import EvaluationConfig, TrainConfig
    from pspnet.config.base import with_overrides
    from pspnet.evaluation import assess

    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / f"{given.dataset}.json"
    rows_so_far: list[dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else []
    val = open_dataset(FORMATS[given.dataset], given.root, "val")
    for seed in range(given.seeds):  # seed by seed, so that a run that is stopped leaves whole rows
        for name, bins in DESIGNS.items():
            if any(row["design"] == name and row["seed"] == seed for row in rows_so_far):
                continue
            folder = given.out / f"{given.dataset}-{seed}-{len(bins)}"
            shutil.rmtree(folder, ignore_errors=True)
            values = recipe(given.dataset, str(given.root), bins, seed, given.steps) | {"run_dir": str(folder)}
            started = time.perf_counter()
            best = train(TrainConfig.model_validate(with_overrides(values, given.set)), quiet=True)
            model = Segmenter.load(best, device=given.device)
            scores = assess(model, val, EvaluationConfig(resamples=0)).scores
            seconds = round(time.perf_counter() - started, 1)
            rows_so_far.append(
                {
                    "design": name,
                    "seed": seed,
                    "steps": given.steps,
                    "mean_iou": 100 * float(scores.mean_iou),
                    "pixel_accuracy": 100 * float(scores.pixel_accuracy),
                    "seconds": seconds,
                }
            )
            print(given.dataset, rows_so_far[-1], flush=True)
            path.write_text(json.dumps(rows_so_far, indent=1))
            shutil.rmtree(folder, ignore_errors=True)


def table(given: argparse.Namespace) -> None:
    print("| data | network | mean IoU | each seed | against the FCN, 95 % |\n| --- | --- | --- | --- | --- |")
    for out in given.outs:
        for path in sorted(out.glob("*.json")):
            rows = json.loads(path.read_text())
            by = {name: {r["seed"]: r["mean_iou"] for r in rows if r["design"] == name} for name in DESIGNS}
            base = by["FCN, no bins"]
            for name, scores in by.items():
                gains = [scores[seed] - base[seed] for seed in sorted(scores.keys() & base.keys())]
                gain = ""
                if name != "FCN, no bins" and len(gains) > 1:
                    half = T95[len(gains) - 1] * stdev(gains) / math.sqrt(len(gains))
                    gain = f"{fmean(gains):+.1f} ({fmean(gains) - half:+.1f} to {fmean(gains) + half:+.1f})"
                each = ", ".join(f"{scores[seed]:.1f}" for seed in sorted(scores))
                print(f"| {path.stem} | {name} | {fmean(scores.values()):.1f} | {each} | {gain} |")


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
