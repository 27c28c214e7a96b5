"""Our checkpoint keeps everything, runs nothing, and a damaged one says what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pspnet import LabelSpace, ModelConfig, PSPNet
from pspnet.errors import CheckpointError
from pspnet.weights.checkpoint import FORMAT, ModelCard, card_for, load_checkpoint, save_checkpoint

CONFIG = ModelConfig(encoder="resnet18", num_classes=3, encoder_options={"depth": 3}, mean=(1, 2, 3), std=(4, 5, 6))
CARD = ModelCard(LabelSpace(("sea", "land", "sky")), protocol="slide", provenance={"recipe": "r.yaml"}, temperature=1.5)


@pytest.fixture(scope="module")
def model() -> PSPNet:
    torch.manual_seed(0)
    return PSPNet(CONFIG).eval()


@pytest.fixture
def saved(model: PSPNet, tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "model.safetensors", model, CARD)


def test_round_trip(model: PSPNet, saved: Path) -> None:
    again, card = load_checkpoint(saved)
    assert again.config == CONFIG
    assert card == CARD
    assert not again.training
    images = torch.rand(1, 3, 40, 41) * 255
    assert torch.equal(again(images), model(images))


def test_half_size(model: PSPNet, saved: Path, tmp_path: Path) -> None:
    half = save_checkpoint(tmp_path / "half.safetensors", model, CARD, half=True)
    assert half.stat().st_size < 0.55 * saved.stat().st_size
    images = torch.rand(1, 3, 40, 41) * 255
    assert torch.allclose(load_checkpoint(half)[0](images), model(images), atol=2e-2)
    assert all(p.dtype == torch.float32 for p in load_checkpoint(half)[0].parameters())


def rewrite(path: Path, **changes: object) -> None:
    """Writes the file again with parts of its header or its tensors changed."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["pspnet"])
    tensors = load_file(path)
    tensors.update({k: v for k, v in changes.items() if isinstance(v, torch.Tensor)})
    for name in [k for k, v in changes.items() if v is None]:
        del tensors[name]
    header.update(changes.get("header", {}))
    save_file(tensors, path, metadata={"pspnet": json.dumps(header)})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"header": {"format": FORMAT + 1}}, f"format {FORMAT + 1}"),
        ({"header": {"config": {"encoder": "resnet18", "colour": 1}}}, "colour"),
        ({"classifier.bias": None}, "lacks tensors: classifier.bias"),
        ({"classifier.bias": torch.zeros(4)}, r"classifier.bias \(4,\) instead of \(3,\)"),
        ({"extra": torch.zeros(1)}, "unknown tensors: extra"),
        ({"classifier.bias": torch.full((3,), float("nan"))}, "not finite in classifier.bias"),
    ],
)
def test_an_altered_file_is_refused(saved: Path, changes: dict[str, object], words: str) -> None:
    rewrite(saved, **changes)
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(saved)


@pytest.mark.parametrize("keep", [0, 4, 60, 5000, -1])
def test_a_file_cut_off_is_refused(saved: Path, keep: int) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="cut off"):
        load_checkpoint(saved)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="pspnet import"):
        load_checkpoint(tmp_path / "foreign.safetensors")
    torch.save({"a": 1}, tmp_path / "pickle.pth")
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(tmp_path / "pickle.pth")
    with pytest.raises(CheckpointError, match="does not exist"):
        load_checkpoint(tmp_path / "none.safetensors")


def test_a_card_must_fit(model: PSPNet, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="2 classes, the model has 3"):
        save_checkpoint(tmp_path / "x.safetensors", model, ModelCard(LabelSpace(("a", "b"))))
    assert list(tmp_path.iterdir()) == []


def test_models_are_found_by_name_and_checked(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    from pspnet import Segmenter

    entry = {"file": saved.name, "sha256": hashlib.sha256(saved.read_bytes()).hexdigest(), "about": "test"}
    (saved.parent / "index.json").write_text(json.dumps({"tiny": entry}))
    monkeypatch.setenv("PSPNET_MODELS", str(saved.parent))
    assert Segmenter.load("tiny").classes == ("sea", "land", "sky")
    with pytest.raises(CheckpointError, match="did you mean 'tiny'"):
        Segmenter.load("tinny")
    with saved.open("ab") as file:
        file.write(b"!")
    with pytest.raises(CheckpointError, match="SHA-256"):
        Segmenter.load("tiny")


class TestAlteredFiles:
    """One bit anywhere in a checkpoint: refused in words, in the header and in every tensor."""

    @pytest.fixture(scope="class")
    def whole(self, tmp_path_factory: pytest.TempPathFactory) -> bytes:
        torch.manual_seed(0)
        model = PSPNet(ModelConfig(encoder="resnet18", num_classes=3, encoder_options={"depth": 3}, bins=(1, 2)))
        return save_checkpoint(tmp_path_factory.mktemp("m") / "m.safetensors", model, card_for(model)).read_bytes()

    @pytest.mark.parametrize("part", ["header", "tensors"])
    def test_a_flipped_bit_is_told(self, whole: bytes, tmp_path: Path, part: str) -> None:
        length = 8 + int.from_bytes(whole[:8], "little")
        low, high = (0, length) if part == "header" else (length, len(whole))
        random = np.random.default_rng(5)
        for position in [low, high - 1, *random.integers(low, high, 10).tolist()]:
            data = bytearray(whole)
            data[position] ^= 1 << int(random.integers(8))
            path = tmp_path / "altered.safetensors"
            path.write_bytes(data)
            if part == "header" and whole[position : position + 1].isspace():
                continue  # padding between JSON values says nothing
            with pytest.raises(CheckpointError):
                load_checkpoint(path)

    def test_old_files_load_and_it_is_said(self, whole: bytes, tmp_path: Path) -> None:
        length = int.from_bytes(whole[:8], "little")
        header = json.loads(whole[8 : 8 + length])
        ours = json.loads(header["__metadata__"]["pspnet"])
        del ours["check"], ours["tensors"]
        header["__metadata__"]["pspnet"] = json.dumps(ours)
        text = json.dumps(header).encode()
        path = tmp_path / "old.safetensors"
        path.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])
        with pytest.warns(UserWarning, match="before checkpoints held a digest"):
            load_checkpoint(path)
