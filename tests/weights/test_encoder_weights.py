"""Encoder weights: where they come from, whose names they may have, what is adapted, and what is said when they lack."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

import pspnet
from pspnet.config.model import ModelConfig
from pspnet.errors import CheckpointError, ConfigError
from pspnet.nn import PSPNet, weights_follow
from pspnet.nn.encoder_families import build_encoder
from pspnet.nn.swin import PatchMerging, SwinTransformer
from pspnet.weights import swin
from pspnet.weights.encoder_weights import FOLDER_VARIABLE, imagenet_name, load_encoder_weights

SWIN = {"embed_dim": 8, "depths": (2, 1, 1, 1), "heads": (1, 2, 2, 4), "window_size": 4}


def network(
    encoder: str, weights: Path | str = "random", options: dict[str, Any] | None = None, **values: Any
) -> PSPNet:
    """A PSPNet with as little behind the encoder as there can be."""
    with weights_follow():
        return PSPNet(
            ModelConfig(
                encoder=encoder,
                encoder_weights=str(weights),
                encoder_options=options or {},
                num_classes=2,
                auxiliary="none",
                bins=(1,),
                reduce=False,
                pyramid_options={"fusion_channels": 4, "fusion_kernel": 1},
                **values,
            )
        )


def shaken(module: nn.Module, seed: int = 0) -> nn.Module:
    """Every tensor random, running statistics included."""
    generator = torch.Generator().manual_seed(seed)
    for value in module.state_dict().values():
        if value.is_floating_point():
            noise = torch.rand(value.shape, generator=generator)
            value.copy_(noise + 0.5 if value.dim() == 1 else (noise - 0.5) * 3 / max(value[0].numel(), 1) ** 0.5)
    return module.eval()


def state_of(module: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    return {f"{prefix}{name}": value.clone() for name, value in module.state_dict().items()}


def pixels(*size: int) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("container", ["bare.safetensors", "bare.pth", "state_dict.pth", "module.pth", "model.pth"])
def test_a_resnet_file_in_torchvisions_names_loads_from_any_container(tmp_path: Path, container: str) -> None:
    theirs = shaken(torchvision.models.resnet18())
    path = tmp_path / container
    state = state_of(theirs)
    if container == "bare.safetensors":
        save_file(state, path)
    else:
        wrapped = {
            "bare.pth": state,
            "state_dict.pth": {"epoch": 3, "state_dict": state},
            "model.pth": {"model": state},
            "module.pth": {f"module.{name}": value for name, value in state.items()},
        }
        torch.save(wrapped[container], path)
    model = network("resnet18", path, output_stride=32)
    report = load_encoder_weights(model)
    assert not report.random
    assert not report.adapted
    assert set(report.unused) <= {"fc.weight", "fc.bias", "module.fc.weight", "module.fc.bias"}
    images = pixels(1, 3, 64, 64)
    with torch.no_grad():
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
        expected = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(x))))
        torch.testing.assert_close(model.encoder.eval()(images)[-1], expected)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("mobilenetv2", torchvision.models.mobilenet_v2), ("efficientnet_b0", torchvision.models.efficientnet_b0)],
)
def test_torchvisions_inverted_residuals_compute_the_same_here(tmp_path: Path, ours: str, theirs: Any) -> None:
    reference = shaken(theirs())
    torch.save(reference.state_dict(), tmp_path / "weights.pth")
    model = network(ours, tmp_path / "weights.pth", output_stride=32)
    report = load_encoder_weights(model)
    assert not report.random
    last = "features.18." if ours == "mobilenetv2" else "features.8."
    assert all(name.startswith((last, "classifier.")) for name in report.unused)
    images = pixels(1, 3, 64, 96)
    with torch.no_grad():
        expected = reference.features[:-1](images)
        torch.testing.assert_close(model.encoder.eval()(images)[-1], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("encoder", "theirs"), [("resnet50s", "resnet50s"), ("resnet50c", "resnet50c"), ("convnext_atto", "convnext_atto")]
)
def test_timms_names_load(tmp_path: Path, encoder: str, theirs: str) -> None:
    reference = shaken(timm.create_model(theirs))
    save_file(reference.state_dict(), tmp_path / "weights.safetensors")
    model = network(encoder, tmp_path / "weights.safetensors", output_stride=32)
    report = load_encoder_weights(model)
    assert not report.random
    images = pixels(1, 3, 64, 64)
    with torch.no_grad():
        expected = reference.forward_intermediates(images, intermediates_only=True)[-1]
        torch.testing.assert_close(model.encoder.eval()(images)[-1], expected, rtol=1e-3, atol=1e-4)


def test_deep_stems_load_from_semsegs_and_mmsegmentations_names(tmp_path: Path) -> None:
    ours = shaken(build_encoder(ModelConfig(encoder="resnet18s")))
    stem = {
        "conv1.0.": ("conv1.", "layer0.0."),
        "conv1.1.": ("bn1.", "layer0.1."),
        "conv1.3.": ("conv2.", "layer0.3."),
        "conv1.4.": ("bn2.", "layer0.4."),
        "conv1.6.": ("conv3.", "layer0.6."),
        "bn1.": ("bn3.", "layer0.7."),
    }
    for column in (0, 1):
        theirs = {}
        for name, value in ours.state_dict().items():
            part = next((key for key in stem if name.startswith(key)), None)
            theirs[name if part is None else stem[part][column] + name.removeprefix(part)] = value
        torch.save(theirs, tmp_path / "init.pth")
        model = network("resnet18s", tmp_path / "init.pth")
        assert not load_encoder_weights(model).random
        for name, value in ours.state_dict().items():
            assert torch.equal(model.encoder.state_dict()[name], value)


def test_own_checkpoint_gives_its_encoder(tmp_path: Path) -> None:
    for encoder in ("resnet18", "convnext_atto"):
        source = shaken(network(encoder))
        save_file(source.state_dict(), tmp_path / "model.safetensors")
        model = network(encoder, tmp_path / "model.safetensors")
        report = load_encoder_weights(model)
        assert not report.random
        assert all(
            torch.equal(a, b)
            for a, b in zip(model.encoder.state_dict().values(), source.encoder.state_dict().values(), strict=True)
        )


@pytest.mark.parametrize("bands", [1, 2, 5])
def test_other_bands_adapt_the_first_convolution_only(tmp_path: Path, bands: int) -> None:
    theirs = shaken(torchvision.models.resnet18())
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    model = network("resnet18", tmp_path / "weights.pth", in_bands=bands)
    report = load_encoder_weights(model)
    assert report.adapted == (("conv1.weight", f"RGB to {bands} bands"),)
    rgb, weight = theirs.conv1.weight, model.encoder.conv1.weight
    if bands == 1:
        expected = rgb.sum(1, keepdim=True)
    else:
        expected = torch.stack([rgb[:, band % 3] for band in range(bands)], 1) * 3 / bands
    torch.testing.assert_close(weight, expected)
    grey = pixels(1, 1, 32, 32)  # an image whose bands are alike gives the same first features
    if bands in (1, 3, 6):
        torch.testing.assert_close(F.conv2d(grey, weight), F.conv2d(grey.expand(1, 3, -1, -1), rgb))


def test_a_network_comes_with_its_configs_weights_or_says_that_it_does_not(tmp_path: Path) -> None:
    reference = shaken(timm.create_model("resnet18"))
    save_file(reference.state_dict(), tmp_path / "weights.safetensors")
    config = ModelConfig(encoder="resnet18", encoder_weights=str(tmp_path / "weights.safetensors"))
    assert torch.equal(pspnet.build_model(config).encoder.conv1.weight, reference.conv1.weight)
    with pytest.warns(UserWarning, match=r"random weights; pspnet.build_model\(config\) loads them"):
        assert not torch.equal(PSPNet(config).encoder.conv1.weight, reference.conv1.weight)
    with pytest.raises(CheckpointError, match=r"nowhere.pth"):
        pspnet.build_model(config.changed(encoder_weights="nowhere.pth"))


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "weights.pth")
    with pytest.raises(
        CheckpointError, match=r"does not fit encoder = resnet34.*layer1\.2\.conv1\.weight: not in the file"
    ):
        load_encoder_weights(network("resnet34", tmp_path / "weights.pth"))
    with pytest.raises(CheckpointError, match="does not fit encoder = mobilenetv2"):
        load_encoder_weights(network("mobilenetv2", tmp_path / "weights.pth"))
    with pytest.raises(CheckpointError, match="does not fit encoder = swin_tiny"):
        load_encoder_weights(network("swin_tiny", tmp_path / "weights.pth", SWIN))
    with pytest.raises(CheckpointError, match="does not exist as one; give random, imagenet"):
        load_encoder_weights(network("resnet18", tmp_path / "nothing.pth"))


class Intruder:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("ran",))


def test_a_file_never_runs_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Intruder()}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="refused"):
        load_encoder_weights(network("resnet18", tmp_path / "weights.pth"))
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "weights.pth", weights_only=False)
    assert (tmp_path / "ran").exists()  # the file would have


# --- Swin ---------------------------------------------------------------------------------------------------------


def as_mmseg(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """MMSegmentation's names, and the order in which nn.Unfold joins neighbours."""
    theirs = {}
    for name, value in state.items():
        for ours, other in (
            ("patch_embed.proj.", "patch_embed.projection."),
            ("layers.", "stages."),
            (".attn.", ".attn.w_msa."),
            (".mlp.fc1.", ".ffn.layers.0.0."),
            (".mlp.fc2.", ".ffn.layers.1."),
        ):
            name = name.replace(ours, other) if ours != "layers." or name.startswith("layers.") else name
        theirs[f"backbone.{name}"] = value
    return theirs


