"""Random but valid checkpoints of every project: each number arrives where it belongs, or the file is refused by name.

A network of ours is named as the project names it, by tables written here the other way round; what was imported must be
that network again, number for number. Then one thing is broken, and an import must not pass over it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from pspnet.config import ModelConfig
from pspnet.config.model import IMAGENET_MEAN, IMAGENET_STD
from pspnet.errors import CheckpointError
from pspnet.nn import PSPNet
from pspnet.weights import caffe
from pspnet.weights.importing import SOURCES, Imported, import_checkpoint
from support.peers import save

State = dict[str, Tensor]
Names = list[tuple[str, str]]
STEM = [("conv1.0", "0"), ("conv1.1", "1"), ("conv1.3", "3"), ("conv1.4", "4"), ("conv1.6", "6"), ("bn1", "7")]
SEMSEG: Names = [
    *((rf"encoder\.{re.escape(ours)}\.", f"layer0.{theirs}.") for ours, theirs in STEM),
    (r"encoder\.", ""),
    (r"pyramid\.branches\.(\d)\.conv\.", r"ppm.features.\1.1."),
    (r"pyramid\.branches\.(\d)\.norm\.", r"ppm.features.\1.2."),
    (r"pyramid\.fusion\.conv\.", "cls.0."),
    (r"pyramid\.fusion\.norm\.", "cls.1."),
    (r"classifier\.", "cls.4."),
    (r"auxiliary\.reduce\.conv\.", "aux.0."),
    (r"auxiliary\.reduce\.norm\.", "aux.1."),
    (r"auxiliary\.classifier\.", "aux.4."),
]
MMSEG: Names = [
    (r"pyramid\.branches\.(\d)\.conv\.", r"decode_head.psp_modules.\1.1.conv."),
    (r"pyramid\.branches\.(\d)\.norm\.", r"decode_head.psp_modules.\1.1.bn."),
    (r"pyramid\.fusion\.conv\.", "decode_head.bottleneck.conv."),
    (r"pyramid\.fusion\.norm\.", "decode_head.bottleneck.bn."),
    (r"classifier\.", "decode_head.conv_seg."),
    (r"auxiliary\.reduce\.conv\.", "auxiliary_head.convs.0.conv."),
    (r"auxiliary\.reduce\.norm\.", "auxiliary_head.convs.0.bn."),
    (r"auxiliary\.classifier\.", "auxiliary_head.conv_seg."),
]
DEEP = [(rf"encoder\.{re.escape(ours)}\.", f"backbone.stem.{theirs}.") for ours, theirs in STEM]
SMP: Names = [
    (r"pyramid\.branches\.(\d)\.conv\.", r"decoder.psp.blocks.\1.pool.1.0."),
    (r"pyramid\.branches\.(\d)\.norm\.", r"decoder.psp.blocks.\1.pool.1.1."),
    (r"pyramid\.fusion\.conv\.", "decoder.conv.0."),
    (r"pyramid\.fusion\.norm\.", "decoder.conv.1."),
    (r"classifier\.", "segmentation_head.0."),
]
CSAIL: Names = [
    (r"encoder\.conv1\.0\.", "encoder.conv1."),
    (r"encoder\.conv1\.1\.", "encoder.bn1."),
    (r"encoder\.conv1\.3\.", "encoder.conv2."),
    (r"encoder\.conv1\.4\.", "encoder.bn2."),
    (r"encoder\.conv1\.6\.", "encoder.conv3."),
    (r"encoder\.bn1\.", "encoder.bn3."),
    (r"pyramid\.branches\.(\d)\.conv\.", r"decoder.ppm.\1.1."),
    (r"pyramid\.branches\.(\d)\.norm\.", r"decoder.ppm.\1.2."),
    (r"pyramid\.fusion\.conv\.", "decoder.conv_last.0."),
    (r"pyramid\.fusion\.norm\.", "decoder.conv_last.1."),
    (r"classifier\.", "decoder.conv_last.4."),
    (r"auxiliary\.reduce\.conv\.", "decoder.cbr_deepsup.0."),
    (r"auxiliary\.reduce\.norm\.", "decoder.cbr_deepsup.1."),
    (r"auxiliary\.classifier\.", "decoder.conv_last_deepsup."),
]
CAFFE: Names = [
    (r"encoder\.conv1\.0\.", "conv1_1_3x3_s2."),
    (r"encoder\.conv1\.1\.", "conv1_1_3x3_s2/bn."),
    (r"encoder\.conv1\.3\.", "conv1_2_3x3."),
    (r"encoder\.conv1\.4\.", "conv1_2_3x3/bn."),
    (r"encoder\.conv1\.6\.", "conv1_3_3x3."),
    (r"encoder\.bn1\.", "conv1_3_3x3/bn."),
    (r"pyramid\.fusion\.conv\.", "conv5_4."),
    (r"pyramid\.fusion\.norm\.", "conv5_4/bn."),
    (r"classifier\.", "conv6."),
]


class Case:
    """A network of ours with numbers of its own, and how a project would have named it."""

    def __init__(self, config: ModelConfig, seed: int) -> None:
        self.config = config
        with torch.device("meta"):
            shapes = {name: value for name, value in PSPNet(config).state_dict().items() if name not in ("mean", "std")}
        self.state = {
            name: torch.zeros((), dtype=torch.long) + seed
            if name.endswith("num_batches_tracked")
            else ((torch.arange(value.numel()) % 1009 + 7 * number + seed) / 97).reshape(value.shape)
            for number, (name, value) in enumerate(shapes.items())
        }

    def named(self, names: Names) -> State:
        state = {}
        for name, value in self.state.items():
            match = next(((m, to) for ours, to in names if (m := re.match(ours, name))), None)
            state[name if match is None else match[0].expand(match[1]) + name[match[0].end() :]] = value
        return state

    def check(self, imported: Imported) -> None:
        model = imported.model
        assert imported.report.ledger.unmatched == ()
        ours = {name: value for name, value in model.state_dict().items() if name not in ("mean", "std")}
        assert ours.keys() == self.state.keys()
        wrong = [name for name, value in ours.items() if not torch.equal(value, self.state[name].to(value.dtype))]
        assert wrong == []
        for field in ("num_classes", "in_bands", "bins", "concat", "align_corners", "dilation", "encoder"):
            assert getattr(model.config, field) == getattr(self.config, field), field
        assert model.config.encoder_options == self.config.encoder_options


def heads(draw: st.DataObject, channels: int, **fixed: Any) -> dict[str, Any]:
    """Random widths and numbers of a PSPNet around an encoder of some channels."""
    auxiliary = draw.draw(st.sampled_from(["pixel", "none"])) if "auxiliary" not in fixed else fixed["auxiliary"]
    return {
        "num_classes": draw.draw(st.integers(2, 40)),
        "in_bands": draw.draw(st.sampled_from([3, 3, 4, 1])),
        "decoder_channels": draw.draw(st.integers(1, 12)),
        "output_stride": 8,
        "decoder": "bilinear",
        "bins": (1, 2, 3, 6),
        "auxiliary_channels": draw.draw(st.integers(1, 9)) if auxiliary == "pixel" else None,
        **fixed,
        "auxiliary": auxiliary,
        "pyramid_options": {"branch_channels": draw.draw(st.integers(1, 9)), **fixed.get("pyramid_options", {})},
    }


def semseg(draw: st.DataObject, folder: Path) -> tuple[Case, Callable[[], Imported]]:
    fields = heads(draw, 2048, encoder="resnet50s", dilation="uniform", align_corners=True, concat="input_first")
    case = Case(ModelConfig(**fields), draw.draw(st.integers(0, 99)))
    content = {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in case.named(SEMSEG).items()}}
    return case, lambda: import_checkpoint(save(folder / "a.pth", content), "semseg", check=False)


def mmseg(draw: st.DataObject, folder: Path) -> tuple[Case, Callable[[], Imported]]:
    """Both generations: the config as text, an R-18 with or without the deep stem, RGB or BGR."""
    stem, contracted, aligned, rgb = (draw.draw(st.booleans()) for _ in range(4))
    bins = tuple(draw.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True)))
    fields = heads(
        draw,
        512,
        encoder="resnet18c" if stem else "resnet18",
        dilation="contracted" if contracted else "uniform",
        align_corners=aligned,
        concat="input_first",
        bins=bins,
        encoder_options={"dilate_second_conv": False},
        in_bands=3,
    )
    case = Case(ModelConfig(**fields), draw.draw(st.integers(0, 99)))
    state = case.named([*(DEEP if stem else []), (r"encoder\.", "backbone."), *MMSEG])
    mean = [float(draw.draw(st.integers(1, 200))) for _ in range(3)]
    text = (
        f"pool_scales={bins}, align_corners={aligned}, contract_dilation={contracted}\nmean={mean}, std=[1.0, 2.0, 3.0]"
    )
    text += f", bgr_to_rgb={rgb}"
    first = "backbone.stem.0.weight" if stem else "backbone.conv1.weight"
    if not rgb:
        state[first] = state[first].flip(1)
    names = [f"class {i}" for i in range(case.config.num_classes)]
    meta = {"CLASSES": names, "config": text} if stem else {"dataset_meta": {"classes": tuple(names)}, "cfg": text}

    def run() -> Imported:
        imported = import_checkpoint(
            save(folder / "a.pth", {"meta": meta, "state_dict": state, "optimizer": {}}), "mmseg", check=False
        )
        assert imported.card.label_space.names == tuple(names)
        assert imported.model.mean.tolist() == (mean if rgb else mean[::-1])
        return imported

    return case, run


def smp_case(draw: st.DataObject) -> tuple[Case, State]:
    depth = draw.draw(st.sampled_from([3, 4, 5]))
    fields = heads(
        draw,
        128,
        encoder=draw.draw(st.sampled_from(["resnet18", "resnet34"])),
        encoder_options={"depth": depth},
        output_stride=2**depth,
        dilation="uniform",
        align_corners=True,
        concat="pooled_first",
        auxiliary="none",
        classifier_kernel=3,
        pyramid_options={"branch_norm": "except_global", "fusion_kernel": draw.draw(st.sampled_from([1, 3]))},
    )
    case = Case(ModelConfig(**fields), draw.draw(st.integers(0, 99)))
    idle = {"encoder.fc.weight": torch.ones(2, 3), "classification_head.3.weight": torch.ones(4)}
    idle |= {f"encoder.layer{stage}.9.bn1.weight": torch.ones(1) for stage in range(depth, 5)} if depth < 3 else {}
    return case, case.named(SMP) | idle


def smp(draw: st.DataObject, folder: Path) -> tuple[Case, Callable[[], Imported]]:
    """A folder of save_pretrained, as the hub holds it."""
    case, state = smp_case(draw)
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"_model_class": "PSPNet", "psp_dropout": 0.3, "activation": None}))
    return case, lambda: import_checkpoint(folder, "smp", check=False)


def lightning(draw: st.DataObject, folder: Path) -> tuple[Case, Callable[[], Imported]]:
    """smp's own training example: a LightningModule with `model` inside and mean and std beside it."""
    case, state = smp_case(draw)
    bands = case.config.in_bands
    mean, std = ([draw.draw(st.integers(1, 90)) / 100 for _ in range(bands)] for _ in range(2))
    wrapped = {f"model.{name}": value for name, value in state.items()}
    wrapped |= {"mean": torch.tensor(mean).view(1, -1, 1, 1), "std": torch.tensor(std).view(1, -1, 1, 1)}
    content = {"pytorch-lightning_version": "2.4.0", "state_dict": wrapped, "hyper_parameters": {"arch": "PSPNet"}}

    def run() -> Imported:
        imported = import_checkpoint(save(folder / "a.ckpt", content), "smp", check=False)
        torch.testing.assert_close(imported.model.mean, 255 * torch.tensor(mean))
        torch.testing.assert_close(imported.model.std, 255 * torch.tensor(std))
        return imported

    return case, run


