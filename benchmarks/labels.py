"""From coarse logits to labels: every class resized, against the classes alone that can win in a cell; in turns.

    python benchmarks/labels.py [--rounds 9] [--json FILE]

Rows: trained logits (the bundled models on generated scenes and on noise of their kind), the same with 150 classes (the
others a few units below, as a trained network's), 150 classes in regions, and noise, which goes the plain way. Seconds of
processor time, median over rounds in which both ways take turns; and whether every label is equal.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet import Segmenter, open_dataset
from pspnet.bench.interleaved import alternate
from pspnet.predict import logits
from pspnet.predict.candidates import candidates_of, crowded, rounding_of
from pspnet.predict.windows import as_float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = [measure(name, coarse, size, given.rounds) for name, coarse, size in cases()]
    print(f"{'logits':34s} {'one candidate':>13s} {'mean':>6s} {'plain ms':>9s} {'now ms':>8s} {'times':>6s} equal")
    for row in rows:
        print(
            f"{row['name']:34s} {row['one_candidate']:13.1%} {row['mean_candidates']:6.2f} {row['plain_ms']:9.1f} "
            f"{row['now_ms']:8.1f} {row['plain_ms'] / row['now_ms']:6.1f} {row['equal']}"
        )
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))


def cases() -> list[tuple[str, NDArray[np.float32], tuple[int, int]]]:
    collected = []
    segmenter = Segmenter.load("scenes", device="cpu", precision="fp32")
    scene = np.asarray(open_dataset("scenes", None, "val", count=1, size=512)[0].image)
    coarse = coarse_of(segmenter, scene)
    collected.append(("scenes, 512 px", coarse, scene.shape[:2]))
    collected.append(("scenes, 512 px, as 150 classes", widened(coarse, 150), scene.shape[:2]))
    collected.append(("regions, 150, 480 px", regions(150, 60, 60), (480, 480)))
    collected.append(("regions, 150, 2048 x 1024 px", regions(150, 128, 256), (1024, 2048)))
    noise = np.random.default_rng(0).normal(size=(150, 60, 60)).astype(np.float32)
    collected.append(("noise, 150, 480 px", noise, (480, 480)))
    return collected


def coarse_of(segmenter: Segmenter, image: NDArray[Any]) -> NDArray[np.float32]:
    """What a trained model gives, at a stride of 8 or more."""
    import torch

    coarse = segmenter.engine.coarse(torch.from_numpy(as_float(image)[None]))[0].numpy()
    step = max(1, 8 * coarse.shape[1] // image.shape[0])
    return np.ascontiguousarray(coarse[:, ::step, ::step])


def widened(coarse: NDArray[np.float32], classes: int) -> NDArray[np.float32]:
    """The same winners among many more classes, which lie below them."""
    random = np.random.default_rng(0)
    low = coarse.mean(0, keepdims=True) - 2 + random.normal(size=(classes - len(coarse), *coarse.shape[1:]))
    return np.concatenate([coarse, low.astype(np.float32)])


def regions(classes: int, high: int, wide: int) -> NDArray[np.float32]:
    """Each class strong in regions of its own, with smooth borders, and noise everywhere."""
    from scipy.ndimage import gaussian_filter

    random = np.random.default_rng(0)
    owner = random.integers(0, classes, (high // 12 + 1, wide // 12 + 1)).repeat(12, 0).repeat(12, 1)[:high, :wide]
    planes = random.normal(size=(classes, high, wide)).astype(np.float32)
    for number in np.unique(owner):
        planes[number] += 12 * gaussian_filter((owner == number).astype(np.float32), 2)
    return planes


def measure(name: str, coarse: NDArray[np.float32], size: tuple[int, int], rounds: int) -> dict[str, Any]:
    lines = np.ascontiguousarray(coarse.transpose(1, 2, 0))
    plain = np.empty(size, np.uint8)

    def plainly() -> NDArray[np.uint8]:
        logits._fill_plainly(lines, plain, None, range(len(lines)), False, 1.0)
        return plain

    def now() -> NDArray[np.uint8]:
        return logits.labels(coarse[None], size, False)[0][0]

    times = alternate({"plain": plainly, "now": now}, rounds, clock=time.process_time)
    count = candidates_of(coarse).sum(0)
    return {
        "name": name,
        "shape": list(coarse.shape),
        "size": list(size),
        "one_candidate": float((count == 1).mean()),
        "mean_candidates": float(count.mean()),
        "goes_the_plain_way": crowded(coarse, size[0] * size[1], rounding_of(coarse)),
        "plain_ms": statistics.median(times["plain"]) * 1e3,
        "now_ms": statistics.median(times["now"]) * 1e3,
        "equal": bool((plainly() == now()).all()),
    }


if __name__ == "__main__":
    main()
