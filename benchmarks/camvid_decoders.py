"""Which decoder? The same network, budget of steps and seeds on CamVid; mean IoU, and IoU within 3 px of a border.

    python benchmarks/camvid_decoders.py DIR --out OUT_FOLDER [--steps 300] [--seeds 0 1 2]

Prints a Markdown table with the mean and the range over the seeds. Rows that OUT_FOLDER already holds are not trained
again, so it can be stopped and started. The network is that of recipes/camvid_resnet18_half.yaml.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import fmean
from typing import Any

from pspnet import Segmenter, open_dataset, train
from pspnet.config import EvaluationConfig, TrainConfig, read_recipe
from pspnet.evaluation import assess
from pspnet.inspection import model_info

RECIPE = Path(__file__).parents[1] / "recipes" / "camvid_resnet18_half.yaml"
POINTS: dict[str, Any] = {"train_points": 1024, "steps": 2, "points": 4096, "channels": 64}
DECODERS: dict[str, dict[str, Any]] = {
    "bilinear": {"decoder": "bilinear", "decoder_channels": 128},
    "progressive": {"decoder": "progressive", "decoder_channels": 64},
    "unet": {"decoder": "unet", "decoder_channels": 64},
    "fpn": {"decoder": "fpn", "decoder_channels": 64},
    "unet + PointRend": {"decoder": "unet", "decoder_channels": 64, "pointrend": True, "pointrend_options": POINTS},
}


def trained(name: str, seed: int, root: Path, out: Path, steps: int) -> dict[str, Any]:
    """One row: trains and scores one network, or reads what an earlier call found."""
    folder = out / f"{name.replace(' + ', '_')}_{seed}"
    row = folder / "row.json"
    if row.exists():
        return dict(json.loads(row.read_text()))
    recipe = read_recipe(RECIPE)
    base = TrainConfig.model_validate(recipe | {"data": {**recipe["data"], "root": root}})
    config = base.changed(
        name=folder.name, run_dir=folder / "run", seed=seed, steps=steps, val_every=steps, workers=0, pictures=0,
        ema=0.98, model=base.model.changed(**DECODERS[name]))
    start = time.process_time()
    best = train(config, quiet=True)
    minutes = (time.process_time() - start) / 60
    segmenter = Segmenter.load(best)
    scores = assess(segmenter, open_dataset("camvid", root, split="val"),
                    config=EvaluationConfig(boundary=True, border_px=(3,), resamples=0)).summary()
    info = model_info(segmenter.config, 360, 480)
    found = {
        "decoder": name, "seed": seed, "steps": steps, "minutes": minutes, "mean_iou": scores["mean_iou"],
        "border_iou": scores["mean_iou_within_3_px"], "boundary_iou": scores["boundary_iou"],
        "parameters": info.parameters, "gflop": info.segment.flops / 1e9}
    row.write_text(json.dumps(found))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in given.seeds:
        for name in DECODERS:
            rows.append(trained(name, seed, given.root, given.out, given.steps))
            print({k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    print("| decoder | parameters | GFLOP | minutes | mean IoU | within 3 px of a border | boundary IoU |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in DECODERS:
        own = [row for row in rows if row["decoder"] == name]
        cells = []
        for key in ("mean_iou", "border_iou", "boundary_iou"):
            values = [100 * row[key] for row in own]
            cells.append(f"{fmean(values):.1f} ({min(values):.1f} to {max(values):.1f})")
        minutes = fmean(row["minutes"] for row in own)
        print(f"| {name} | {own[0]['parameters'] / 1e6:.2f} M | {own[0]['gflop']:.1f} | {minutes:.1f} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
