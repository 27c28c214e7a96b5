"""Multi-scale evaluation of one image: our engine beside a plain re-statement of semseg's loop (tool/test.py).

    python benchmarks/protocols.py [--encoder resnet50] [--rounds 3] [--json OUT.json]

Both see the same image with the same weights, scales, crop, stride and mirror images, in the same run, in turns. The
plain loop is what the peer does: a window and its mirror image at a time, plain fusion, probabilities added up in
float64 numpy, each scale's map resized by OpenCV. The mark is 1.5 times its speed, with the same labels. Where the
processor computes in bfloat16, which our segmenter then does by itself, both loops are also measured in it.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from pspnet.bench.interleaved import alternate
from pspnet.config import ModelConfig, find_protocol
from pspnet.config.protocol import Protocol
from pspnet.evaluation.run import predictor_of
from pspnet.machine import processor_name
from pspnet.nn import PSPNet
from pspnet.predict.engines import has_bfloat16
from pspnet.predict.protocols import predict_labels
from pspnet.predict.segmenter import Segmenter
from pspnet.weights.checkpoint import card_for


def plain_window(model: PSPNet, window: np.ndarray, bf16: bool) -> np.ndarray:
    """Probabilities (h, w, K) of a window: the mean of it and of its mirror image."""
    values = torch.from_numpy(window.transpose(2, 0, 1)).float()
    batch = torch.stack([values, values.flip(2)])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        output = model(batch).float()
        height, width = batch.shape[2:]
        if output.shape[2:] != batch.shape[2:]:
            output = F.interpolate(output, (height, width), mode="bilinear", align_corners=True)
        output = F.softmax(output, dim=1)
    mean = (output[0] + output[1].flip(2)) / 2
    return mean.numpy().transpose(1, 2, 0)


def plain_loop(model: PSPNet, image: np.ndarray, protocol: Protocol, classes: int, bf16: bool) -> np.ndarray:
    """Labels (H, W), the way semseg computes them."""
    height, width = image.shape[:2]
    assert protocol.window_px is not None
    crop, mean = protocol.window_px[0], [float(v) for v in model.mean]
    stride = math.ceil(crop * 2 / 3)
    total = np.zeros((height, width, classes))
    for scale in protocol.scales:
        high, wide = protocol.size(height, width, scale)
        scaled = cv2.resize(image.astype(np.float32), (wide, high), interpolation=cv2.INTER_LINEAR)
        more_h, more_w = max(crop - high, 0), max(crop - wide, 0)
        padded = cv2.copyMakeBorder(
            scaled,
            more_h // 2,
            more_h - more_h // 2,
            more_w // 2,
            more_w - more_w // 2,
            cv2.BORDER_CONSTANT,
            value=mean,
        )
        new_h, new_w = padded.shape[:2]
        summed, visits = np.zeros((new_h, new_w, classes)), np.zeros((new_h, new_w))
        for row in range(math.ceil((new_h - crop) / stride) + 1):
            for column in range(math.ceil((new_w - crop) / stride) + 1):
                bottom, right = min(row * stride + crop, new_h), min(column * stride + crop, new_w)
                part = slice(bottom - crop, bottom), slice(right - crop, right)
                visits[part] += 1
                summed[part] += plain_window(model, padded[part], bf16)
        summed /= visits[..., None]
        summed = summed[more_h // 2 : more_h // 2 + high, more_w // 2 : more_w // 2 + wide]
        for part in np.array_split(np.arange(classes), -(-classes // 64)):  # OpenCV 5 resizes 128 channels at most
            total[:, :, part] += cv2.resize(np.ascontiguousarray(summed[:, :, part]), (width, height)).reshape(
                height, width, -1
            )
    return (total / len(protocol.scales)).argmax(2)


def measure(encoder: str, classes: int, crop: int, rounds: int) -> dict[str, Any]:
    """Processor seconds an image of both ways, their ratio, and the share of pixels with the same label."""
    torch.manual_seed(0)
    config = ModelConfig(encoder=encoder, num_classes=classes, auxiliary="none", align_corners=True, fusion="plain")
    plain = PSPNet(config).eval()
    ours = PSPNet(config.changed(fusion="folded")).eval()
    ours.load_state_dict(plain.state_dict())
    precisions = ["fp32", "bf16"] if has_bfloat16(torch.device("cpu")) else ["fp32"]
    segmenters = {p: Segmenter(ours, card_for(ours), device="cpu", precision=p) for p in precisions}
    stride = math.ceil(crop * 2 / 3)
    protocol = find_protocol("semseg-ms").changed(
        base_px=(round(crop * 512 / 473),), window_px=(crop, crop), stride_px=(stride, stride)
    )
    side = round(crop * 512 / 473)
    image = cv2.resize(np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8), (side * 4 // 3, side))
    ways: dict[str, Callable[[], np.ndarray]] = {}
    for p in precisions:
        ways[f"plain {p}"] = lambda p=p: plain_loop(plain, image, protocol, classes, p == "bf16")
        ways[f"ours {p}"] = lambda p=p: predict_labels(predictor_of(segmenters[p], 2), image, protocol)
    labels: dict[str, np.ndarray] = {}
    works = {name: lambda name=name, way=way: labels.update({name: way()}) for name, way in ways.items()}
    times = alternate(works, rounds, clock=time.process_time)
    default = f"ours {precisions[-1]}"

    def beside(one: str, other: str) -> dict[str, float]:
        ratios = [a / b for a, b in zip(times[one], times[other], strict=True)]
        return {
            "speed_up": round(statistics.median(ratios), 2),
            "same_labels": round(float((labels[one] == labels[other]).mean()), 5),
        }

    pairs = [(f"plain {p}", f"ours {p}") for p in precisions] + [("plain fp32", default)] * (default != "ours fp32")
    return {
        "encoder": encoder,
        "classes": classes,
        "crop_px": crop,
        "image": list(image.shape),
        "rounds": rounds,
        "processor_seconds": {name: round(statistics.median(values), 3) for name, values in times.items()},
        "compared": {f"{one} / {other}": beside(one, other) for one, other in pairs},
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="resnet50")
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument("--crop", type=int, default=473)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = measure(arguments.encoder, arguments.classes, arguments.crop, arguments.rounds)
    print(json.dumps(results, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
