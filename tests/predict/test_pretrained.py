"""Models saved into a folder and handed in to a hub, by the real client against a server on this machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest

from pspnet import Segmenter
from pspnet.errors import CheckpointError, ConfigError, ServiceError
from pspnet.weights import hub as hub_door
from support.graphs import tiny_segmenter, write_graph
from support.hub_server import Hub, here

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model() -> Segmenter:
    scores = {"mean_iou": 0.71234, "pixel_accuracy": 0.9}
    return tiny_segmenter(provenance={"data": "camvid", "scores": scores}, trained_size=(360, 480))


hub = pytest.fixture(here)


def test_a_folder_is_the_model_again(model: Segmenter, tmp_path: Path) -> None:
    folder = model.save_pretrained(tmp_path / "streets", license="cc0-1.0")
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    again = Segmenter.from_pretrained(folder, device="cpu", precision="fp32")
    np.testing.assert_array_equal(again.segment(IMAGE).labels, model.segment(IMAGE).labels)
    assert json.loads((folder / "config.json").read_text())["card"]["label_space"]["names"] == list(model.classes)


def test_the_card_is_one_that_the_hub_reads(model: Segmenter, tmp_path: Path) -> None:
    model.save_pretrained(
        tmp_path / "m", title="someone/streets", license="other", license_link="https://example.org/terms"
    )
    card = huggingface_hub.ModelCard.load(tmp_path / "m" / "README.md")
    front_matter = card.data.to_dict()
    assert (front_matter["license"], front_matter["license_link"]) == ("other", "https://example.org/terms")
    assert (front_matter["library_name"], front_matter["pipeline_tag"]) == ("pspnet", "image-segmentation")
    assert "semantic-segmentation" in front_matter["tags"]
    assert {one.metric_type: one.metric_value for one in card.data.eval_results or []} == {
        "mean_iou": 0.7123,
        "accuracy": 0.9,
    }
    assert 'from_pretrained("someone/streets")' in card.text
    assert "sea, land, sky" in card.text
    model.save_pretrained(tmp_path / "m", overwrite=True)
    unstated = huggingface_hub.ModelCard.load(tmp_path / "m" / "README.md")
    assert unstated.data.license is None
    assert "none stated" in unstated.text


def test_a_hub_takes_it_and_gives_it_back(model: Segmenter, hub: Hub) -> None:
    url = model.push_to_hub("someone/streets", license="cc0-1.0", token="hf_secret")
    assert url == f"{hub.url}/someone/streets"
    assert {"README.md", "config.json", "model.safetensors"} <= set(hub.files["someone/streets"])
    assert all(token == "hf_secret" for method, path, token in hub.asked if path.startswith("/api/models"))
    again = Segmenter.from_pretrained("someone/streets", device="cpu", precision="fp32")
    np.testing.assert_array_equal(again.segment(IMAGE).labels, model.segment(IMAGE).labels)
    asked = [path for _, path, _ in hub.asked]
    assert not any(path.endswith("README.md") and "resolve" in path for path in asked)  # only what a model needs


def test_what_was_fetched_once_is_there_without_a_network(
    model: Segmenter, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.push_to_hub("someone/streets", license="cc0-1.0")
    Segmenter.from_pretrained("someone/streets", device="cpu")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    Segmenter.from_pretrained("someone/streets", device="cpu")
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE is set"):
        Segmenter.from_pretrained("someone/else")


def test_an_exported_model_on_a_hub(hub: Hub, tmp_path: Path) -> None:
    write_graph(tmp_path / "model.onnx")
    hub.files["someone/graph"] = {"model.onnx": (tmp_path / "model.onnx").read_bytes()}
    actual = Segmenter.from_pretrained("someone/graph").segment(IMAGE)
    np.testing.assert_array_equal(actual.labels, IMAGE.argmax(2))


def test_refusals(model: Segmenter, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="neither a folder here nor a hub id"):
        Segmenter.from_pretrained("nowhere")
    with pytest.raises(CheckpointError, match="someone/none"):
        Segmenter.from_pretrained("someone/none")
    hub.files["someone/readme"] = {"README.md": b"no model"}
    with pytest.raises(CheckpointError, match=r"has none of model\.safetensors"):
        Segmenter.from_pretrained("someone/readme")
    with pytest.raises(ConfigError, match="write NAME/MODEL"):
        model.push_to_hub("streets", license="cc0-1.0")
    with pytest.raises(ConfigError, match="license is empty"):
        model.push_to_hub("someone/streets", license=" ")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="has none of"):
        Segmenter.from_pretrained(tmp_path / "empty")
    folder = model.save_pretrained(tmp_path / "cut")
    shutil.copy(folder / "model.safetensors", tmp_path / "whole")
    (folder / "model.safetensors").write_bytes((tmp_path / "whole").read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cut off or damaged"):
        Segmenter.from_pretrained(folder)
    monkeypatch.setattr(hub_door, "_fault_of", lambda address: "no route to host")
    with pytest.raises(ServiceError, match=r"no route to host.*save_pretrained"):
        model.push_to_hub("someone/streets", license="cc0-1.0")
