"""A Python raster function that applies a pspnet model inside ArcGIS, tile by tile.

This file travels inside a .dlpk as PSPNetRasterFunction.py; ArcGIS imports it, makes a PSPNetRasterFunction and calls
the methods below as its documentation of Python raster functions describes. pspnet must be installed in the Python
environment that ArcGIS uses. It was tested in a stand-in for ArcGIS that calls it that way, not in ArcGIS itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


class PSPNetRasterFunction:
    """One band of class values from the bands that the model reads."""

    def __init__(self) -> None:
        self.name = "PSPNet pixel classifier"
        self.description = "A class for every pixel, by a PSPNet model of the open pspnet package"
        self.json_info: dict[str, Any] = {}
        self.padding = 0

    def initialize(self, **kwargs: Any) -> None:
        """Loads the model. kwargs: 'model', the path of an .emd or its text."""
        from pspnet.predict.segmenter import Segmenter

        model = kwargs.get("model")
        if not model:
            return
        path = Path(str(model)) if not str(model).lstrip().startswith("{") else None
        self.json_info = json.loads(path.read_text(encoding="utf-8") if path else str(model))
        file = Path(self.json_info["ModelFile"])
        if path is not None and not file.is_absolute():
            file = path.parent / file
        self.segmenter = Segmenter.load(file)
        self.values = np.array([entry["Value"] for entry in self.json_info["Classes"]])

    def getParameterInfo(self) -> list[dict[str, Any]]:  # noqa: N802  ArcGIS's name
        """The tool's parameters; the first two are what every such tool has."""
        padding = self.json_info.get("ModelPadding", 0)
        return [
            {
                "name": "raster",
                "dataType": "raster",
                "required": True,
                "displayName": "Raster",
                "description": "Input raster",
            },
            {
                "name": "model",
                "dataType": "string",
                "required": True,
                "displayName": "Model definition",
                "description": "Path of the model definition (.emd), or its JSON",
            },
            {
                "name": "padding",
                "dataType": "numeric",
                "value": padding,
                "required": False,
                "displayName": "Padding",
                "description": "Pixels around each tile that the model sees but does not classify",
            },
            {
                "name": "batch_size",
                "dataType": "numeric",
                "value": 1,
                "required": False,
                "displayName": "Batch size",
                "description": "Tiles that are classified at once",
            },
        ]

    def getConfiguration(self, **scalars: Any) -> dict[str, Any]:  # noqa: N802  ArcGIS's name
        """How ArcGIS cuts the raster: tiles of tx x ty with `padding` pixels more on each side."""
        self.padding = max(0, int(scalars.get("padding", self.json_info.get("ModelPadding", 0))))
        height, width = int(self.json_info["ImageHeight"]), int(self.json_info["ImageWidth"])
        if 2 * self.padding >= min(height, width):
            raise ValueError(f"padding = {self.padding}: less than half of the tile's {min(height, width)} px")
        return {
            "extractBands": tuple(self.json_info["ExtractBands"]),
            "padding": self.padding,
            "tx": width - 2 * self.padding,
            "ty": height - 2 * self.padding,
            "batch_size": int(scalars.get("batch_size", 1)),
            "fixedTileSize": 0,
            "inputMask": True,
            "inheritProperties": 2 | 4 | 8,
            "invalidateProperties": 2 | 4 | 8,
        }

    def updateRasterInfo(self, **kwargs: Any) -> dict[str, Any]:  # noqa: N802  ArcGIS's name
        """The output: one band of class values with names and colours."""
        classes = self.json_info["Classes"]
        values = [entry["Value"] for entry in classes]
        largest = max(values)
        info = kwargs["output_info"]
        info["bandCount"] = 1
        info["pixelType"] = "u1" if largest < 256 else "u2"
        info["statistics"] = ({"minimum": min(values), "maximum": largest},)
        colours = np.array([entry["Color"] for entry in classes], np.uint8).T
        info["colormap"] = (np.array(values, np.int32), *colours)
        fields = [
            ("OID", "esriFieldTypeOID"),
            ("Value", "esriFieldTypeInteger"),
            ("Class", "esriFieldTypeString"),
            ("Red", "esriFieldTypeInteger"),
            ("Green", "esriFieldTypeInteger"),
            ("Blue", "esriFieldTypeInteger"),
        ]
        rows = [
            {
                "attributes": {
                    "OID": i,
                    "Value": entry["Value"],
                    "Class": entry["Name"],
                    "Red": entry["Color"][0],
                    "Green": entry["Color"][1],
                    "Blue": entry["Color"][2],
                }
            }
            for i, entry in enumerate(classes, start=1)
        ]
        info["rasterAttributeTable"] = json.dumps(
            {"fields": [{"name": name, "type": kind} for name, kind in fields], "features": rows}
        )
        return kwargs

    def updatePixels(self, tlc: Any, shape: Any, props: Any, **pixelBlocks: Any) -> dict[str, Any]:  # noqa: N802, N803
        """One tile: 'raster_pixels' (bands, h, w) with its padding -> 'output_pixels' without it.

        'raster_mask' is 0 where there is no data; the output is masked there, and the model sees the bands' mean.
        """
        pixels = np.asarray(pixelBlocks["raster_pixels"]).astype(np.float32)
        mask = pixelBlocks.get("raster_mask")
        known: np.ndarray[Any, Any] = np.broadcast_to(True if mask is None else np.asarray(mask) != 0, pixels.shape)
        mean = np.array(self.segmenter.mean, np.float32)[:, None, None]
        pixels = np.where(known & np.isfinite(pixels), pixels, mean)
        best = self.segmenter.labels(pixels[None])[0][0]
        inner = slice(self.padding, best.shape[0] - self.padding), slice(self.padding, best.shape[1] - self.padding)
        valid = np.asarray(known.any(axis=0))[inner]
        kind = props.get("pixelType", "u1") if isinstance(props, dict) else "u1"
        values = np.where(valid, self.values[best[inner]], 0).astype(kind, copy=False)
        pixelBlocks["output_pixels"] = values[None]
        pixelBlocks["output_mask"] = valid[None].astype("u1")
        return pixelBlocks

    def updateKeyMetadata(self, names: Any, bandIndex: int, **keyMetadata: Any) -> dict[str, Any]:  # noqa: N802, N803
        """What the output is."""
        if bandIndex == -1:
            keyMetadata["datatype"] = "Thematic"
        return keyMetadata
