"""What a reload brings back."""

from __future__ import annotations

from typing import Any

import gradio as gr
import pytest

from pspnet.playground.events import brought_back, changed


@pytest.mark.parametrize("values", [None, [], "x", {}, {"other": 1}, {"run": "gone"}])
def test_what_a_browser_kept_is_not_trusted(values: Any) -> None:
    assert brought_back(values, {"steps": lambda _: True, "run": lambda name: name == "first"}) == [gr.skip()] * 2


def test_valid_choices_come_back() -> None:
    actual = brought_back({"steps": 7, "run": "first"}, {"run": lambda name: name == "first", "steps": lambda _: True})
    assert [change["value"] for change in actual] == ["first", 7]


def test_what_is_shown_already_is_not_sent_again() -> None:
    assert changed({"a": 1, "b": 2}, {"a": 1}, ("a", "b")) == [gr.skip(), 2]
