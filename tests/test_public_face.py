"""The public face: one pattern for the verbs, an entry for each argument, and the names that other people's scripts call."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

import pspnet

# What works on a model takes it first, under this name.
VERBS = (
    "evaluate",
    "assess",
    "explore",
    "export",
    "adapt_batch_norm",
    "calibrate",
    "pick",
    "segment_video",
    "segment_raster",
    "segment_rasters",
)
PUBLIC = {
    *("PSPNet", "ModelConfig", "TrainConfig", "ForeignModel", "LabelSpace", "Segmenter", "Segmentation", "Scores"),
    *("build_model", "open_dataset", "train", "resume", "ablate", "import_weights", *VERBS, "__version__"),
}
FUNCTIONS = [name for name in pspnet.__all__ if inspect.isfunction(getattr(pspnet, name))]
METHODS = ["load", "from_pretrained", "save_pretrained", "push_to_hub", "segment", "segment_many"]


def parameters(function: Any) -> list[inspect.Parameter]:
    return [one for one in inspect.signature(function).parameters.values() if one.name not in ("self", "cls")]


def test_no_name_came_or_went_unnoticed() -> None:
    assert set(pspnet.__all__) == PUBLIC


@pytest.mark.wrong_types
@pytest.mark.parametrize("name", VERBS)
def test_a_verb_takes_the_model_first(name: str) -> None:
    first, second, *_ = parameters(getattr(pspnet, name))
    assert first.name == "segmenter"
    assert str(first.annotation) == "Segmenter | str | Path"  # an open one, or what Segmenter.load takes
    assert second.default is inspect.Parameter.empty


@pytest.mark.parametrize("name", [*FUNCTIONS, *(f"Segmenter.{method}" for method in METHODS)])
def test_every_argument_has_an_entry(name: str) -> None:
    function = pspnet
    for part in name.split("."):
        function = getattr(function, part)
    text = inspect.getdoc(function) or ""
    entries = set(re.findall(r"^ {4}(\w+): \S", text.partition("Args:\n")[2], flags=re.M))
    assert entries == {one.name for one in parameters(function)}, name


def test_more_than_four_arguments_are_given_by_name() -> None:
    for name in FUNCTIONS:
        by_position = [one for one in parameters(getattr(pspnet, name)) if one.kind is one.POSITIONAL_OR_KEYWORD]
        assert len(by_position) <= 4, name


def test_a_model_is_given_open_or_by_name() -> None:
    scenes = pspnet.open_dataset("scenes", None, "val", count=2, size=64)
    opened = pspnet.Segmenter.load("scenes")
    assert pspnet.Segmenter.of(opened) is opened
    assert pspnet.evaluate("scenes", scenes).mean_iou == pspnet.evaluate(opened, scenes).mean_iou
