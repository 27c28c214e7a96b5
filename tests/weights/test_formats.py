"""CSAIL's pair of files, Caffe's protocol buffers, torchvision: each beside a plain restatement of what it computes."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision as tv
from torch import Tensor

from pspnet.config import ModelConfig
from pspnet.config.model import IMAGENET_MEAN, IMAGENET_STD
from pspnet.errors import CheckpointError, ConfigError
from pspnet.weights import caffe, csail, semseg
from pspnet.weights.importing import import_checkpoint
from pspnet.weights.protobuf import fields, floats, varints
from pspnet.weights.rename_table import Foreign
from support.peers import save

State = dict[str, Tensor]
RESNET18, RESNET50 = (2, 2, 2, 2), (3, 4, 6, 3)


class Maker:
    """Random tensors in a healthy range, by name, in the order that they are asked for."""

    def __init__(self) -> None:
        self.state: State = {}
        self.random = torch.Generator().manual_seed(7)

    def conv(self, name: str, out: int, inside: int, kernel: int, bias: bool = False) -> None:
        scale = (1.4 / (inside * kernel * kernel)) ** 0.5
        self.state[f"{name}.weight"] = scale * torch.randn(out, inside, kernel, kernel, generator=self.random)
        if bias:
            self.state[f"{name}.bias"] = 0.1 * torch.randn(out, generator=self.random)

    def norm(self, name: str, width: int) -> None:
        self.state[f"{name}.weight"] = 0.5 + torch.rand(width, generator=self.random)
        self.state[f"{name}.bias"] = 0.1 * torch.randn(width, generator=self.random)
        self.state[f"{name}.running_mean"] = 0.1 * torch.randn(width, generator=self.random)
        self.state[f"{name}.running_var"] = 0.5 + torch.rand(width, generator=self.random)


def conv(state: State, x: Tensor, name: str, stride: int = 1, dilation: int = 1) -> Tensor:
    weight = state[f"{name}.weight"]
    padding = dilation * (weight.shape[-1] // 2)
    return F.conv2d(x, weight, state.get(f"{name}.bias"), stride, padding, dilation)


def norm(state: State, x: Tensor, name: str) -> Tensor:
    leaves = [state[f"{name}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias")]
    return F.batch_norm(x, *leaves, eps=1e-5)


# --- CSAIL ----------------------------------------------------------------------------------------------------------


def csail_weights(classes: int = 5) -> tuple[State, State]:
    """resnet18dilated + ppm_deepsup, as the project's modules name them; 512 channels a branch become 24 to be quick."""
    encoder, decoder = Maker(), Maker()
    for number, (out, inside) in enumerate(((64, 3), (64, 64), (128, 64)), start=1):
        encoder.conv(f"conv{number}", out, inside, 3)
        encoder.norm(f"bn{number}", out)
    inside = 128
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            name = f"layer{stage}.{block}"
            encoder.conv(f"{name}.conv1", width, inside, 3)
            encoder.norm(f"{name}.bn1", width)
            encoder.conv(f"{name}.conv2", width, width, 3)
            encoder.norm(f"{name}.bn2", width)
            if block == 0:
                encoder.conv(f"{name}.downsample.0", width, inside, 1)
                encoder.norm(f"{name}.downsample.1", width)
            inside = width
    for index in range(4):
        decoder.conv(f"ppm.{index}.1", 24, 512, 1)
        decoder.norm(f"ppm.{index}.2", 24)
    decoder.conv("conv_last.0", 32, 512 + 4 * 24, 3)
    decoder.norm("conv_last.1", 32)
    decoder.conv("conv_last.4", classes, 32, 1, bias=True)
    decoder.conv("cbr_deepsup.0", 40, 256, 3)
    decoder.norm("cbr_deepsup.1", 40)
    decoder.conv("conv_last_deepsup", classes, 40, 1, bias=True)
    return encoder.state, decoder.state


