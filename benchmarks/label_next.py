"""Does it pay to label what `pspnet data pick` picks? CamVid: 60 picked images against 60 random ones, several seeds.

    python benchmarks/label_next.py run CAMVID --out OUT [--seeds 0 1 2] [--steps 300] [--start 20] [--count 60] [--set ...]
    python benchmarks/label_next.py table OUT

For each seed: START random images of train are labelled and a model learns from them; it picks until there are COUNT; another
START of the same images is filled up at random. Both lists train one network each from ImageNet's weights, with equal steps,
scored on val. --ways adds the halves of the choice, uncertainty alone and distance alone. OUT/rows.json keeps each row, and
rows that it holds are not made again, so this can be stopped and started. `table` prints Markdown.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import time
from pathlib import Path
from statistics import fmean

import numpy as np

from pyramid_table import recipe
from seeds import Rows, each, gains, interval

WAYS = ("random", "picked", "uncertainty", "distance")


def listed(root: Path, names: list[str], target: Path) -> Path:
    """A list of pairs that the layout `folder` reads."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = (root / "train").resolve()
    with target.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "label", "split"])
        rows.writerows(
            [folder / "images" / f"{name}.jpg", folder / "labels" / f"{name}.png", "train"] for name in names
        )
    return target


def trained(root: Path, names: list[str], seed: int, steps: int, folder: Path, settings: list[str]) -> Path:
    """A network that learnt from these images alone: its checkpoint."""
    from pspnet import train
    from pspnet.config import TrainConfig
    from pspnet.config.base import with_overrides

    shutil.rmtree(folder, ignore_errors=True)
    table = listed(root, names, folder.with_suffix(".csv"))
    values = recipe("camvid", str(root), [1, 2, 3, 6], seed, steps) | {"run_dir": str(folder)}
    values["data"] = {"format": "folder", "root": table, "options": {"classes": "camvid"}, "val_split": None}
    values["data"]["cache"] = "memory"
    return train(TrainConfig.model_validate(with_overrides(values, settings)), quiet=True)


def chosen(way: str, model: Path, root: Path, start: list[str], rest: list[str], count: int, seed: int) -> list[str]:
    """`count` of the rest, and the start."""
    from pspnet import Segmenter
    from pspnet.picking import class_balanced, greedy_choice, look_at

    if way == "random":
        order = np.random.default_rng([seed, 1]).permutation(len(rest))[:count].tolist()
        return [*start, *(rest[i] for i in order)]
    folder, failures = root / "train" / "images", {}
    by_image = look_at(Segmenter.load(model), [folder / f"{name}.jpg" for name in [*start, *rest]], 512, failures)
    candidates = [one for _, several in by_image for one in several]
    assert not failures
    features = np.stack([one.feature for one in candidates])
    unsure = class_balanced(candidates[len(start) :])
    before, after = features[: len(start)], features[len(start) :]
    if way == "uncertainty":
        order = np.argsort(-unsure)[:count].tolist()
    else:
        weight = unsure if way == "picked" else np.ones_like(unsure)
        order = greedy_choice(after, weight, count, before)[0].tolist()
    return [*start, *(rest[i] for i in order)]


def run(given: argparse.Namespace) -> None:
    from pspnet import Segmenter, open_dataset
    from pspnet.config import EvaluationConfig
    from pspnet.evaluation import assess

    rows = Rows(given.out / "rows.json")
    val = open_dataset("camvid", given.root, "val")
    names = sorted(image.stem for image in (given.root / "train" / "images").glob("*.jpg"))
    for seed in given.seeds:
        shuffled = [names[i] for i in np.random.default_rng(seed).permutation(len(names)).tolist()]
        start, rest = shuffled[: given.start], shuffled[given.start :]
        ways = [way for way in given.ways if not rows.has(seed=seed, way=way)]
        if not ways:
            continue
        first = given.out / f"start-{seed}"
        model = first / "best.safetensors"
        if not model.is_file():
            model = trained(given.root, start, seed, given.steps, first, given.set)
        for way in ways:
            began, folder = time.perf_counter(), given.out / f"{way}-{seed}"
            images = chosen(way, model, given.root, start, rest, given.count - given.start, seed)
            best = trained(given.root, images, seed, given.steps, folder, given.set)
            scores = assess(Segmenter.load(best), val, EvaluationConfig(resamples=0)).scores
            rows.add(
                {
                    "way": way,
                    "seed": seed,
                    "steps": given.steps,
                    "images": len(images),
                    "mean_iou": 100 * float(scores.mean_iou),
                    "pixel_accuracy": 100 * float(scores.pixel_accuracy),
                    "seconds": round(time.perf_counter() - began, 1),
                }
            )
            print(rows.rows[-1], flush=True)
            shutil.rmtree(folder, ignore_errors=True)
    print(table(given.out))


def table(out: Path) -> str:
    """Markdown: the mean over the seeds, each seed's score, and the gain over random images with its 95 % interval."""
    rows = Rows(out / "rows.json")
    base = rows.by_seed(way="random")
    lines = ["| labels of | mean IoU | each seed | over random, 95 % |", "| --- | --- | --- | --- |"]
    for way in WAYS:
        scores = rows.by_seed(way=way)
        if scores:
            gain = "" if way == "random" else interval(gains(scores, base))
            lines.append(f"| {way} | {fmean(scores.values()):.1f} | {each(scores)} | {gain} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    one = verbs.add_parser("run")
    one.add_argument("root", type=Path)
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    one.add_argument("--steps", type=int, default=300)
    one.add_argument("--start", type=int, default=20)
    one.add_argument("--count", type=int, default=60)
    one.add_argument("--set", action="append", default=[], help="settings of the training, name=value")
    one.add_argument("--ways", nargs="+", choices=WAYS, default=["random", "picked"])
    one.set_defaults(do=run)
    two = verbs.add_parser("table")
    two.add_argument("out", type=Path)
    two.set_defaults(do=lambda given: print(table(given.out)))
    given = parser.parse_args()
    given.do(given)


if __name__ == "__main__":
    main()
