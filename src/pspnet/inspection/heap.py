"""How much memory the C library's allocator takes for blocks that come and go: glibc's rules on sizes alone.

A block below 32 MiB is cut from the heap: the smallest free piece that holds it (best fit), else the heap grows at its end.
Free neighbours join, but holes inside the heap stay the process's. Larger blocks are mapped and handed back at once (glibc's
threshold grows to that maximum after the first such block is freed).

    >>> heap = Heap()
    >>> for name in "abc":
    ...     heap.take(name, 1000)
    >>> heap.give("b")                      # |aaaa|    |cccc|  the hole stays
    >>> heap.take("d", 2000)                # |aaaa|    |cccc|dddddddd|
    >>> heap.bytes
    5280
    >>> heap.take("e", 500); heap.bytes     # |aaaa|ee  |cccc|dddddddd|
    5280
"""

from __future__ import annotations

import bisect
from collections.abc import Hashable

MAPPED_BYTES = 32 * 2**20  # glibc's DEFAULT_MMAP_THRESHOLD_MAX on 64-bit machines
ALIGNED, HEADER = 16, 64  # PyTorch asks for addresses that 64 divides


class Heap:
    """The heap while blocks are taken and given back. bytes: what the process holds now; peak_bytes: its maximum.

    more: of the heap, what is added to it for blocks that nobody tells of; mapped blocks get none.
    """

    def __init__(self, more: float = 0.0) -> None:
        self.end = self.mapped = self.peak_bytes = 0
        self.more = more
        self._free: list[tuple[int, int]] = []  # (start, size), by start; no two of them touch
        self._blocks: dict[Hashable, tuple[int | None, int]] = {}  # name -> (start, None where mapped; size)

    @property
    def bytes(self) -> int:
        return self.end + int(self.more * self.end) + self.mapped

    def take(self, name: Hashable, size: int) -> None:
        size = -(-(size + HEADER) // ALIGNED) * ALIGNED
        if size >= MAPPED_BYTES:
            self._blocks[name] = (None, size)
            self.mapped += size
        else:
            self._blocks[name] = (self._cut(size), size)
        self.peak_bytes = max(self.peak_bytes, self.bytes)

    def _cut(self, size: int) -> int:
        holes = [(hole, index) for index, (_, hole) in enumerate(self._free) if hole >= size]
        if holes:
            index = min(holes)[1]
            start, hole = self._free[index]
            self._free[index : index + 1] = [(start + size, hole - size)] if hole > size else []
            return start
        last_is_free = bool(self._free) and sum(self._free[-1]) == self.end
        start = self._free.pop()[0] if last_is_free else self.end
        self.end = start + size
        return start

    def give(self, name: Hashable) -> None:
        start, size = self._blocks.pop(name)
        if start is None:
            self.mapped -= size
            return
        index = bisect.bisect(self._free, (start, size))
        before = self._free[index - 1] if index and sum(self._free[index - 1]) == start else None
        after = self._free[index] if index < len(self._free) and self._free[index][0] == start + size else None
        joined = (before[0] if before else start, size + (before[1] if before else 0) + (after[1] if after else 0))
        self._free[index - (before is not None) : index + (after is not None)] = [joined]
