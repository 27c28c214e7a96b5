"""An exported model that is made in a moment, and a network that is exported in a few seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pspnet import LabelSpace, ModelConfig, PSPNet, Segmenter
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


def tiny_segmenter(**card: Any) -> Segmenter:
    """A network of three stages whose labels are of more than one class."""
    import torch

    torch.manual_seed(0)
    model = PSPNet(ModelConfig(encoder="resnet18", encoder_options={"depth": 3}, num_classes=3, decoder_channels=8))
    torch.nn.init.normal_(model.classifier.weight, std=2.0)
    space = LabelSpace(("sea", "land", "sky"), ((0, 0, 255), (0, 160, 0), (200, 220, 255)))
    return Segmenter(model, ModelCard(space, **card), device="cpu", precision="fp32")
