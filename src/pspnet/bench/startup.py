"""What starting costs: the import, the program's help, and the first image, each in a new process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from pspnet.images import write_png

ROUNDS = 3


def start_times(model: str = "scenes") -> dict[str, dict[str, float]]:
    """What -> {"wall_s", "processor_s"}, medians of three. The first image is one of 480 x 480 px."""
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.png"
        write_png(image, np.random.default_rng(0).integers(0, 256, (480, 480, 3), np.uint8))
        program = [sys.executable, "-m", "pspnet"]
        commands = {
            "python": [sys.executable, "-c", "pass"],
            "import pspnet": [sys.executable, "-c", "import pspnet"],
            "import pspnet.Segmenter": [sys.executable, "-c", "from pspnet import Segmenter"],
            "pspnet --help": [*program, "--help"],
            "pspnet segment, first image": [*program, "segment", model, str(image), "--out", str(Path(folder) / "out")],
        }
        return {name: _time(command) for name, command in commands.items()}


def _time(command: list[str]) -> dict[str, float]:
    walls, processors = [], []
    for _ in range(ROUNDS):
        before, started = os.times(), time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        after = os.times()
        walls.append(time.perf_counter() - started)
        processors.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return {"wall_s": round(median(walls), 3), "processor_s": round(median(processors), 3)}