def csail(draw: st.DataObject, folder: Path) -> tuple[Case, Callable[[], Imported]]:
    fields = heads(
        draw, 512, encoder="resnet18s", dilation="contracted", align_corners=False, concat="input_first", in_bands=3
    )
    case = Case(ModelConfig(mean=IMAGENET_MEAN, std=IMAGENET_STD, **fields), draw.draw(st.integers(0, 99)))
    state = case.named(CSAIL)

    def run() -> Imported:
        for part in ("encoder", "decoder"):
            tensors = {n.partition(".")[2]: v for n, v in state.items() if n.startswith(f"{part}.")}
            save(folder / f"{part}_epoch_20.pth", tensors)
        return import_checkpoint(folder / "decoder_epoch_20.pth", "csail", check=False)

    return case, run


def caffe_net(draw: st.DataObject, folder: Path) -> tuple[Case, Callable[[], Imported]]:
    """Names and shapes of a .caffemodel; its bytes have tests of their own."""
    bins = tuple(sorted(draw.draw(st.sets(st.integers(1, 9), min_size=1, max_size=4))))
    fields = heads(
        draw,
        2048,
        encoder="resnet50s",
        encoder_options={"stride_in_first_conv": False},
        dilation="uniform",
        align_corners=True,
        concat="input_first",
        bins=bins,
        auxiliary="none",
        in_bands=3,
    )
    case = Case(ModelConfig(**fields), draw.draw(st.integers(0, 99)))
    names = [*CAFFE]
    for stage in (1, 2, 3, 4):
        for block in range(8):
            ours, theirs = rf"encoder\.layer{stage}\.{block}\.", f"conv{stage + 1}_{block + 1}_"
            for role, conv, norm in (*caffe.ROLES, ("1x1_proj", r"downsample\.0", r"downsample\.1")):
                names += [(rf"{ours}{conv}\.", f"{theirs}{role}."), (rf"{ours}{norm}\.", f"{theirs}{role}/bn.")]
    for index, size in enumerate(bins):
        names += [
            (rf"pyramid\.branches\.{index}\.conv\.", f"conv5_3_pool{size}_conv."),
            (rf"pyramid\.branches\.{index}\.norm\.", f"conv5_3_pool{size}_conv/bn."),
        ]
    state = {name: value for name, value in case.named(names).items() if not name.endswith("num_batches_tracked")}
    case.state = {
        name: torch.zeros_like(value) if name.endswith("num_batches_tracked") else value
        for name, value in case.state.items()
    }
    state["conv1_1_3x3_s2.weight"] = state["conv1_1_3x3_s2.weight"].flip(1)
    width = case.config.pyramid_options.branch_channels
    assert width is not None
    features, *branches = torch.split(state["conv5_4.weight"], [2048, *[width] * len(bins)], dim=1)
    state["conv5_4.weight"] = torch.cat([features, *reversed(branches)], dim=1)

    def run() -> Imported:
        SOURCES["caffe"] = known._replace(read=lambda path: (state, {"strides": {"conv3_1_1x1_reduce": 1}}))
        try:
            return import_checkpoint(folder / "a.caffemodel", "caffe", check=False)
        finally:
            SOURCES["caffe"] = known

    known = SOURCES["caffe"]
    return case, run


