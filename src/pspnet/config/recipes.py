"""Recipes: YAML files from which a run follows, by path or by the name of one that comes along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pspnet.config.base import merged, read_yaml
from pspnet.errors import ConfigError, did_you_mean

# in an installed package they lie beside the code, in a source checkout beside src/
FOLDERS = (Path(__file__).parents[1] / "recipes", Path(__file__).parents[3] / "recipes")


def recipe_names() -> dict[str, Path]:
    """name -> file of every recipe that comes along; published ones are "published/NAME"."""
    paths = {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for folder in reversed(FOLDERS)
        for path in sorted(folder.rglob("*.yaml"))
    }
    return dict(sorted(paths.items()))


def recipe_path(given: str | Path) -> Path:
    """The file that a path or a name means; a file that exists comes first. Raises ConfigError with the nearest name."""
    path = Path(given)
    if path.is_file():
        return path
    names = recipe_names()
    name = path.as_posix().removeprefix("recipes/").removesuffix(".yaml")
    if name in names:
        return names[name]
    hint = did_you_mean(name, names, f"there are: {', '.join(n for n in names if '/' not in n)}")
    raise ConfigError(f"'{given}' does not exist and is no recipe's name; {hint}")


NOT_INHERITED = ("name", "published")  # what a recipe says about itself alone


def read_recipe(path: str | Path) -> dict[str, Any]:
    """A recipe as a dict: a file, or the name of a recipe that comes along (see `recipe_path`).

    `base: other.yaml` (a path from the recipe's folder) means that file with this one over it.

    One level: a base has no base. The base's name and published scores are its own. Raises ConfigError.
    """
    path = recipe_path(path)
    values = read_yaml(path)
    if "base" not in values:
        return values
    name = values.pop("base")
    if not isinstance(name, str):
        raise ConfigError(f"'{path}': base = {name!r}: give the path of one recipe, seen from this one's folder")
    base = read_yaml(Path(path).parent / name)
    if "base" in base:
        raise ConfigError(
            f"'{path}': its base '{name}' has a base itself, '{base['base']}'; one level is all there is. "
            f"Name '{base['base']}' as the base and write down what differs"
        )
    return merged({key: value for key, value in base.items() if key not in NOT_INHERITED}, values)
