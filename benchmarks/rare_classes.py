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
import math
from pathlib import Path
from statistics import fmean

from pyramid_table import FORMATS, recipe
from seeds import Rows, each, gains, interval, scores_of_training

WAYS = ("off", "weights", "crops", "auto")


def run(given: argparse.Namespace) -> None:
    from pspnet import open_dataset
    from pspnet.training.rare_classes import rare_classes
    from pspnet.training.resolve import measure

    rows = Rows(given.out / f"{given.dataset}.json")
    layout = FORMATS[given.dataset]
    learnt, val = (open_dataset(layout, given.root, split) for split in ("train", "val"))
    rare = rare_classes(measure(learnt).class_shares)
    print("rare:", ", ".join(learnt.label_space.names[k] for k in rare), flush=True)
    for seed in given.seeds:  # seed by seed, so that a run that is stopped leaves whole rows
        for way in given.ways:
            if rows.has(way=way, seed=seed):
                continue
            values = recipe(given.dataset, str(given.root), [1, 2, 3, 6], seed, given.steps)
            del values["loss"]
            folder = given.out / f"{given.dataset}-{way}-{seed}"
            scores = scores_of_training(values | {"rare_classes": way}, given.set, val, given.device, folder)
            iou = scores["iou"]
            scores["rare_iou"] = fmean(iou[k] for k in rare if not math.isnan(iou[k])) if rare else None
            scores["iou"] = dict(zip(learnt.label_space.names, [round(value, 2) for value in iou], strict=True))
            rows.add({"way": way, "seed": seed, "steps": given.steps, **scores})
            print({k: v for k, v in rows.rows[-1].items() if k != "iou"}, flush=True)


def table(out: Path) -> None:
    print("| data | rare_classes | mean IoU | each seed | over off, 95 % | IoU of the rare | over off, 95 % |")
    print("| --- " * 7 + "|")
    for path in sorted(out.glob("*.json")):
        rows = Rows(path)
        for way in dict.fromkeys(row["way"] for row in rows.rows):
            cells = []
            for key in ("mean_iou", "rare_iou"):
                scores = rows.by_seed(key, way=way)
                cells.append(f"{fmean(scores.values()):.1f}" if scores else "")
                cells += [each(scores)] if key == "mean_iou" else []
                cells.append(interval(gains(scores, rows.by_seed(key, way="off"))) if way != "off" else "")
            print(f"| {path.stem} | {way} | " + " | ".join(cells) + " |")


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
