"""What helps on CamVid? Short runs from random weights, one setting changed at a time, scored on a drive never seen.

    python benchmarks/camvid_trials.py DIR --out OUT_FOLDER [--only decoders recipe tests] [--seeds 0 1 2]

DIR is CamVid in SegNet's split. Its val is one short street of a drive that train holds too, so nothing is chosen on it:
the drive 0006R0 and the last 20 images of 0001TP, all of train, are held out, and val is only reported. Rows that
OUT_FOLDER already holds are not trained again, so this can be stopped and started, and two of them can share the work
(--only, --seeds). Prints one Markdown table for each group: the mean over the seeds, and each seed's score.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import shutil
import time
from pathlib import Path
from statistics import fmean
from typing import Any

from pspnet import Segmenter, open_dataset, train
from pspnet.adaptation import adapt_batch_norm
from pspnet.config import EvaluationConfig, TrainConfig, find_protocol, read_recipe
from pspnet.config.base import merged
from pspnet.data.dataset import Dataset
from pspnet.evaluation import assess
from pspnet.inspection import model_info

RECIPE = Path(__file__).parents[1] / "recipes" / "camvid_resnet18_fpn.yaml"
HELD_OUT, LAST_OF, LAST = "0006R0", "0001TP", 20
SIZE = (360, 480)
STEPS = 500

# what the trials began from; the recipe has since taken AdamW, square roots and smaller images first from them
FIRST = {
    "optimizer": {"name": "sgd", "learning_rate": 0.02, "weight_decay": 1e-4},
    "schedule": {"warmup_steps": 50},
    "loss": {"class_weights": "tempered"},
    "progressive_resizing": [],
}
HALF = {"model": {"input_scale": 0.5}, "augmentation": {"scale_range": [0.6, 1.6]}, "ema": 0.98}
POINTS = {"train_points": 1024, "steps": 2, "points": 4096, "channels": 64}
WEIGHTED = {"cross_entropy": 0.5}
# three quarters of the size, where poles can be seen, and the optimiser that the first trials chose
SHARP: dict[str, Any] = {
    "model": {"input_scale": 0.75},
    "optimizer": {"name": "adamw", "learning_rate": 0.002, "weight_decay": 0.02},
    "augmentation": {"scale_range": [0.6, 1.8]},
}
SEGNET = (
    0.2595,
    0.1826,
    4.5640,
    0.1417,
    0.9051,
    0.3826,
    9.6446,
    1.8418,
    0.6823,
    6.2478,
    7.3614,
)  # median over frequency
ROOTS = [round(weight**0.5, 3) for weight in SEGNET]
# three times as long, at half size: what shows only when a network begins to know its pictures by heart
LONG: dict[str, Any] = {
    "optimizer": SHARP["optimizer"],
    "loss": {"class_weights": ROOTS},
    "steps": 3 * STEPS,
    "ema": 0.99,
}
STRONG = {"jitter_brightness": 0.25, "jitter_contrast_range": [0.3, 1.8], "jitter_saturation_range": [0.2, 1.8]}
# what differs from the recipe at half size, in STEPS steps: cheap enough for seeds
TRIALS: dict[str, dict[str, dict[str, Any]]] = {
    "decoders": {
        "bilinear": {"model": {"decoder": "bilinear", "decoder_channels": 128}},
        "progressive": {"model": {"decoder": "progressive", "decoder_channels": 32}},
        "unet": {"model": {"decoder": "unet", "decoder_channels": 32}},
        "fpn": {},
        "unet + PointRend": {
            "model": {"decoder": "unet", "decoder_channels": 32, "pointrend": True, "pointrend_options": POINTS}
        },
    },
    "recipe": {
        "as it is": {},
        "no EMA": {"ema": None},
        "class weights: none": {"loss": {"class_weights": "none"}},
        "class-aware crops, half of them": {"augmentation": {"rare_crop_probability": 0.5}},
        "AdamW 0.001": {"optimizer": {"name": "adamw", "learning_rate": 0.001, "weight_decay": 0.01}},
        "AdamW 0.003": {"optimizer": {"name": "adamw", "learning_rate": 0.003, "weight_decay": 0.01}},
        "SGD 0.05": {"optimizer": {"learning_rate": 0.05}},
        "whole images, 5 a step": {"augmentation": {"crop": [360, 480]}, "batch_size": 5},
        "mixup, half of the batches": {"mixup": 0.5},
        "no colour jitter": {"augmentation": {"jitter": False}},
        "auxiliary loss": {"model": {"auxiliary": "pixel"}},
        "half of the loss Lovasz": {"loss": {**WEIGHTED, "lovasz": 0.5}},
        "3 times as many steps": {"steps": 3 * STEPS, "ema": 0.99},
    },
    "rare classes": {
        "class weights: tempered": SHARP,
        "square roots of SegNet's weights": merged(SHARP, {"loss": {"class_weights": ROOTS}}),
        "tempered, half of the loss Lovasz": merged(SHARP, {"loss": {**WEIGHTED, "lovasz": 0.5}}),
    },
    "long": {
        "square roots, AdamW": LONG,
        "stronger colours": merged(LONG, {"augmentation": STRONG}),
        "scales 0.4 to 2": merged(LONG, {"augmentation": {"scale_range": [0.4, 2.0]}}),
        "weight decay 0.2": merged(LONG, {"optimizer": {"weight_decay": 0.2}}),
        "label smoothing 0.1": merged(LONG, {"loss": {"label_smoothing": 0.1}}),
        "half of the loss dice": merged(LONG, {"loss": {**WEIGHTED, "dice": 0.5}}),
        "half of the loss OHEM": merged(LONG, {"loss": {**WEIGHTED, "ohem": 0.5}}),
    },
    "smaller first": {  # about the same time each
        "full size": merged(LONG, {"model": {"input_scale": 1.0}, "steps": 1050}),
        "half size for 77 % of the steps, then full": merged(
            LONG, {"model": {"input_scale": 1.0}, "progressive_resizing": [[0.5, 0.77]], "steps": 1950}
        ),
    },
    "size": {  # about the same time each
        "half size": {"steps": 1000, "ema": 0.99},
        "0.75": {"model": {"input_scale": 0.75}, "steps": 600},
        "full size": {"model": {"input_scale": 1.0}, "steps": 450},
    },
}


def split(root: Path, out: Path) -> dict[str, Any]:
    """Writes the list of pairs with its split by drive; what a TrainConfig's `data` and open_dataset need for it."""
    names = sorted(path.stem for path in (root / "train" / "images").iterdir())
    later = [name for name in names if name.startswith(LAST_OF)][-LAST:]
    table, folder = out / "drives.csv", (root / "train").resolve()
    table.parent.mkdir(parents=True, exist_ok=True)
    if table.exists():  # another call may be reading it
        return {"format": "folder", "root": table, "options": {"classes": "camvid"}}
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "label", "split"])
        for name in names:
            part = "val" if name.startswith(HELD_OUT) or name in later else "train"
            rows.writerow([folder / "images" / f"{name}.jpg", folder / "labels" / f"{name}.png", part])
    return {"format": "folder", "root": table, "options": {"classes": "camvid"}}


