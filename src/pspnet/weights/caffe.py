"""The paper's own checkpoints (.caffemodel), without Caffe: BGR images, means only, another order in the fusion.

What the weights do not hold: every block of the last two stages is dilated, resizing aligns corners, images are BGR
minus a mean. The first convolution is turned to RGB, the fusion's channels are put in our order, so that nothing of it
is left to remember. A snapshot carries its layers' parameters: where the stride of conv3_1 lies is read from there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pspnet.errors import CheckpointError
from pspnet.weights.protobuf import body, fields, floats, text, varints, whole
from pspnet.weights.rename_table import Foreign, Plan, Rename, rgb_from_bgr, width_settings

MEAN = (123.68, 116.779, 103.939)  # RGB; the paper's code subtracts it from BGR and divides by nothing
STEM = (
    ("conv1_1_3x3_s2", "conv1.0", "conv1.1"),
    ("conv1_2_3x3", "conv1.3", "conv1.4"),
    ("conv1_3_3x3", "conv1.6", "bn1"),
)
ROLES = (("1x1_reduce", "conv1", "bn1"), ("3x3", "conv2", "bn2"), ("1x1_increase", "conv3", "bn3"))
# NetParameter, LayerParameter, V1LayerParameter, BlobProto, ConvolutionParameter of caffe.proto: field numbers
NET_LAYERS_V1, NET_LAYERS = 2, 100
NAME, BLOBS, CONVOLUTION = (1, 4), (7, 6), (106, 10)  # (LayerParameter, V1LayerParameter)
BLOB_LEGACY_SHAPE, BLOB_DATA, BLOB_SHAPE, BLOB_DOUBLES = (1, 2, 3, 4), 5, 7, 8
STRIDE = 6


@dataclass
class Layer:
    """One layer of a .caffemodel that has weights. stride: None where the file does not say."""

    name: str
    blobs: list[NDArray[np.float32]] = field(default_factory=list)
    stride: int | None = None


def read(source: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(name -> tensor, {"strides": {layer: stride}}). Convolutions: NAME.weight, .bias; BN: NAME.weight, .bias,
    .running_mean, .running_var."""
    path = Path(source)
    if not path.is_file():
        raise CheckpointError(f"'{path}' does not exist or is not a file; give a .caffemodel")
    try:
        layers = read_layers(memoryview(path.read_bytes()))
    except CheckpointError as error:
        raise CheckpointError(
            f"'{path}' ({path.stat().st_size:,} bytes) is no .caffemodel, or cut off: {error}"
        ) from error
    state: dict[str, Tensor] = {}
    for layer in layers:
        leaves = ("weight", "bias", "running_mean", "running_var") if len(layer.blobs) == 4 else ("weight", "bias")
        for index, blob in enumerate(layer.blobs):
            leaf = leaves[index] if index < len(leaves) else f"blob{index}"
            flat = leaf != "weight" or len(layer.blobs) == 4
            state[f"{layer.name}.{leaf}"] = torch.from_numpy(blob.reshape(-1) if flat else blob)
    if not state:
        raise CheckpointError(f"'{path}' ({path.stat().st_size:,} bytes) has no layer with weights")
    return state, {"strides": {layer.name: layer.stride for layer in layers if layer.stride is not None}}


def read_layers(net: memoryview) -> list[Layer]:
    """The layers with weights of a NetParameter, of either generation."""
    layers = []
    for number, _, value in fields(net):
        if number in (NET_LAYERS, NET_LAYERS_V1):
            layer = _layer(body(value), 0 if number == NET_LAYERS else 1)
            if layer.blobs:
                layers.append(layer)
    return layers


def _layer(message: memoryview, generation: int) -> Layer:
    layer = Layer("")
    for number, _, value in fields(message):
        if number == NAME[generation]:
            layer.name = text(value)
        elif number == BLOBS[generation]:
            layer.blobs.append(_blob(body(value)))
        elif number == CONVOLUTION[generation]:
            strides = [whole(v) for n, _, v in fields(body(value)) if n == STRIDE]
            layer.stride = strides[0] if strides else 1
    return layer


def _blob(message: memoryview) -> NDArray[np.float32]:
    legacy, shape, parts = [0, 0, 0, 0], [], []
    for number, _, value in fields(message):
        if number == BLOB_DATA:
            parts.append(floats(value))
        elif number == BLOB_DOUBLES:
            parts.append(floats(value, width=8))
        elif number == BLOB_SHAPE:
            shape = [d for n, _, v in fields(body(value)) if n == 1 for d in varints(v)]
        elif number in BLOB_LEGACY_SHAPE:
            legacy[number - 1] = whole(value)
    data = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    dims = shape or legacy
    if int(np.prod(dims)) != data.size:
        raise CheckpointError(f"a blob of shape {dims} has {data.size:,} values")
    return data.reshape(dims)


