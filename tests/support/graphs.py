"""An exported model that is made in a moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pspnet import LabelSpace, ModelConfig
from pspnet.weights.checkpoint import ModelCard, header_text


def write_graph(path: Path) -> None:
    """An exported model of one 1 x 1 convolution: the brightest band is the class. Making a real one takes long."""
    import onnx
    from onnx import TensorProto, helper

    weight = helper.make_tensor("w", TensorProto.FLOAT, [3, 3, 1, 1], np.eye(3, dtype=np.float32).ravel())
    edges = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 3, "h", "w"]) for name in ("images", "logits")
    ]
    node = helper.make_node("Conv", ["images", "w"], ["logits"])
    model = helper.make_model(
        helper.make_graph([node], "g", edges[:1], edges[1:], [weight]),
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 17)],
    )
    config = ModelConfig(encoder="resnet18", num_classes=3)
    header = header_text(config, ModelCard(LabelSpace(("red", "green", "blue"))))
    helper.set_model_props(model, {"pspnet": header})
    onnx.save(model, path)
