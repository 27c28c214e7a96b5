"""What labels of a large picture cost: peak memory beyond weights and libraries, each engine in a process of its own (Linux).

    python benchmarks/memory.py [--engines torch:fp32 torch:bf16 openvino:fp32 openvino:bf16 onnxruntime:fp32] [--size 1024 2048]

PSPNet-50 at output stride 8 with 150 classes and random weights, `Segmenter.segment` with labels only. Before the measured picture each engine has seen
one of 256 px, so that libraries, weights and its compiled graph are in memory and not counted.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile

import numpy as np

ENGINES = ("torch:fp32", "torch:bf16", "openvino:fp32", "openvino:bf16", "onnxruntime:fp32")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", default=ENGINES, choices=ENGINES)
    parser.add_argument("--size", nargs=2, type=int, default=(1024, 2048), metavar=("H", "W"))
    parser.add_argument("--one", help=argparse.SUPPRESS)  # the child's own: ENGINE:PRECISION
    given = parser.parse_args()
    if given.one:
        print(measured(*given.one.split(":"), *given.size))
        return
    print("| engine | peak, MiB |\n| --- | --- |")
    with tempfile.TemporaryDirectory() as cache:
        for engine in given.engines:
            command = [sys.executable, __file__, "--one", engine, "--size", *map(str, given.size)]
            for _ in range(
                2
            ):  # the first one fills the cache of graphs: making one takes memory that the next does not
                done = subprocess.run(
                    command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | {"XDG_CACHE_HOME": cache}
                )
            print(f"| {engine.replace(':', ', ')} | {done.stdout.split()[-1]} |", flush=True)


def measured(engine: str, precision: str, height: int, width: int) -> int:
    """MiB."""
    import torch

    from pspnet import Segmenter
    from pspnet.bench.process_memory import forget_peak, memory_mib
    from pspnet.config import ModelConfig
    from pspnet.nn.pspnet import PSPNet

    torch.manual_seed(0)
    network = PSPNet(ModelConfig(encoder="resnet50", num_classes=150, encoder_weights="random")).eval()
    seg = Segmenter(network, device="cpu", engine=engine, precision=precision)
    random = np.random.default_rng(0)
    seg.segment(random.integers(0, 256, (256, 256, 3), np.uint8), size="native")
    picture = random.integers(0, 256, (height, width, 3), np.uint8)
    forget_peak()
    before = memory_mib("VmRSS")
    seg.segment(picture, size="native")
    return round(memory_mib("VmHWM") - before)


if __name__ == "__main__":
    main()
