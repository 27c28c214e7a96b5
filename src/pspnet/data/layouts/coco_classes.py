"""The classes of a COCO annotation file, and what nobody outlined: its own categories, or a table of people's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pspnet.class_tables import normal_name
from pspnet.data.class_faults import some
from pspnet.data.faults import Fault
from pspnet.errors import DataError
from pspnet.labels import IGNORE, LabelSpace, distinct_colours

_BACKGROUND = {"background", "bg"}  # as normal_name writes them


def id_text(value: Any) -> str:
    """An id as people write it: 1, 1.0 and "1" are the same."""
    if isinstance(value, float) and value == int(value):
        value = int(value)
    text = str(value).strip()
    return str(int(text)) if text.isascii() and text.isdigit() else text


def read_categories(file: Path, data: dict[str, Any]) -> dict[str, tuple[int, str]]:
    """Category key -> (code, name). Ids that are no whole numbers get numbers. Raises DataError for an id twice."""
    categories: dict[str, tuple[int, str]] = {}
    for number, category in enumerate(data["categories"], start=1):
        if category.get("id") is None or category.get("name") is None:
            raise DataError(f"'{file}': category {number} has no {'id' if category.get('id') is None else 'name'}")
        key, name = id_text(category["id"]), str(category["name"]).strip()
        if key in categories and categories[key][1] != name:
            raise DataError(
                f"'{file}': the category id {key} is both {categories[key][1]!r} and {name!r}; give each its own"
            )
        categories[key] = (int(key) if key.isdigit() else -number, name)
    taken = max((code for code, _ in categories.values()), default=0)
    return {key: (code if code >= 0 else taken - code, name) for key, (code, name) in categories.items()}


def twin_faults(file: Path, categories: dict[str, tuple[int, str]]) -> list[Fault]:
    """Categories whose names differ in case or blanks alone, which become one class."""
    spellings: dict[str, dict[str, None]] = {}
    for _, name in categories.values():
        spellings.setdefault(normal_name(name), {})[name] = None
    return [
        Fault(
            "warning",
            "categories",
            str(file),
            f"'{file}': the categories {some(list(names))} are taken for one class",
            "Name them differently if they are two; give a class table to choose",
        )
        for names in spellings.values()
        if len(names) > 1
    ]


def classes_of(
    file: Path, data: dict[str, Any], categories: dict[str, tuple[int, str]], table: LabelSpace | None
) -> tuple[LabelSpace, int]:
    """The classes, and the label of what nobody outlined; COCO's own 80 as the table that comes along has them."""
    used = {id_text(item.get("category_id")) for item in data["annotations"]}
    zero = any(code == 0 and key in used for key, (code, _) in categories.items())
    if table is not None:
        names = [normal_name(name) for name in table.names]
        by_name = next((i for i, name in enumerate(names) if name in _BACKGROUND), None)
        by_code = table.codes.index(0) if 0 in table.codes and not zero else None
        background = by_name if by_name is not None else by_code
        return table, IGNORE if background is None else background
    coco = LabelSpace.named("coco")
    if dict(categories.values()) == dict(zip(coco.codes[1:], coco.names[1:], strict=True)):
        return coco, 0
    # Roboflow writes the project's name as category 0, which no object has
    used_categories = {key: value for key, value in categories.items() if value[0] != 0 or key in used}
    ground = next((value for value in used_categories.values() if normal_name(value[1]) in _BACKGROUND), None)
    code = ground[0] if ground else 0 if not zero else max(code for code, _ in used_categories.values()) + 1
    rows: dict[str, list[int]] = {}
    spelling: dict[str, str] = {}  # "Cat" is "cat"
    for own_code, name in sorted(used_categories.values()):
        if ground is None or own_code != ground[0]:
            rows.setdefault(spelling.setdefault(normal_name(name), name), []).append(own_code)
    if not rows:
        raise DataError(f"'{file}' has no categories besides background; export it with its classes")
    names = list(rows)
    return (
        LabelSpace(
            (ground[1] if ground else "background", *names),
            ((0, 0, 0), *distinct_colours(len(names))),
            (code, *(codes[0] for codes in rows.values())),
            aliases={other: 1 + i for i, codes in enumerate(rows.values()) for other in codes[1:]},
        ),
        0,
    )