def trained(group: str, name: str, seed: int, root: Path, out: Path) -> tuple[Path, dict[str, Any]]:
    """One row: trains and scores one network, or reads what an earlier call found."""
    drives = split(root, out)
    changes = merged({"steps": STEPS, **HALF}, TRIALS[group][name])
    # the same settings may stand in two groups
    folder = out / hashlib.sha1(json.dumps([changes, seed]).encode()).hexdigest()[:10]
    row, best = folder / "row.json", folder / "run" / "best.safetensors"
    if row.exists():
        return best, json.loads(row.read_text()) | {"group": group, "name": name}
    shutil.rmtree(folder, ignore_errors=True)  # of a call that was stopped
    values = merged(merged(read_recipe(RECIPE), FIRST), changes)
    steps = values["steps"]
    config = TrainConfig.model_validate(
        values
        | {
            "data": drives,
            "name": folder.name,
            "run_dir": folder / "run",
            "seed": seed,
            "val_every": steps,
            "pictures": 0,
            "workers": 0,
            "check_data": False,
            "rare_classes": "off",
        }
    )
    start = time.process_time()
    train(config, quiet=True)
    minutes = (time.process_time() - start) / 60
    segmenter = Segmenter.load(best)
    info = model_info(segmenter.config, *SIZE)
    row_values = {
        "group": group,
        "name": name,
        "seed": seed,
        "steps": steps,
        "minutes": minutes,
        "parameters": info.parameters,
        "gflop": info.segment.flops / 1e9,
        **scores(segmenter, root, drives),
    }
    row.write_text(json.dumps(row_values))
    return best, row_values


