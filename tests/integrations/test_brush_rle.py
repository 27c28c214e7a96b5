"""Brush masks are what Label Studio's own decoder reads, written down here in the plainest way."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pspnet.integrations.brush_rle import encode_brush


def decode(data: list[int]) -> np.ndarray:
    """The format's reference decoder: a head, then runs and single values, bit by bit."""
    bits = "".join(f"{byte:08b}" for byte in data)
    position = 0

    def read(count: int) -> int:
        nonlocal position
        value = int(bits[position : position + count], 2)
        position += count
        return value

    count, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    out: list[int] = []
    while len(out) < count:
        run = read(1)
        length = 1 + read(sizes[read(2)])
        out += [read(word)] * length if run else [read(word) for _ in range(length)]
    return np.array(out[:count], np.uint8)


def check(mask: np.ndarray) -> None:
    actual = decode(encode_brush(mask)).reshape(*mask.shape, 4)
    np.testing.assert_array_equal(actual, np.where(mask, 255, 0)[..., None].repeat(4, axis=2))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 70)), min_size=1, max_size=30))
def test_any_runs_come_back(runs: list[tuple[bool, int]]) -> None:
    check(np.repeat([value for value, _ in runs], [length for _, length in runs])[None])


def test_runs_longer_than_a_length_holds() -> None:
    check(np.ones((300, 60), bool))
    mask = np.zeros((130, 140), bool)  # 4 x 130 x 140 = 72,800 bytes
    mask[-1, -1] = True
    check(mask)
    check(np.ones((128, 128), bool))  # 65,536 exactly


def test_bytes_are_those_of_label_studios_encoder() -> None:
    """label_studio_sdk 2.1.2's mask2rle gives these for this mask (and sometimes one more zero at the end)."""
    mask = np.zeros((3, 5), bool)
    mask[1, 1:4] = True
    assert encode_brush(mask) == [0, 0, 0, 60, 57, 27, 254, 23, 0, 183, 255, 133, 192, 0]
