"""Who may enter: a bound on requests and on their pixels, taken before the work and given back after it.

Used from the event loop's thread only, so it needs no lock.
"""

from __future__ import annotations

import time
from types import TracebackType

from pspnet.server.problems import Problem
from pspnet.server.settings import ServerSettings

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

    def enter(self) -> Ticket:
        """A place, before any byte of the body is read."""
        if self.requests >= self.most_requests:
            raise Problem("full", f"{self.requests} requests are in work, the most that is taken", self.wait_s())
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