class UnfoldMerging(nn.Module):
    """Patch merging by nn.Unfold: channel by channel, each with its four neighbours row by row."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * channels), nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, cells: Tensor) -> Tensor:
        joined = F.unfold(cells.permute(0, 3, 1, 2), 2, stride=2).transpose(1, 2)
        return self.reduction(self.norm(joined)).view(len(cells), cells.shape[1] // 2, cells.shape[2] // 2, -1)


def test_mmsegmentations_merging_computes_the_same_here(tmp_path: Path) -> None:
    source = shaken(SwinTransformer(**SWIN))
    merging = shaken(UnfoldMerging(8), seed=5)
    state = as_mmseg(source.state_dict())
    state |= state_of(merging, "backbone.stages.0.downsample.")
    state["backbone.stages.0.blocks.0.attn.w_msa.relative_position_index"] = torch.zeros(16, 16)
    torch.save({"meta": {}, "state_dict": state}, tmp_path / "weights.pth")
    model = network("swin_tiny", tmp_path / "weights.pth", SWIN)
    report = load_encoder_weights(model)
    assert not report.random
    assert not report.unused
    ours = model.encoder.layers[0].downsample
    assert isinstance(ours, PatchMerging)
    cells = pixels(2, 4, 6, 8)
    torch.testing.assert_close(ours(cells), merging(cells))


def test_torchvisions_swin_computes_the_same_here(tmp_path: Path) -> None:
    reference = shaken(torchvision.models.SwinTransformer([4, 4], 8, [2, 1, 1, 1], [1, 2, 2, 4], [2, 2]))
    torch.save(reference.state_dict(), tmp_path / "weights.pth")
    options = SWIN | {"window_size": 2}
    model = network("swin_tiny", tmp_path / "weights.pth", options)
    report = load_encoder_weights(model)
    assert {name.split(".")[0] for name, _ in report.random} == {"norm0", "norm1", "norm2"}
    assert set(report.unused) == {"head.weight", "head.bias"}
    images = pixels(1, 3, 64, 64)
    with torch.no_grad():
        expected = reference.norm(reference.features(images)).permute(0, 3, 1, 2)
        torch.testing.assert_close(model.encoder.eval()(images)[-1], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("classification", [False, True])
def test_timms_and_the_classification_codes_swin_load(tmp_path: Path, classification: bool) -> None:
    """timm opens the next stage with the merging; the classification code closes the stage with it, as ours."""
    source = shaken(SwinTransformer(**SWIN))
    state = {}
    for name, value in source.state_dict().items():
        stage = name.split(".")[1]
        if ".downsample." in name and not classification:
            name = name.replace(f"layers.{stage}.", f"layers.{int(stage) + 1}.")
        if not name.startswith(("norm0", "norm1", "norm2")):
            state[name.replace("norm3.", "norm.") if name.startswith("norm3") else name] = value
    if classification:
        state["absolute_pos_embed"] = pixels(1, 49, 8)
        state["layers.0.blocks.1.attn_mask"] = torch.zeros(4, 16, 16)
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "weights.safetensors")
    options = SWIN | {"absolute_position_embedding": classification}
    model = network("swin_tiny", tmp_path / "weights.safetensors", options)
    report = load_encoder_weights(model)
    assert {name.split(".")[0] for name, _ in report.random} == {"norm0", "norm1", "norm2"}
    for name, value in model.encoder.state_dict().items():
        if name == "absolute_pos_embed":
            assert dict(report.adapted)[name] == "1x49x8 to 56 x 56 cells"
            grid = pixels(1, 49, 8).view(1, 7, 7, 8).permute(0, 3, 1, 2)
            torch.testing.assert_close(value, F.interpolate(grid, (56, 56), mode="bicubic"))
        elif not name.startswith(("norm0", "norm1", "norm2")):
            assert torch.equal(value, source.state_dict()[name]), name


def test_options_that_change_shapes_load_what_fits_and_list_the_rest(tmp_path: Path) -> None:
    source = shaken(SwinTransformer(**SWIN))
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    options = SWIN | {"window_size": 6, "qkv_bias": False, "patch_norm": False, "absolute_position_embedding": True}
    model = network("swin_tiny", tmp_path / "weights.safetensors", options, in_bands=4)
    report = load_encoder_weights(model)
    assert [name for name, _ in report.random] == ["absolute_pos_embed"]
    assert sorted(how for _, how in report.adapted) == ["RGB to 4 bands"] + ["window 4 to 6, bicubic"] * 5
    assert {name.split(".")[-2:][0] for name in report.unused} == {"qkv", "norm"}
    text = str(report)
    assert "window 4 to 6, bicubic" in text
    assert "left random: absolute_pos_embed (not in the file)" in text


def test_a_table_keeps_its_axes_and_its_centre() -> None:
    """A table that tells rows apart only does so at another window; opposite offsets stay opposite; heads stay apart."""
    offsets = torch.arange(-6, 7.0)[:, None].expand(13, 13)
    table = torch.stack([offsets.reshape(-1), 2 * offsets.T.reshape(-1)], 1)
    assert torch.equal(swin.fit_table(table, 169), table)
    for window in (4, 12):
        size = 2 * window - 1
        rows, columns = swin.fit_table(table, size**2).view(size, size, 2).unbind(2)
        profile = rows[:, 0]
        assert (profile.diff() > 0).all()
        torch.testing.assert_close(rows, profile[:, None].expand(size, size))
        torch.testing.assert_close(columns, 2 * profile[None, :].expand(size, size))
        torch.testing.assert_close(profile, -profile.flip(0), rtol=1e-5, atol=1e-5)


# --- ImageNet -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoder", "options", "name"),
    [
        ("resnet50", {}, "resnet50."),
        ("resnet18", {}, "resnet18."),
        ("resnet101s", {}, "resnet101s.gluon_in1k"),
        ("resnet152c", {}, "resnet152c.gluon_in1k"),
        ("efficientnet_b5", {}, "efficientnet_b5."),
        ("efficientnet_b1", {}, "efficientnet_b1.ft_in1k"),  # timm's first choice for b1 has another normalisation
        ("efficientnet_b7", {"padding": "nominal", "norm_eps": 1e-3}, "tf_efficientnet_b7."),
        ("mobilenetv2", {"width_multiplier": 1.4}, "mobilenetv2_140."),
        ("swin_large", {}, "swin_large_patch4_window7_224."),
        ("swin_tiny", {"window_size": 12}, "swin_tiny_patch4_window7"),
        ("swin_base", {"window_size": 12}, "swin_base_patch4_window12_384."),
        ("convnext_tiny", {}, "convnext_tiny."),
    ],
)
def test_imagenet_weights_have_the_networks_own_shapes(encoder: str, options: dict[str, Any], name: str) -> None:
    config = ModelConfig(encoder=encoder, encoder_weights="imagenet", encoder_options=options)
    actual = imagenet_name(config)
    assert actual.startswith(name)
    assert timm.is_model_pretrained(actual)
    with torch.device("meta"):
        theirs = timm.create_model(actual.split(".")[0], features_only=encoder == "convnext_tiny")
        ours = build_encoder(config)
    shapes = {key: value.shape for key, value in theirs.state_dict().items()}
    if encoder.startswith("swin"):
        shapes = {key: value.shape for key, value in swin.to_ours(theirs.state_dict()).items()}
    for key, value in ours.state_dict().items():
        if not key.startswith(("norm0", "norm1", "norm2")) and "bias_table" not in key:
            assert shapes[key.removeprefix("body.")] == value.shape, key


@pytest.mark.parametrize(
    ("encoder", "options", "words"),
    [
        ("resnet269", {}, "resnet18, 34, 50, 101 or 152"),
        ("resnet18s", {}, "resnet50s, 101s, 152s"),
        ("efficientnet_b6", {}, "padding = nominal"),
        ("mobilenetv2", {"width_multiplier": 0.9}, "at width 0.9.*0.5, 1.0 or 1.4"),
    ],
)
def test_what_nobody_published_is_said(encoder: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"encoder_weights = imagenet with encoder = {encoder}.*{words}"):
        imagenet_name(ModelConfig(encoder=encoder, encoder_options=options))


def test_a_folder_of_weights_serves_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = shaken(timm.create_model("resnet18"))
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    save_file(reference.state_dict(), tmp_path / f"{imagenet_name(ModelConfig(encoder='resnet18'))}.safetensors")
    model = network("resnet18", "imagenet")
    report = load_encoder_weights(model)
    assert str(tmp_path) in report.source
    assert torch.equal(model.encoder.conv1.weight, reference.conv1.weight)


@pytest.mark.parametrize("encoder", ["resnet18", "convnext_atto"])
def test_fetched_weights_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str) -> None:
    """The hub is replaced by a file of random weights: what it hands out is what arrives."""
    asked: list[str] = []
    reference = shaken(timm.create_model(encoder))
    save_file(reference.state_dict(), tmp_path / "model.safetensors")

    def pretend(repository: str) -> Path:
        asked.append(repository)
        return tmp_path / "model.safetensors"

    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr("pspnet.weights.encoder_weights.hub_file", pretend)
    model = network(encoder, "imagenet")
    assert not load_encoder_weights(model).random
    assert asked == [f"timm/{imagenet_name(model.config)}"]
    given = [value for name, value in reference.state_dict().items() if not name.startswith(("fc.", "head"))]
    assert all(torch.equal(*pair) for pair in zip(model.encoder.state_dict().values(), given, strict=True))


def test_without_a_network_the_file_to_bring_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr("pspnet.weights.encoder_weights.hub_file", lambda repository: "no route to host")
    with pytest.raises(CheckpointError, match=r"no route.*resnet18\.\w+\.safetensors.*PSPNET_ENCODER_WEIGHTS"):
        load_encoder_weights(network("resnet18", "imagenet"))


@pytest.mark.parametrize(("encoder", "noted"), [("mobilenetv4_conv_small_050", True), ("resnet18", False)])
def test_another_normalisation_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str, noted: bool
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    model = network(encoder, "imagenet")
    state = {name.removeprefix("body."): value for name, value in model.encoder.state_dict().items()}
    save_file(state, tmp_path / f"{encoder.split('.')[0]}.safetensors")
    assert ("127.5" in str(load_encoder_weights(model))) == noted


def test_random_is_left_alone() -> None:
    model = network("resnet18")
    before = state_of(model)
    assert str(load_encoder_weights(model)) == "encoder: random weights"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
