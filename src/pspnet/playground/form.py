"""A form made from the schema of settings: an option that is added to the configuration appears here by itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from pspnet.config import Settings
from pspnet.config.base import parse_yaml
from pspnet.config.differences import flattened
from pspnet.errors import ConfigError, require

gr = require("gradio", "playground")

Kind = Literal["choice", "switch", "number", "text"]
UNSET = "not set"


@dataclass(frozen=True)
class Field:
    """One setting. name: dotted. kind: what it is asked with. choices: of a choice. default: None where it may be left
    open. listed: several values in one line of text."""

    name: str
    about: str
    kind: Kind
    default: Any
    choices: tuple[Any, ...] = ()
    listed: bool = False

    @property
    def label(self) -> str:
        return self.name.rpartition(".")[2].replace("_", " ")

    @property
    def info(self) -> str:
        """What it is about, in a form's words: there no value is an empty field, or a choice of its own."""
        return re.sub(r"\bNone\b", UNSET if self.kind == "choice" else "empty", self.about).replace(
            ". empty:", ". Empty:"
        )

    def shown(self, value: Any) -> Any:
        """A setting's value as its component takes it."""
        if self.kind == "choice":
            return UNSET if value is None else _word(value)
        if self.kind == "text":
            if value is None:
                return ""
            return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        return value

    def given(self, shown: Any) -> Any:
        """The inverse: what a component holds as a setting's value. What cannot be read is left to the settings' check."""
        if self.kind == "choice":
            return None if shown in (UNSET, None) else next((c for c in self.choices if _word(c) == shown), shown)
        if self.kind == "number":
            return int(shown) if isinstance(shown, float) and shown.is_integer() else shown
        if self.kind == "text":
            return _parsed(str(shown or "").strip(), self.listed, self.default)
        return bool(shown)


def open_choice(choices: Sequence[str] = (), **options: Any) -> Any:
    """A dropdown whose choices change while the page is open: Gradio would refuse a value that was no choice when the page
    was made. What a value may be is checked by whoever takes it."""
    return gr.Dropdown([*choices], allow_custom_value=True, **options)


def fields_of(settings: type[Settings], only: Sequence[str] | None = None) -> list[Field]:
    """Every field of settings, nested ones with dotted names, from their JSON schema. only: these, in this order."""
    schema = settings.model_json_schema()
    field_of = {field.name: field for field in _fields(schema, schema.get("$defs", {}), "", None)}
    return list(field_of.values()) if only is None else [field_of[name] for name in only]


def _fields(schema: Mapping[str, Any], defs: Mapping[str, Any], parent: str, given: Any) -> list[Field]:
    fields: list[Field] = []
    for name, node in schema["properties"].items():
        default = given[name] if isinstance(given, Mapping) and name in given else node.get("default")
        options = [_resolved(option, defs) for option in node.get("anyOf") or node.get("oneOf") or [node]]
        inner = [option for option in options if "properties" in option]
        if inner:  # of a union every model's fields, each once: which of them apply depends on other settings
            for option in inner:
                fields += [
                    f
                    for f in _fields(option, defs, f"{parent}{name}.", default)
                    if f.name not in {g.name for g in fields}
                ]
        else:
            fields.append(_field(f"{parent}{name}", node.get("description", ""), options, default))
    return fields


