"""What is printed on a terminal."""

from __future__ import annotations

import re

from support.paths import ROOT


def test_nobody_writes_rich_markup() -> None:
    """PlainConsole prints it as it stands."""
    markup = re.compile(r"\[/?(bold|dim|italic|red|green|yellow|cyan)[a-z ]*\]")
    sources = (ROOT / "src").rglob("*.py")
    assert not [str(path) for path in sources if markup.search(path.read_text(encoding="utf-8"))]
