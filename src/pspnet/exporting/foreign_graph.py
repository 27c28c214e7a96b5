"""An ONNX graph for a program without pspnet: tried as that program runs it, and kept only where its labels are the source's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from torch import Tensor

from pspnet.errors import ConfigError, ExportError
from pspnet.exporting.class_metadata import for_onnx
from pspnet.files import check_output, new_files
from pspnet.nn.graphs import GraphNetwork, write_onnx
from pspnet.predict.segmenter import Segmenter
from pspnet.weights.checkpoint import header_text
from pspnet.weights.export_digest import add_digest

LEAST_EQUAL = 0.9995  # share of labels equal to the source's

# An opened graph and an image (height, width, bands) uint8 -> its labels (height, width), as the program makes them.
RunGraph = Callable[[onnxruntime.InferenceSession, NDArray[np.uint8]], NDArray[np.integer]]


def check_request(segmenter: Segmenter, path: Path, reader: str, instead: str) -> None:
    """Raises ConfigError where `path` is no .onnx file or the model reads more than 8 bits. reader: who takes the graph."""
    if path.suffix.lower() != ".onnx":
        raise ConfigError(f"'{path}': {reader} takes an .onnx file")
    greatest = segmenter.card.value_range[1]
    if greatest > 255:
        raise ConfigError(f"the model reads values up to {greatest:g}, and {reader} takes 8-bit images; {instead}")


def write_agreeing(
    segmenter: Segmenter,
    network: GraphNetwork,
    example: Tensor,
    path: Path,
    run: RunGraph,
    sizes: Sequence[tuple[int, int]],
    extra: Mapping[str, str] | None = None,
    inputs: Sequence[str | Path] = (),
    overwrite: bool = False,
    finish: Callable[[Path], None] | None = None,
) -> float:
    """Writes the graph with the card and a digest inside; returns the least share of labels equal to the source's.

    Args:
        segmenter: The source.
        network: The graph to be.
        example: Images that it is traced with.
        path: The .onnx file.
        run: As the program will run it.
        sizes: (height, width) of the images that it is tried on; a single one is the only size that the graph will hold for.
        extra: Further entries of the file's metadata.
        inputs: Files that must not be replaced.
        overwrite: Whether another file may be.
        finish: Changes the file once it is known to agree.

    Raises ExportError where fewer than 99.95 % of the labels of one size are equal, OutputError where the file cannot be
    written: then nothing is.
    """
    check_output(path, inputs=inputs, overwrite=overwrite)
    metadata = for_onnx(segmenter.card, header_text(segmenter.config, segmenter.card)) | dict(extra or {})
    with new_files(path, inputs=inputs, overwrite=overwrite) as folder:
        part = folder / path.name
        write_onnx(network, example, len(sizes) == 1, part, metadata)
        session = onnxruntime.InferenceSession(str(part), providers=["CPUExecutionProvider"])
        shares = []
        for height, width in sizes:
            image = _smooth_colours(height, width, segmenter.config.in_bands)
            wanted = segmenter.labels(np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)[None])[0][0]
            shares.append(float((run(session, image) == wanted).mean()))
        if min(shares) < LEAST_EQUAL:
            asked = f"{LEAST_EQUAL:.2%} is asked. Nothing was written"
            raise ExportError(f"'{path}': {min(shares):.4%} of the labels are equal to the source's; {asked}")
        if finish is not None:
            finish(part)
        add_digest(part)
    return min(shares)


def _smooth_colours(height: int, width: int, bands: int) -> NDArray[np.uint8]:
    """(height, width, bands)."""
    small = np.random.default_rng(0).integers(0, 256, (height // 14 + 2, width // 14 + 2, bands), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).reshape(height, width, bands)