CASES: dict[str, Callable[[st.DataObject, Path], tuple[Case, Callable[[], Imported]]]] = {
    "semseg": semseg,
    "mmseg": mmseg,
    "smp": smp,
    "lightning": lightning,
    "csail": csail,
    "caffe": caffe_net,
}
HEAVY = ("semseg", "caffe")  # never less than 50 layers
KINDS = [pytest.param(name, marks=pytest.mark.slow) if name in HEAVY else name for name in CASES]


def test_every_source_is_tried() -> None:
    assert {*CASES} - {"lightning"} | {"torchvision"} == set(SOURCES)


@pytest.mark.parametrize("kind", KINDS)
@given(draw=st.data())
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
def test_random_checkpoints_come_back(kind: str, draw: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    case, run = CASES[kind](draw, tmp_path_factory.mktemp(kind))
    case.check(run())


@given(draw=st.data())
@settings(max_examples=2, deadline=None)
def test_random_encoders_of_torchvision_come_back(
    draw: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Only an encoder: its numbers arrive, and the report says that the rest is random."""
    classes = draw.draw(st.integers(2, 40))
    config = ModelConfig(encoder="resnet18", dilation="contracted", num_classes=classes, bins=(1,), auxiliary="none")
    case = Case(config, draw.draw(st.integers(0, 99)))
    state = {name.removeprefix("encoder."): v for name, v in case.state.items() if name.startswith("encoder.")}
    path = save(tmp_path_factory.mktemp("tv") / "resnet18.pth", state | {"fc.weight": torch.ones(9, 512)})
    model, _, report = import_checkpoint(path, "torchvision", settings={"num_classes": classes}, check=False)
    arrived = {name: v for name, v in model.state_dict().items() if name.startswith("encoder.")}
    assert [name for name, value in arrived.items() if not torch.equal(value, case.state[name])] == []
    assert "pyramid, fusion and classifier are random" in str(report)
    assert report.ledger.dropped[0][0] == "fc.weight"


@given(draw=st.data())
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
def test_one_broken_tensor_is_never_passed_over(draw: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A tensor that is missing, of another shape, or of another name: an error that names it, or a name in the report."""
    folder = tmp_path_factory.mktemp("broken")
    _, state = smp_case(draw)
    names = [n for n in sorted(state) if not n.endswith("num_batches_tracked") and not n.startswith("classification")]
    name = draw.draw(st.sampled_from([n for n in names if n != "encoder.fc.weight"]))
    harm = draw.draw(st.sampled_from(["missing", "longer", "renamed"]))
    value = state.pop(name)
    if harm == "longer":
        state[name] = torch.cat([value, value[:1]])
    if harm == "renamed":
        state[f"{name}_old"] = value
    path = save(folder / "a.pth", state)
    with pytest.raises(CheckpointError) as error:
        import_checkpoint(path, "smp", check=False)
    assert str(path) in str(error.value)


@given(threshold=st.floats(0.05, 0.95), bias=st.floats(-3, 3))
@settings(max_examples=20, deadline=None)
def test_a_binary_threshold_of_any_value(threshold: float, bias: float) -> None:
    """Foreground is the same pixels: sigmoid(z) > t is where the moved z is above 0."""
    from pspnet.weights import mmseg as source

    tensors = {"decode_head.conv_seg.bias": torch.tensor([bias], dtype=torch.float64)}
    text = f"threshold={threshold:.4f}"
    source._apply_threshold(tensors, text, [])
    moved, exact = float(tensors["decode_head.conv_seg.bias"]), round(threshold, 4)
    if abs(1 / (1 + math.exp(-bias)) - exact) > 1e-4:
        assert (moved > 0) == (1 / (1 + math.exp(-bias)) > exact)
