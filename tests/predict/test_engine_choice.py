"""Engines by name give PyTorch's logits; auto takes the fastest that agrees, says which, and remembers it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import pspnet.predict.engine_choice as runtimes
from pspnet import LabelSpace, ModelConfig, PSPNet, Segmenter
from pspnet.errors import ConfigError, MissingExtraError
from pspnet.nn import graphs
from pspnet.nn.graphs import fingerprint, kept_onnx
from pspnet.predict.arrays import Engine
from pspnet.predict.engines import TorchEngine
from pspnet.weights.checkpoint import ModelCard

CARD = ModelCard(LabelSpace(("sea", "land", "sky")))


def network(**changes: object) -> PSPNet:
    torch.manual_seed(0)
    model = PSPNet(ModelConfig(**{"encoder": "resnet18", "num_classes": 3, "encoder_options": {"depth": 3}, **changes}))
    torch.nn.init.normal_(model.classifier.weight)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> PSPNet:
    return network()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSPNET_CACHE", str(cache))


def picture(height: int, width: int) -> torch.Tensor:
    return torch.rand((2, 3, height, width), generator=torch.Generator().manual_seed(height)) * 255


@pytest.mark.slow
def test_named_engines_give_the_same_logits(model: PSPNet, cache: Path) -> None:
    plain = Segmenter(model, CARD, device="cpu", precision="fp32")
    assert plain.engine.name == "torch"
    for name in ("openvino", "onnxruntime"):
        pytest.importorskip(name)
        other = Segmenter(model, CARD, device="cpu", precision="fp32", engine=name)
        assert other.engine.name == name
        for size in ((33, 47), (96, 64)):
            images = picture(*size)
            from_cache = other.logits(images)
            assert (from_cache - plain.logits(images)).abs().max() < 2e-4
            before = from_cache.clone()
            other.logits(images + 40)
            assert torch.equal(from_cache, before)  # a later call leaves an earlier result alone
        assert other.model is model
    assert [file.name for file in cache.glob("*.onnx")] == [f"{fingerprint(model)}.onnx"]
    assert not list(cache.glob("*.part"))


class Fake:
    """Gives PyTorch's logits, moved by `error`."""

    def __init__(self, name: str, inner: Engine, error: float = 0.0) -> None:
        self.name, self.inner, self.error, self.device = name, inner, error, torch.device("cpu")

    def coarse(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.inner.coarse(images).clone()
        logits[:, 0] += self.error
        return logits


def test_auto_takes_the_fastest_that_agrees(model: PSPNet, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_engine = TorchEngine(model, torch.device("cpu"), "fp32")
    seconds = {"torch": 3.0, "openvino": 1.0, "onnxruntime": 2.0}
    given = {
        "torch": torch_engine,
        "openvino": Fake("openvino", torch_engine, 50.0),
        "onnxruntime": Fake("onnxruntime", torch_engine),
    }
    names: list[str] = []

    def named(name: str, *_: Any) -> Any:
        names.append(name)
        return given[name]

    measured: list[set[str]] = []

    def in_turns(engines: dict[str, Engine], _: torch.Tensor) -> dict[str, float]:
        measured.append(set(engines))
        return {name: seconds[name] for name in engines}

    monkeypatch.setattr(runtimes, "engine_named", named)
    monkeypatch.setattr(runtimes, "_in_turns", in_turns)
    segmenter = Segmenter(model, CARD, device="cpu", precision="fp32", engine="auto")
    assert segmenter.engine.name == "onnxruntime"  # openvino would be faster, but its labels are wrong
    assert segmenter.choice is not None
    assert not segmenter.choice.remembered
    assert "openvino refused: labels equal on" in str(segmenter.choice)
    assert measured == [{"torch", "onnxruntime"}]

    names.clear()
    again = Segmenter(model, CARD, device="cpu", precision="fp32", engine="auto")
    assert again.choice is not None
    assert again.choice.remembered
    assert names == ["onnxruntime"]
    assert again.choice.trials == segmenter.choice.trials

    other = network()
    with torch.no_grad():
        other.classifier.bias += 1  # other weights are measured anew
    assert not Segmenter(other, CARD, device="cpu", precision="fp32", engine="auto").choice.remembered  # type: ignore[union-attr]


def test_turns_are_taken(model: PSPNet) -> None:
    calls: list[str] = []

    class Noted(Fake):
        def coarse(self, images: torch.Tensor) -> torch.Tensor:
            calls.append(self.name)
            return images

    engines: dict[str, Engine] = {name: Noted(name, TorchEngine(model, torch.device("cpu"), "fp32")) for name in "ab"}
    times = runtimes._in_turns(engines, picture(8, 8).numpy())
    assert calls == ["a", "b"] * runtimes.ROUNDS
    assert set(times) == {"a", "b"}


def test_wrong_engines_are_refused(model: PSPNet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, precision, words in [
        ("tensorrt", "auto", "auto, torch, compile, openvino, onnxruntime"),
        ("onnxruntime", "bf16", "float32 only"),
        ("openvino", "fp64", "fp32 or bf16"),
    ]:
        with pytest.raises(ConfigError, match=words):
            Segmenter(model, CARD, device="cpu", precision=precision, engine=name)
    with pytest.raises(ConfigError, match="one image size"):
        kept_onnx(network(pointrend=True, encoder_options={"depth": 4}))
    monkeypatch.setattr(runtimes, "available", lambda _: False)
    with pytest.raises(MissingExtraError, match=r"\[export\]"):
        Segmenter(model, CARD, device="cpu", engine="openvino")
    monkeypatch.undo()
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ConfigError, match=r"C\+\+ compiler"):
        Segmenter(model, CARD, device="cpu", engine="compile")


def test_an_altered_graph_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []

    def write(network: object, example: object, fixed: bool, path: Path, metadata: object) -> None:
        written.append(path)
        path.write_bytes(b"a graph")

    monkeypatch.setenv("PSPNET_CACHE", str(tmp_path))
    monkeypatch.setattr(graphs, "write_onnx", write)
    path = kept_onnx(network())
    assert kept_onnx(network()) == path
    assert len(written) == 1
    path.write_bytes(b"a grapj")
    assert kept_onnx(network()).read_bytes() == b"a graph"
    assert len(written) == 2


@pytest.mark.slow
def test_compiled_engine_is_equal(model: PSPNet) -> None:
    plain = Segmenter(model, CARD, device="cpu", precision="fp32")
    compiled = Segmenter(model, CARD, device="cpu", precision="fp32", engine="compile")
    for size in ((64, 96), (33, 47)):
        assert (compiled.logits(picture(*size)) - plain.logits(picture(*size))).abs().max() < 2e-4


@pytest.mark.slow
def test_the_network_has_no_graph_breaks() -> None:
    """What torch.compile sees is one graph, at inference and in training."""
    net = network()
    for mode, call in ((False, net.forward), (True, net.forward_train)):
        net.train(mode)
        assert torch.compile(call, fullgraph=True, backend="eager")(picture(48, 64)) is not None
