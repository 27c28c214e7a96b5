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

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from pspnet.errors import ConfigError
from pspnet.exporting.foreign_graph import check_request, write_agreeing
from pspnet.nn.graphs import GraphNetwork
from pspnet.predict.segmenter import Segmenter
from pspnet.weights.checkpoint import ModelCard


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
    check_request(segmenter, path, "Deepness", "use `pspnet raster`")
    if tile_px < 32 or not 0 <= overlap_percent < 50:
        raise ConfigError(f"tile_px = {tile_px}, overlap_percent = {overlap_percent}: from 32 px, and 0 to 49 per cent")
    network = GraphNetwork(segmenter.model, "probabilities", segmenter.card.temperature)
    example = torch.zeros(1, segmenter.config.in_bands, tile_px, tile_px)
    extra = deepness_metadata(segmenter.card, tile_px, overlap_percent)
    agreement = write_agreeing(segmenter, network, example, path, _run, [(tile_px, tile_px)], extra, inputs, overwrite)
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


def _run(session: onnxruntime.InferenceSession, image: NDArray[np.uint8]) -> NDArray[np.integer]:
    """Labels as the plugin makes them of a tile."""
    planes = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)[None]
    (output,) = session.run(None, {"images": planes / np.float32(255)})
    return np.asarray(output.argmax(1)[0])
