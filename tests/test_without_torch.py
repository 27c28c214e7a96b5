"""What works where PyTorch is not installed: an exported model segments, serves and maps rasters, and no file asks for it.

The fast tests let every import of PyTorch and of what comes with it fail in a process of their own; the slow one makes a
real environment with the base dependencies alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.graphs import write_graph
from support.paths import ROOT
from support.rasters import scene, write_raster

BLOCKED = """
import sys
class Blocker:
    names = {"torch", "torchvision", "timm", "safetensors", "lightning", "lightning_fabric", "jaxtyping", "tensorboard"}
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
"""


def run(code: str, *arguments: object, folder: Path, **environment: str) -> str:
    """Output of a program that has no PyTorch. Fails where it fails."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model, a photograph and a raster whose brightest band is the class."""
    write_graph(tmp_path / "m.onnx")
    pixels = scene(90, 120)
    write_raster(tmp_path / "in.tif", pixels)
    Image.fromarray(pixels.transpose(1, 2, 0)).save(tmp_path / "photo.png")
    np.save(tmp_path / "wanted.npy", pixels.argmax(0))
    return tmp_path


def test_an_exported_model_segments_and_maps(folder: Path) -> None:
    """Also every protocol that needs no more than the model, windows of a large image, and a map with every band."""
    out = run(
        """
import numpy as np, pspnet
from pspnet.predict import windows
from pspnet.config.raster import RasterConfig
wanted = np.load("wanted.npy")
seg = pspnet.Segmenter.load("m.onnx")
for protocol in (None, "whole", "semseg-ss"):
    assert (seg.segment("photo.png", protocol=protocol).labels == wanted).mean() > (0.99 if protocol != "semseg-ss" else 0.6)
windows.WHOLE_PIXELS, windows.WINDOW_PX, windows.OVERLAP_PX = 100, 64, 16
large = seg.segment("photo.png")
assert (large.labels == wanted).all() and 0.3 < large.confidence.min() <= large.confidence.max() <= 1
pspnet.segment_raster(seg, "in.tif", "map.tif", tile_px=64, overlap_px=16, confidence=True, entropy=True, probabilities=True)
import rasterio
assert (rasterio.open("map.tif").read(1) == wanted).all()
import pspnet.client, pspnet.server.app, pspnet.evaluation, pspnet.raster.pool
print(sorted({name.split(".")[0] for name in sys.modules} & Blocker.names))
""",
        folder=folder,
    )
    assert out.split() == ["[]"]


def test_the_command_line_segments_maps_and_says_what_is_missing(folder: Path) -> None:
    program = """
from pspnet.cli import _run
code = _run(sys.argv[1:], False)
print("code", code)
"""
    assert "code 0" in run(program, "segment", "m.onnx", "photo.png", "--out", "out", folder=folder)
    assert (np.asarray(Image.open(folder / "out" / "photo.png")) == np.load(folder / "wanted.npy")).all()
    assert "code 0" in run(program, "raster", "m.onnx", "in.tif", "map.tif", folder=folder)
    output = subprocess.run(
        [sys.executable, "-c", BLOCKED + program, "demo"],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert "code 2" in output.stdout
    assert "[torch]" in output.stderr


def test_a_name_means_its_int8_model(folder: Path) -> None:
    models = folder / "models"
    models.mkdir()
    (models / "tiny.safetensors").write_bytes(b"needs PyTorch")
    shutil.copy(folder / "m.onnx", models / "tiny.int8.onnx")
    entry = {
        "file": "tiny.safetensors",
        "sha256": hashlib.sha256(b"needs PyTorch").hexdigest(),
        "about": "",
        "int8": "tiny.int8.onnx",
        "int8_sha256": hashlib.sha256((folder / "m.onnx").read_bytes()).hexdigest(),
    }
    plain = {key: value for key, value in entry.items() if not key.startswith("int8")}
    (models / "index.json").write_text(
        json.dumps({"tiny": entry, "plain": plain, "other": entry | {"int8_sha256": "0"}})
    )
    out = run(
        """
import pspnet
from pspnet.errors import CheckpointError, MissingExtraError
print(pspnet.Segmenter.load("tiny").engine.name)
for name, kind in (("plain", MissingExtraError), ("other", CheckpointError), ("models/tiny.safetensors", CheckpointError)):
    try:
        pspnet.Segmenter.load(name)
    except kind as error:
        print(kind.__name__, "[torch]" in str(error))
for name in ("PSPNet", "build_model"):
    try:
        getattr(pspnet, name)
    except MissingExtraError as error:
        assert "[torch]" in str(error), error
""",
        folder=folder,
        PSPNET_MODELS=str(models),
    )
    assert out.split("\n")[:4] == [
        "onnxruntime",
        "MissingExtraError True",
        "CheckpointError False",
        "CheckpointError False",
    ]


def test_the_bundled_scenes_parse_without_pytorch(tmp_path: Path) -> None:
    """Its int8 ONNX, which lies in the package, against generated scenes it was not calibrated on."""
    out = run(
        """
import numpy as np, pspnet
scenes = pspnet.open_dataset("scenes", None, "val", count=3, size=128)
seg = pspnet.Segmenter.load("scenes")
right = [(seg.segment(scenes[i].image).labels == scenes[i].labels)[scenes[i].labels != 255].mean() for i in range(3)]
print(seg.engine.name, min(right) > 0.85, "torch" in sys.modules)
""",
        folder=tmp_path,
    )
    assert out.split() == ["onnxruntime", "True", "False"]


def test_a_service_answers(folder: Path) -> None:
    out = run(
        """
import threading, time
import httpx, numpy as np, uvicorn
from pspnet.client import Client
from pspnet.server import ServerSettings, create_app
server = uvicorn.Server(uvicorn.Config(create_app({"m": "m.onnx"}, ServerSettings()), port=0, log_level="error"))
threading.Thread(target=server.run, daemon=True).start()
while not server.started: time.sleep(0.05)
port = server.servers[0].sockets[0].getsockname()[1]
with Client(f"http://127.0.0.1:{port}") as client:
    found = client.segment("photo.png")
print((found.labels == np.load("wanted.npy")).all(), "torch" in sys.modules)
server.should_exit = True
""",
        folder=folder,
    )
    assert out.split() == ["True", "False"]


@pytest.mark.slow
def test_a_fresh_environment_is_small_and_segments(folder: Path, tmp_path: Path) -> None:
    """Needs an index of packages: the base dependencies alone, installed from this folder."""
    env_folder = tmp_path / "env"
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, env_folder], check=True)
    python = env_folder / "bin" / "python"
    subprocess.run([*uv, "pip", "install", "--quiet", "--python", python, "--compile-bytecode", ROOT], check=True)
    size = sum(
        f.stat().st_size for f in env_folder.rglob("*") if f.is_file() and not f.is_symlink() and f.suffix != ".pyc"
    )
    assert size < 450e6, f"{size / 1e6:.0f} MB"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [env_folder / "bin" / "pspnet", "segment", "m.onnx", "photo.png", "--out", "out"],
        cwd=folder,
        env=environment,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert (np.asarray(Image.open(folder / "out" / "photo.png")) == np.load(folder / "wanted.npy")).all()
    output = subprocess.run(
        [env_folder / "bin" / "pspnet", "segment", "scenes.safetensors", "photo.png"],
        cwd=folder,
        env=environment,
        text=True,
        capture_output=True,
    )
    assert output.returncode != 0
    print(f"{size / 1e6:.0f} MB")
