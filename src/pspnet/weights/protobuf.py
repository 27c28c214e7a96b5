"""The protocol buffers wire format, read only: what a .caffemodel needs, in a page.

A message is a run of fields, each a key (field number << 3 | wire type) and a value: 0 a varint, 1 eight bytes, 2 a
length and so many bytes (text, a nested message, packed numbers), 5 four bytes.
(https://protobuf.dev/programming-guides/encoding)
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import CheckpointError

VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES = 0, 1, 2, 5
Value = int | memoryview


def fields(message: memoryview) -> Iterator[tuple[int, int, Value]]:
    """(field number, wire type, value) of every field. Raises CheckpointError where the bytes are no message."""
    position, end = 0, len(message)
    while position < end:
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, position = _varint(message, position)
            yield number, kind, value
            continue
        if kind == LENGTH:
            size, position = _varint(message, position)
        elif kind in (EIGHT_BYTES, FOUR_BYTES):
            size = 8 if kind == EIGHT_BYTES else 4
        else:
            raise CheckpointError(f"byte {position}: wire type {kind} is none of protocol buffers'")
        if number == 0 or position + size > end:
            raise CheckpointError(f"byte {position}: a field of {size:,} bytes does not fit into the message")
        yield number, kind, message[position : position + size]
        position += size


def whole(value: Value) -> int:
    """A number that must have come as a varint."""
    if not isinstance(value, int):
        raise CheckpointError("a number was expected, and the file has bytes there")
    return value


def body(value: Value) -> memoryview:
    """Bytes that must have come with a length: a text, a nested message, packed numbers."""
    if isinstance(value, int):
        raise CheckpointError("bytes were expected, and the file has a number there")
    return value


def text(value: Value) -> str:
    return bytes(body(value)).decode("utf-8", errors="replace")


def floats(value: Value, width: int = 4) -> NDArray[np.float32]:
    """Packed or single little-endian numbers of `width` bytes, as float32."""
    data = body(value)
    if len(data) % width:
        raise CheckpointError(f"{len(data):,} bytes are not a whole number of {width}-byte values")
    return np.frombuffer(data, "<f4" if width == 4 else "<f8").astype(np.float32)


def varints(value: Value) -> list[int]:
    """Packed varints, or a single one."""
    if isinstance(value, int):
        return [value]
    numbers, position = [], 0
    while position < len(value):
        number, position = _varint(value, position)
        numbers.append(number)
    return numbers


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if position >= len(message) or shift > 63:
            raise CheckpointError(f"byte {position}: the file ends, or is damaged, in the middle of a number")
        byte = message[position]
        result |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return result, position
