"""A setting shown in the page's form and taken from it again is the same setting."""

from __future__ import annotations

from typing import Any

import pytest

from pspnet.config import TrainConfig
from pspnet.playground.form import fields_of


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss.class_weights", (0.897691, 1.5, 2.0)),  # of a run whose weights came from its data
        ("loss.class_weights", "tempered"),
        ("augmentation.crop", (64, 96)),
        ("rare_classes", "off"),
    ],
)
def test_there_and_back(name: str, value: Any) -> None:
    (field,) = fields_of(TrainConfig, [name])
    back = field.given(field.shown(value))
    assert (tuple(back) if isinstance(back, list) else back) == value
