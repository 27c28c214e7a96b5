"""Labels of resized logits without resizing the logits: exact, for every pixel, and nearly free.

Between four neighbouring coarse pixels, a cell, every resized logit lies between the least and the greatest of its four
corners. So with m = the greatest of all classes' least corners, a class whose greatest corner is below m wins nowhere in
the cell. Mostly one class is left, and the cell has its label; where more are left, these candidates alone are resized.

The corner values of a 2 x 2 grid, three classes, resized to 4 x 4 (`align_corners`):

    class 0   class 1   class 2      least of the four   greatest
    9   8     4   5     0   7        0: 2   1: 3   2: 0  0: 9   1: 5   2: 7
    2   3     3   4     1   6        m = 3: every class's greatest reaches it, all are candidates

    >>> import numpy as np
    >>> logits = np.float32([[[9, 8], [2, 3]], [[4, 5], [3, 4]], [[0, 7], [1, 6]]])
    >>> labels_of_cells(logits, (4, 4), True)
    array([[0, 0, 0, 0],
           [0, 0, 0, 2],
           [0, 0, 0, 2],
           [1, 1, 2, 2]], dtype=uint8)

With class 2 lowered by 5 its greatest corner, 2, is below m = 3: two candidates are left. With class 0 raised by 8 its
least corner, 10, is above all others: one candidate, and nothing is resized.

    >>> [candidates_of(logits + np.float32(change)[:, None, None])[:, 0, 0].tolist() for change in ([0, 0, -5], [8, 0, 0])]
    [[True, True, False], [True, False, False]]

Values are rounded, so a class is left out only where it is below m by more than all roundings together; what is left is
resized with the arithmetic of the plain way (`logits.mix`), so equal values stay equal and the first class wins a tie.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pspnet.predict.sampling import mix, neighbours

Floats = NDArray[np.float32]
# two steps of bilinear resizing err by less than 9 units in the last place (2^-24) of the largest value; twice that, since
# the winner may be rounded down and another class up, and as much again for safety
ROUNDING = np.float32(32 * 2.0**-24)
BLOCK_VALUES = 2**18  # logits of the rows of cells that are looked at at once: a core's cache holds them
ENTRIES = 2**14  # columns of pixels in undecided cells that are resized at once: likewise
WORTH_IT = 12  # a pixel of one more candidate costs about as much as this many classes of a pixel in the plain way


def labels_of_cells(coarse: Floats, size: tuple[int, int], align_corners: bool) -> NDArray[np.uint8]:
    """(K, h, w) finite logits -> labels (H, W) uint8: the first class of the greatest resized logit. K <= 255."""
    labels = np.empty(size, np.uint8)
    fill_rows(coarse, labels, range(coarse.shape[1]), align_corners, rounding_of(coarse))
    return labels


def rounding_of(coarse: Floats) -> np.float32:
    """By how much resized values may be off; not finite where the logits are not."""
    return ROUNDING * np.maximum(coarse.max(), -coarse.min())


def candidates_of(coarse: Floats) -> NDArray[np.bool_]:
    """(K, h, w) -> (K, h, w): which classes can win between a coarse pixel and its neighbours right of it and below."""
    return _candidates(coarse, range(coarse.shape[1]), rounding_of(coarse)).transpose(2, 0, 1)


def crowded(coarse: Floats, pixels: int, rounding: np.float32) -> bool:
    """Whether so many candidates are left that the plain way is quicker; a few of the rows are looked at."""
    classes, height, width = coarse.shape
    sample = sorted({height * part // 8 for part in (1, 3, 5, 7)})
    mean = sum(_candidates(coarse, range(row, row + 1), rounding).sum() for row in sample) / (len(sample) * width)
    return bool(pixels < 2 * height * width or (mean - 1) * WORTH_IT > classes)


def fill_rows(
    coarse: Floats, labels: NDArray[np.uint8], cells: range, align_corners: bool, rounding: np.float32
) -> None:
    """Writes those rows of `labels` (H, W) that lie in these rows of cells of the logits (K, h, w)."""
    classes, high, wide = coarse.shape
    height, width = labels.shape
    x0, x1, x_share = neighbours(wide, width, align_corners)
    y0, _, y_share = neighbours(high, height, align_corners)
    tops = np.searchsorted(y0, np.arange(cells.start, cells.stop + 1))  # the first row of pixels of each row of cells
    # the candidates of all cells, one list: those of cell i are names[starts[i] : starts[i + 1]], in rising order
    step = max(BLOCK_VALUES // (classes * wide), 1)
    candidates = [
        np.flatnonzero(_candidates(coarse, range(top, min(top + step, cells.stop)), rounding))
        + (top - cells.start) * wide * classes
        for top in range(cells.start, cells.stop, step)
    ]
    cell, names = np.divmod(np.concatenate(candidates), classes)
    starts = np.searchsorted(cell, np.arange(len(cells) * wide + 1))
    certain = names[starts[:-1]].astype(np.uint8).reshape(len(cells), wide)
    labels[tops[0] : tops[-1]] = certain[:, x0][y0[tops[0] : tops[-1]] - cells.start]
    count = np.diff(starts)
    # what is left to do: a column of pixels in an undecided cell is one entry, entries of most candidates first
    row_of_cells, column = np.nonzero((count > 1).reshape(len(cells), wide)[:, x0])
    own_cell = row_of_cells * wide + x0[column]
    order = np.argsort(np.uint8(255) - count[own_cell].astype(np.uint8), kind="stable")  # a radix sort, for bytes
    flat = labels.reshape(-1)
    for begin in range(0, len(order), ENTRIES):
        part = order[begin : begin + ENTRIES]
        here, where, cell = row_of_cells[part], column[part], own_cell[part]
        left, right, share = x0[where], x1[where], x_share[where]
        upper = here + cells.start
        lower = np.minimum(upper + 1, high - 1)
        many = count[cell]
        resized = []  # of the n-th candidates: names, values in the coarse row above and in the one below
        for number in range(int(many[0])):
            some = slice(int(np.searchsorted(-many, -number, side="left")))  # entries with more than `number`
            name = names[starts[cell[some]] + number]
            above, below = (
                mix(coarse[name, row[some], left[some]], coarse[name, row[some], right[some]], share[some])
                for row in (upper, lower)
            )
            resized.append((name.astype(np.uint8), above, below))
        where = where + tops[here] * width
        height_of = (tops[here + 1] - tops[here]).astype(np.uint16)
        for step in range(int(height_of.max())):
            weight = y_share[np.minimum(tops[:-1] + step, height - 1)][here]
            label, best = resized[0][0].copy(), mix(resized[0][1], resized[0][2], weight)
            for name, above, below in resized[1:]:
                value = mix(above, below, weight[: len(name)])
                better = value > best[: len(name)]  # of equals the first stays
                np.copyto(label[: len(name)], name, where=better)
                np.copyto(best[: len(name)], value, where=better)
            if height_of.min() > step:
                flat[where] = label
            else:
                there = height_of > step
                flat[where[there]] = label[there]
            where += width


def _candidates(coarse: Floats, rows: range, rounding: np.float32) -> NDArray[np.bool_]:
    """(rows, w, K) of these rows of cells."""
    last = min(rows.stop, coarse.shape[1] - 1)  # the last row and column are their own neighbours
    lines = _classes_last(coarse[:, rows.start : last + 1])
    upper, lower = lines[: len(rows)], lines[1:] if last == rows.stop else np.concatenate([lines[1:], lines[-1:]])
    least, greatest = np.minimum(upper, lower), np.maximum(upper, lower)
    np.minimum(least[:, :-1], least[:, 1:], out=least[:, :-1])  # numpy reads what it overwrites first
    np.maximum(greatest[:, :-1], greatest[:, 1:], out=greatest[:, :-1])
    return greatest >= (least.max(axis=2) - rounding)[..., None]


def _classes_last(planes: Floats) -> Floats:
    """(K, n, w) -> (n, w, K) in order: a view of what PyTorch computed with channels last, else OpenCV's transposition,
    which takes half of numpy's time."""
    view = planes.transpose(1, 2, 0)
    if view.flags.c_contiguous:
        return view
    flat = np.ascontiguousarray(planes).reshape(len(planes), -1)
    return cv2.transpose(flat).reshape(view.shape)
