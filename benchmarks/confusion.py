"""What the confusion matrix costs: 150 classes on 512 x 683 px, beside the way it is usually written.

    python benchmarks/confusion.py [--json OUT.json]

The mark is 5 ms an image. The ways take turns in one run, so that a busy machine slows all of them.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import numpy as np

from pspnet.metrics import ConfusionMatrix

CLASSES, ROUNDS = 150, 25


def images() -> tuple[np.ndarray, np.ndarray]:
    """Labels in blocks with 5 % ignored, predictions that are right for 60 %."""
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(0, CLASSES, (64, 86)), np.ones((8, 8), int))[:512, :683].astype(np.uint8)
    found = np.where(rng.random(labels.shape) < 0.6, labels, rng.integers(0, CLASSES, labels.shape)).astype(np.uint8)
    labels[rng.random(labels.shape) < 0.05] = 255
    return labels, found


def usual(labels: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Mask, 64-bit codes, bincount."""
    known = labels != 255
    codes = labels[known].astype(np.int64) * CLASSES + found[known]
    return np.bincount(codes, minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def measure() -> dict[str, float]:
    """Milliseconds an image, medians."""
    labels, found = images()
    wide = labels.astype(np.int64), found.astype(np.int64)
    matrix = ConfusionMatrix(CLASSES)
    ways = {
        "ours, uint8": lambda: matrix.update(labels, found),
        "ours, int64": lambda: matrix.update(*wide),
        "usual, uint8": lambda: usual(labels, found),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, work in ways.items():
            before = time.perf_counter()
            work()
            times[name].append((time.perf_counter() - before) * 1000)
    matrix = ConfusionMatrix(CLASSES)
    matrix.update(labels, found)
    if not np.array_equal(matrix.counts, usual(labels, found)):
        raise SystemExit("the two ways differ")
    return {name: round(statistics.median(values), 2) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = measure()
    for name, value in found.items():
        print(f"{name:16} {value:6.2f} ms an image (mark: 5)")
    if arguments.json:
        content = {"ms_per_image": found, "processor": platform.processor(), "numpy": np.__version__}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
