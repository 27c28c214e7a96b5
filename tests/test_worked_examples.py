"""The worked examples in docstrings of dense numerics give what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = [
    "pspnet.georaster.grids",
    "pspnet.inspection.heap",
    "pspnet.predict.videos",
    "pspnet.predict.windows",
    "pspnet.outlines.connected_components",
    "pspnet.outlines.corners",
    "pspnet.raster.outline_cleaning",
    "pspnet.outlines.polygonize",
    "pspnet.raster.sieve",
]


@pytest.mark.parametrize("name", MODULES)
def test_worked_examples(name: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried > 0, f"{name} has no example any more"
    assert failed == 0
