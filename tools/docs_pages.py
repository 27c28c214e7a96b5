"""Pages of the documentation that the program writes about itself, and links into the repository.

A hook of mkdocs (`make docs`): every command from the command line's own tree, every setting from the schema, the public
names with their docstrings, a page for each model card. Links out of docs/ become links to the repository's files.
"""

from __future__ import annotations

import inspect
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SEARCH_BOOST = {"errors.md": 4, "reference/python.md": 0.3, "reference/settings.md": 0.5}
SETTINGS = (
    "ModelConfig",
    "TrainConfig",
    "DataConfig",
    "AugmentConfig",
    "LossConfig",
    "RasterConfig",
    "EvaluationConfig",
    "ForeignModel",
)


def on_files(files: Any, config: Any) -> Any:
    """mkdocs asks for the files of the site: the generated ones are added."""
    from mkdocs.structure.files import File

    pages = {
        "index.md": start_page(),
        "reference/commands.md": commands_page(),
        "reference/settings.md": settings_page(),
        "reference/python.md": python_page(),
    }
    for card in sorted((ROOT / "models").glob("*.md")):
        if card.name != "README.md":
            pages[f"models/{card.name}"] = card.read_text(encoding="utf-8")
    for picture in sorted((ROOT / "models" / "pictures").glob("*")):
        files.append(File.generated(config, f"models/pictures/{picture.name}", content=picture.read_bytes()))
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links that leave docs/ for the source become plain code: a site has no source beside it. Answers are found first."""
    if page.file.src_uri in SEARCH_BOOST:
        page.meta["search"] = {"boost": SEARCH_BOOST[page.file.src_uri]}
    known = {file.src_uri for file in files}
    folder = posixpath.dirname(page.file.src_uri)

    def link(match: re.Match[str]) -> str:
        text, goal = match.group(1), match.group(2)
        if re.match(r"(https?:|#|mailto:)", goal):
            return match.group(0)
        path, _, anchor = goal.partition("#")
        in_repository = posixpath.normpath(posixpath.join("docs", folder, path))
        in_site = in_repository.removeprefix("docs/")  # cards lie in models/ in both
        if in_site not in known:
            return text
        return f"[{text}]({posixpath.relpath(in_site, folder or '.')}{'#' + anchor if anchor else ''})"

    return re.sub(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)", link, markdown)


def start_page() -> str:
    """The README, seen from docs/."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.sub(r"\]\(docs/", "](", text)


def commands_page() -> str:
    """Every command with its options, from the tree that the program itself runs."""
    import typer.main

    from pspnet.cli import app
    from pspnet.cli.help import GROUPS

    lines = ["# Commands\n", "`pspnet COMMAND --help` prints the same.\n"]
    tree = dict(_commands(typer.main.get_command(app)))
    order = [name for names in GROUPS.values() for name in names]
    for name in sorted(tree, key=lambda n: (order.index(n.split()[0]), n)):
        command = tree[name]
        usage = " ".join(_spelling(p).upper() for p in command.params if p.param_type_name == "argument")
        lines += [f"## pspnet {name}\n", f"```\npspnet {name} {usage} [options]\n```\n"]
        about, _, example = (command.help or "").partition("Example:")
        lines += [" ".join(about.split()) + "\n"]
        if example:
            lines += ["```\n" + "\n".join(line.strip() for line in example.strip().splitlines()) + "\n```\n"]
        rows = [(_spelling(p), " ".join(str(getattr(p, "help", "") or "").split())) for p in command.params]
        lines += ["| argument or option | meaning |", "| --- | --- |"]
        lines += [f"| `{spelling}` | {about.replace('|', chr(92) + '|')} |" for spelling, about in rows if about] + [""]
    return "\n".join(lines)


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, below in getattr(command, "commands", {}).items():
        yield from _commands(below, (*path, name))
    if not hasattr(command, "commands"):
        yield " ".join(path), command


def _spelling(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.name)
    return ", ".join(parameter.opts)


def settings_page() -> str:
    """Every setting that `name=value` and a recipe may hold: type, default, meaning, from the schema."""
    import pspnet.config as config

    lines = [
        "# Settings\n",
        "What a recipe holds and `name=value` on the command line may change. Nested settings are ",
    ]
    lines += ["reached with dots: `model.encoder_options.depth=4`.\n"]
    for name in SETTINGS:
        settings = getattr(config, name, None)
        if settings is None:
            continue
        schema = settings.model_json_schema()
        about = " ".join((settings.__doc__ or "").split("\n\n")[0].split())
        lines += [f"## {name}\n", f"{about}\n", "| setting | values | default | meaning |", "| --- | --- | --- | --- |"]
        lines += [
            f"| `{row[0]}` | {row[1]} | {row[2]} | {row[3]} |" for row in _settings(schema, schema.get("$defs", {}), "")
        ]
        lines += [""]
    return "\n".join(lines)


def _settings(schema: dict[str, Any], defs: dict[str, Any], parent: str) -> Iterator[tuple[str, str, str, str]]:
    visited: set[str] = set()
    for name, node in schema.get("properties", {}).items():
        options = [
            defs[o["$ref"].rpartition("/")[2]] if "$ref" in o else o
            for o in node.get("anyOf") or node.get("oneOf") or [node]
        ]
        if "$ref" in node:
            options = [defs[node["$ref"].rpartition("/")[2]]]
        inner = [option for option in options if "properties" in option]
        if inner and parent.count(".") < 2:
            for option in inner:
                for row in _settings(option, defs, f"{parent}{name}."):
                    if row[0] not in visited:
                        visited.add(row[0])
                        yield row
            continue
        values = ", ".join(dict.fromkeys(_values(option) for option in options))
        default = "" if node.get("default") is None else f"`{node['default']}`"
        about = " ".join(str(node.get("description", "")).split()).replace("|", "\\|")
        yield f"{parent}{name}", values.replace("|", "\\|"), default.replace("|", "\\|"), about


def _values(option: dict[str, Any]) -> str:
    if "enum" in option:
        return ", ".join(f"`{value}`" for value in option["enum"])
    if "const" in option:
        return f"`{option['const']}`"
    return {"null": "none", "array": "list", "object": "mapping"}.get(option.get("type", ""), option.get("type", "any"))


def python_page() -> str:
    """The public names, from their docstrings."""
    import pspnet

    lines = ["# Python\n", "`import pspnet` loads nothing heavy; each name loads when it is first used.\n"]
    lines += [
        "What works on a model takes it first: an open `Segmenter`, or the path or name that `Segmenter.load` takes.\n"
    ]
    lines += ["| | |", "| --- | --- |"]
    for name in pspnet._PLACES:
        sentence = (inspect.getdoc(getattr(pspnet, name)) or "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
        lines.append(f"| [`{name}`](#pspnet{name.lower()}) | {sentence} |")
    lines.append("")
    for name, module in pspnet._PLACES.items():
        lines += [f"## pspnet.{name}\n", f"::: {module}.{name}\n    options:\n      heading_level: 3\n"]
    return "\n".join(lines)
