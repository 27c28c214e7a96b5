"""Every recipe that comes along is one that `pspnet train` accepts."""

from __future__ import annotations

from pathlib import Path

import pytest

from pspnet.config import TrainConfig, read_yaml

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipe(recipe: Path) -> None:
    generated = read_yaml(recipe)["data"]["format"] == "scenes"  # nothing is read: there is no folder to give
    config = TrainConfig.from_yaml(recipe, [] if generated else ["data.root=somewhere"])
    assert config.name == recipe.stem
    assert config.run_dir is None  # a run's place is the user's choice
    assert config.model.encoder_weights in ("random", "imagenet")
