"""The base of every settings class: frozen, strict about names, and clear about faults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, Tag, ValidationError
from pydantic_core import ErrorDetails

from pspnet.errors import ConfigError, did_you_mean, parsing

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """Frozen settings. Building one raises ConfigError that lists every fault with its dotted name."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())
    title: ClassVar[str] = ""  # what the settings are called in an error message; the class name when empty

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise config_error(type(self), error) from None

    # pydantic would otherwise call this __init__ for nested settings too, and lose the dotted names of their faults
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        try:
            return super().model_validate(obj, **options)
        except ValidationError as error:
            raise config_error(cls, error) from None

    def changed(self, **values: Any) -> Self:
        """A copy with some fields changed, checked again as a whole. What was left out stays left out."""
        return type(self).model_validate({**self.model_dump(exclude_unset=True), **values})

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


MOST_YAML = 2**20  # characters of a recipe
DEEPEST_YAML, MOST_ALIASES = 50, 64


def _bare_words() -> dict[str | None, list[tuple[str, re.Pattern[str]]]]:
    """PyYAML's table, by first letter, of what a bare word may mean: with true and false as the only booleans."""
    tag, boolean = "tag:yaml.org,2002:bool", re.compile("^(?:true|True|TRUE|false|False|FALSE)$")
    table = {
        letter: [(name, pattern) for name, pattern in meanings if name != tag]
        for letter, meanings in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for letter in "tTfF":
        table.setdefault(letter, []).append((tag, boolean))
    return table


class _BoundedLoader(yaml.SafeLoader):
    """YAML of strangers: no deeper than DEEPEST_YAML, few aliases, and none inside of what an anchor names. References
    to references grow beyond all memory when they are looked at. Only true and false are booleans (YAML 1.2): `off` is a
    word of our settings, and "no" may be the name of a class; a setting that is a boolean still takes yes, no, on, off.
    """

    yaml_implicit_resolvers = _bare_words()
    _depth = _anchored = _aliases = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        alias = isinstance(event, yaml.AliasEvent)
        anchored = not alias and getattr(event, "anchor", None) is not None
        self._aliases += alias
        if alias and (self._anchored or self._aliases > MOST_ALIASES):
            raise yaml.YAMLError("it refers to itself, or has references to references, or too many of them (*name)")
        if self._depth >= DEEPEST_YAML:
            raise yaml.YAMLError(f"it is nested more than {DEEPEST_YAML} levels deep")
        self._depth, self._anchored = self._depth + 1, self._anchored + anchored
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth, self._anchored = self._depth - 1, self._anchored - anchored


def parse_yaml(text: str) -> Any:
    """The content of a YAML text. Raises anything (numbers of 6,000 digits, days that do not exist): see `parsing`."""
    if len(text) > MOST_YAML:
        raise yaml.YAMLError(f"it is longer than {MOST_YAML:,} characters")
    return yaml.load(text, _BoundedLoader)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file as a dict. Raises ConfigError naming the file when it is missing or not a mapping."""
    path = Path(path)
    with parsing(path, ConfigError, "is not valid YAML", "Give a YAML file such as those in recipes/"):
        if not path.exists():
            raise ConfigError(f"'{path}' does not exist; give a YAML file such as those in recipes/")
        if not path.is_file():
            raise ConfigError(f"'{path}' is no file; give a YAML file such as those in recipes/")
        with path.open(encoding="utf-8") as file:
            content = parse_yaml(file.read(MOST_YAML + 1))
    if not isinstance(content, dict):
        raise ConfigError(f"'{path}' holds {type(content).__name__}; a recipe is a mapping of settings")
    strange = [key for key in content if not isinstance(key, str)]
    if strange:
        raise ConfigError(f"'{path}': {strange[0]!r} is not the name of a setting")
    return content


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings, the second over the first."""
    result = dict(first)
    for key, value in second.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return result


def with_overrides(values: Mapping[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Applies `a.b=value` texts to nested settings; values are read as YAML. Raises ConfigError on a malformed one."""
    result: dict[str, Any] = _copy(values)
    for text in overrides:
        name, separator, value = text.partition("=")
        if not separator or not name.strip():
            raise ConfigError(f"'{text}' is not a setting; write name=value, such as model.encoder=resnet50")
        with parsing(text, ConfigError, "has a value that is not valid YAML", "Put a text between quotes"):
            parsed = parse_yaml(value)
        *parents, leaf = name.strip().split(".")
        node = result
        for parent in parents:
            below = node.setdefault(parent, {})
            if not isinstance(below, dict):
                raise ConfigError(f"'{text}': {parent} holds {below!r}, which has no settings below it")
            node = below
        node[leaf] = parsed
    return result


def config_error(settings: type[BaseModel], error: ValidationError) -> ConfigError:
    """One ConfigError out of all of pydantic's faults."""
    faults = tuple(_fault(settings, detail) for detail in error.errors())
    name = getattr(settings, "title", "") or settings.__name__
    if len(faults) == 1:
        return ConfigError(f"{name}: {faults[0]}", faults)
    lines = "\n".join(f"  - {fault}" for fault in faults)
    return ConfigError(f"{name}: {len(faults)} settings are wrong\n{lines}", faults)


def _fault(settings: type[BaseModel], detail: ErrorDetails) -> str:
    where = [part for part in detail["loc"] if not (isinstance(part, str) and ("[" in part or part in _TYPE_NAMES))]
    parents, known = _descend(settings, where[:-1])
    name = ".".join(str(part) for part in [*parents, *where[-1:]])
    if detail["type"] == "extra_forbidden":
        hint = did_you_mean(str(where[-1]), known, f"there are: {', '.join(known)}")
        return f"{name} is not a setting; {hint}"
    if detail["type"] == "value_error":
        message = str(detail["ctx"]["error"]) if "ctx" in detail else detail["msg"]
        return f"{name}: {message}" if name else message
    message = detail["msg"][0].lower() + detail["msg"][1:]
    given = repr(detail["input"])
    return f"{name} = {given if len(given) < 80 else given[:77] + '...'}: {message}"


_TYPE_NAMES = {"int", "float", "str", "bool", "tuple", "list", "literal", "function-wrap", "function-after", "none"}


def _descend(settings: type[BaseModel], where: list[Any]) -> tuple[list[Any], list[str]]:
    """(the dotted place without pydantic's tags, the fields of the settings there). A tag says which of several models
    of a union checked a value: it is no part of a name."""
    current: dict[str, type[BaseModel]] = {"": settings}
    names = []
    for part in where:
        fields = {name: field for model in current.values() for name, field in model.model_fields.items()}
        if part in fields:
            names.append(part)
            current = dict(_models(fields[part].annotation)) or current
        elif part in current:
            current = {"": current[part]}
        else:
            names.append(part)
    return names, list(dict.fromkeys(name for model in current.values() for name in model.model_fields))


def _models(annotation: Any, tag: str = "") -> list[tuple[str, type[BaseModel]]]:
    """(tag, settings class) of every settings class in an annotation; the tag is '' outside of tagged unions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [(tag, annotation)]
    tags = [str(extra.tag) for extra in getattr(annotation, "__metadata__", ()) if isinstance(extra, Tag)]
    return [pair for part in get_args(annotation) for pair in _models(part, tags[0] if tags else tag)]


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in values.items()}
