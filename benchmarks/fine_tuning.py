"""What a model that comes along is worth as a start: thirty labelled images of another kind, two classes, few steps.

    python benchmarks/fine_tuning.py aerial-dubai --data COAST --class water --out OUT [--images 30] [--steps 150]

COAST: a folder of another data set, images and labels below train and val, with classes.json. One class of it is told from
all others. Three runs, otherwise equal: from the model (init_from), from ImageNet's encoder weights, from random weights.
A row of Markdown for each, the mean IoU of both classes on `--judged` images of val, and OUT/MODEL.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from pspnet import Segmenter, open_dataset, train
from pspnet.config import EvaluationConfig, TrainConfig
from pspnet.evaluation import assess
from pspnet.images import write_png

STARTS = {"model": "the model", "imagenet": "ImageNet's encoder", "random": "random weights"}


def two_classes(data: Path, name: str, split: str, count: int, out: Path) -> None:
    """Evenly spread images of a split with labels 1 (the class) and 0 (another one); 255 stays ignored."""
    dataset = open_dataset("folder", data, split)
    index = dataset.label_space.index(name)
    for folder in ("images", "labels"):
        (out / split / folder).mkdir(parents=True)
    for number in np.unique(np.linspace(0, len(dataset) - 1, count).astype(int)).tolist():
        sample = dataset[number]
        assert sample.labels is not None
        labels = np.where(sample.labels == 255, 255, sample.labels == index).astype(np.uint8)
        stem = Path(sample.name).name
        write_png(out / split / "images" / f"{stem}.png", sample.image)
        write_png(out / split / "labels" / f"{stem}.png", labels)
    (out / "classes.csv").write_text(f"code,name\n0,other\n1,{name}\n", encoding="utf-8")


def recipe(model: str, start: str, root: Path, steps: int, run: Path) -> dict[str, Any]:
    settings = Segmenter.load(model, device="cpu").config.model_dump(mode="json")
    settings |= {"num_classes": 2, "encoder_weights": "imagenet" if start == "imagenet" else "random"}
    return {
        "model": settings,
        "init_from": model if start == "model" else None,
        "data": {"format": "folder", "root": str(root), "val_split": None, "cache": "memory"},
        "augmentation": {"scale_range": [0.6, 1.6], "crop": [256, 320], "jitter": True, "blur": False},
        "optimizer": {"name": "adamw", "learning_rate": 0.0005, "weight_decay": 0.02, "head_lr_factor": 4},
        "schedule": {"warmup_steps": 20},
        "batch_size": 4,
        "steps": steps,
        "ema": 0.98,
        "check_data": False,
        "rare_classes": "off",
        "pictures": 0,
        "run_dir": str(run),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--class", dest="name", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--judged", type=int, default=18)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=list(STARTS))
    given = parser.parse_args()
    root = given.out / f"{given.model}-data"
    shutil.rmtree(root, ignore_errors=True)
    for split, count in (("train", given.images), ("val", given.judged)):
        two_classes(given.data, given.name, split, count, root)
    val = open_dataset("folder", root, "val")
    rows = []
    for start in given.starts:
        run = given.out / f"{given.model}-run"
        shutil.rmtree(run, ignore_errors=True)
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # another size or resolution than the start's is what this is about
            best = train(TrainConfig.model_validate(recipe(given.model, start, root, given.steps, run)), quiet=True)
            seconds = time.perf_counter() - began
            scores = assess(Segmenter.load(best, device="cpu"), val, EvaluationConfig(resamples=0)).scores
        rows.append({"start": STARTS[start], "mean_iou": 100 * float(scores.mean_iou), "seconds": round(seconds)})
        print(
            f"| {given.model} | {given.name} | {STARTS[start]} | {rows[-1]['mean_iou']:.1f} | {seconds:.0f} s |",
            flush=True,
        )
        (given.out / f"{given.model}.json").write_text(json.dumps(rows, indent=1))
    shutil.rmtree(root)
    shutil.rmtree(run)


if __name__ == "__main__":
    main()