def csail_forward(encoder: State, decoder: State, x: Tensor) -> tuple[Tensor, Tensor]:
    """(logits, deep supervision's logits) at 1/8: a stage's strided 3x3 loses its stride and gets half the dilation."""
    for number, stride in ((1, 2), (2, 1), (3, 1)):
        x = norm(encoder, conv(encoder, x, f"conv{number}", stride), f"bn{number}").relu()
    x = F.max_pool2d(x, 3, 2, 1)
    features = []
    for stage, (stride, first, rest) in enumerate(((1, 1, 1), (2, 1, 1), (1, 1, 2), (1, 2, 4)), start=1):
        for block in range(2):
            name, shortcut = f"layer{stage}.{block}", x
            step, dilation = (stride, first) if block == 0 else (1, rest)
            y = norm(encoder, conv(encoder, x, f"{name}.conv1", step, dilation), f"{name}.bn1").relu()
            y = norm(encoder, conv(encoder, y, f"{name}.conv2", 1, rest), f"{name}.bn2")
            if block == 0:
                shortcut = norm(encoder, conv(encoder, x, f"{name}.downsample.0", step), f"{name}.downsample.1")
            x = (y + shortcut).relu()
        features.append(x)
    parts = [x]
    for index, bins in enumerate((1, 2, 3, 6)):
        pooled = norm(decoder, conv(decoder, F.adaptive_avg_pool2d(x, bins), f"ppm.{index}.1"), f"ppm.{index}.2").relu()
        parts.append(F.interpolate(pooled, x.shape[2:], mode="bilinear", align_corners=False))
    fused = norm(decoder, conv(decoder, torch.cat(parts, 1), "conv_last.0"), "conv_last.1").relu()
    deep = norm(decoder, conv(decoder, features[2], "cbr_deepsup.0"), "cbr_deepsup.1").relu()
    return conv(decoder, fused, "conv_last.4"), conv(decoder, deep, "conv_last_deepsup")


def test_csail(tmp_path: Path) -> None:
    encoder, decoder = csail_weights()
    buffers = {
        "bn1._tmp_running_mean": torch.ones(64),
        "bn1._tmp_running_var": torch.ones(64),
        "bn1._running_iter": torch.ones(1),
    }
    save(tmp_path / "encoder_epoch_9.pth", {"conv1.weight": torch.ones(1)})
    save(tmp_path / "decoder_epoch_9.pth", {"ppm.0.1.weight": torch.ones(1)})
    save(tmp_path / "encoder_epoch_20.pth", encoder | buffers)
    save(tmp_path / "decoder_epoch_20.pth", decoder)
    normalised = torch.randn(1, 3, 57, 73, generator=torch.Generator().manual_seed(1))
    images = normalised * torch.tensor(IMAGENET_STD)[:, None, None] + torch.tensor(IMAGENET_MEAN)[:, None, None]
    expected, deep = csail_forward(encoder, decoder, normalised)
    model, _, report = import_checkpoint(tmp_path, "csail")
    assert report.ledger.unmatched == ()
    assert {name for name, _ in report.ledger.dropped} == {f"encoder.{name}" for name in buffers}
    assert "0: the file has no batch counters" in dict(report.ledger.filled).values()
    for half in ("encoder_epoch_20.pth", "decoder_epoch_20.pth"):
        assert csail.read(tmp_path / half)[0].keys() == csail.read(tmp_path)[0].keys()
    with torch.inference_mode():
        torch.testing.assert_close(model.coarse_logits(images), expected, rtol=1e-4, atol=1e-5)
        assert model.auxiliary is not None
        actual = model.auxiliary(model.encoder(model.normalise(images))[-2])
    spread = float(deep.std())  # an absolute bound would hold on one processor and not on another
    torch.testing.assert_close(actual, deep, rtol=1e-4, atol=1e-4 * spread)
    assert model.config.encoder == "resnet18s"
    assert model.config.pyramid_options.branch_channels == 24
    assert model.config.auxiliary_channels == 40


