"""Class tables as people write them: read, checked row by row, and names compared as a reader would.

    code,name,red,green,blue[,ignore]         a header line; the three colours may be left out, or be one column #ff8000;
                                              lines with # are comments
    {"classes": [{"value", "name", "color", "ignore"}, ...]}       or {"names": [...], "colors": [...], "ignore_index": 255}

This is the one reader of class tables. What spreadsheets do to a table is taken as it is meant: a byte order mark,
semicolons or tabs, UTF-16, Windows-1252 (with a warning), 1.0 for 1, TRUE, Yes, WAHR or x for 1. What cannot be meant is
refused with file and line: a code twice, a negative code of a class, a colour of 500, a name twice.

Long because CSV and JSON are read and checked side by side, by one set of rules.
"""

from __future__ import annotations

import csv
import json
import re
import unicodedata
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from pspnet.errors import ConfigError, parsing
from pspnet.files import path_limits

Colour = tuple[int, int, int]
_COLUMNS = {
    "code": (
        *("code", "value", "pixel value", "pixel_value", "id", "class id", "class_id", "index", "label id"),
        *("wert", "pixelwert", "valeur", "valor", "valore", "código", "codice"),
    ),
    "name": (
        *("name", "class", "class name", "class_name", "label"),
        *("klasse", "bezeichnung", "nom", "classe", "nombre", "clase", "nome"),
    ),
    "red": ("red", "r", "rot", "rouge", "rojo", "rosso", "vermelho"),
    "green": ("green", "g", "grün", "gruen", "vert", "verde"),
    "blue": ("blue", "b", "blau", "bleu", "azul", "blu"),
    "colour": ("colour", "color", "hex", "rgb", "farbe", "couleur", "cor", "colore"),
    "ignore": ("ignore", "ignored", "is_ignored", "ignore_index", "ignoreineval", "ignorieren", "ignorer", "ignorar"),
}
_YES = {
    "1",
    "true",
    "t",
    "yes",
    "y",
    "x",
    "ja",
    "wahr",
    "vrai",
    "oui",
    "verdadero",
    "si",
    "sí",
    "vero",
    "ignore",
    "ignored",
}
_NO = {"", "0", "false", "f", "no", "n", "-", "nein", "falsch", "faux", "non", "falso", "none"}
MAX_CODE = 2**32 - 1  # label files hold up to 32 bits


@dataclass(frozen=True)
class ClassRow:
    """One line of a table. colour: None where the table has no colours. ignored: pixels of it do not count."""

    code: int
    name: str
    colour: Colour | None
    ignored: bool = False


_JSON_TABLE = 'It holds {"classes": [{"value": 0, "name": "sky", "color": [128, 128, 128], "ignore": false}, ...]}'


def read_rows(path: str | Path) -> list[ClassRow]:
    """A CSV or JSON file -> its rows, checked. Raises ConfigError naming file, line, value and what is accepted."""
    path = Path(path)
    if not path.is_file():
        raise ConfigError(
            f"classes: '{path}' does not exist; give a CSV (code,name,red,green,blue[,ignore]) or JSON file"
        )
    text = _text_of(path)  # `labels.read_classes` has looked at limits: tables that come along have none
    if path.suffix.lower() != ".json":
        return checked(_csv_rows(text, str(path)), str(path))
    with parsing(path, ConfigError, "is not a class table", _JSON_TABLE):
        return checked(_json_rows(json.loads(text), str(path)), str(path))


def read_text(path: Path) -> str:
    """A small text file of a user's, whatever program saved it. Raises ConfigError where it cannot be read.

    UTF-8 and UTF-16 by their marks; what is no UTF-8 is taken for Windows-1252, with a warning. Raises DataError where limits
    (`pspnet.files.path_limits`) forbid it.
    """
    path_limits.check(path)
    return _text_of(path)


def _text_of(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"'{path}' cannot be read: {error.strerror or error}") from error
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError as error:
            raise ConfigError(f"'{path}' begins like UTF-16 and is none ({error}); save it as UTF-8") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        if b"\0" in data:
            raise ConfigError(f"'{path}' holds zero bytes, so it is no text; save it as CSV in UTF-8") from None
        text = data.decode("cp1252", "replace")
        odd = next((word for word in re.split(r"[,;\t\r\n]", text) if not word.isascii()), "")
        warnings.warn(
            f"'{path}' is not UTF-8: it is taken for Windows-1252, so that a name reads {odd.strip()!r}. If that is wrong, "
            "save it as UTF-8",
            stacklevel=4,
        )
        return text


