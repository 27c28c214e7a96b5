"""A graph that brings a photograph to the size the model was trained at, and its labels back to the photograph's own.

    images (B, H, W, bands) -> resized to h x w -> the network -> labels (B, h, w) -> nearest pixel -> labels (B, H, W)

What `pspnet.predict.scale` does outside of a graph, as nodes of ONNX around one that exists: torch.export knows no size that follows
from the square root of another. h and w follow from the image: its area becomes the trained one's, unless it is near to it.

Where the size changes, labels differ from `Segmenter.segment`'s along borders (0.5 to 0.8 % of the pixels of CamVid's photographs
enlarged 1.7 and 3 times, 1.6 % of small ones): here the labels are enlarged, there the coarse logits, whose way needs every class
at the photograph's size in a graph: 7 GB for 12 megapixels and 150 classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pspnet.predict.scale import NEAR, Size

RESIZE_SINCE = 18  # the opset from which Resize can shrink with means instead of single pixels

GRAPH_NAMES = ("images", "images_seen", "labels", "labels_seen", "")


def add_own_scale(path: Path, trained: Size) -> None:
    """Rewrites an .onnx of "images" (B, H, W, bands) uint8 and "labels" (B, H, W) uint8.

    Args:
        path: The file.
        trained: Height and width of the images that were trained on.
    """
    model = onnx.load(str(path))
    opset = next(entry for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    opset.version = max(opset.version, RESIZE_SINCE)
    graph = model.graph
    for node in graph.node:
        for names, old, new in ((node.input, "images", "images_seen"), (node.output, "labels", "labels_seen")):
            names[:] = [new if name == old else name for name in names]
    before, after, constants = _nodes(trained)
    del graph.value_info[:]  # the inner sizes are no longer those of the images, as their symbols say
    inside = list(graph.node)
    del graph.node[:]
    graph.node.extend([*before, *inside, *after])
    graph.initializer.extend(constants)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _nodes(trained: Size) -> tuple[list[Any], list[Any], list[Any]]:
    """Nodes before the graph, nodes behind it, and the constants of both. The names begin with own_scale."""
    values = {
        "one": np.float32(1),
        "near": np.float32(NEAR),
        "far": np.float32(1 / NEAR),
        "root": np.float32((trained[0] * trained[1]) ** 0.5),
        "from_1": np.array([1], np.int64),
        "to_3": np.array([3], np.int64),
        "batch": np.array([0], np.int64),
        "bands": np.array([3], np.int64),
    }
    constants = [numpy_helper.from_array(np.asarray(value), f"own_scale_{name}") for name, value in values.items()]

    def full(name: str) -> str:
        return name if name in GRAPH_NAMES else f"own_scale_{name}"

    def node(kind: str, inputs: str, output: str, **attributes: Any) -> Any:
        names = [full(name) for name in inputs.split(" ")]  # an empty one is an input left out
        return helper.make_node(kind, names, [full(output)], f"own_scale_{output}", **attributes)

    before = [
        node("Shape", "images", "shape"),
        node("Slice", "shape from_1 to_3", "sides"),  # (H, W)
        node("Cast", "sides", "sides_f", to=TensorProto.FLOAT),
        node("ReduceProd", "sides_f", "area", keepdims=0),
        node("Sqrt", "area", "own_root"),
        node("Div", "own_root root", "times"),  # how many times larger than the trained size
        node("Less", "times near", "below"),
        node("Greater", "times far", "above"),
        node("And", "below above", "is_near"),
        node("Where", "is_near one times", "divisor"),
        node("Div", "sides_f divisor", "wanted"),
        node("Round", "wanted", "rounded"),
        node("Max", "rounded one", "at_least_1"),
        node("Cast", "at_least_1", "seen", to=TensorProto.INT64),  # (h, w)
        node("Gather", "shape batch", "count"),
        node("Gather", "shape bands", "channels"),
        node("Concat", "count channels seen", "seen_shape", axis=0),
        node("Transpose", "images", "planes", perm=[0, 3, 1, 2]),
        node("Cast", "planes", "planes_f", to=TensorProto.FLOAT),
        node(
            "Resize",
            "planes_f   seen_shape",
            "resized",
            mode="linear",
            antialias=1,
            coordinate_transformation_mode="half_pixel",
        ),
        node("Round", "resized", "whole"),
        node("Cast", "whole", "bytes", to=TensorProto.UINT8),
        node("Transpose", "bytes", "images_seen", perm=[0, 2, 3, 1]),
    ]
    after = [
        node("Concat", "count sides", "own_shape", axis=0),
        node(
            "Resize",
            "labels_seen   own_shape",
            "labels",
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
    ]
    return before, after, constants
