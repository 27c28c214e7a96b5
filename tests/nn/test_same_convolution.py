"""TensorFlow's "same" convolution against timm's, and in an ONNX file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import Conv2dSame
from torch import nn

from pspnet.config.model import ModelConfig
from pspnet.nn import PSPNet
from pspnet.nn.same_convolution import SameConvolution, exportable


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    kernel=st.sampled_from([1, 2, 3, 5]),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
)
def test_the_numbers_are_timms(height: int, width: int, kernel: int, stride: int, dilation: int) -> None:
    theirs = Conv2dSame(2, 3, kernel, stride=stride, dilation=dilation)
    ours = SameConvolution(2, 3, kernel, stride=stride, dilation=dilation)
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(1, 2, height, width, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=0)


@pytest.mark.slow
def test_an_onnx_file_names_the_rule_and_holds_at_odd_and_even_sizes(tmp_path: Path) -> None:
    network = nn.Sequential(Conv2dSame(3, 4, 3, stride=2, bias=False), Conv2dSame(4, 4, 5, stride=2, groups=4)).eval()
    exportable(network)
    program = torch.onnx.export(
        network, (torch.zeros(1, 3, 16, 20),), dynamo=True, dynamic_shapes=({2: "h", 3: "w"},), verbose=False
    )
    assert program is not None
    program.save(tmp_path / "same.onnx")
    nodes = onnx.load(tmp_path / "same.onnx").graph.node
    assert {node.op_type for node in nodes} == {"Conv"}
    session = onnxruntime.InferenceSession(tmp_path / "same.onnx")
    for height, width in ((16, 20), (17, 21), (18, 23), (5, 4), (31, 33)):
        images = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(height))
        (answer,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        np.testing.assert_allclose(answer, network(images).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("encoder", ["tf_efficientnet_lite0", "tf_mobilenetv3_small_minimal_100"])
def test_encoders_with_such_padding_use_it(encoder: str) -> None:
    with torch.device("meta"):
        network = PSPNet(ModelConfig(encoder=encoder, num_classes=2, auxiliary="none"))
    kinds = {type(module) for module in network.modules() if isinstance(module, Conv2dSame)}
    assert kinds == {SameConvolution}
