"""ONNX graphs as other projects export them: one 1 x 1 convolution, so that the answer is known for every pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

WEIGHTS = np.array([[4.0, -1, 0], [-1, 4, 0], [0, -1, 4]], np.float32)  # (classes, bands)


def write_foreign(
    path: Path,
    output: str = "logits",
    size: tuple[int | str, int | str] = ("h", "w"),
    batch: int | str = "b",
    weights: np.ndarray = WEIGHTS,
    stride: int = 1,
    last: bool = False,
) -> Path:
    """output: logits, probabilities or labels. stride: the output is so much coarser. last: channels last."""
    import onnx
    from onnx import TensorProto, helper

    classes, bands = weights.shape
    kernel = np.zeros((classes, bands, stride, stride), np.float32)
    kernel[:, :, 0, 0] = weights
    shape: list[Any] = [batch, *size, bands] if last else [batch, bands, *size]
    nodes, name = [], "x"
    if last:
        nodes.append(helper.make_node("Transpose", ["x"], ["chw"], perm=[0, 3, 1, 2]))
        name = "chw"
    nodes.append(helper.make_node("Conv", [name, "w"], ["z"], strides=[stride, stride]))
    kinds = {
        "logits": helper.make_node("Identity", ["z"], ["y"]),
        "probabilities": helper.make_node("Softmax", ["z"], ["y"], axis=1)
        if classes > 1
        else helper.make_node("Sigmoid", ["z"], ["y"]),
        "labels": helper.make_node("ArgMax", ["z"], ["y"], axis=1, keepdims=0),
    }
    nodes.append(kinds[output])
    kind = TensorProto.INT64 if output == "labels" else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [helper.make_tensor("w", TensorProto.FLOAT, kernel.shape, kernel.ravel())],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, path)
    return path