def both_parts(root: Path, drives: dict[str, Any]) -> dict[str, Dataset]:
    """What everything is scored on, by the table's column."""
    return {
        "held out": open_dataset("folder", drives["root"], split="val", **drives["options"]),
        "val": open_dataset("camvid", root, split="val"),
    }


def scores(segmenter: Segmenter, root: Path, drives: dict[str, Any]) -> dict[str, Any]:
    """Mean IoU on the drive held out and on val, and that of the pixels within 3 px of a border."""
    collected = {}
    for part, data in both_parts(root, drives).items():
        summary = assess(segmenter, data, EvaluationConfig(boundary=True, border_px=(3,), resamples=0)).summary()
        collected[part] = 100 * summary["mean_iou"]
        collected[f"{part}, border"] = 100 * summary["mean_iou_within_3_px"]
    return collected


def tests(seed: int, root: Path, out: Path) -> list[dict[str, Any]]:
    """What can be changed after training, on the run that was best on the drive held out."""
    path = out / f"tests_{seed}.json"
    if path.exists():
        return list(json.loads(path.read_text()))
    best, _ = trained("rare classes", "square roots of SegNet's weights", seed, root, out)
    drives = split(root, out)
    segmenter = Segmenter.load(best)
    whole = find_protocol("whole")
    ways = {
        "one look": whole,
        "with its mirror image": whole.changed(mirror="image"),
        "scales 0.75, 1, 1.25, 1.5 and mirror images": whole.changed(mirror="image", scales=(0.75, 1.0, 1.25, 1.5)),
    }
    parts = both_parts(root, drives)
    rows = []
    quick = EvaluationConfig(resamples=0)
    for name, way in ways.items():
        rows.append(
            {"name": name, "seed": seed, "minutes": 0.0}
            | {
                part: 100 * assess(segmenter, data, quick, protocol=way).summary()["mean_iou"]
                for part, data in parts.items()
            }
        )
    for prior in (16.0, 128.0):
        rows.append(
            {"name": f"batch norm adapted to the pictures, prior {prior:g}", "seed": seed, "minutes": 0.0}
            | {
                part: 100 * assess(adapt_batch_norm(segmenter, data, prior=prior), data, quick).summary()["mean_iou"]
                for part, data in parts.items()
            }
        )
    path.write_text(json.dumps(rows))
    return rows


def table(title: str, rows: list[dict[str, Any]]) -> str:
    """Markdown: one line for each name, columns as the rows have them."""
    columns = [key for key in ("held out", "held out, border", "val", "val, border") if key in rows[0]]
    lines = [
        f"| {title} | steps | minutes of a core | parameters | GFLOP | " + " | ".join(columns) + " |",
        "| --- " * (5 + len(columns)) + "|",
    ]
    for name in dict.fromkeys(row["name"] for row in rows):
        rows_of_name = [row for row in rows if row["name"] == name]
        cells = [", ".join(f"{row[key]:.1f}" for row in rows_of_name) for key in columns]
        means = [fmean(row[key] for row in rows_of_name) for key in columns]
        size = (
            f"{rows_of_name[0]['steps']} | {fmean(row['minutes'] for row in rows_of_name):.1f} | {rows_of_name[0]['parameters'] / 1e6:.2f} M | "
            f"{rows_of_name[0]['gflop']:.1f}"
            if "steps" in rows_of_name[0]
            else " | | |"
        )
        lines.append(
            f"| {name} | {size} | "
            + " | ".join(f"{mean:.1f} ({cell})" for mean, cell in zip(means, cells, strict=True))
            + " |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=[*TRIALS, "tests"], default=[*TRIALS, "tests"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--names", nargs="+", help="of one group's rows; otherwise all")
    given = parser.parse_args()
    for group in given.only:
        rows: list[dict[str, Any]] = []
        for seed in given.seeds:
            if group == "tests":
                rows += tests(seed, given.root, given.out)
                continue
            for name in given.names or TRIALS[group]:
                rows.append(trained(group, name, seed, given.root, given.out)[1])
                print({k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
        print(table(group, rows), flush=True)


if __name__ == "__main__":
    main()
