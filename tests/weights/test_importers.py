"""Imported networks compute what the projects they come from computed.

tests/golden/{semseg,mmseg,smp} are excerpts of recordings of the real projects; tests/golden/peers was recorded in the
same way (same formulas) by running mmsegmentation 1.2.2 and segmentation_models_pytorch 0.6.0.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pspnet.config import LossConfig, ModelConfig
from pspnet.errors import CheckpointError, PspnetError
from pspnet.labels import IGNORE
from pspnet.losses import build_loss
from pspnet.nn import PSPNet
from pspnet.nn.encoder_families import build_encoder
from pspnet.weights.importing import Imported, import_checkpoint
from support.peers import auxiliary_logits, in_units, inputs_of, peer_input, recording, save, state_of

PEERS, PEER_ARRAYS = recording("peers")
FAST = ("mmseg_r18_v1c", "smp_mobilenet_v2", "smp_efficientnet_b0")
IDLE = r"encoder\.(layer[34]|features\.([7-9]|1\d)\.|_blocks\.([5-9]|1\d)\.|_conv_head)"  # not run at depth 3


def peer(name: str, folder: Path) -> Imported:
    """A case of tests/golden/peers as its project would have saved it, imported."""
    case = PEERS[name]
    state = state_of(case, idle=IDLE if case["config"].get("encoder_depth", 3) == 3 else "^$")
    if case["source"] == "smp":
        return import_checkpoint(save(folder / "smp.pth", state), "smp")
    said = f"model = dict(decode_head=dict(align_corners={case['config'].get('align_corners', False)}))"
    return import_checkpoint(save(folder / "mm.pth", {"meta": {"cfg": said}, "state_dict": state}), "mmseg")


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in PEERS])
def test_as_the_peer_computed(name: str, tmp_path: Path) -> None:
    case = PEERS[name]
    model, _, report = peer(name, tmp_path)
    assert report.ledger.unmatched == ()
    images = in_units(model, peer_input(case))
    with torch.inference_mode():
        results = {"logits": model(images), "head": model.coarse_logits(images)}
        results["features"] = model.encoder(model.normalise(images))[-1]
        if model.auxiliary:
            results["auxiliary"] = auxiliary_logits(model, images)
    for kind, about in case["outputs"].items():
        values = results[kind][:, :, :: about["step"], :: about["step"]].numpy()
        if kind == "logits" and case["config"].get("classes") == 1:
            assert not values[:, 0].any(), "one output with a sigmoid becomes (0, z)"
            values = values[:, 1:]
        expected = PEER_ARRAYS[f"{name}/{kind}"]
        assert np.ptp(expected) > about["spread"]  # the comparison compares something
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-4 * about["spread"], err_msg=kind)


@pytest.mark.parametrize(
    "meta",
    [
        {"dataset_meta": {"classes": ["a", "b"], "palette": [1, 2]}},
        {"CLASSES": [["a"], {}], "PALETTE": [["x", "y", "z"]] * 2},
        {"CLASSES": ["a", "b"], "PALETTE": [[1e400, 0, 0]] * 2},
        {"cfg": "mean=[" + "-" * 20_000 + "1], std=[{}]"},
        {"cfg": "mean=['a', 'b', 'c'], std=[1, 2, 3]"},
    ],
    ids=lambda meta: str(meta)[:40],
)
def test_odd_words_beside_the_tensors_are_an_error_of_the_file(meta: dict[str, Any], tmp_path: Path) -> None:
    case = PEERS["mmseg_r18_v1c"]
    path = save(tmp_path / "mm.pth", {"meta": meta, "state_dict": state_of(case, idle=IDLE)})
    try:
        import_checkpoint(path, "mmseg", check=False)
    except PspnetError as error:
        assert str(path) in str(error)  # noqa: PT017 - some are read, without what is odd


def as_saved(source: str, case: dict[str, Any], folder: Path) -> Path:
    """The recorded state dict in the wrapper that the project writes."""
    state = state_of(case, idle=r"encoder\.layer[34]" if source == "smp" else "^$")
    content: Any = state
    if source == "semseg":
        content = {"epoch": 100, "state_dict": {f"module.{n}": v for n, v in state.items()}, "optimizer": {"state": {}}}
    if source == "mmseg":
        content = {"meta": {"epoch": 1}, "state_dict": state}
    return save(folder / f"{source}.pth", content)


@pytest.fixture(
    scope="module",
    params=[pytest.param("semseg", marks=pytest.mark.slow), pytest.param("mmseg", marks=pytest.mark.slow), "smp"],
)
def golden(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Imported, float]:
    """(source, what was imported, processor seconds it took)."""
    source = request.param
    path = as_saved(source, recording(source)[0], tmp_path_factory.mktemp("golden"))
    begin = time.process_time()  # of this process alone: others may keep the machine busy
    imported = import_checkpoint(path, source)
    return source, imported, time.process_time() - begin


def test_outputs_within_the_recorded_tolerance(golden: tuple[str, Imported, float]) -> None:
    source, (model, _, report), _ = golden
    case, arrays = recording(source)
    assert report.ledger.unmatched == ()
    assert report.ledger.filled == ()
    assert len(report.ledger.renamed) + len(report.ledger.dropped) == len(case["state_dict"])
    inputs = inputs_of(case)
    for output in case["outputs"]:
        with torch.inference_mode():
            values = output_of(model, in_units(model, inputs[output["input"]]), output["array"])
        step = output["every"]
        channels = output["channels"] if "channels" in output else slice(None, None, output["every_channel"])
        np.testing.assert_allclose(
            values[:, channels, ::step, ::step].numpy(),
            arrays[output["array"]],
            rtol=output["recommended_rtol"],
            atol=output["recommended_atol"],
            err_msg=output["what"],
        )


def output_of(model: PSPNet, images: Tensor, name: str) -> Tensor:
    if name.startswith(("logits_zoom1_", "head_logits")):
        return model.coarse_logits(images)
    if name.startswith("aux_logits"):
        return auxiliary_logits(model, images)
    if name.startswith("encoder_last_feature"):
        return model.encoder(model.normalise(images))[-1]
    return model(images)


def test_settings_are_read_from_shapes(golden: tuple[str, Imported, float]) -> None:
    source, (model, card, _), _ = golden
    config = model.config
    facts = {
        "semseg": ("resnet50s", 150, "uniform", True, "input_first", "pixel", "semseg-ss"),
        "mmseg": ("resnet50c", 150, "contracted", False, "input_first", "pixel", "mmseg-whole"),
        "smp": ("resnet34", 21, "uniform", True, "pooled_first", "none", "whole"),
    }[source]
    actual = (
        config.encoder,
        config.num_classes,
        config.dilation,
        config.align_corners,
        config.concat,
        config.auxiliary,
    )
    assert (*actual, card.protocol) == facts
    assert config.bins == (1, 2, 3, 6)
    assert config.pyramid_options.branch_channels is None
    assert config.auxiliary_channels is None


def test_import_takes_less_than_five_seconds(golden: tuple[str, Imported, float]) -> None:
    """The mark of the project for a 50-layer checkpoint; the self-check is part of it."""
    assert golden[2] < 5


class Trained:
    """One training step's losses and gradients in the peer's terms; dropout off, as it was recorded."""

    def __init__(self, imported: Imported, case: dict[str, Any], reduction: str, batch_statistics: bool) -> None:
        model = imported.model
        model.train()
        for module in model.modules():
            if isinstance(module, nn.Dropout2d) or (isinstance(module, nn.BatchNorm2d) and not batch_statistics):
                module.eval()
        inputs = inputs_of(case)
        labels = torch.from_numpy(inputs[case["train"]["labels"]].astype(np.int64))
        assert bool((labels == IGNORE).any())
        outputs = model.forward_train(in_units(model, inputs[case["train"]["input"]]))
        loss = build_loss(LossConfig(reduction=reduction), model.config.num_classes)
        assert outputs.auxiliary is not None
        self.main, self.auxiliary = loss(outputs.logits, labels), loss(outputs.auxiliary, labels)
        (self.main + 0.4 * self.auxiliary).backward()
        self.main, self.auxiliary = self.main.detach(), self.auxiliary.detach()
        parameters = dict(model.named_parameters())
        self.norms = {}
        for theirs, ours in imported.report.ledger.renamed.items():
            if ours in parameters:
                gradient = parameters[ours].grad
                assert gradient is not None
                self.norms[theirs] = float(gradient.norm())
        self.state = {theirs: model.state_dict()[ours] for theirs, ours in imported.report.ledger.renamed.items()}
        model.zero_grad()


def check_norms(norms: dict[str, float], recorded: dict[str, float], rtol: float) -> None:
    assert norms.keys() == recorded.keys()
    np.testing.assert_allclose(list(norms.values()), [recorded[name] for name in norms], rtol=rtol, atol=1e-6)


@pytest.mark.slow
def test_semseg_trains_as_recorded(tmp_path: Path) -> None:
    case, _ = recording("semseg")
    path = as_saved("semseg", case, tmp_path)
    for block, statistics in (("batch_norm_eval", False), ("batch_norm_train", True)):
        recorded = case["train"][block]
        step = Trained(import_checkpoint(path, "semseg"), case, "valid", statistics)
        assert float(step.main) == pytest.approx(recorded["main_loss"], rel=recorded["recommended_rtol_losses"])
        assert float(step.auxiliary) == pytest.approx(recorded["aux_loss"], rel=recorded["recommended_rtol_losses"])
        check_norms(
            step.norms, recorded["gradient_l2_norms_of_total_loss"], recorded["recommended_rtol_gradient_norms"]
        )
        for name, norm in recorded.get("running_buffer_l2_norms_after_one_forward", {}).items():
            assert float(step.state[name].norm()) == pytest.approx(
                norm, rel=recorded["recommended_rtol_running_buffers"]
            )


@pytest.mark.slow
def test_mmseg_trains_as_recorded(tmp_path: Path) -> None:
    case, _ = recording("mmseg")
    train = case["train"]
    step = Trained(import_checkpoint(as_saved("mmseg", case, tmp_path), "mmseg"), case, "all", batch_statistics=False)
    rtol = train["recommended_rtol_losses"]
    assert float(step.main) == pytest.approx(train["losses"]["decode.loss_ce"], rel=rtol)
    assert 0.4 * float(step.auxiliary) == pytest.approx(train["losses"]["aux.loss_ce"], rel=rtol)
    check_norms(step.norms, train["gradient_l2_norms"], train["recommended_rtol_gradient_norms"])


def test_each_convention_matters(tmp_path: Path) -> None:
    """The comparison above would notice: one convention said wrongly moves smp's logits far beyond the tolerance."""
    case, _ = recording("smp")
    path = as_saved("smp", case, tmp_path)
    right = import_checkpoint(path, "smp").model
    images = in_units(right, inputs_of(case)["input/smp_pspnet_resnet34/1x3x72x104"])
    for settings in (
        {"align_corners": False},
        {"concat": "input_first"},
        {"pyramid_options": {"branch_norm": "batch"}},
    ):
        if "pyramid_options" in settings:
            with pytest.raises(CheckpointError, match=r"lacks.*pyramid\.branches\.0\.norm\.weight"):
                import_checkpoint(path, "smp", settings=settings)
            continue
        wrong = import_checkpoint(path, "smp", settings=settings).model
        with torch.inference_mode():
            assert float((right(images) - wrong(images)).abs().max()) > 0.3


