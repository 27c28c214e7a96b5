"""The text files beside Classified Tiles: what the chips hold, counted while they are written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.data.layouts.arcgis_metadata import ACCUMULATED, EMD, MAP, STATS
from pspnet.georaster.grids import Grid
from pspnet.labels import Colour


@dataclass
class ChipCounts:
    """What the text files tell about the chips."""

    images: int = 0
    shape: tuple[int, int, int] = (0, 0, 0)
    values: dict[int, list[int]] = field(default_factory=dict)  # value -> pixels of it in each chip that shows it
    classes_per_image: list[int] = field(default_factory=list)
    sums: Any = 0.0
    squares: Any = 0.0
    low: Any = np.inf
    high: Any = -np.inf
    pixels: int = 0
    grid: Grid | None = None

    def add_values(self, labels: NDArray[Any]) -> None:
        counts = dict(zip(*(part.tolist() for part in np.unique(labels, return_counts=True)), strict=True))
        for value, number in counts.items():
            if value:
                self.values.setdefault(int(value), []).append(number)
        self.classes_per_image.append(sum(1 for value in counts if value))
        self.images += 1

    def add_image(self, image: NDArray[Any]) -> None:
        flat = image.reshape(-1, image.shape[2]).astype(np.float64)
        self.shape = (image.shape[2], *image.shape[:2])
        self.sums, self.squares = self.sums + flat.sum(axis=0), self.squares + (flat**2).sum(axis=0)
        self.low, self.high = np.minimum(self.low, flat.min(axis=0)), np.maximum(self.high, flat.max(axis=0))
        self.pixels += len(flat)

    def place(self, grid: Grid) -> None:
        if self.grid is None and not grid.transform.is_identity:
            self.grid = grid


def chip_texts(
    counts: ChipCounts,
    pairs: Sequence[tuple[Path, Path]],
    classes: Mapping[int, tuple[str, Colour | None]],
    band_names: Sequence[str],
) -> dict[str, str]:
    """The four text files, by name."""
    bands, height, width = counts.shape
    per_image = counts.classes_per_image or [0]
    lines = [
        f"images = {counts.images} *{bands}*{height}*{width}",
        f"classes = {len(classes)}",
        f"classes per image = [min = {min(per_image)}, mean = {np.mean(per_image):.2f}, max = {max(per_image)}]",
        "cls name  cls value  images  pixels  min size  mean size  max size",
    ]
    pixels = {value: counts.values.get(value, []) for value in classes}
    for value, (name, _) in classes.items():
        values = pixels[value] or [0]
        lines.append(
            f"{name}  {value}  {len(pixels[value])}  {sum(values)}  {min(values)}  {np.mean(values):.2f}  {max(values)}"
        )
    names = list(band_names) if len(band_names) == bands else [f"Band_{i + 1}" for i in range(bands)]
    mean = counts.sums / max(counts.pixels, 1)
    std = np.sqrt(np.maximum(counts.squares / max(counts.pixels, 1) - mean**2, 0))
    tile_stats = [
        {
            "BandName": name,
            "Min": float(counts.low[i]),
            "Max": float(counts.high[i]),
            "Mean": float(mean[i]),
            "StdDev": float(std[i]),
        }
        for i, name in enumerate(names)
    ]
    grid = counts.grid
    size: dict[str, Any] = {}
    if grid is not None:
        cell: dict[str, Any] = {"x": abs(grid.transform.a), "y": abs(grid.transform.e)}
        code = None if grid.crs is None else grid.crs.to_epsg()
        cell |= {} if code is None else {"spatialReference": {"wkid": code, "latestWkid": code}}
        size = {"MinCellSize": cell, "MaxCellSize": cell}
    accumulated = {
        "Version": 1,
        "NumBands": bands,
        "TileSizeX": width,
        "TileSizeY": height,
        "NumClasses": len(classes),
        "NumTiles": counts.images,
        "OutputFeatures": False,
        "MetaDataMode": "Classified_Tiles",
        "Classes": [{"ClassValue": value, "ClassName": name} for value, (name, _) in classes.items()],
        "ClassPixelStats": {
            "NumClasses": len(classes),
            "NumImagesTotal": counts.images,
            "NumImagesPerClass": [len(pixels[v]) for v in classes],
            "NumPixelsPerClass": [sum(pixels[v]) for v in classes],
            "NumClassesPerImage": _summary(per_image),
            "PixelsPerClass": [_summary(pixels[v]) for v in classes],
        },
        **size,
    }
    emd = {
        "Framework": "e.g. pspnet",
        "ModelConfiguration": "e.g. PSPNet",
        "ModelFile": "e.g. model.safetensors",
        "ModelType": "ImageClassification",
        "ExtractBands": list(range(bands)),
        "ImageHeight": height,
        "ImageWidth": width,
        "MetaDataMode": "Classified_Tiles",
        "ImageSpaceUsed": "MAP_SPACE" if grid is not None else "PIXEL_SPACE",
        "Classes": [
            {"Value": value, "Name": name, "Color": list(colour) if colour else [-1, -1, -1]}
            for value, (name, colour) in classes.items()
        ],
        "InputRastersProps": {"RasterCount": 1, "SensorName": "", "BandNames": names},
        "AllTilesStats": tile_stats,
        **size,
    }
    mapped = "".join("  ".join(str(path).replace("/", "\\") for path in pair) + " \n" for pair in pairs)
    return {
        MAP: mapped,
        STATS: "\n".join(lines) + "\n",
        ACCUMULATED: json.dumps(accumulated, indent=4),
        EMD: json.dumps(emd, indent=4),
    }


def _summary(numbers: Sequence[int]) -> dict[str, float]:
    values = list(numbers) or [0]
    return {
        "Min": min(values),
        "Max": max(values),
        "Mean": float(np.mean(values)),
        "Sum": sum(values),
        "Count": len(numbers),
    }
