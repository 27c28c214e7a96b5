"""What the augmentation chain costs: 512 x 683 -> 473, on one core, beside the chain done step by step.

    python benchmarks/augmentation.py [--json OUT.json]

The mark is 8 ms an image. The two ways are timed in turns in one run, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from pspnet.bench.interleaved import alternate
from pspnet.config import AugmentConfig
from pspnet.data.dataset import Sample
from pspnet.data.transforms import Augmentation
from pspnet.machine import processor_name

MEAN = (123.675, 116.28, 103.53)
IMAGES, ROUNDS = 100, 7


def picture(rng: np.random.Generator) -> Sample:
    image = cv2.GaussianBlur(rng.integers(0, 256, (512, 683, 3)).astype(np.uint8), (9, 9), 3)
    labels = cv2.resize(rng.integers(0, 150, (16, 22)).astype(np.uint8), (683, 512), interpolation=cv2.INTER_NEAREST)
    return Sample(image, labels, "picture")


def step_by_step(sample: Sample, rng: np.random.Generator) -> None:
    """The chain as it is usually written: every step on the whole image."""
    image, labels = sample.image, sample.labels
    assert labels is not None
    factor = rng.uniform(0.5, 2.0)
    image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    labels = cv2.resize(labels, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    height, width = labels.shape
    if rng.random() < 0.5:
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-10, 10), 1)
        image = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=MEAN)
        labels = cv2.warpAffine(labels, matrix, (width, height), flags=cv2.INTER_NEAREST, borderValue=255)
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (5, 5), 0)
    if rng.random() < 0.5:
        image, labels = cv2.flip(image, 1), cv2.flip(labels, 1)
    down, right = max(473 - height, 0), max(473 - width, 0)
    if down or right:
        box = (down // 2, down - down // 2, right // 2, right - right // 2)
        image = cv2.copyMakeBorder(image, *box, cv2.BORDER_CONSTANT, value=MEAN)
        labels = cv2.copyMakeBorder(labels, *box, cv2.BORDER_CONSTANT, value=255)
    top, left = rng.integers(labels.shape[0] - 472), rng.integers(labels.shape[1] - 472)
    np.ascontiguousarray(image[top : top + 473, left : left + 473])
    np.ascontiguousarray(labels[top : top + 473, left : left + 473])


def measure() -> dict[str, float]:
    """Milliseconds an image: the median of the rounds, for our chain and for the chain step by step."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    samples = [picture(rng) for _ in range(4)]
    paper, all_on = (
        Augmentation(AugmentConfig(), MEAN),
        Augmentation(AugmentConfig(rotate_probability=1, blur_probability=1, mirror_probability=1), MEAN),
    )
    ways: dict[str, Callable[[int], object]] = {
        "chain": lambda i: paper(samples[i % 4], 0, 0, i),
        "chain, every step on": lambda i: all_on(samples[i % 4], 0, 0, i),
        "step by step": lambda i: step_by_step(samples[i % 4], rng),
    }
    laps = alternate(
        {name: lambda way=way: [way(i) for i in range(IMAGES)] for name, way in ways.items()}, ROUNDS, warmups=1
    )
    return {name: round(statistics.median(seconds) / IMAGES * 1e3, 2) for name, seconds in laps.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = measure()
    for name, value in results.items():
        print(f"{name:24} {value:6.2f} ms an image (mark: 8)")
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"ms_per_image": results, "processor": processor_name(), "opencv": cv2.__version__}, indent=1)
            + "\n"
        )


if __name__ == "__main__":
    main()
