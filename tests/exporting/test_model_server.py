"""A repository for OpenVINO Model Server: versions, the configuration, and a graph that OpenVINO runs as the server does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pspnet.cli import _run
from pspnet.errors import ConfigError
from pspnet.exporting.model_server import add_to_configuration, next_version
from pspnet.predict.openvino_door import openvino
from pspnet.predict.segmenter import Segmenter
from support.graphs import tiny_segmenter


def test_versions_and_names(tmp_path: Path) -> None:
    assert next_version(tmp_path, "streets") == tmp_path / "streets" / "1" / "model.xml"
    (tmp_path / "streets" / "9").mkdir(parents=True)
    (tmp_path / "streets" / "10").mkdir()
    (tmp_path / "streets" / "notes").mkdir()
    assert next_version(tmp_path, "streets").parent.name == "11"
    for _ in range(2):
        path = add_to_configuration(tmp_path, "streets")
    add_to_configuration(tmp_path, "roads")
    listed = json.loads(path.read_text())["model_config_list"]
    assert listed == [{"config": {"name": name, "base_path": name}} for name in ("streets", "roads")]
    with pytest.raises(ConfigError, match=r"name = '\.\./x'"):
        next_version(tmp_path, "../x")
    path.write_text("[]")
    with pytest.raises(ConfigError, match=r"config\.json.* no configuration of OpenVINO Model Server"):
        next_version(tmp_path, "streets")


@pytest.mark.slow  # a conversion of some seconds; the layout is tested above
def test_the_server_runs_it(tmp_path: Path) -> None:
    source = tiny_segmenter(ground_resolution=0.0)
    checkpoint = source.save(tmp_path / "tiny.safetensors")
    repository = tmp_path / "repository"
    assert _run(["export", str(checkpoint), str(repository), "--for", "model-server"], debug=True) == 0
    assert sorted(str(p.relative_to(repository)) for p in repository.rglob("*") if p.is_file()) == [
        "config.json",
        "tiny/1/model.bin",
        "tiny/1/model.stac.json",
        "tiny/1/model.xml",
    ]
    entry = json.loads((repository / "config.json").read_text())["model_config_list"][0]["config"]
    model = openvino().Core().read_model(repository / entry["base_path"] / "1" / "model.xml")
    assert str(model.get_rt_info(["model_info", "labels"]).value) == "sea land sky"
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 50, 70)).astype(np.float32)
    compiled = openvino().Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    actual = compiled({"images": image})["logits"].argmax(1)
    assert (actual == source.labels(image)[0]).mean() > 0.999
    assert Segmenter.load(repository / "tiny" / "1" / "model.xml").classes == source.classes