def csv_table(text: str, source: str, needed: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """(column names, lower case; rows with their line numbers) of a CSV separated by commas, semicolons or tabs.

    Lines with # and empty ones are left out. needed: what the header holds, for the error. Raises ConfigError.
    """
    # ends of lines as files have them; str.splitlines would also cut a name at U+2028 or U+0085
    ended = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    lines = [(number, line) for number, line in enumerate(ended, start=1) if line.strip(" \t,;")]
    lines = [(number, line) for number, line in lines if not line.startswith("#")]
    if not lines:
        raise ConfigError(f"'{source}' is empty; it has a header line {needed}")
    excel = re.fullmatch(r"sep=([,;\t])\s*", lines[0][1], re.IGNORECASE)  # says the separator, for Excel
    lines = lines[1:] if excel else lines
    if not lines:
        raise ConfigError(f"'{source}' is empty; it has a header line {needed}")
    separator = excel[1] if excel else max(",;\t", key=lines[0][1].count)
    with parsing(source, ConfigError, "cannot be read as CSV", f"It has a header line {needed}"):
        rows = [next(csv.reader([line], delimiter=separator, skipinitialspace=True)) for _, line in lines]
    columns = [" ".join(column.strip().lower().split()) for column in rows[0]]
    rows_read = []
    for (number, _), row in zip(lines[1:], rows[1:], strict=True):
        cells = [cell.strip() for cell in row]
        if len(cells) > len(columns) and any(cells[len(columns) :]):
            raise ConfigError(
                f"'{source}' line {number}: {len(cells)} values for the {len(columns)} columns {separator.join(columns)}. "
                "Put a name that holds a separator between quotes"
            )
        rows_read.append((number, cells + [""] * (len(columns) - len(cells))))
    return columns, rows_read


def _csv_rows(text: str, source: str) -> Iterable[tuple[str, ClassRow]]:
    wanted = "code,name,red,green,blue[,ignore]"
    columns, rows = csv_table(text, source, wanted)
    column_of = {
        key: next((columns.index(name) for name in names if name in columns), None) for key, names in _COLUMNS.items()
    }
    if column_of["name"] is None or column_of["code"] is None:
        extra = (
            "; where labels hold colours, the codes may be any different numbers: 0, 1, 2, ..."
            if column_of["name"] is not None
            else ""
        )
        raise ConfigError(
            f"'{source}' has the columns {', '.join(columns)}; a class table has the columns {wanted}, in a header line{extra}"
        )
    painted = [key for key in ("red", "green", "blue") if column_of[key] is not None]
    if painted and len(painted) < 3:
        raise ConfigError(f"'{source}' has the column {painted[0]} without the others; a colour is red, green and blue")
    for number, row in rows:

        def cell(key: str, row: Sequence[str] = row) -> str:
            at = column_of[key]
            return "" if at is None else row[at]

        where = f"'{source}' line {number}"
        colour = _colour([cell(key) for key in ("red", "green", "blue")], where) if painted else None
        if not painted and cell("colour"):
            colour = _written_colour(cell("colour"), where)
        yield (
            where,
            ClassRow(_number(cell("code"), "code", where), cell("name"), colour, _ignored(cell("ignore"), where)),
        )


def _json_rows(data: Any, source: str) -> Iterable[tuple[str, ClassRow]]:
    rows = data if isinstance(data, list) else data.get("classes")
    if rows is None:
        names = data["names"]
        colours: Sequence[Any] = data.get("colours", data.get("colors")) or [None] * len(names)
        if len(colours) != len(names):
            raise ConfigError(f"'{source}': {len(colours)} colours for {len(names)} names")
        ignored = data.get("ignore_index")
        rows = [
            {"value": i, "name": name, "color": colour, "ignore": i == ignored}
            for i, (name, colour) in enumerate(zip(names, colours, strict=True))
        ]
    for number, row in enumerate(rows):
        where = f"'{source}' class {number}"
        code = next((row[key] for key in ("value", "code", "id") if key in row), None)
        if code is None:
            raise ConfigError(f"{where} ({row.get('name')!r}) has no value, the code that its pixels hold")
        value = row.get("colour", row.get("color"))
        colour = None
        if value is not None:
            colour = _written_colour(value, where) if isinstance(value, str) else _colour(list(value)[:3], where)
        yield (
            where,
            ClassRow(
                _number(code, "value", where),
                str(row["name"]).strip(),
                colour,
                _ignored(row.get("ignore", False), where),
            ),
        )


def checked(rows: Iterable[tuple[str, ClassRow]], source: str) -> list[ClassRow]:
    """Rows with where each stands -> the rows, after all of them were compared with each other. Raises ConfigError."""
    checked_rows: list[ClassRow] = []
    codes: dict[int, str] = {}
    names: dict[str, str] = {}
    for where, row in rows:
        if row.code in codes:
            raise ConfigError(
                f"{where}: code {row.code} is {codes[row.code]!r} already; each class has a code of its own"
            )
        codes[row.code] = row.name
        if not row.ignored:
            if not row.name:
                raise ConfigError(f"{where}: code {row.code} has no name; give it one, or ignore = 1")
            if row.code < 0:
                raise ConfigError(
                    f"{where}: code {row.code} of {row.name!r}: no pixel holds it. Codes are 0 or greater"
                )
            twin = names.setdefault(normal_name(row.name), row.name)
            if twin is not row.name:
                raise ConfigError(
                    f"{where}: {row.name!r} is named more than once (as {twin!r}); give each class its own name"
                )
        if row.code > MAX_CODE:
            raise ConfigError(f"{where}: code {row.code}: label files hold at most {MAX_CODE}")
        checked_rows.append(row)
    if not any(not row.ignored for row in checked_rows):
        raise ConfigError(f"'{source}' has no class: 0 given that count; a line code,name,red,green,blue for each")
    without = [row.name for row in checked_rows if not row.ignored and row.colour is None]
    if without and len(without) < sum(not row.ignored for row in checked_rows):
        raise ConfigError(f"'{source}': some classes have a colour and some have none ({without[0]!r})")
    return checked_rows


def _number(value: Any, what: str, where: str) -> int:
    """A whole number, also where a spreadsheet made it 1.0. 1,000 may be 1 or 1000, and is refused."""
    if re.fullmatch(r"[1-9]\d{0,2}([,.]\d{3})+", str(value).strip()):
        raise ConfigError(f"{where}: {what} = {value!r}: is it a thousand or a fraction? Write it without a separator")
    try:
        number = float(str(value).strip().replace(",", "."))
    except ValueError:
        number = float("nan")
    if number != number or isinstance(value, bool) or number != int(number):
        raise ConfigError(
            f"{where}: {what} = {value!r} is no whole number; a class table has the columns code,name,red,green,blue[,ignore]"
        )
    return int(number)


def _written_colour(text: str, where: str) -> Colour:
    """A colour in one cell: #ff8000, or three numbers."""
    digits = re.fullmatch(r"#?([0-9a-fA-F]{6})(?:[0-9a-fA-F]{2})?", text.strip())
    if digits:
        red, green, blue = bytes.fromhex(digits[1])
        return red, green, blue
    return _colour(re.findall(r"[\d.]+", text), f"{where} ({text!r})")


def _colour(values: Sequence[Any], where: str) -> Colour:
    if len(values) != 3:
        raise ConfigError(f"{where}: a colour is red, green and blue, not {values}")
    red, green, blue = (_number(value, "colour", where) for value in values)
    if not all(0 <= part <= 255 for part in (red, green, blue)):
        raise ConfigError(f"{where}: the colour {(red, green, blue)} has a part outside of 0..255")
    return red, green, blue


def _ignored(value: Any, where: str) -> bool:
    word = str(value).strip().lower()
    word = word.removesuffix(".0").removesuffix(",0") or word
    if word in _YES:
        return True
    if word in _NO:
        return False
    raise ConfigError(
        f"{where}: ignore = {value!r}; 1, true, yes or x for a row that does not count, 0 or nothing for a class"
    )


def normal_name(name: str) -> str:
    """A class's name without what writers do differently: case, blanks, hyphens, underscores, compatibility forms."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).casefold()) or name


@cache
def _synonyms() -> Mapping[str, str]:
    """Normal form of a published spelling -> that of the spelling here."""
    text = (resources.files("pspnet.data") / "synonyms.csv").read_text(encoding="utf-8")
    _, rows = csv_table(text, "synonyms.csv", "ours,theirs")
    return {normal_name(theirs): normal_name(ours) for _, (ours, theirs) in rows}


def same_names(names: Sequence[str]) -> list[str]:
    """For each name what it is compared by: two lists of classes agree where these agree.

    The first of several spellings ("building, edifice" or "building;edifice") counts, and a published synonym
    ("agricultural") is the name here. Where two names of the list would become one, both stay as they are.
    """

    def key(name: str) -> str:
        form = normal_name(re.split(r"[;,]", name)[0]) or normal_name(name)
        return _synonyms().get(form, form)

    for form in (key, normal_name, str):
        keys = [form(name) for name in names]
        if len(set(keys)) == len(keys):
            return keys
    return list(names)
