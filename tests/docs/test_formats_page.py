"""docs/formats.md names every format there is, none that is not, and tests that exist."""

from __future__ import annotations

import re

from pspnet.data.catalog import LAYOUTS
from support.paths import ROOT

PAGE = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")


def test_every_format_has_a_row() -> None:
    table = PAGE.split("## Label pictures")[0]
    named = {
        name for row in table.splitlines() if row.startswith("|") for name in re.findall(r"`(\w+)`", row.split("|")[2])
    }
    assert named == set(LAYOUTS)


def test_every_test_that_is_named_exists() -> None:
    written = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 20
    assert named - written == set()
