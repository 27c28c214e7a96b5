"""Does help for rare classes help? CamVid and Dubai: nothing, class weights, class-aware crops, both; several seeds.

    python benchmarks/rare_classes.py run camvid DIR --out OUT [--seeds 0 1 2] [--steps 500] [--set name=value ...]
    python benchmarks/rare_classes.py run dubai DIR --out OUT
    python benchmarks/rare_classes.py table OUT

The ways are `rare_classes` = off, weights, crops, auto of the training config, otherwise equal (pyramid_table.py's recipe from
ImageNet's weights, without its class weights), scored on val. OUT/DATASET.json keeps each run, and runs that it holds are not made
again. `table` prints Markdown: mean IoU of all classes and of the rare ones, each seed's, and the gain over nothing with its 95 %
interval (Student's t over the seeds, which share the order of the images).
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

from pyramid_table import FORMATS, T95, recipe

WAYS = ("off", "weights", "crops", "auto")


def run(given: argparse.Namespace) -> None:
    from pspnet import Segmenter, open_dataset, train
    from pspnet.config import EvaluationConfig, TrainConfig
    from pspnet.config.base import with_overrides
    from pspnet.evaluation import assess
    from pspnet.training.rare_classes import rare_classes
    from pspnet.training.resolve import measure

    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / f"{given.dataset}.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else []
    layout = FORMATS[given.dataset]
    learnt, val = (open_dataset(layout, given.root, split) for split in ("train", "val"))
    rare = rare_classes(measure(learnt).class_shares)
    print("rare:", ", ".join(learnt.label_space.names[k] for k in rare), flush=True)
    for seed in given.seeds:  # seed by seed, so that a run that is stopped leaves whole rows
        for way in given.ways:
            if any((row["way"], row["seed"]) == (way, seed) for row in rows):
                continue
            folder = given.out / f"{given.dataset}-{way}-{seed}"
            shutil.rmtree(folder, ignore_errors=True)
            values = recipe(given.dataset, str(given.root), [1, 2, 3, 6], seed, given.steps)
            del values["loss"]
            values |= {"run_dir": str(folder), "rare_classes": way}
            began = time.perf_counter()
            best = train(TrainConfig.model_validate(with_overrides(values, given.set)), quiet=True)
            scores = assess(Segmenter.load(best, device=given.device), val, EvaluationConfig(resamples=0)).scores
            each = [float(value) for value in scores.iou]
            rows.append(
                {
                    "way": way,
                    "seed": seed,
                    "steps": given.steps,
                    "mean_iou": 100 * float(scores.mean_iou),
                    "rare_iou": 100 * fmean(each[k] for k in rare if not math.isnan(each[k])) if rare else None,
                    "pixel_accuracy": 100 * float(scores.pixel_accuracy),
                    "iou": dict(zip(learnt.label_space.names, [round(100 * value, 2) for value in each], strict=True)),
                    "seconds": round(time.perf_counter() - began, 1),
                }
            )
            print({k: v for k, v in rows[-1].items() if k != "iou"}, flush=True)
            path.write_text(json.dumps(rows, indent=1))
            shutil.rmtree(folder, ignore_errors=True)


def table(out: Path) -> None:
    print("| data | rare_classes | mean IoU | each seed | over off, 95 % | IoU of the rare | over off, 95 % |")
    print("| --- " * 7 + "|")
    for path in sorted(out.glob("*.json")):
        rows = json.loads(path.read_text())
        for way in dict.fromkeys(row["way"] for row in rows):
            cells = []
            for key in ("mean_iou", "rare_iou"):
                by = {
                    w: {r["seed"]: r[key] for r in rows if r["way"] == w and r[key] is not None} for w in ("off", way)
                }
                cells.append(f"{fmean(by[way].values()):.1f}" if by[way] else "")
                if key == "mean_iou":
                    cells.append(", ".join(f"{by[way][seed]:.1f}" for seed in sorted(by[way])))
                gains = [by[way][seed] - by["off"][seed] for seed in sorted(by[way].keys() & by["off"].keys())]
                cells.append(interval(gains) if way != "off" else "")
            print(f"| {path.stem} | {way} | " + " | ".join(cells) + " |")


def interval(gains: list[float]) -> str:
    if len(gains) < 2:
        return ", ".join(f"{gain:+.1f}" for gain in gains)
    half = T95[len(gains) - 1] * stdev(gains) / math.sqrt(len(gains))
    return f"{fmean(gains):+.1f} ({fmean(gains) - half:+.1f} to {fmean(gains) + half:+.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    one = verbs.add_parser("run")
    one.add_argument("dataset", choices=FORMATS)
    one.add_argument("root", type=Path)
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    one.add_argument("--steps", type=int, default=500)
    one.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    one.add_argument("--device", default="cpu")
    one.add_argument("--set", action="append", default=[])
    one.set_defaults(do=run)
    two = verbs.add_parser("table")
    two.add_argument("out", type=Path)
    two.set_defaults(do=lambda given: table(given.out))
    given = parser.parse_args()
    given.do(given)


if __name__ == "__main__":
    main()
