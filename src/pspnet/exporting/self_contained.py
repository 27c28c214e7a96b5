"""A graph for programs without pspnet: 8-bit photographs in, labels out, everything between inside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from pspnet.errors import ConfigError, ExportError
from pspnet.exporting.class_metadata import for_onnx
from pspnet.files import check_output, new_files
from pspnet.nn.graphs import EXAMPLE_PX, GraphNetwork, write_onnx
from pspnet.predict.segmenter import Segmenter
from pspnet.weights.checkpoint import header_text
from pspnet.weights.export_digest import add_digest

LEAST_EQUAL = 0.9995  # share of labels equal to the source's
TRIAL_PX = ((168, 216), (121, 90), (97, 150))


def export_labels(
    segmenter: Segmenter,
    path: str | Path,
    *,
    size: tuple[int, int] | None = None,
    inputs: Sequence[str | Path] = (),
    overwrite: bool = False,
) -> float:
    """Writes an .onnx that takes "images" (B, H, W, bands) uint8 and gives "labels" (B, H, W) uint8. Returns the least share
    of labels that are equal to the source's, over some sizes.

    size: (height, width) of every image; None: any. `examples/onnx_labels.py` runs such a file. Raises ConfigError for
    another ending, a model whose images are not 8-bit, and a PointRend model without a size; ExportError where fewer than
    99.95 % of the labels are equal, OutputError where the file cannot be written: then nothing is.
    """
    path = Path(path)
    if path.suffix.lower() != ".onnx":
        raise ConfigError(f"'{path}': a graph with labels as output is an .onnx file")
    if segmenter.card.value_range[1] > 255:
        raise ConfigError(
            f"the model reads values up to {segmenter.card.value_range[1]:g}, and a graph with labels as output takes 8-bit "
            "images; leave --output labels out"
        )
    if segmenter.config.pointrend and size is None:
        raise ConfigError("a PointRend graph holds for one image size; give it (--size HEIGHTxWIDTH)")
    if size is not None and min(size) < 1:
        raise ConfigError(f"size = {size[0]}x{size[1]}: height and width in pixels, 1 or more each")
    check_output(path, inputs=inputs, overwrite=overwrite)
    network = GraphNetwork(segmenter.model, "photo_labels")
    example = torch.zeros(1, *(size or EXAMPLE_PX), segmenter.config.in_bands, dtype=torch.uint8)
    with new_files(path, inputs=inputs, overwrite=overwrite) as folder:
        part = folder / path.name
        header = header_text(segmenter.config, segmenter.card)
        write_onnx(network, example, size is not None, part, for_onnx(segmenter.card, header))
        add_digest(part)
        session = onnxruntime.InferenceSession(str(part), providers=["CPUExecutionProvider"])
        equal = []
        for height, width in [size] if size else TRIAL_PX:
            image = _noise(height, width, segmenter.config.in_bands)
            (labels,) = session.run(["labels"], {"images": image[None]})
            wanted = segmenter.labels(np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)[None])[0]
            equal.append(float((labels == wanted).mean()))
        if min(equal) < LEAST_EQUAL:
            raise ExportError(
                f"'{path}': {min(equal):.4%} of the labels are equal to the source's; {LEAST_EQUAL:.2%} is asked"
            )
    return min(equal)


def _noise(height: int, width: int, bands: int) -> NDArray[np.uint8]:
    """Smooth colours, (height, width, bands)."""
    small = np.random.default_rng(0).integers(0, 256, (height // 14 + 2, width // 14 + 2, bands), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).reshape(height, width, bands)
