"""A graph for programs without pspnet: 8-bit photographs in, labels out, everything between inside."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from pspnet.errors import ConfigError
from pspnet.exporting.foreign_graph import check_request, write_agreeing
from pspnet.exporting.own_scale import add_own_scale
from pspnet.nn.graphs import EXAMPLE_PX, GraphNetwork
from pspnet.predict.segmenter import Segmenter

TRIAL_PX = ((168, 216), (121, 90), (97, 150))


def export_labels(
    segmenter: Segmenter,
    path: str | Path,
    *,
    size: tuple[int, int] | None = None,
    own_scale: bool = True,
    inputs: Sequence[str | Path] = (),
    overwrite: bool = False,
) -> float:
    """Writes an .onnx that takes "images" (B, H, W, bands) uint8 and gives "labels" (B, H, W) uint8. Returns the least share
    of labels that are equal to the source's, over some sizes.

    size: (height, width) of every image; None: any. own_scale: whether a graph for any size brings a photograph to the size
    that the model was trained at, as `Segmenter.segment` does, and the labels back to the photograph's; models without one are
    left as they are. `examples/onnx_labels.py` runs such a file. Raises ConfigError for another ending, a model whose images are not 8-bit, and a PointRend model without a size; ExportError where fewer than
    99.95 % of the labels are equal, OutputError where the file cannot be written: then nothing is.
    """
    path = Path(path)
    check_request(segmenter, path, "a graph with labels as output", "leave --output labels out")
    if segmenter.config.pointrend and size is None:
        raise ConfigError("a PointRend graph holds for one image size; give it (--size HEIGHTxWIDTH)")
    if size is not None and min(size) < 1:
        raise ConfigError(f"size = {size[0]}x{size[1]}: height and width in pixels, 1 or more each")
    network = GraphNetwork(segmenter.model, "photo_labels")
    example = torch.zeros(1, *(size or EXAMPLE_PX), segmenter.config.in_bands, dtype=torch.uint8)
    sizes = [size] if size else TRIAL_PX
    trained = segmenter.card.trained_size if own_scale and size is None else None
    finish = None if trained is None else functools.partial(add_own_scale, trained=trained)
    return write_agreeing(segmenter, network, example, path, _run, sizes, None, inputs, overwrite, finish)


def _run(session: onnxruntime.InferenceSession, image: NDArray[np.uint8]) -> NDArray[np.integer]:
    (labels,) = session.run(["labels"], {"images": image[None]})
    return np.asarray(labels[0])