def looks(encoder: str, wanted: str, **options: Any) -> dict[str, tuple[int, int]]:
    """(stride, dilation) of an encoder's convolutions whose names match, at output stride 8, every block dilated."""
    with torch.device("meta"):
        net = build_encoder(ModelConfig(encoder=encoder, dilation="uniform", bins=(), encoder_options=options))
    return {
        name: (module.stride[0], module.dilation[0])
        for name, module in net.named_modules()
        if isinstance(module, nn.Conv2d) and re.fullmatch(wanted, name)
    }


def test_where_peers_dilate_and_halve() -> None:
    """The rules that only some projects have, as counted in their own networks (mmseg 1.2.2) and in Caffe's prototxt."""
    depthwise = looks("mobilenetv2", r"blocks\.[3-6]\.\d\.conv_dw", dilate_later_blocks=False)
    assert list(depthwise.values()) == [(1, d) for d in (2, 1, 1, 1, 2, 1, 1, 4, 1, 1, 4)]
    assert set(looks("mobilenetv2", r"blocks\.[56]\.\d\.conv_dw").values()) == {(1, 4)}
    basic = looks("resnet18c", r"layer[34]\.\d\.conv[12]", dilate_second_conv=False)
    assert [dilation for _, dilation in basic.values()] == [2, 1, 2, 1, 4, 1, 4, 1]
    caffe = looks("resnet50s", r"layer2\.0\.(conv[12]|downsample\.0)", stride_in_first_conv=True)
    assert caffe == {"layer2.0.conv1": (2, 1), "layer2.0.conv2": (1, 1), "layer2.0.downsample.0": (2, 1)}
    usual = looks("resnet50s", r"layer2\.0\.conv[12]")
    assert usual == {"layer2.0.conv1": (1, 1), "layer2.0.conv2": (2, 1)}
    averaged = looks("resnet18c", r"layer[234]\.0\.downsample\.1", average_shortcut=True)
    assert set(averaged.values()) == {(1, 1)}, "shortcuts halve by pooling, not by stride"
