"""Who may enter: bounds on requests, on their pixels and on their bodies, taken before the work and given back after it.

A place among the requests in work is taken when a body is there: clients that send slowly, or nothing, take nobody's place.
Bodies that are still coming are bounded by their bytes; when there are too many, the sender that was silent the longest
leaves.

Used from the event loop's thread only, so it needs no lock.
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

from pspnet.server.problems import Problem
from pspnet.server.settings import ServerSettings

SILENT_S = 0.5  # without a byte: a sender that may have to leave
_MEMORY = 0.9  # share of the past in the moving mean of seconds a request


class Gate:
    """Counts the requests in work and their pixels. `with gate.enter() as ticket:` raises Problem when it is full."""

    def __init__(self, settings: ServerSettings) -> None:
        self.most_requests = settings.queue
        self.most_pixels = int(settings.queue_megapixels * 1e6)
        self.deadline_s = settings.deadline_s
        self.requests = self.pixels = 0
        self.preparing = 0  # entered, and not yet handed to the batcher: a batch may wait for them
        self._seconds_each = 0.05  # a guess, until requests have left
        self._last_left = 0.0

    def check(self) -> None:
        """Raises Problem when there is no place: told before a body is read."""
        if self.requests >= self.most_requests:
            raise Problem("full", f"{self.requests} requests are in work, the most that is taken", self.wait_s())

    def enter(self) -> Ticket:
        """A place among the requests in work."""
        self.check()
        self.requests += 1
        self.preparing += 1
        return Ticket(self)

    def wait_s(self) -> float:
        """When half of what is here will have left, by the pace of late: a good time to come again."""
        return min(self._seconds_each * self.requests / 2, self.deadline_s)

    def left(self) -> None:
        now = time.monotonic()
        if self.requests > 1 and self._last_left:  # the pace counts only while there is work all the time
            self._seconds_each = _MEMORY * self._seconds_each + (1 - _MEMORY) * (now - self._last_left)
        self._last_left = now


class Ticket:
    """One request's place. It is given back at the end of the `with` block, however that ends."""

    def __init__(self, gate: Gate) -> None:
        self.gate, self.pixels, self.prepared = gate, 0, False

    def take_pixels(self, pixels: int) -> None:
        """Room for the decoded image. Raises Problem where the others leave too little; one alone always has room."""
        gate = self.gate
        if gate.pixels and gate.pixels + pixels > gate.most_pixels:
            raise Problem(
                "full",
                f"the images in work have {gate.pixels / 1e6:.1f} million pixels; with this one there would be "
                f"more than {gate.most_pixels / 1e6:g}",
                gate.wait_s(),
            )
        self.pixels = pixels
        gate.pixels += pixels

    def hand_over(self) -> None:
        """The image is with the batcher now."""
        if not self.prepared:
            self.prepared = True
            self.gate.preparing -= 1

    def __enter__(self) -> Ticket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hand_over()
        self.gate.requests -= 1
        self.gate.pixels -= self.pixels
        self.gate.left()


class Bodies:
    """The bytes of bodies in memory. `with bodies.enter() as body:`, and `body.grow(n)` for what has come."""

    def __init__(self, settings: ServerSettings) -> None:
        self.most_bytes = int(settings.queue_mib * 2**20)
        self.held = 0
        self.coming: set[Body] = set()

    def enter(self) -> Body:
        return Body(self)

    def make_room(self, new: Body) -> None:
        """Ends the reading of the body that was silent the longest. Raises Problem where none was silent."""
        now = time.monotonic()
        silent = [one for one in self.coming if one is not new and one.bytes and now - one.moved > SILENT_S]
        if not silent:
            raise Problem("full", f"bodies of {self.held / 2**20:.0f} MiB are in memory, the most that is held", 1.0)
        longest = min(silent, key=lambda one: one.moved)
        longest.give_back()
        longest.ended = True
        longest.task.cancel()


class Body:
    """One body's bytes. ended: another one took its room; its reader was cancelled."""

    def __init__(self, bodies: Bodies) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.bodies, self.task, self.bytes, self.ended, self.moved = bodies, task, 0, False, time.monotonic()

    def grow(self, count: int) -> None:
        """So many bytes more are in memory. Raises Problem where there is no room."""
        self.moved = time.monotonic()
        self.bytes += count
        self.bodies.held += count
        while self.bodies.held > self.bodies.most_bytes:
            self.bodies.make_room(self)

    def complete(self) -> None:
        """The whole body is there: nobody takes its room any more."""
        self.bodies.coming.discard(self)

    def give_back(self) -> None:
        self.bodies.held -= self.bytes
        self.bytes = 0
        self.bodies.coming.discard(self)

    def __enter__(self) -> Body:
        self.bodies.coming.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_back()
