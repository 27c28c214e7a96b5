"""A recipe is found by its path or by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from pspnet.config import read_recipe, recipe_names
from pspnet.errors import ConfigError


def test_names_paths_and_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "camvid_resnet18_half" in recipe_names()
    for spelling in ("camvid_resnet18_half", "camvid_resnet18_half.yaml", "recipes/camvid_resnet18_half.yaml"):
        assert read_recipe(spelling) == read_recipe("camvid_resnet18_half") != {}
    assert any(name.startswith("published/") for name in recipe_names())
    Path("camvid_resnet18_half").write_text("steps: 3\n")  # an own file of that name comes first
    assert read_recipe("camvid_resnet18_half") == {"steps": 3}
    with pytest.raises(
        ConfigError, match=r"'camvid_resnet81_half' does not exist.*did you mean 'camvid_resnet18_half'"
    ):
        read_recipe("camvid_resnet81_half")
