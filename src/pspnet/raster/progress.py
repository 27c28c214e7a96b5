"""How far a run is, told to whoever asks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from pspnet.tiling import Window

INTERVAL_S = 0.2


@dataclass(frozen=True)
class Progress:
    """How far a run is. pixels count the raster's, once each; speed and time left are of this process."""

    stage: str  # 'segmenting', 'overviews', 'polygons'
    done_px: int
    total_px: int
    megapixels_per_s: float
    seconds_left: float


class Watch:
    """Tells a caller how far the run is, at most five times a second. rows: how many were done before it began."""

    def __init__(self, tell: Callable[[Progress], None] | None, width: int, height: int, rows: int) -> None:
        self.tell, self.width, self.total = tell, width, width * height
        self.before = self.done = rows * width
        self.began = self.reported_at = time.monotonic()
        self.name = "segmenting"

    def saw(self, window: Window) -> None:
        """A finished rectangle; rectangles come row by row."""
        self.done += window.height * window.width
        if window.right == self.width:  # parts without data were skipped without a word
            self.done = window.bottom * self.width
        now = time.monotonic()
        if self.tell is not None and (now - self.reported_at >= INTERVAL_S or self.done == self.total):
            self.reported_at = now
            self._say(now)

    def stage(self, name: str) -> None:
        """Everything is seen; what follows is of the file."""
        self.name, self.done = name, self.total
        self._say(time.monotonic())

    def _say(self, now: float) -> None:
        if self.tell is not None:
            speed = max(self.done - self.before, 0) / max(now - self.began, 1e-9)
            left = (self.total - self.done) / speed if speed else float("inf")
            self.tell(Progress(self.name, self.done, self.total, speed / 1e6, left))
