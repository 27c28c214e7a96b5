"""What the documentation shows runs: README's Python, its make targets, its commands; links lead somewhere."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from typer.main import get_command

from pspnet.cli import app
from support.guides import blocks
from support.paths import ROOT

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "first-hours").glob("*.md")])


def test_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").mkdir()
    shutil.copytree(ROOT / "docs" / "pictures", tmp_path / "docs" / "pictures")
    monkeypatch.chdir(tmp_path)
    shown = blocks(ROOT / "README.md", "python")
    assert len(shown) == 2
    for _, code in shown:
        exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "scene_overlay.png").stat().st_size > 1000
    for _, code in blocks(ROOT / "docs" / "segmenting.md", "python"):
        exec(compile(code, "segmenting.md", "exec"), {})
    assert (tmp_path / "scene.npz").stat().st_size > 1000


def test_the_readmes_make_targets_exist() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M)
    for page in PAGES:
        for target in re.findall(r"`make ([a-z-]+)`|^make ([a-z-]+)", page.read_text(encoding="utf-8"), flags=re.M):
            assert (target[0] or target[1]) in targets, (page.name, target)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_shown_exists(page: Path) -> None:
    root = get_command(app)
    for words in re.findall(r"\bpspnet ([a-z]+)(?: ([a-z]+))?[ `\n]", page.read_text(encoding="utf-8")):
        if words[0] in ("checkpoint", "is", "has", "installs", "import") and words[0] not in root.commands:
            continue
        if page.name == "README.md":
            assert words[0] in root.commands, words
        group = root.commands.get(words[0])
        if hasattr(group, "commands") and words[1]:
            assert words[1] in group.commands, words


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (page.parent / link).exists(), f"{page.name}: {link}"
