"""An ONNX file with fewer bits: int8 convolutions by onnxruntime's calibration, or weights kept in float16.

Both run in onnxruntime on any processor, with no library of its maker's. int8: each convolution's input, output (behind
its ReLU, if it has one) and weights are 8-bit numbers with a scale (QDQ: the graph says where they are rounded, the runtime
joins the steps); all else stays float32.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import require
from pspnet.predict.windows import as_float

# Of each map's values this share lies inside the range that the 8 bits cover. With the whole range one outlier makes all
# other values coarse: camvid-best lost 0.74 points of mean IoU so, and 0.15 with 99.99 %, the same weights.
CALIBRATION_PERCENTILE = 99.99

HALVED_FROM = 256  # numbers of a tensor: smaller ones save nothing, and constants of the graph's arithmetic stay exact


def write_onnx_precision(
    source: Path, path: Path, precision: str, images: Sequence[NDArray[Any]], metadata: Mapping[str, str]
) -> None:
    """Makes `path` from the float32 file `source`. precision: int8 or fp16. images: (H, W, bands), for calibration.

    metadata: kept in the file; "pspnet" is what it is opened by again.
    """
    onnx = require("onnx", "export")
    if precision == "fp16":
        onnx.save(_halved(onnx.load(str(source))), str(path))
    else:
        _quantize(source, path, images)
    graph = onnx.load(str(path))
    known_metadata = {entry.key: entry.value for entry in graph.metadata_props}
    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, {**known_metadata, **metadata})
    onnx.save(graph, str(path))


def _quantize(source: Path, path: Path, images: Sequence[NDArray[Any]]) -> None:
    quantization = require("onnxruntime.quantization", "export")
    shape_inference = require("onnxruntime.quantization.shape_inference", "export")
    prepared = path.with_suffix(".prepared.onnx")
    with _quiet():
        # constants computed once and batch norms put into the convolutions: else the fusion's weights, a part of a larger
        # tensor, would stay float32, and norms would be applied to what was rounded before
        shape_inference.quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(path),
            _Images(images),
            quant_format=quantization.QuantFormat.QDQ,
            # an activation behind a convolution is part of its 8 bits' range: rounding before it spends them on values
            # that ReLU6 cuts off. CamVid's EfficientNet-Lite0 lost 1.3 points of mean IoU so, and 0.03 in this way
            op_types_to_quantize=["Conv", "Relu", "Clip"],
            per_channel=True,
            # 7 bits for weights: processors without VNNI add products of 8 and 8 bits in 16, which overflow
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": CALIBRATION_PERCENTILE, "CalibStridedMinMax": 1},
        )
    prepared.unlink()


@contextmanager
def _quiet() -> Iterator[None]:
    """onnxruntime prints each step, and tells others to the root logger, which the first such line gives a handler for good."""
    root, handler = logging.getLogger(), logging.NullHandler()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


class _Images:
    """What onnxruntime asks for calibration data. It takes one image at a time (`set_range`), and keeps histograms only:
    otherwise every layer's output of every image would be held at once."""

    def __init__(self, images: Sequence[NDArray[Any]]) -> None:
        self.images = list(images)
        self.left = iter(self.images)

    def __len__(self) -> int:
        return len(self.images)

    def set_range(self, start_index: int, end_index: int) -> None:
        self.left = iter(self.images[start_index:end_index])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        image = next(self.left, None)
        return None if image is None else {"images": as_float(image)[None]}


def _halved(model: Any) -> Any:
    """Weights in float16, each followed by a cast: a runtime does the casts once, when it opens the file, and computes in
    float32. Maps in float16 would be no faster on a processor, and would end at 65,504, which 16-bit rasters do not."""
    onnx = require("onnx", "export")
    casts = []
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < HALVED_FROM or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], f"{name}.cast", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model