def test_csail_files_that_do_not_make_a_pair(tmp_path: Path) -> None:
    encoder, decoder = csail_weights()
    lone = save(tmp_path / "encoder_epoch_3.pth", encoder)
    with pytest.raises(CheckpointError, match=r"its other half 'decoder_epoch_3\.pth' is not beside it"):
        import_checkpoint(lone, "csail")
    with pytest.raises(CheckpointError, match=r"has no pair .* of one epoch; it has: encoder_epoch_3\.pth"):
        import_checkpoint(tmp_path, "csail")
    with pytest.raises(CheckpointError, match=r"a CSAIL checkpoint is two files"):
        import_checkpoint(save(tmp_path / "both.pth", encoder | decoder), "csail")
    save(tmp_path / "decoder_epoch_3.pth", {n: v for n, v in decoder.items() if not n.startswith("ppm")})
    with pytest.raises(CheckpointError, match=r"another decoder than ppm or ppm_deepsup"):
        import_checkpoint(lone, "csail")


# --- protocol buffers and Caffe -------------------------------------------------------------------------------------


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def sub(number: int, content: bytes) -> bytes:
    """A field with a length: a nested message, a text, packed numbers."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def count(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def blob(values: np.ndarray, form: str = "shape") -> bytes:
    """A BlobProto in one of the ways that Caffe has written them."""
    flat = values.astype("<f4").ravel()
    if form == "legacy":
        dims = b"".join(count(n + 1, d) for n, d in enumerate((*(1,) * (4 - values.ndim), *values.shape)))
    else:
        dims = sub(7, sub(1, b"".join(varint(d) for d in values.shape)))
    if form == "single":  # unpacked: a key before each value
        return dims + b"".join(varint(5 << 3 | 5) + struct.pack("<f", v) for v in flat)
    if form == "double":
        return sub(8, flat.astype("<f8").tobytes()) + dims
    return dims + sub(5, flat.tobytes())


def layer(name: str, blobs: list[bytes], stride: int | None = None, old: bool = False) -> bytes:
    """A LayerParameter (field 100 of NetParameter), or the V1LayerParameter of older Caffes (field 2)."""
    params = (
        b"" if stride is None else sub(10 if old else 106, count(1, 64) + (count(6, stride) if stride > 1 else b""))
    )
    named = sub(4 if old else 1, name.encode()) + (count(5, 4) if old else sub(2, b"Convolution"))
    return sub(2 if old else 100, named + b"".join(sub(6 if old else 7, b) for b in blobs) + params)


@pytest.mark.parametrize("form", ["shape", "legacy", "single", "double"])
@pytest.mark.parametrize("old", [False, True], ids=["LayerParameter", "V1LayerParameter"])
def test_a_caffemodel_of_any_age_is_read(tmp_path: Path, form: str, old: bool) -> None:
    weight = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2) / 7
    bias, four = np.array([1.5, -2], np.float32), [np.full((1, 2, 1, 1), v, np.float32) for v in (1, 2, 3, 4)]
    path = tmp_path / "net.caffemodel"
    path.write_bytes(
        sub(1, b"PSPNet")
        + layer("conv6", [blob(weight, form), blob(bias, form)], 2, old)
        + layer("relu", [], None, old)
        + layer("conv6/bn", [blob(v, form) for v in four], None, old)
    )
    state, meta = caffe.read(path)
    assert list(state) == ["conv6.weight", "conv6.bias"] + [
        f"conv6/bn.{leaf}" for leaf in ("weight", "bias", "running_mean", "running_var")
    ]
    np.testing.assert_array_equal(state["conv6.weight"].numpy(), weight)
    assert state["conv6.bias"].tolist() == [1.5, -2]
    assert state["conv6/bn.running_mean"].tolist() == [3, 3]
    assert meta == {"strides": {"conv6": 2}}


def test_our_reader_agrees_with_googles() -> None:
    """Every kind of field, written by the official library from a message made up here."""
    descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2")
    message = descriptor_pb2.FieldDescriptorProto(name="weight", number=300, json_name="w" * 200, proto3_optional=True)
    results = {number: value for number, _, value in fields(memoryview(message.SerializeToString()))}
    assert bytes(results[1]) == b"weight"
    assert results[3] == 300
    assert len(results[10]) == 200
    assert results[17] == 1
    location = descriptor_pb2.SourceCodeInfo.Location(path=[4, 0, 300, 70000])
    packed = {number: value for number, _, value in fields(memoryview(location.SerializeToString()))}
    assert varints(packed[1]) == [4, 0, 300, 70000]
    assert varints(5) == [5]


@pytest.mark.parametrize("content", [b"", b"hello world", b"\xff" * 30, sub(100, b"x" * 50)[:20], varint(3) + b"ab"])
def test_bytes_that_are_no_caffemodel(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"net\.caffemodel' \([\d,]+ bytes\) (is no \.caffemodel|has no layer)"):
        import_checkpoint(path, "caffe")
    with pytest.raises(CheckpointError, match="not a whole number of 4-byte values"):
        floats(memoryview(b"12345"))
    with pytest.raises(CheckpointError, match=r"shape \[3\] has 2 values"):
        caffe.read_layers(memoryview(layer("a", [sub(7, sub(1, varint(3))) + sub(5, b"\0" * 8)])))


BLOCKS = [(stage, block) for stage, count in zip((2, 3, 4, 5), RESNET50, strict=True) for block in range(1, count + 1)]


def caffe_weights(classes: int = 6, branch: int = 16, fused: int = 24) -> State:
    """A PSPNet-50 as the paper's prototxt names its layers; the head is narrow, to be quick."""
    make = Maker()

    def unit(name: str, out: int, inside: int, kernel: int) -> None:
        make.conv(name, out, inside, kernel)
        make.norm(f"{name}/bn", out)

    for name, out, inside in (("conv1_1_3x3_s2", 64, 3), ("conv1_2_3x3", 64, 64), ("conv1_3_3x3", 128, 64)):
        unit(name, out, inside, 3)
    inside = 128
    for stage, block in BLOCKS:
        width, name = 2 ** (stage + 4), f"conv{stage}_{block}_"
        unit(f"{name}1x1_reduce", width, inside, 1)
        unit(f"{name}3x3", width, width, 3)
        unit(f"{name}1x1_increase", 4 * width, width, 1)
        if block == 1:
            unit(f"{name}1x1_proj", 4 * width, inside, 1)
        inside = 4 * width
    for bins in (1, 2, 3, 6):
        unit(f"conv5_3_pool{bins}_conv", branch, 2048, 1)
    unit("conv5_4", fused, 2048 + 4 * branch, 3)
    make.conv("conv6", classes, fused, 1, bias=True)
    return make.state


