"""Overlapping windows of a large image, predicted in batches and blended, piece by finished piece.

Every window finishes one rectangle of its own, its core; the cores divide the image. A core's first rows and columns
are shared with the windows above and to the left, whose last `overlap` pixels are kept until then: that is all the
memory that blending takes, (K, overlap, width), whatever the height of the image and the number of its windows.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from pspnet.predict.arrays import best_class, copy_of, like, to_numpy
from pspnet.tiling import Span, Window, profile, spans

WHOLE_PIXELS = 2048 * 1024  # an image up to this size is seen at once; a larger one in windows
WINDOW_PX, OVERLAP_PX = 1024, 256

T = TypeVar("T")
# (B, bands, h, w) float32 -> probabilities (B, K, h, w), as arrays or as tensors on the predictor's device
Predictor = Callable[[NDArray[np.float32]], Any]


@dataclass(frozen=True)
class WindowView:
    """One window of an image. pixels: (bands, h, w) of any type, or None where there is nothing to see.

    valid: (h, w) bool, or None where every pixel counts; the stream hands it on, cut to the core.
    """

    rows: Span
    columns: Span
    pixels: NDArray[Any] | None
    valid: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Piece:
    """A finished rectangle. probabilities: (K, h, w) as the predictor gave them, or None where nothing was seen."""

    core: Window
    probabilities: Any
    valid: NDArray[np.bool_] | None = None


def blended_pieces(
    views: Iterable[WindowView], predict: Predictor, overlap_px: int, batch_size: int = 4
) -> Generator[Piece, None, None]:
    """One piece for each view, in the views' order: rows of windows from top to bottom, each from left to right.

    Views with nothing to see may be left out, and the first rows of windows too: the cores below the first row that is
    given are what they would be in a complete run, so an interrupted one can go on. All windows have one size.
    """
    blender = _Blender(overlap_px)
    waiting: list[WindowView] = []
    waiting_windows = 0
    for view in views:
        waiting.append(view)
        waiting_windows += view.pixels is not None
        if waiting_windows == batch_size or len(waiting) >= 64:
            yield from _handed_over(blender.blend(waiting, predict))
            waiting, waiting_windows = [], 0
    yield from _handed_over(blender.blend(waiting, predict))


def _handed_over(pieces: list[Piece]) -> Iterator[Piece]:
    """The pieces in order, none of them kept here: whoever takes one may free it."""
    pieces.reverse()
    while pieces:
        yield pieces.pop()


def windowed_labels(
    pixels: NDArray[Any],
    predict: Predictor,
    confidence: bool = False,
    batch_size: int = 1,
    before_each: Callable[[], None] = lambda: None,
    probabilities: NDArray[np.float16] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
    """Labels (H, W) and, if asked, confidence (H, W) of an image (H, W, bands) of any size, in blended windows.

    Memory does not grow with K x H x W. before_each: called before a window is read; what it raises ends the work.
    probabilities: (K, H, W) to be filled.
    """
    height, width = pixels.shape[:2]
    labels = np.empty((height, width), np.uint8)
    certainty = np.empty((height, width), np.float32) if confidence else None

    def views() -> Iterator[WindowView]:
        for rows in spans(height, WINDOW_PX, OVERLAP_PX):
            for columns in spans(width, WINDOW_PX, OVERLAP_PX):
                before_each()
                window = pixels[rows.start : rows.stop, columns.start : columns.stop]
                yield WindowView(rows, columns, window.transpose(2, 0, 1))

    for piece in blended_pieces(views(), predict, OVERLAP_PX, batch_size):
        best, index = best_class(piece.probabilities)
        labels[piece.core.slices] = to_numpy(index)
        if certainty is not None:
            certainty[piece.core.slices] = to_numpy(best)
        if probabilities is not None:
            probabilities[:, *piece.core.slices] = to_numpy(piece.probabilities)
    return labels, certainty


def ahead(items: Generator[T, None, None], depth: int) -> Generator[T, None, None]:
    """The same items, made by a thread of their own that runs up to `depth` items ahead.

    An exception of the maker reaches the taker in its place. When the taker stops, so does the thread, after the item
    it is making; the generator is closed in the thread that ran it.
    """
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    stopped = threading.Event()

    def offer(kind: str, content: Any) -> bool:
        while not stopped.is_set():
            try:
                ready.put((kind, content), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not offer("item", item):
                    break
            offer("end", None)
        except BaseException as error:  # any error at all belongs to the taker, not to this thread
            offer("error", error)
        finally:
            items.close()

    maker = threading.Thread(target=make, name="ahead", daemon=True)
    maker.start()
    try:
        while True:
            kind, content = ready.get()
            if kind == "item":
                yield cast(T, content)
            elif kind == "error":
                raise content
            else:
                return
    finally:
        stopped.set()
        maker.join()


def as_float(image: NDArray[Any]) -> NDArray[np.float32]:
    """(H, W, bands) of any type -> (bands, H, W) float32, values unchanged."""
    return np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)


class _Blender:
    """Holds the last rows and columns of finished windows until their neighbours arrive.

    A row of 6 pixels in windows of 4 that share 2. The newer window's weight rises over the shared pixels, the older one's
    falls, and they sum to 1:

        window 1   a a a a          core of window 1: 2 pixels; its last two wait in `beside`
        window 2       b b b b      core of window 2: 4 pixels, the first two blended
        weight of b    1/4 3/4      sin^2 at a third and two thirds of a quarter turn

    >>> from pspnet.tiling import spans
    >>> values = iter([0.0, 1.0])
    >>> predict = lambda images: np.full((1, 1, 1, 4), next(values), np.float32)     # K = 1
    >>> views = (WindowView(Span(0, 1, 0, 1, 0), columns, np.zeros((3, 1, 4))) for columns in spans(6, 4, 2))
    >>> [piece.probabilities.ravel().round(2).tolist() for piece in blended_pieces(views, predict, 2, batch_size=1)]
    [[0.0, 0.0], [0.25, 0.75, 1.0, 1.0]]
    """

    def __init__(self, overlap: int) -> None:
        self.overlap = overlap
        self.ramp: Any = profile(2 * overlap, overlap, "cosine")[:overlap].copy()  # weight of the newer
        self.left_columns: tuple[int, Any] | None = None  # (first column of the next core, (K, h, overlap))
        self.row = -1  # first row of the cores at work
        self.above: dict[int, Any] = {}  # first column of a core -> (K, overlap, core's width)
        self.below: dict[int, Any] = {}
        self.below_row = -1  # first row of the cores that `below` belongs to

    def blend(self, views: list[WindowView], predict: Predictor) -> list[Piece]:
        images = [view.pixels for view in views if view.pixels is not None]
        scores = iter(predict(np.stack(images).astype(np.float32, copy=False)) if images else ())
        return [self._place(view, next(scores) if view.pixels is not None else None) for view in views]

    def _place(self, view: WindowView, scores: Any) -> Piece:
        """Blends one window's (K, h, w) with what is kept, keeps its own last rows and columns, returns its core."""
        rows, columns = view.rows, view.columns
        core = Window(
            rows.core_start,
            columns.core_start,
            rows.core_stop - rows.core_start,
            columns.core_stop - columns.core_start,
        )
        if rows.core_start != self.row:
            self.above = self.below if self.below_row == rows.core_start else {}
            self.below, self.below_row, self.row, self.left_columns = {}, rows.core_stop, rows.core_start, None
        if scores is None:
            self.left_columns = None
            return Piece(core, None)
        ramp = like(self.ramp, scores)
        inner = columns.core
        if columns.fade and self.left_columns is not None and self.left_columns[0] == columns.core_start:
            shared = scores[:, :, inner.start : inner.start + columns.fade]
            shared[...] = self.left_columns[1] + (shared - self.left_columns[1]) * ramp
        rest = scores[:, :, inner.stop : inner.stop + self.overlap]
        self.left_columns = (columns.core_stop, copy_of(rest)) if rest.shape[2] else None
        scores = scores[:, :, inner]
        inner = rows.core
        above = self.above.pop(columns.core_start, None)
        if rows.fade and above is not None:
            shared = scores[:, inner.start : inner.start + rows.fade]
            shared[...] = above + (shared - above) * ramp[:, None]
        rest = scores[:, inner.stop : inner.stop + self.overlap]
        if rest.shape[1]:
            self.below[columns.core_start] = copy_of(rest)
        valid = None if view.valid is None else view.valid[rows.core, columns.core]
        return Piece(core, scores[:, inner], valid)
