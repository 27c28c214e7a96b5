"""A file for Deepness, the QGIS plugin: a graph that it runs right, and the metadata that it reads.

Deepness (Apache-2.0) cuts a raster into square tiles of 8-bit values, divides them by 255, subtracts `standardization_mean` and
divides by `standardization_std`, runs the graph, sets values below `seg_thresh` to 0 and takes the greatest. So the graph here
multiplies by 255, has one size, and ends with softmax; the threshold is 0, or uncertain pixels would become the first class.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import torch

from pspnet.errors import ConfigError, ExportError
from pspnet.exporting.class_metadata import for_onnx
from pspnet.files import check_output, new_files
from pspnet.nn.graphs import GraphNetwork, write_onnx
from pspnet.predict.segmenter import Segmenter
from pspnet.weights.checkpoint import ModelCard, header_text
from pspnet.weights.export_digest import add_digest

LEAST_EQUAL = 0.9995  # share of labels equal to the source's


@dataclass(frozen=True)
class DeepnessReport:
    """agreement: share of labels equal to the source's. resolution_cm: of a pixel; None where the model does not know it."""

    path: Path
    tile_px: int
    agreement: float
    resolution_cm: float | None


def export_deepness(
    segmenter: Segmenter,
    path: str | Path,
    *,
    tile_px: int = 512,
    overlap_percent: int = 25,
    inputs: Sequence[str | Path] = (),
    overwrite: bool = False,
) -> DeepnessReport:
    """Writes an .onnx that the plugin opens with nothing left to set; the raster's channels must be in the model's order.

    Args:
        segmenter: A checkpoint's model, of 8-bit images.
        path: The file, .onnx.
        tile_px: Side of the tiles, in pixels: the graph's one size.
        overlap_percent: Share of a tile that its neighbour has too, which the plugin cuts away.
        inputs: Files that must not be replaced.
        overwrite: Whether another file may be.

    Raises ConfigError for another ending, a model of other values than 8 bits, or numbers out of range; ExportError where fewer
    than 99.95 % of the labels are the source's, OutputError where the file cannot be written: then nothing is.
    """
    path = Path(path)
    if path.suffix.lower() != ".onnx":
        raise ConfigError(f"'{path}': Deepness reads .onnx files")
    if segmenter.card.value_range[1] > 255:
        raise ConfigError(
            f"the model reads values up to {segmenter.card.value_range[1]:g}, and Deepness hands on 8-bit values only; use "
            "`pspnet raster`"
        )
    if tile_px < 32 or not 0 <= overlap_percent < 50:
        raise ConfigError(f"tile_px = {tile_px}, overlap_percent = {overlap_percent}: from 32 px, and 0 to 49 per cent")
    check_output(path, inputs=inputs, overwrite=overwrite)
    network = GraphNetwork(segmenter.model, "probabilities", segmenter.card.temperature)
    example = torch.zeros(1, segmenter.config.in_bands, tile_px, tile_px)
    metadata = for_onnx(segmenter.card, header_text(segmenter.config, segmenter.card))
    metadata |= deepness_metadata(segmenter.card, tile_px, overlap_percent)
    with new_files(path, inputs=inputs, overwrite=overwrite) as folder:
        part = folder / path.name
        write_onnx(network, example, True, part, metadata)
        add_digest(part)
        agreement = _agreement(segmenter, part, tile_px)
        if agreement < LEAST_EQUAL:
            raise ExportError(
                f"'{path}': {agreement:.4%} of the labels are equal to the source's; {LEAST_EQUAL:.2%} is asked. Nothing was written"
            )
    resolution = segmenter.card.ground_resolution
    return DeepnessReport(path, tile_px, agreement, resolution * 100 if resolution else None)


def deepness_metadata(card: ModelCard, tile_px: int, overlap_percent: int) -> dict[str, str]:
    """The plugin's keys, each value as JSON. Its code reads `tile_size`, its documentation says `tiles_size`: both are there."""
    count = len(card.band_names)
    values = {
        "model_type": "Segmentor",
        "class_names": dict(enumerate(card.label_space.names)),
        "tile_size": tile_px,
        "tiles_size": tile_px,
        "tiles_overlap": overlap_percent,
        "seg_thresh": 0.0,
        "seg_small_segment": 1,  # side of a median filter: none
        "standardization_mean": [0.0] * count,
        "standardization_std": [1.0] * count,
        **({"resolution": card.ground_resolution * 100} if card.ground_resolution else {}),  # centimetres
    }
    return {name: json.dumps(value) for name, value in values.items()}


def _agreement(segmenter: Segmenter, path: Path, tile_px: int) -> float:
    """Labels as the plugin makes them, against the source's, on smooth colours."""
    bands = segmenter.config.in_bands
    small = np.random.default_rng(0).integers(0, 256, (tile_px // 14 + 2, tile_px // 14 + 2, bands), dtype=np.uint8)
    image = cv2.resize(small, (tile_px, tile_px), interpolation=cv2.INTER_CUBIC).reshape(tile_px, tile_px, bands)
    planes = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)[None]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"images": planes / np.float32(255)})
    return float((output.argmax(1) == segmenter.labels(planes)[0]).mean())