def caffe_forward(state: State, x: Tensor, stride_first: bool) -> Tensor:
    """The deploy prototxt, layer by layer: BGR minus its mean -> logits at 1/8."""

    def unit(x: Tensor, name: str, stride: int = 1, hole: int = 1) -> Tensor:
        return norm(state, conv(state, x, name, stride, hole), f"{name}/bn")

    x = unit(x, "conv1_1_3x3_s2", 2).relu()
    x = unit(unit(x, "conv1_2_3x3").relu(), "conv1_3_3x3").relu()
    x = F.max_pool2d(x, 3, 2, 1)
    for stage, block in BLOCKS:
        name, stride = f"conv{stage}_{block}_", 2 if (stage, block) == (3, 1) else 1
        y = unit(x, f"{name}1x1_reduce", stride if stride_first else 1).relu()
        y = unit(y, f"{name}3x3", 1 if stride_first else stride, {4: 2, 5: 4}.get(stage, 1)).relu()
        shortcut = unit(x, f"{name}1x1_proj", stride) if block == 1 else x
        x = (unit(y, f"{name}1x1_increase") + shortcut).relu()
    parts, side = [x], x.shape[-1]
    for bins in (6, 3, 2, 1):
        pooled = unit(F.avg_pool2d(x, side // bins, side // bins), f"conv5_3_pool{bins}_conv").relu()
        parts.append(F.interpolate(pooled, (side, side), mode="bilinear", align_corners=True))
    return conv(state, unit(torch.cat(parts, 1), "conv5_4").relu(), "conv6")


def as_caffemodel(state: State, strides: dict[str, int]) -> bytes:
    written = []
    for name in dict.fromkeys(key.rpartition(".")[0] for key in state):
        leaves = [
            state[f"{name}.{leaf}"]
            for leaf in ("weight", "bias", "running_mean", "running_var")
            if f"{name}.{leaf}" in state
        ]
        written.append(layer(name, [blob(value.numpy()) for value in leaves], strides.get(name)))
    return b"".join(written)


@pytest.mark.slow
@pytest.mark.parametrize("strides", [{"conv3_1_1x1_reduce": 2}, {"conv3_1_1x1_reduce": 1, "conv3_1_3x3": 2}, {}])
def test_caffe(tmp_path: Path, strides: dict[str, int]) -> None:
    """BGR, mean only, its order in the fusion and its windows (a map of 6 x 6 cells: 41 px), on either stride."""
    state = caffe_weights()
    path = tmp_path / "pspnet50.caffemodel"
    path.write_bytes(as_caffemodel(state, strides))
    stride_first = strides.get("conv3_1_1x1_reduce") == 2
    model, card, report = import_checkpoint(path, "caffe")
    assert report.ledger.unmatched == ()
    assert card.protocol == "caffe-ss"
    assert model.config.encoder_options.stride_in_first_conv is stride_first
    assert ("the file does not say" in str(report)) is (not strides)
    images = 255 * torch.rand(1, 3, 41, 41, generator=torch.Generator().manual_seed(1))
    bgr = images.flip(1) - torch.tensor([103.939, 116.779, 123.68])[:, None, None]
    expected = caffe_forward(state, bgr, stride_first)
    with torch.inference_mode():
        actual = model.coarse_logits(images)
    assert expected.shape[2:] == (6, 6)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4 * float(expected.std()))


def test_caffe_reads_depth_bins_and_widths_from_names_and_shapes() -> None:
    blocks = {"2": 3, "3": 4, "4": 23, "5": 3}
    state = {f"conv{s}_{b}_1x1_reduce.weight": torch.ones(1) for s, n in blocks.items() for b in range(1, n + 1)}
    state["conv1_1_3x3_s2.weight"] = torch.arange(3.0).view(1, 3, 1, 1)
    state |= {f"conv5_3_pool{bins}_conv.weight": torch.zeros(512, 2048, 1, 1) for bins in (3, 1)}
    state["conv5_4.weight"] = torch.cat(
        [torch.full((1, n, 1, 1), float(v)) for n, v in ((2048, 0), (512, 3), (512, 1))], 1
    )
    state["conv6.weight"] = torch.zeros(19, 512, 1, 1)
    plan = caffe.plan(Foreign(Path("net.caffemodel"), state))
    assert (plan.config["encoder"], plan.config["bins"], plan.config["num_classes"]) == ("resnet101s", (1, 3), 19)
    assert plan.config["pyramid_options"] == {"branch_channels": 512}
    assert plan.tensors["conv1_1_3x3_s2.weight"].flatten().tolist() == [2, 1, 0], "RGB instead of BGR"
    assert plan.tensors["conv5_4.weight"][0, ::512, 0, 0].tolist() == [0, 0, 0, 0, 1, 3], "small bins first"
    with pytest.raises(CheckpointError, match=r"has \(3, 4, 24, 3\) blocks in conv2\.\.5; the paper's ResNets have 50"):
        caffe.plan(Foreign(Path("a"), state | {"conv4_24_1x1_reduce.weight": torch.ones(1)}))
    with pytest.raises(CheckpointError, match=r"has no pyramid .* no conv6"):
        caffe.plan(Foreign(Path("a"), {n: v for n, v in state.items() if n != "conv6.weight"}))
    with pytest.raises(CheckpointError, match="splits its norms into BatchNorm and Scale layers"):
        caffe.plan(Foreign(Path("a"), state | {"conv5_4/scale.weight": torch.ones(1)}))


def test_a_semseg_network_without_pyramid_is_the_fcn_baseline() -> None:
    """semseg's use_ppm=False: nothing is pooled, and the fusion reads the features alone."""
    state = {
        f"layer{s}.{b}.conv{c}.weight": torch.zeros(64, 64, 1, 1)
        for s, n in enumerate(RESNET50, 1)
        for b in range(n)
        for c in (1, 2, 3)
    }
    state |= {"layer0.0.weight": torch.zeros(64, 3, 3, 3), "cls.0.weight": torch.zeros(512, 2048, 3, 3)}
    state["cls.4.weight"] = torch.zeros(19, 512, 1, 1)
    config = semseg.plan(Foreign(Path("a.pth"), state)).config
    assert (config["bins"], config["num_classes"], config["auxiliary"]) == ((), 19, "none")
    assert ModelConfig(**config).encoder == "resnet50s"


# --- torchvision ----------------------------------------------------------------------------------------------------


def test_torchvisions_resnet_becomes_an_encoder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    peer = tv.models.resnet18(weights=None).eval()
    path = save(tmp_path / "resnet18.pth", peer.state_dict())
    with pytest.raises(ConfigError, match=r"say for how many classes the new PSPNet is \(--set num_classes=21"):
        import_checkpoint(path, "torchvision")
    settings: dict[str, Any] = {"num_classes": 3, "output_stride": 32}
    model, _, report = import_checkpoint(path, "torchvision", settings=settings)
    assert {name for name, _ in report.ledger.dropped} == {"fc.weight", "fc.bias"}
    assert "only the encoder is in the file" in str(report)
    images = torch.rand(1, 3, 65, 70)
    with torch.inference_mode():
        x = peer.maxpool(peer.relu(peer.bn1(peer.conv1(images))))
        expected = peer.layer4(peer.layer3(peer.layer2(peer.layer1(x))))
        torch.testing.assert_close(model.encoder(images)[-1], expected)
    again = import_checkpoint(path, "torchvision", settings={"output_stride": 32}, classes=("sea", "land", "sky"))
    assert torch.equal(model.classifier.weight, again.model.classifier.weight), "the same file gives the same model"
    assert again.card.label_space.names == ("sea", "land", "sky")


@pytest.mark.slow
def test_torchvisions_mobilenet_becomes_an_encoder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    peer = tv.models.mobilenet_v2(weights=None).eval()
    for module in peer.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # untrained, its activations would fade to nothing
            module.running_var.uniform_(0.02, 0.2)  # type: ignore[union-attr]
    path = save(tmp_path / "mobilenet.pth", peer.state_dict())
    model, _, report = import_checkpoint(path, "torchvision", settings={"num_classes": 3, "output_stride": 32})
    assert report.ledger.unmatched == ()
    images = torch.rand(1, 3, 65, 70)
    with torch.inference_mode():
        expected = peer.features[:18](images)
        assert float(expected.std()) > 0.1
        torch.testing.assert_close(model.encoder(images)[-1], expected)


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("FCN", "classifier.4.weight"),
        ("DeepLab", "classifier.0.convs.0.0.weight"),
        ("LRASPP", "classifier.cbr.0.weight"),
    ],
)
def test_torchvisions_segmentation_networks_are_refused(tmp_path: Path, kind: str, head: str) -> None:
    state = {
        "backbone.layer1.0.conv1.weight": torch.ones(64, 64, 1, 1),
        "backbone.conv1.weight": torch.ones(1),
        head: torch.ones(1),
    }
    with pytest.raises(
        CheckpointError, match=rf"is torchvision's {kind}: it has no pyramid pooling, so its trained head"
    ):
        import_checkpoint(save(tmp_path / "a.pth", state), "torchvision", settings={"num_classes": 3})
