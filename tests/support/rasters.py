"""Small rasters and a model whose answer is known for every pixel, for the tests of rasters."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
import torch
from affine import Affine
from rasterio import features
from rasterio.transform import from_origin
from torch import Tensor

from pspnet.config import ModelConfig
from pspnet.labels import LabelSpace
from pspnet.nn import PSPNet
from pspnet.predict.segmenter import Segmenter
from pspnet.weights.checkpoint import ModelCard

SPACE = LabelSpace(("water", "forest", "field"), ((0, 80, 220), (10, 120, 20), (230, 200, 60)), codes=(10, 20, 30))
UTM = "EPSG:32631"


class PixelEngine:
    """Logits of a pixel from that pixel alone, (B, 3, h, w): whole and streamed results must be equal, bit for bit."""

    name = "pixel"

    def __init__(self, pause: float = 0.0) -> None:
        self.device = torch.device("cpu")
        self.pause = pause  # seconds for each window, to have time to kill it
        self.computed = 0

    def coarse(self, images: Tensor) -> Tensor:
        self.computed += len(images)
        time.sleep(self.pause * len(images))
        turned = images.roll(-1, dims=1) if images.shape[1] >= 3 else images * 0.5
        mixed = (images - turned).mean(dim=1, keepdim=True) / 30
        return torch.cat([torch.sin(images[:, :1] / 40 + 2 * k) + k * mixed for k in range(3)], dim=1) * 2


class MoodyEngine(PixelEngine):
    """Also looks at the window's mean, as pyramid pooling does: windows disagree where they overlap."""

    def coarse(self, images: Tensor) -> Tensor:
        mood = torch.tensor([0.1, 0.0, -0.1])[:, None, None]
        return super().coarse(images) + images.mean(dim=(1, 2, 3), keepdim=True) * mood


def make_segmenter(bands: int = 3, engine: PixelEngine | None = None, **card: Any) -> Segmenter:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PSPNet(
            ModelConfig(
                encoder="resnet18",
                in_bands=bands,
                num_classes=3,
                bins=(),
                auxiliary="none",
                mean=(100.0,) * bands,
                std=(50.0,) * bands,
                decoder_channels=8,
                encoder_options={"depth": 3},
            )
        )
    names = ("red", "green", "blue", "nir")[:bands] if bands <= 4 else tuple(f"b{i}" for i in range(bands))
    return Segmenter(model, ModelCard(SPACE, names, **card), engine=engine or PixelEngine())


def scene(height: int, width: int, bands: int = 3, seed: int = 0) -> np.ndarray:
    """(bands, height, width) uint8, 1..254, smooth patches with some noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    phases = rng.uniform(0, 6, (bands, 4))
    waves = np.stack(
        [np.sin(rows / 9 + a) + np.sin(columns / 7 + b) + np.sin((rows + columns) / 13 + c) for a, b, c, _ in phases]
    )
    return np.clip(128 + 38 * waves + rng.normal(0, 4, waves.shape), 1, 254).astype(np.uint8)


def write_raster(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    """A GeoTIFF in UTM 31N with pixels of 2 m unless told otherwise; colours are named."""
    bands, height, width = pixels.shape
    profile = {
        "driver": "GTiff",
        "crs": UTM,
        "transform": from_origin(500_000, 5_600_000, 2, 2),
        "tiled": True,
        "blockxsize": 32,
        "blockysize": 32,
        "compress": "deflate",
        "photometric": "rgb" if bands >= 3 else "minisblack",
    }
    profile.update(options)
    if not profile["tiled"]:
        del profile["tiled"], profile["blockxsize"], profile["blockysize"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", height=height, width=width, count=bands, dtype=pixels.dtype, **profile) as file:
            file.write(pixels)
    return path


def read(path: Path, band: int | None = 1) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read(band)


def whole(segmenter: Segmenter, pixels: np.ndarray) -> np.ndarray:
    """(K, h, w) probabilities of a raster seen at once."""
    with torch.inference_mode():
        return segmenter.probabilities(torch.from_numpy(pixels.astype(np.float32))[None])[0].numpy()


def broken(path: Path) -> Path:
    """A raster of 32 px blocks, one of which holds no DEFLATE stream."""
    write_raster(path, scene(200, 150))
    with rasterio.open(path) as file:
        offset = int(file.get_tag_item("BLOCK_OFFSET_2_4", "TIFF", bidx=1))
    with open(path, "r+b") as raw:
        raw.seek(offset)
        raw.write(b"\xff" * 40)
    return path


UP = Affine(1, 0, 0, 0, -1, 0)  # rows as negative y, as `upright_pixels` has them


def outlines(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Areas of a label map as rasterio sees them: (polygons, labels)."""
    shapes, values = zip(*features.shapes(labels.astype(np.uint8), connectivity=4, transform=UP), strict=True)
    polygons = [shapely.remove_repeated_points(shapely.geometry.shape(shape)) for shape in shapes]
    return np.array(polygons, object), np.array(values, int)
