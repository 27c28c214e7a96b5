"""What the QGIS plugin Deepness does with a segmentation model, in our own words: reads its keys, feeds its tiles."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnxruntime


@dataclass
class DeepnessReader:
    """A model as the plugin's dialog shows it."""

    path: Path

    def __post_init__(self) -> None:
        self.session = onnxruntime.InferenceSession(str(self.path), providers=["CPUExecutionProvider"])
        (self.input,), (output,) = self.session.get_inputs(), self.session.get_outputs()
        if len(output.shape) != 4 or output.shape[2] != output.shape[3] or output.shape[0] != 1:
            raise ValueError(f"it takes square outputs of one image, not {output.shape}")
        raw = self.session.get_modelmeta().custom_metadata_map
        keys = (
            "model_type",
            "class_names",
            "resolution",
            "tile_size",
            "tiles_overlap",
            "seg_thresh",
            "seg_small_segment",
        )
        self.facts = {
            key: json.loads(raw[key]) for key in (*keys, "standardization_mean", "standardization_std") if key in raw
        }
        numbers = sorted(self.facts["class_names"], key=int)
        if [int(number) for number in numbers] != list(range(output.shape[1])):
            raise ValueError("class names are not consecutive")
        self.classes = [self.facts["class_names"][number] for number in numbers]

    def labels(self, image: np.ndarray) -> np.ndarray:
        """(H, W, bands) uint8 -> (H, W): one tile at the upper left, filled up with zeros."""
        side = self.input.shape[-1]
        tile = np.zeros((side, side, image.shape[2]), np.uint8)
        tile[: image.shape[0], : image.shape[1]] = image
        normalised = np.float32(tile[None, :, :, : self.input.shape[1]] * 1.0 / 255.0)
        normalised = (normalised - np.float32(self.facts["standardization_mean"])) / np.float32(
            self.facts["standardization_std"]
        )
        (scores,) = self.session.run(None, {self.input.name: normalised.transpose(0, 3, 1, 2)})
        scores[scores < self.facts["seg_thresh"]] = 0.0
        labels = scores.argmax(1)[0].astype(np.uint8)
        side = self.facts["seg_small_segment"] // 2 * 2 + 1
        return cv2.medianBlur(labels, side)[: image.shape[0], : image.shape[1]]