def _resolved(node: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = node.get("$ref") or next((part["$ref"] for part in node.get("allOf", []) if "$ref" in part), None)
    return defs[reference.rpartition("/")[2]] if reference else node


def _field(name: str, about: str, options: Sequence[Mapping[str, Any]], default: Any) -> Field:
    kinds = {option.get("type") for option in options} - {"null"}
    optional = any(option.get("type") == "null" for option in options)
    words = [
        value
        for option in options
        for value in (option.get("enum") or ([option["const"]] if "const" in option else []))
    ]
    if words and len(options) - optional == 1:
        return Field(name, about, "choice", default, tuple(words))
    if kinds == {"boolean"}:
        return (
            Field(name, about, "choice", default, (True, False)) if optional else Field(name, about, "switch", default)
        )
    if kinds and kinds <= {"integer", "number"} and not optional:  # a number's component cannot be left empty
        return Field(name, about, "number", default)
    return Field(name, about, "text", default, listed=kinds == {"array"})


def component(field: Field, prefix: str = "", suggestions: Sequence[str] | None = None) -> Any:
    """The component that asks for a field, with its description below its name. prefix: of its id in the page. suggestions:
    values that can be taken from a list instead of being written."""
    common: dict[str, Any] = {
        "label": field.label,
        "info": field.info,
        "elem_classes": ["field"],
        "elem_id": f"{prefix}-{field.name.replace('.', '-').replace('_', '-')}",
    }
    value = field.shown(field.default)
    if suggestions is not None:
        return open_choice(suggestions, value=value, **common)
    if field.kind == "choice":
        words = [_word(choice) for choice in field.choices]
        if field.default is None:
            words.insert(0, UNSET)
        if len(words) <= 4 and sum(map(len, words)) < 34:
            return gr.Radio(words, value=value, **common)
        return gr.Dropdown(words, value=value, filterable=len(words) > 8, **common)
    if field.kind == "switch":
        return gr.Checkbox(value=bool(value), **common)
    if field.kind == "number":
        return gr.Number(value=value, step=None, **common)
    return gr.Textbox(value=value, max_lines=1, placeholder="automatic" if field.default is None else "", **common)


def read(
    fields: Sequence[Field], shown: Sequence[Any], hidden: Callable[[Field, Mapping[str, Any]], bool]
) -> dict[str, Any]:
    """What a form says, as nested settings that hold only what differs from the defaults.

    hidden(field, values): fields that do not apply to the others' values (dotted name -> value) say nothing.
    """
    values = {field.name: field.given(value) for field, value in zip(fields, shown, strict=True)}
    result: dict[str, Any] = {}
    for field in fields:
        value = values[field.name]
        if hidden(field, values) or _same(value, field.default):
            continue
        *parents, leaf = field.name.split(".")
        node = result
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return result


def as_form(values: Mapping[str, Any], fields: Sequence[Field]) -> list[Any]:
    """The inverse of `read`: what the components hold for nested settings. What these do not say is as by default."""
    flat = flattened(values)
    return [field.shown(flat.get(field.name, field.default)) for field in fields]


def faults_by_field(error: ConfigError, names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """An error's faults at the fields they are about, and those that name none.

    A contradiction names every setting that takes part in it (`a = 1 with b = 2: ...`) and is shown at each of them.
    """
    at: dict[str, str] = {}
    rest = []
    for fault in error.faults:
        named = []
        for word in re.findall(r"(?<![\w.])([a-z_][\w.]*)(?= = |: | has | is )", fault):
            parts = word.split(".")
            near = next((n for n in (".".join(parts[:k]) for k in range(len(parts), 0, -1)) if n in names), None)
            near = near or next((n for n in names if n.rpartition(".")[2] == word), None)
            named += [near] if near else []
        for name in named:
            at.setdefault(name, fault)
        if not named:
            rest.append(fault)
    return at, rest


def update(field: Field, visible: bool, fault: str | None) -> dict[str, Any]:
    """How a component changes: whether it applies, and a fault in place of its description."""
    return gr.update(
        visible=visible,
        info=f"⚠ {fault}" if fault else field.info,
        elem_classes=["field", "wrong"] if fault else ["field"],
    )


def as_recipe(values: Mapping[str, Any]) -> str:
    """Nested settings as YAML, lists in one line."""

    class Flow(yaml.SafeDumper):
        pass

    Flow.add_representer(
        list, lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)
    )
    plain = _plain(values)
    return yaml.dump(plain, Dumper=Flow, sort_keys=False, allow_unicode=True, width=110) if plain else "{}\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, (int, float, str, bool, type(None))) else str(value)


def _parsed(text: str, listed: bool, default: Any) -> Any:
    if not text:
        return None if default is None else [] if listed else default
    if not listed and (default is None or isinstance(default, str)) and not re.fullmatch(r"[\d.,eE+\s\[\]-]+", text):
        return text
    listed = listed or "," in text  # one number for each class, where a word may stand too
    try:
        return parse_yaml(f"[{text.strip('[]() ')}]" if listed else text)
    except Exception:  # whatever its text makes the parser raise: the settings' own check says what is wrong with it
        return text


def _same(value: Any, default: Any) -> bool:
    if isinstance(value, (list, tuple)) and isinstance(default, (list, tuple)):
        return list(value) == list(default)
    return bool(value == default and type(value) in (type(default), int, float, str, bool))


def _word(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
