"""What the confusion matrix costs: 150 classes on 512 x 683 px, beside the way it is usually written, and beside the
network whose predictions it counts.

    python benchmarks/confusion.py [--json OUT.json]

The marks are 5 ms an image and 2 % of a forward pass. The ways take turns in one run, so that a busy machine slows all
of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from pspnet.bench.interleaved import alternate
from pspnet.config import ModelConfig
from pspnet.machine import processor_name
from pspnet.metrics import ConfusionMatrix, PerImage, count_pairs
from pspnet.nn import PSPNet
from pspnet.predict.segmenter import Segmenter
from pspnet.weights.checkpoint import card_for

CLASSES, ROUNDS = 150, 25


def images() -> tuple[np.ndarray, np.ndarray]:
    """Labels in blocks with 5 % ignored, predictions that are right for 60 %."""
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(0, CLASSES, (64, 86)), np.ones((8, 8), int))[:512, :683].astype(np.uint8)
    predicted = np.where(rng.random(labels.shape) < 0.6, labels, rng.integers(0, CLASSES, labels.shape)).astype(
        np.uint8
    )
    labels[rng.random(labels.shape) < 0.05] = 255
    return labels, predicted


def usual(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Mask, 64-bit codes, bincount."""
    known = labels != 255
    codes = labels[known].astype(np.int64) * CLASSES + predicted[known]
    return np.bincount(codes, minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def measure() -> dict[str, float]:
    """Milliseconds an image, medians."""
    labels, predicted = images()
    wide = labels.astype(np.int64), predicted.astype(np.int64)
    matrix = ConfusionMatrix(CLASSES)
    ways = {
        "ours, uint8": lambda: matrix.update(labels, predicted),
        "ours, int64": lambda: matrix.update(*wide),
        "usual, uint8": lambda: usual(labels, predicted),
    }
    laps = alternate(ways, ROUNDS)
    matrix = ConfusionMatrix(CLASSES)
    matrix.update(labels, predicted)
    if not np.array_equal(matrix.counts, usual(labels, predicted)):
        raise SystemExit("the two ways differ")
    return {name: round(statistics.median(seconds) * 1e3, 2) for name, seconds in laps.items()}


def share_of_forward(encoder: str) -> float:
    """Processor seconds of all that an evaluation counts for an image, over those of its labels from the network.

    As `pspnet.evaluation.assess` does it by default: pairs, sum, the image's own row; in the default precision.
    """
    labels, _ = images()
    torch.manual_seed(0)
    model = PSPNet(ModelConfig(encoder=encoder, num_classes=CLASSES, auxiliary="none"))
    segmenter = Segmenter(model, card_for(model), device="cpu")
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, *labels.shape)).astype(np.float32))
    matrix, per_image, ratios = ConfusionMatrix(CLASSES), PerImage(), []
    for number in range(4):
        before = time.process_time()
        predicted = segmenter.labels(pixels)[0][0].numpy()
        between = time.process_time()
        for _ in range(10):  # one alone is too short to time
            counts = count_pairs(labels, predicted, CLASSES)
            matrix.counts += counts
            per_image.add(f"{number}", counts)
        ratios.append((time.process_time() - between) / 10 / (between - before))
    return statistics.median(ratios[1:])  # the first pass makes the network's workspace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = measure()
    for name, value in results.items():
        print(f"{name:16} {value:6.2f} ms an image (mark: 5)")
    shares = {encoder: round(share_of_forward(encoder), 5) for encoder in ("resnet18", "resnet50")}
    for encoder, share in shares.items():
        print(f"share of a forward pass of {encoder}: {share:.3%} (mark: 2 %)")
    if arguments.json:
        content = {
            "ms_per_image": results,
            "share_of_forward": shares,
            "processor": processor_name(),
            "numpy": np.__version__,
        }
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
