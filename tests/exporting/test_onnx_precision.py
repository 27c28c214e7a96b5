"""int8 and float16 files stay near the float32 one, keep the header, and say nothing while they are made."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pspnet.exporting.onnx_precision import write_onnx_precision

MEAN = 40000.0  # a 16-bit raster's, which float16 maps could not hold the double of


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """images -> normalise -> two convolutions, the second one's weights a part of a larger tensor, as the fold's are."""
    random = np.random.default_rng(0)
    weights = {
        "mean": np.full((1, 3, 1, 1), MEAN, np.float32),
        "first": random.standard_normal((32, 3, 3, 3)).astype(np.float32),
        "joined": random.standard_normal((8, 48, 3, 3)).astype(np.float32),
        "sizes": np.array([32, 16], np.int64),
    }
    nodes = [
        helper.make_node("Div", ["images", "mean"], ["scaled"], "scale"),
        helper.make_node("Conv", ["scaled", "first"], ["a"], "one", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "act"),
        helper.make_node("Split", ["joined", "sizes"], ["second", "rest"], "split", axis=1),
        helper.make_node("Conv", ["b", "second"], ["logits"], "two", pads=[1, 1, 1, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["b", 3, "h", "w"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", 8, "h", "w"])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    path = tmp_path_factory.mktemp("source") / "source.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def images(count: int) -> list[NDArray[np.float32]]:
    return [np.random.default_rng(i).random((24, 32, 3)).astype(np.float32) * 2 * MEAN for i in range(count)]


def run(path: Path, image: NDArray[np.float32]) -> NDArray[np.float32]:
    (logits,) = onnxruntime.InferenceSession(str(path)).run(None, {"images": image.transpose(2, 0, 1)[None]})
    return np.asarray(logits)


@pytest.mark.parametrize(("precision", "near", "smaller"), [("int8", 0.05, 0.5), ("fp16", 1e-3, 0.65)])
def test_less_bits_are_near(source: Path, tmp_path: Path, precision: str, near: float, smaller: float) -> None:
    path = tmp_path / "made.onnx"
    write_onnx_precision(source, path, precision, images(5), {"pspnet": "the header"})
    image = images(6)[5]  # not one of those it was calibrated on
    wanted = run(source, image)
    assert 0 < np.abs(run(path, image) - wanted).max() < near * np.abs(wanted).max()
    weights = [w for w in onnx.load(path).graph.initializer if len(w.dims) == 4 and w.dims[0] > 1]
    before = [w for w in onnx.load(source).graph.initializer if len(w.dims) == 4 and w.dims[0] > 1]
    assert sum(w.ByteSize() for w in weights) < smaller * sum(w.ByteSize() for w in before)
    assert {p.key: p.value for p in onnx.load(path).metadata_props}["pspnet"] == "the header"
    assert [file.name for file in tmp_path.iterdir()] == ["made.onnx"]


def test_every_convolution_is_int8(source: Path, tmp_path: Path) -> None:
    write_onnx_precision(source, tmp_path / "made.onnx", "int8", images(3), {})
    model = onnx.load(tmp_path / "made.onnx")
    assert Counter(node.op_type for node in model.graph.node)["Conv"] == 2
    eight_bit = [w.name for w in model.graph.initializer if w.data_type == TensorProto.INT8 and len(w.dims) == 4]
    assert len(eight_bit) == 2  # the second one's too, though the graph cuts it out of another tensor
    # the ReLU between the two is the range of the 8 bits: nothing is rounded before it
    assert "Relu" not in {node.op_type for node in model.graph.node}


def test_making_one_leaves_the_process_alone(
    source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])  # as in a program that never set logging up
    write_onnx_precision(source, tmp_path / "made.onnx", "int8", images(2), {})
    assert logging.root.handlers == []
    assert capfd.readouterr().out == ""


def test_large_weights_stay_float32(source: Path, tmp_path: Path) -> None:
    """65,504 is the largest number of float16."""
    model = onnx.load(source)
    (first,) = [w for w in model.graph.initializer if w.name == "first"]
    values = numpy_helper.to_array(first).copy()
    values[0, 0, 0, 0] = 1e5
    first.CopyFrom(numpy_helper.from_array(values, "first"))
    onnx.save(model, tmp_path / "large.onnx")
    write_onnx_precision(tmp_path / "large.onnx", tmp_path / "made.onnx", "fp16", [], {})
    kinds = {w.name: w.data_type for w in onnx.load(tmp_path / "made.onnx").graph.initializer}
    assert kinds["first"] == TensorProto.FLOAT
    assert kinds["joined.half"] == TensorProto.FLOAT16
    assert np.isfinite(run(tmp_path / "made.onnx", images(1)[0])).all()
