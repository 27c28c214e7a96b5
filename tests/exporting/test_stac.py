"""The STAC item beside a model of images from above: what the MLM extension (v1.3.0) requires, and what it allows."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pspnet.exporting.stac import EXTENSION, stac_item, stac_path
from pspnet.labels import LabelSpace
from pspnet.weights.checkpoint import ModelCard

CARD = ModelCard(LabelSpace(("built up", "water")), ("red", "nir"), (0.0, 10000.0), ground_resolution=10.0)


def item(name: str = "sentinel2.onnx", card: ModelCard = CARD) -> dict[str, Any]:
    return json.loads(
        stac_item(card, Path("folder") / name, "resnet18", 11_000_000, datetime(2026, 11, 26, tzinfo=UTC))
    )


def test_required_fields_of_item_and_extension() -> None:
    actual = item()
    assert {"type", "stac_version", "id", "geometry", "properties", "assets", "links"} <= set(actual)
    assert actual["type"] == "Feature"
    assert EXTENSION in actual["stac_extensions"]
    properties = actual["properties"]
    assert {"datetime", "mlm:name", "mlm:architecture", "mlm:tasks", "mlm:input", "mlm:output"} <= set(properties)
    assert properties["datetime"] == "2026-11-26T00:00:00Z"
    (given,), (result,) = properties["mlm:input"], properties["mlm:output"]
    assert {"name", "bands", "input"} <= set(given)
    assert {"name", "tasks", "result"} <= set(result)
    for structure in (given["input"], result["result"]):
        assert set(structure) == {"shape", "dim_order", "data_type"}
        assert len(structure["shape"]) == len(structure["dim_order"])
        assert min(structure["shape"]) >= -1
        assert all(re.fullmatch(r"[a-z-_]+", word) for word in structure["dim_order"])
    assert [band["name"] for band in properties["bands"]] == given["bands"] == ["red", "nir"]  # or the schema refuses
    assert [asset["roles"] for asset in actual["assets"].values()] == [["mlm:model"]]
    assert actual["assets"]["model"]["href"] == "./sentinel2.onnx"
    assert properties["gsd"] == 10.0


def test_only_fields_that_the_extension_knows() -> None:
    known = ["name", "architecture", "framework", "tasks", "total_parameters", "accelerator", "input", "output"]
    used = {key.removeprefix("mlm:") for key in item()["properties"] if key.startswith("mlm:")}
    assert used <= set(known)


def test_classes_as_the_classification_extension_allows() -> None:
    (result,) = item()["properties"]["mlm:output"]
    for number, one in enumerate(result["classification:classes"]):
        assert one["value"] == number
        assert re.fullmatch(r"[0-9A-Za-z_-]+", one["name"])
        assert re.fullmatch(r"[0-9A-F]{6}", one["color_hint"])
    assert result["classification:classes"][0]["title"] == "built up"


@pytest.mark.parametrize("name", ["m.onnx", "2 classes.onnx", "a_b-c.d.xml", "_x_.pt2", "ümlaut.onnx"])
def test_names_are_allowed_ones(name: str) -> None:
    actual = item(name)
    assert re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]", actual["properties"]["mlm:name"])
    if name.endswith(".xml"):
        assert actual["assets"]["weights"]["href"] == "./a_b-c.d.bin"
    assert stac_path(Path(name)).name.endswith(".stac.json")
