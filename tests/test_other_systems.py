"""macOS and Windows lack names that Linux has: everything imports, segments, trains and maps with those taken away."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pspnet.machine import keep_address_for_this_program
from support.graphs import write_graph
from support.paths import ROOT
from support.rasters import scene, write_raster

CODE = """
import importlib, os, pkgutil, socket, sys, warnings

class Absent:
    names = {"fcntl", "resource", "termios", "pwd", "grp"}
    def find_spec(self, name, path=None, target=None):
        if name in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

import multiprocessing.util, subprocess, tempfile  # the standard library's own choices stay those of this system
import torch, rasterio, lightning_fabric, gradio, uvicorn, fastapi  # so do other projects'
for name in Absent.names:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Absent())
for name in ("sched_getaffinity", "getloadavg", "sysconf", "getuid", "geteuid", "O_DIRECTORY"):
    if hasattr(os, name):
        delattr(os, name)

import pspnet
for module in pkgutil.walk_packages(pspnet.__path__, "pspnet."):
    if module.name.endswith("__main__"):
        continue
    importlib.import_module(module.name)

segmenter = pspnet.Segmenter.load("m.onnx")
segmenter.segment("photo.png").save("labels.png")
pspnet.segment_raster(segmenter, "in.tif", "map.tif", tile_px=64, overlap_px=16)
from pspnet.config import AugmentConfig, DataConfig, ModelConfig, TrainConfig
model = ModelConfig(encoder="resnet18", encoder_options={"depth": 3}, decoder_channels=8, bins=(1, 2))
data = DataConfig(format="scenes", options={"size": 48, "count": 4})
config = TrainConfig(run_dir="run", model=model, data=data, augmentation=AugmentConfig(crop=32), steps=2, batch_size=2,
                     precision="fp32", workers=None)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    print(pspnet.train(config))
"""


def test_everything_works_without_linux_names(tmp_path: Path) -> None:
    write_graph(tmp_path / "m.onnx")
    pixels = scene(70, 90)
    write_raster(tmp_path / "in.tif", pixels)
    Image.fromarray(pixels.transpose(1, 2, 0)).save(tmp_path / "photo.png")
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert (np.asarray(Image.open(tmp_path / "labels.png")) == pixels.argmax(0)).all()
    assert (tmp_path / "run" / "best.safetensors").is_file()


@pytest.mark.wrong_types
def test_a_port_belongs_to_one_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows by the exclusive option; everywhere a second program is refused."""
    asked: list[tuple[int, int, int]] = []

    class Socket:
        def setsockopt(self, level: int, option: int, value: int) -> None:
            asked.append((level, option, value))

    monkeypatch.setattr(socket, "SO_EXCLUSIVEADDRUSE", -5, raising=False)
    keep_address_for_this_program(Socket())  # type: ignore[arg-type]
    monkeypatch.delattr(socket, "SO_EXCLUSIVEADDRUSE")
    keep_address_for_this_program(Socket())  # type: ignore[arg-type]
    assert asked == [(socket.SOL_SOCKET, -5, 1), (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)]
