"""One field of a struct in a MATLAB 5 file: enough for SBD's label files, so that SciPy need not be installed.

Format: MAT-File Format, The MathWorks, "Level 5 MAT-File Format". A file is a header of 128 bytes and tagged elements;
an element is a type, a number of bytes and a body padded to 8 bytes; compressed ones hold one more element.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import LabelError

_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _COMPRESSED = 14, 15
_STRUCT, _NUMERIC = 2, range(6, 16)  # array classes


def read_mat_field(path: Path, variable: str, field: str) -> NDArray[Any]:
    """The numeric array `variable.field` of a MATLAB 5 file. Raises LabelError naming the file."""
    try:
        data = path.read_bytes()
        order = {b"IM": "<", b"MI": ">"}[data[126:128]]
        for kind, body in _elements(data[128:], order):
            if kind == _COMPRESSED:
                kind, body = next(_elements(zlib.decompress(body), order))
            if kind == _MATRIX:
                found = _field_of(body, order, variable, field)
                if found is not None:
                    return found
    except (OSError, KeyError, IndexError, StopIteration, ValueError, struct.error, zlib.error) as error:
        raise LabelError(f"'{path}' is no MATLAB 5 file that can be read ({type(error).__name__}: {error})") from error
    raise LabelError(f"'{path}' has no {variable}.{field}")


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """(type, body) of the elements one after another."""
    at = 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(order + "II", data, at)
        if kind >> 16:  # a small element: type and size in one word, the body in the next
            kind, size, at = kind & 0xFFFF, kind >> 16, at + 4
            step = 4
        else:
            at += 8
            step = size if kind == _COMPRESSED else -(-size // 8) * 8
        if at + size > len(data):
            raise ValueError(f"an element of {size} bytes is cut off")
        yield kind, data[at : at + size]
        at += step


def _field_of(matrix: bytes, order: str, variable: str, field: str) -> NDArray[Any] | None:
    """A field of a struct called `variable`, or None when the matrix is another."""
    parts = _elements(matrix, order)
    flags, _dims, name = next(parts)[1], next(parts)[1], next(parts)[1]
    if name.rstrip(b"\0").decode("ascii") != variable or struct.unpack_from(order + "I", flags)[0] & 0xFF != _STRUCT:
        return None
    (width,) = struct.unpack_from(order + "i", next(parts)[1])
    names = next(parts)[1]
    fields = [names[i : i + width].split(b"\0")[0].decode("ascii") for i in range(0, len(names), width)]
    for candidate, (kind, body) in zip(fields, parts, strict=False):
        if candidate == field and kind == _MATRIX:
            return _numbers(body, order)
    return None


def _numbers(matrix: bytes, order: str) -> NDArray[Any]:
    parts = _elements(matrix, order)
    flags, dims, _name = next(parts)[1], next(parts)[1], next(parts)[1]
    if struct.unpack_from(order + "I", flags)[0] & 0xFF not in _NUMERIC:
        raise ValueError("the field is not numeric")
    kind, body = next(parts)
    shape = np.frombuffer(dims, order + "i4")
    return np.frombuffer(body, order + _NUMBERS[kind]).reshape(shape[::-1]).T.copy()
