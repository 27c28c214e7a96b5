"""What is printed on a terminal."""

from __future__ import annotations

import re

import pytest

from pspnet.terminal import duration, each, progress_bar
from support.paths import ROOT


def test_nobody_writes_rich_markup() -> None:
    """PlainConsole prints it as it stands."""
    markup = re.compile(r"\[/?(bold|dim|italic|red|green|yellow|cyan)[a-z ]*\]")
    sources = (ROOT / "src").rglob("*.py")
    assert not [str(path) for path in sources if markup.search(path.read_text(encoding="utf-8"))]


def test_a_line_a_minute_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bar("segmenting", 5) as advance:
        advance(1)
    assert capsys.readouterr().err == ""  # short work says nothing
    monkeypatch.setattr("pspnet.terminal.LINE_EVERY_S", 0.0)
    with progress_bar("segmenting", 5) as advance:
        advance(1)
        advance(2)
    assert capsys.readouterr().err.splitlines() == ["segmenting: 1 of 5 images", "segmenting: 3 of 5 images"]


def test_a_bar_learns_the_number_from_the_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A callback (done, total) tells it; where all is to be quiet, nothing is printed."""
    monkeypatch.setattr("pspnet.terminal.LINE_EVERY_S", 0.0)
    for quiet in (False, True):
        with progress_bar("checking", None, "files", quiet=quiet) as advance:
            count = each(advance)
            count(2, 7)
            count(7, 7)
    assert capsys.readouterr().err.splitlines() == ["checking: 2 of 7 files", "checking: 7 of 7 files"]


def test_durations_as_people_write_them() -> None:
    assert [duration(s) for s in (0, 59.6, 61, 3725.0)] == ["0:00", "1:00", "1:01", "1:02:05"]
