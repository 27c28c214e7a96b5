"""A STAC item with the MLM extension (machine learning model, v1.3.0): what catalogues of Earth observation read of a model.

It lies beside an exported model of images from above, MODEL.stac.json. It says bands, input, output, classes and the metres of a
pixel; a model has no place of its own, so its geometry is null.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pspnet.weights.checkpoint import ModelCard

EXTENSION = "https://stac-extensions.github.io/mlm/v1.3.0/schema.json"
CLASSES = "https://stac-extensions.github.io/classification/v1.1.0/schema.json"
FRAMEWORKS = {".onnx": "ONNX", ".xml": "OpenVINO", ".pt2": "PyTorch"}


def stac_path(model: Path) -> Path:
    """Where the item of an exported model lies."""
    return model.with_name(f"{model.stem}.stac.json")


def stac_item(card: ModelCard, model: Path, encoder: str, parameters: int, exported_at: datetime | None = None) -> str:
    """The item as JSON text. parameters: number of weights. exported_at: None: now."""
    count, now = card.label_space.num_classes, (exported_at or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
    low, high = card.value_range
    assets = {"model": _asset(model.name, "mlm:model", "The exported model")}
    if model.suffix.lower() == ".xml":
        assets["weights"] = _asset(model.with_suffix(".bin").name, "mlm:weights", "Its weights")
    item = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [EXTENSION, CLASSES],
        "id": _name(model.stem),
        "geometry": None,
        "properties": {
            "datetime": now,
            "description": f"PSPNet, encoder {encoder}: a class for every pixel. Run it with: pspnet raster {model.name} IN.tif OUT.tif",
            "bands": [{"name": name} for name in card.band_names],
            **({"gsd": card.ground_resolution} if card.ground_resolution else {}),
            "mlm:name": _name(model.stem),
            "mlm:architecture": "PSPNet",
            "mlm:framework": FRAMEWORKS[model.suffix.lower()],
            "mlm:tasks": ["semantic-segmentation"],
            "mlm:total_parameters": parameters,
            "mlm:accelerator": None,
            "mlm:input": [
                {
                    "name": "images",
                    "description": f"Values as the file has them, {low:g} to {high:g}; normalisation is inside of the graph.",
                    "bands": list(card.band_names),
                    "input": _structure([-1, len(card.band_names), -1, -1], "channel"),
                    "value_scaling": None,
                    "resize_type": None,
                    "pre_processing_function": None,
                }
            ],
            "mlm:output": [
                {
                    "name": "logits",
                    "tasks": ["semantic-segmentation"],
                    "result": _structure([-1, count, -1, -1], "class"),
                    "classification:classes": _classes(card),
                    "post_processing_function": None,
                }
            ],
        },
        "assets": assets,
        "links": [],
    }
    return json.dumps(item, indent=1)


def _asset(name: str, role: str, title: str) -> dict[str, Any]:
    return {"href": f"./{name}", "type": "application/octet-stream", "title": title, "roles": [role]}


def _structure(shape: list[int], second: str) -> dict[str, Any]:
    return {"shape": shape, "dim_order": ["batch", second, "height", "width"], "data_type": "float32"}


def _classes(card: ModelCard) -> list[dict[str, Any]]:
    space = card.label_space
    return [
        {
            "value": index,
            "name": re.sub(r"[^0-9A-Za-z_-]+", "_", name) or f"class_{index}",  # the extension allows no others
            "title": name,
            "description": name,
            "color_hint": f"{red:02X}{green:02X}{blue:02X}",
        }
        for index, (name, (red, green, blue)) in enumerate(zip(space.names, space.colours, strict=True))
    ]


def _name(stem: str) -> str:
    """The file's name as the extension allows names: a letter first, a letter or digit last."""
    name = re.sub(r"[^0-9A-Za-z_.-]+", "-", stem).strip("_.-")
    return name if re.fullmatch(r"[A-Za-z][\w.-]+[A-Za-z0-9]", name) else f"pspnet-{name or 'model'}"
