"""The worked examples in docstrings of dense numerics give what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest

from support.paths import ROOT

PACKAGE = ROOT / "src" / "pspnet"
MODULES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in sorted(PACKAGE.rglob("*.py"))
    if "    >>> " in path.read_text(encoding="utf-8")
]


def test_the_dense_numerics_have_examples() -> None:
    """The label step, the strips of a loss, the grid of windows, the blender, tracing and the sieve."""
    dense = {
        "pspnet.predict.candidates",
        "pspnet.losses.slim_cross_entropy",
        "pspnet.predict.window_grid",
        "pspnet.predict.windows",
        "pspnet.outlines.polygonize",
        "pspnet.raster.sieve",
    }
    assert dense <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_worked_examples(name: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried > 0, f"{name} has no example any more"
    assert failed == 0
