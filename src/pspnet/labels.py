"""Classes: their names, colours and order, and the tables from a source's codes or colours to 0..K-1.

Inside pspnet a label map is always (H, W) with 0..K-1 and `IGNORE` (convention 2). A data set's own codes are
translated once, where its file is decoded, and a code that the table does not know is an error, never a class.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.class_tables import ClassRow, read_rows
from pspnet.class_tables import Colour as Colour  # part of this file's face
from pspnet.errors import ConfigError, LabelError
from pspnet.files import path_limits

IGNORE = 255  # the value of a pixel that counts neither in a loss nor in a score
MAX_CLASSES = 255  # 0..254: the next value is IGNORE
_DENSE = 65_535  # codes up to here are looked up in a table of their own size


def distinct_colours(count: int) -> tuple[Colour, ...]:
    """`count` RGB colours that stay apart: hues by the golden ratio, two rings of brightness."""
    ratio = 0.618033988749895
    return tuple(
        (round(r * 255), round(g * 255), round(b * 255))
        for r, g, b in (
            colorsys.hsv_to_rgb((0.58 + i * ratio) % 1.0, 0.62 + 0.25 * (i % 2), 0.93 - 0.28 * ((i // 2) % 3) / 2)
            for i in range(count)
        )
    )


@dataclass(frozen=True)
class LabelSpace:
    """The classes of a data set or a model, in the order of their indices.

    names: K names, all different. colours: K RGB colours, 0..255; distinct ones are chosen when left out.
    codes: the source's pixel value of each class (several values may share a class through `aliases`).
    ignored_codes: the source's values that mean "do not count". ignored_colours: likewise for colour-coded labels.
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...] = ()
    codes: tuple[int, ...] = ()
    ignored_codes: tuple[int, ...] = (IGNORE,)
    ignored_colours: tuple[Colour, ...] = ()
    aliases: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= MAX_CLASSES:
            raise ConfigError(f"classes: {len(self.names)} given; 1 to {MAX_CLASSES} are possible (255 means ignore)")
        repeated = sorted({name for name in self.names if self.names.count(name) > 1})
        if repeated:
            raise ConfigError(f"classes: {', '.join(repeated)} named more than once; give each class its own name")
        if not self.colours:
            object.__setattr__(self, "colours", distinct_colours(len(self.names)))
        if not self.codes:
            object.__setattr__(self, "codes", tuple(range(len(self.names))))
        for what, given in (("colours", self.colours), ("codes", self.codes)):
            if len(given) != len(self.names):
                raise ConfigError(f"{what}: {len(given)} given for {len(self.names)} classes; give one for each")
        object.__setattr__(self, "ignored_codes", tuple(c for c in self.ignored_codes if c not in set(self.codes)))

    @property
    def num_classes(self) -> int:
        return len(self.names)

    @property
    def palette(self) -> NDArray[np.uint8]:
        """(256, 3) RGB, row IGNORE and every unused row black: the palette of an indexed PNG."""
        table = np.zeros((256, 3), np.uint8)
        table[: self.num_classes] = self.colours
        return table

    def index(self, name: str) -> int:
        """The index of a class. Raises ConfigError with the names there are."""
        if name not in self.names:
            raise ConfigError(f"class {name!r} is not one of: {', '.join(self.names)}")
        return self.names.index(name)

    def decode(self, values: NDArray[Any], source: str) -> NDArray[np.uint8]:
        """(H, W) source codes -> (H, W) uint8 with 0..K-1 and IGNORE. LabelError names `source`."""
        if values.ndim != 2:
            raise LabelError(
                f"'{source}' has shape {values.shape}; a label map is (height, width) with one code per pixel. "
                'Is it a colour image? Use decode="colours".'
            )
        if values.dtype.kind not in "iub":
            raise LabelError(f"'{source}' holds {values.dtype} values; labels are whole numbers")
        known = self._known_codes()
        values = values.astype(np.int64)
        low, high = int(values.min(initial=0)), int(values.max(initial=0))
        if low < 0:
            raise self._unknown(low, source)
        if high > _DENSE:  # a table for codes of ten digits would need gigabytes
            present, inverse = np.unique(values, return_inverse=True)
            unknown = [code for code in present.tolist() if code not in known]
            if unknown:
                raise self._unknown(unknown[0], source)
            return np.array([known[code] for code in present.tolist()], np.uint8)[inverse].reshape(values.shape)
        table = np.full(high + 1, -1, np.int16)
        for code, index in known.items():
            if 0 <= code <= high:
                table[code] = index
        decoded = table[values]
        if (decoded < 0).any():
            raise self._unknown(int(values[decoded < 0].flat[0]), source)
        return decoded.astype(np.uint8)

    def decode_colours(self, image: NDArray[np.uint8], source: str) -> NDArray[np.uint8]:
        """(H, W, 3) RGB label colours -> (H, W) uint8 with 0..K-1 and IGNORE. LabelError names the first unknown."""
        if image.ndim != 3 or image.shape[2] < 3:
            raise LabelError(f"'{source}' has shape {image.shape}; colour labels are RGB. Use decode=\"codes\".")
        packed = image[..., 0].astype(np.int64) << 16 | image[..., 1].astype(np.int64) << 8 | image[..., 2]
        known = {_pack(c): i for i, c in enumerate(self.colours)} | {_pack(c): IGNORE for c in self.ignored_colours}
        present, inverse = np.unique(packed, return_inverse=True)
        unknown = [value for value in present.tolist() if value not in known]
        if unknown:
            rgb = (unknown[0] >> 16, unknown[0] >> 8 & 255, unknown[0] & 255)
            raise LabelError(
                f"'{source}' has the colour {rgb}, which no class has ({len(unknown)} such colours). "
                f"Colours: {', '.join(f'{n} {c}' for n, c in zip(self.names[:6], self.colours, strict=False))} ... "
                "A label image must be stored without loss (PNG, never JPEG) and without antialiasing."
            )
        return np.array([known[v] for v in present.tolist()], np.uint8)[inverse].reshape(packed.shape)

    def encode(self, labels: NDArray[Any]) -> NDArray[np.uint16]:
        """0..K-1 and IGNORE -> the source's codes; IGNORE becomes the first ignored code (255 when there is none)."""
        table = np.full(256, self.ignored_codes[0] if self.ignored_codes else IGNORE, np.uint16)
        table[: self.num_classes] = self.codes
        return table[labels]

    def to_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: JSON-ready."""
        return {
            "names": list(self.names),
            "colours": [list(c) for c in self.colours],
            "codes": list(self.codes),
            "ignored_codes": list(self.ignored_codes),
            "ignored_colours": [list(c) for c in self.ignored_colours],
            "aliases": {str(code): index for code, index in self.aliases.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LabelSpace:
        return cls(
            names=tuple(data["names"]),
            colours=tuple((int(r), int(g), int(b)) for r, g, b in data.get("colours", ())),
            codes=tuple(int(c) for c in data.get("codes", ())),
            ignored_codes=tuple(int(c) for c in data.get("ignored_codes", (IGNORE,))),
            ignored_colours=tuple((int(r), int(g), int(b)) for r, g, b in data.get("ignored_colours", ())),
            aliases={int(code): int(index) for code, index in data.get("aliases", {}).items()},
        )

    @classmethod
    def from_csv(cls, path: str | Path) -> LabelSpace:
        """Reads a class table, CSV or JSON (see class_tables). Rows with ignore = 1 give ignored codes and colours.

        255 is ignored where the table names no ignored code; a table that names some has said all of them. Raises
        ConfigError naming the file and line.
        """
        return cls._from_rows(read_rows(path))

    @classmethod
    def named(cls, name: str) -> LabelSpace:
        """A table that comes along: a file of `pspnet/data/classes` without its ending, such as 'ade20k'."""
        folder = resources.files("pspnet.data") / "classes"
        file = folder / f"{name}.csv"
        if Path(name).name != name or not file.is_file():  # a path is none of these names
            known = sorted(entry.name[:-4] for entry in folder.iterdir() if entry.name.endswith(".csv"))
            raise ConfigError(f"no class table is called {name!r}; there are: {', '.join(known)}, or give a CSV file")
        with resources.as_file(file) as path:
            return cls._from_rows(read_rows(path))

    @classmethod
    def numbered(cls, count: int) -> LabelSpace:
        """class_0 .. class_{count-1}, for a model whose classes nobody named."""
        return cls(tuple(f"class_{i}" for i in range(count)))

    @property
    def is_numbered(self) -> bool:
        """Whether nobody named the classes."""
        return self.names == LabelSpace.numbered(self.num_classes).names

    def by_code(self) -> LabelSpace:
        """The same classes in the order of their codes, which is the order that a network was trained with where only
        the codes are known."""
        order = sorted(range(self.num_classes), key=lambda index: self.codes[index])
        new_index = {old: new for new, old in enumerate(order)}
        return replace(
            self,
            names=tuple(self.names[i] for i in order),
            colours=tuple(self.colours[i] for i in order),
            codes=tuple(self.codes[i] for i in order),
            aliases={code: new_index[index] for code, index in self.aliases.items()},
        )

    @classmethod
    def _from_rows(cls, rows: Sequence[ClassRow]) -> LabelSpace:
        classes = [row for row in rows if not row.ignored]
        ignored = [row for row in rows if row.ignored]
        colours = tuple(row.colour for row in classes if row.colour is not None)
        return cls(
            tuple(row.name for row in classes),
            colours,
            tuple(row.code for row in classes),
            tuple(dict.fromkeys(row.code for row in ignored)) or (IGNORE,),
            tuple(row.colour for row in ignored if row.colour is not None and row.colour not in colours),
        )

    def _known_codes(self) -> dict[int, int]:
        """Source code -> class index or IGNORE."""
        return {
            **dict.fromkeys(self.ignored_codes, IGNORE),
            **{code: index for index, code in enumerate(self.codes)},
            **self.aliases,
        }

    def _unknown(self, code: int, source: str) -> LabelError:
        hint = 'Is it a colour image? Use decode="colours".'
        if code == IGNORE:
            hint = (
                "Does the file hold training ids (0, 1, 2, ... and 255) where other codes are expected? If 255 is a class, or "
                "means 'do not count', say so in the class table: 255,NAME,red,green,blue,0 or 255,ignored,0,0,0,1"
            )
        return LabelError(
            f"'{source}' has code {code}; the {self.num_classes} classes have the codes {_ranges(self.codes)}, "
            f"ignored are {_ranges(self.ignored_codes) or 'none'}. {hint}"
        )


def read_classes(source: str | Path) -> LabelSpace:
    """A class table: a CSV or JSON file, or the name of one that comes along. Raises ConfigError naming it."""
    if Path(source).suffix.lower() not in (".csv", ".json"):
        return LabelSpace.named(str(source))
    path_limits.check(source)
    return LabelSpace.from_csv(source)


def _pack(colour: Sequence[int]) -> int:
    return int(colour[0]) << 16 | int(colour[1]) << 8 | int(colour[2])


def _ranges(codes: Iterable[int]) -> str:
    """(0, 1, 2, 5) -> '0..2, 5'."""
    parts: list[list[int]] = []
    for code in sorted(set(codes)):
        if parts and code == parts[-1][1] + 1:
            parts[-1][1] = code
        else:
            parts.append([code, code])
    return ", ".join(str(a) if a == b else f"{a}..{b}" for a, b in parts)
