"""Classified Tiles as ArcGIS writes them, as far as that is described."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.transform import from_origin

from pspnet.data.layouts.arcgis_metadata import EMD, MAP
from support.rasters import scene, write_raster

SIZE = 32


CLASSES = [
    {"Value": 2, "Name": "Water", "Color": [0, 80, 220]},
    {"Value": 5, "Name": "Bare soil", "Color": [-1, -1, -1]},
]


def chip_labels(number: int) -> np.ndarray:
    """Values 0 (no class), 2 and 5."""
    rng = np.random.default_rng(number)
    labels = np.zeros((SIZE, SIZE), np.uint8)
    labels[:20], labels[10:30, 5:] = 2, 5
    labels[rng.integers(0, SIZE, 5), rng.integers(0, SIZE, 5)] = 0
    return labels


def export(
    root: Path,
    count: int = 6,
    *,
    start: int = 0,
    suffix: str = ".tif",
    emd: bool = True,
    dtype: Any = np.uint8,
    stride: int = SIZE,
    columns: int = 3,
    classes: Any = CLASSES,
) -> Path:
    """What ArcGIS writes, as far as it is described."""
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    for number in range(count):
        name = f"{start + number:09d}"
        row, column = divmod(number, columns)
        transform = from_origin(500_000 + 2 * stride * column, 5_600_000 - 2 * stride * row, 2, 2)
        pixels = scene(SIZE, SIZE, seed=start + number).astype(dtype)
        if suffix == ".tif":
            write_raster(root / "images" / f"{name}.tif", pixels, transform=transform, tiled=False)
        else:
            rasterio.shutil.copy(
                write_raster(root / "x.tif", pixels, tiled=False),
                root / "images" / (name + suffix),
                driver={".png": "PNG", ".jpg": "JPEG", ".mrf": "MRF"}[suffix],
            )
        write_raster(
            root / "labels" / f"{name}.tif", chip_labels(start + number)[None], transform=transform, tiled=False
        )
    # back-slashes, two blanks, a blank at the end, a chip twice and not in order
    order = [count - 1, *range(count)]
    (root / MAP).write_text("".join(f"images\\{start + n:09d}{suffix}  labels\\{start + n:09d}.tif \n" for n in order))
    if emd:
        (root / EMD).write_text(
            "\ufeff"
            + json.dumps(
                {
                    "Framework": "e.g. TensorFlow, PyTorch",
                    "ModelFile": "e.g. model.pth",
                    "ExtractBands": [0, 1, 2],
                    "MetaDataMode": "Classified_Tiles",
                    "Classes": classes,
                    "InputRastersProps": {
                        "RasterCount": 1,
                        "SensorName": "Raster Dataset",
                        "BandNames": ["Red", "Green", "Blue"],
                    },
                    "AllTilesStats": [
                        {"BandName": b, "Min": 0, "Max": 255, "Mean": 100.5, "StdDev": 50} for b in ("R", "G", "B")
                    ],
                },
            ),
            encoding="utf-8",
        )
    return root