def plan(foreign: Foreign) -> Plan:
    """Depth, bins, widths and classes from names and shapes; conventions as the paper's code has them."""
    if any(name.endswith("/scale.weight") for name in foreign.state):
        raise CheckpointError(
            f"'{foreign.path}' splits its norms into BatchNorm and Scale layers; PSPNet's have one BN layer of four blobs"
        )
    layers, blocks = _resnet(foreign)
    last_block = blocks[-1]
    branches = sorted(int(m.group(1)) for n in foreign.state if (m := re.match(r"conv5_\d+_pool(\d+)_conv\.weight", n)))
    head = "conv6" if "conv6.weight" in foreign.state else None
    if head is None or not branches:
        raise CheckpointError(
            f"'{foreign.path}' has no pyramid (conv5_3_pool1_conv ...) or no conv6: it is no PSPNet of the paper's. "
            f"Its layers: {', '.join(sorted({n.rpartition('.')[0] for n in foreign.state})[:6])} ..."
        )
    fusion = f"conv5_{last_block + 1}"
    width = foreign.shape(f"conv5_{last_block}_pool{branches[0]}_conv.weight")[0]
    tensors = dict(foreign.state)
    tensors["conv1_1_3x3_s2.weight"] = rgb_from_bgr(tensors["conv1_1_3x3_s2.weight"])
    tensors[f"{fusion}.weight"] = _our_order(tensors[f"{fusion}.weight"], 2048, width, len(branches))
    strides: Mapping[str, int] = foreign.meta.get("strides", {})
    # the paper's ADE20K network halves in the 1x1, its Cityscapes network in the 3x3: a snapshot says which
    stride_first = strides.get("conv3_1_1x1_reduce", 1) == 2
    notes = [
        "pooling is adaptive: equal to the paper's fixed windows where the map's side is a multiple of 6 (473: 60, 713: 90)",
        "protocol caffe-ss pads crops at the bottom and right, as the paper's code does; semseg's pads all around",
    ]
    if "conv3_1_1x1_reduce" not in strides:
        notes.append(
            "the stride of conv3_1 is taken to lie in its 3x3 convolution (the file does not say; "
            "otherwise: --set encoder_options.stride_in_first_conv=true)"
        )
    config: dict[str, Any] = {
        "encoder": f"resnet{layers}s",
        "encoder_options": {"stride_in_first_conv": stride_first},
        "num_classes": foreign.shape(f"{head}.weight")[0],
        "mean": MEAN,
        "std": (1.0, 1.0, 1.0),
        "output_stride": 8,
        "dilation": "uniform",
        "align_corners": True,
        "bins": tuple(branches),
        "concat": "input_first",
        "pyramid_options": width_settings(width, 2048, branches),
        "decoder": "bilinear",
        "decoder_channels": foreign.shape(f"{fusion}.weight")[0],
        "dropout": 0.1,
        "auxiliary": "none",
    }
    return Plan(config, tensors, _renames(branches, blocks), protocol="caffe-ss", notes=tuple(notes))


def _resnet(foreign: Foreign) -> tuple[int, tuple[int, ...]]:
    """(layers, blocks of each stage)."""
    counted = tuple(foreign.count(rf"conv{stage}_(\d+)_1x1_reduce\.") for stage in (2, 3, 4, 5))
    known = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152, (3, 30, 48, 8): 269}
    if counted not in known:
        raise CheckpointError(
            f"'{foreign.path}' has {counted} blocks in conv2..5; the paper's ResNets have "
            + ", ".join(f"{n} {blocks}" for blocks, n in known.items())
        )
    return known[counted], counted


def _our_order(weight: Tensor, channels: int, width: int, count: int) -> Tensor:
    """The fusion (out, C + n * width, 3, 3) from Caffe's [x, largest bin, ..., smallest] to [x, smallest, ..., largest]."""
    feature_part, *branches = torch.split(weight, [channels, *[width] * count], dim=1)
    return torch.cat([feature_part, *reversed(branches)], dim=1)


def _renames(bins: list[int], blocks: tuple[int, ...]) -> tuple[Rename, ...]:
    rules: list[Rename] = []

    def layer(theirs: str, conv: str, norm: str) -> None:
        rules.extend([(rf"{theirs}/bn\.", f"{norm}."), (rf"{theirs}\.", f"{conv}.")])

    for theirs, conv, norm in STEM:
        layer(theirs, f"encoder.{conv}", f"encoder.{norm}")
    for stage, count in enumerate(blocks, start=1):
        for block in range(count):
            theirs, ours = f"conv{stage + 1}_{block + 1}_", f"encoder.layer{stage}.{block}."
            for role, conv, norm in ROLES:
                layer(theirs + role, ours + conv, ours + norm)
            layer(f"{theirs}1x1_proj", f"{ours}downsample.0", f"{ours}downsample.1")
    last_block = blocks[-1]
    for index, size in enumerate(bins):
        layer(f"conv5_{last_block}_pool{size}_conv", f"pyramid.branches.{index}.conv", f"pyramid.branches.{index}.norm")
    layer(f"conv5_{last_block + 1}", "pyramid.fusion.conv", "pyramid.fusion.norm")
    rules.append((r"conv6\.", "classifier."))
    return tuple(rules)
