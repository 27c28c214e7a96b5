"""Settings that name files of this machine: which they are, and how they look to other people."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, get_args

from pspnet.config.base import Settings

MAYBE_PATHS = ("model.encoder_weights",)  # settings that are words or paths; paths alone are known by their type
_ABSOLUTE = re.compile(r"(/|~[/\\]|\\\\|[A-Za-z]:[/\\])(?!/)|//\w[\w.-]*/|file:/", re.IGNORECASE)


def path_fields(settings: type[Settings], parent: str = "") -> list[str]:
    """The dotted names of every setting that is a path, in nested settings too."""
    paths = []
    for name, field in settings.model_fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        if Path in kinds:
            paths.append(parent + name)
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, Settings):
                paths += path_fields(kind, f"{parent}{name}.")
    return paths


def without_folders(value: Any) -> Any:
    """Nested lists and tables in which each absolute path is only its last part: where it lies is nobody else's matter.

    {"classes": "/home/anna/town/classes.csv"} -> {"classes": "classes.csv"}
    """
    if isinstance(value, dict):
        return {key: without_folders(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_folders(inner) for inner in value]
    if isinstance(value, Path) or (isinstance(value, str) and _ABSOLUTE.match(value)):
        text = str(value)
        return (PureWindowsPath if "\\" in text else PurePosixPath)(text).name
    return value
