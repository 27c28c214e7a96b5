"""The allocator's heap against a list of bytes that are taken and free."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pspnet.inspection.heap import ALIGNED, HEADER, MAPPED_BYTES, Heap


def rounded(size: int) -> int:
    return -(-(size + HEADER) // ALIGNED) * ALIGNED


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3000), st.integers(0, 9)), max_size=60))
@settings(max_examples=80, deadline=None)
def test_best_fit_on_a_map_of_cells(actions: list[tuple[bool, int, int]]) -> None:
    """The slow restatement: a cell for every 16 bytes; the shortest run of free cells that fits, the first of equals."""
    heap, cells, alive = Heap(), [], {}
    for number, (gives, size, which) in enumerate(actions):
        if gives and alive:
            name = list(alive)[which % len(alive)]
            heap.give(name)
            start, count = alive.pop(name)
            cells[start : start + count] = [False] * count
        else:
            heap.take(number, size)
            count = rounded(size) // ALIGNED
            runs, at = [], 0
            while at < len(cells):
                end = at
                while end < len(cells) and not cells[end]:
                    end += 1
                if end - at >= count:
                    runs.append((end - at, at))
                at = max(end, at + 1)
            last = len(cells)
            while last and not cells[last - 1]:
                last -= 1
            start = min(runs)[1] if runs else last
            cells += [False] * (start + count - len(cells))
            cells[start : start + count] = [True] * count
            alive[number] = (start, count)
        assert heap.bytes == len(cells) * ALIGNED
    assert heap.peak_bytes >= heap.bytes


def test_large_blocks_are_handed_back() -> None:
    heap = Heap()
    heap.take("large", MAPPED_BYTES)
    heap.take("small", 100)
    assert heap.bytes == rounded(MAPPED_BYTES) + rounded(100)
    heap.give("large")
    assert heap.bytes == rounded(100)
    assert heap.peak_bytes == rounded(MAPPED_BYTES) + rounded(100)


def test_what_is_added_is_added_to_the_heap_alone() -> None:
    heap = Heap(more=0.25)
    heap.take("large", MAPPED_BYTES)
    heap.take("small", 1000)
    assert heap.peak_bytes == rounded(MAPPED_BYTES) + rounded(1000) * 5 // 4
