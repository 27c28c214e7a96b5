"""What a release consists of: the index page's description, and the checklist's points that need no build."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from support.paths import ROOT


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """tools/ can be imported, with a stand-in for hatchling, which only a build has."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    module = ModuleType("hatchling.metadata.plugin.interface")
    module.MetadataHookInterface = object  # type: ignore[attr-defined]
    for name in ("hatchling", "hatchling.metadata", "hatchling.metadata.plugin"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)


def test_no_link_of_the_index_page_leads_nowhere(tools: None) -> None:
    from long_description import long_description, urls  # type: ignore[import-not-found]

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    plain = long_description(readme, "")
    assert not re.search(r"\]\((?!https?:)", plain)
    assert "how PSPNet works" in plain  # the words stay
    linked = long_description(readme, "https://forge.example/me/pspnet")
    assert "](https://forge.example/me/pspnet/raw/main/docs/pictures/aerial.jpg)" in linked
    assert "](https://forge.example/me/pspnet/blob/main/docs/training.md)" in linked
    goals = re.findall(r"/(?:raw|blob)/main/([^)#]+)", linked)
    assert len(goals) > 20
    assert all((ROOT / goal).exists() for goal in goals)
    assert urls("") == {}
    assert urls("https://forge.example/me/pspnet")["Repository"] == "https://forge.example/me/pspnet"


def test_versions_agree_and_every_extra_is_tried(tools: None) -> None:
    import tomllib

    from release_check import IMPORTS, versions  # type: ignore[import-not-found]

    assert versions(Path())
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(IMPORTS) - {"base"} == set(extras) - {"all", "dev"}
