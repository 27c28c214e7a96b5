"""OpenVINO Model Server: a model as a version in a model repository, and the configuration that names it.

REPOSITORY/config.json            {"model_config_list": [{"config": {"name": "streets", "base_path": "streets"}}]}
REPOSITORY/streets/1/model.xml    and model.bin; the next export is version 2, which the server takes by itself

docker run -v REPOSITORY:/models -p 8000:8000 openvino/model_server --config_path /models/config.json --rest_port 8000
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pspnet.errors import ConfigError, parsing
from pspnet.files import write_text

CONFIGURATION = "config.json"


def next_version(repository: Path, name: str) -> Path:
    """Where the model goes: REPOSITORY/NAME/1/model.xml, or the next version. Raises ConfigError for a name that is none."""
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*", name) is None:
        raise ConfigError(f"name = {name!r}: letters, digits, _, - and . are taken, since it is a part of addresses")
    read_configuration(repository)
    folder = repository / name
    numbers = [int(one.name) for one in folder.iterdir() if one.name.isdecimal()] if folder.is_dir() else []
    return folder / str(max(numbers, default=0) + 1) / "model.xml"


def add_to_configuration(repository: Path, name: str) -> Path:
    """Names the model in REPOSITORY/config.json, where it is not named yet. Returns the file's path."""
    content = read_configuration(repository)
    entries = content.setdefault("model_config_list", [])
    if not any(isinstance(one, dict) and one.get("config", {}).get("name") == name for one in entries):
        entries.append({"config": {"name": name, "base_path": name}})  # relative to the file
        write_text(repository / CONFIGURATION, json.dumps(content, indent=1))
    return repository / CONFIGURATION


def read_configuration(repository: Path) -> dict[str, Any]:
    """The configuration there is; empty where there is none. Raises ConfigError where it is another program's."""
    path = repository / CONFIGURATION
    if not path.is_file():
        return {}
    with parsing(path, ConfigError, "is no configuration of OpenVINO Model Server", "Choose another folder"):
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not isinstance(content.get("model_config_list", []), list):
            raise ValueError("it has no model_config_list")
    return content
