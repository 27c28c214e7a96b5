"""Which ground is trained on and which is validated on: blocks of a raster, never single windows.

Neighbouring windows show the same roof, field and light, and random ones overlap: a score on windows that lie between
training windows says how well a model remembers, not how well it does elsewhere (Roberts et al. 2017, "Cross-validation
strategies for data with temporal, spatial, hierarchical, or phylogenetic structure", doi:10.1111/ecog.02881). So a
raster is divided into square blocks, each block belongs to one split as a whole, and no window crosses a block's border.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pspnet.tiling import Window, windows


@dataclass(frozen=True)
class Block:
    """A part of image `image` (its number) that belongs to one split. labelled: share of its pixels that have data and
    a label, as far as a coarse look tells."""

    image: int
    window: Window
    labelled: float = 1.0

    @property
    def worth(self) -> float:
        """Labelled pixels, about."""
        return self.window.height * self.window.width * self.labelled


def block_side(height: int, width: int, window_px: int) -> int:
    """Side of the blocks in pixels: some 5 x 5 of them in a raster, none smaller than a window."""
    return max(window_px, -(-max(height, width) // 5))


def blocks_of(image: int, height: int, width: int, side: int) -> Iterator[Block]:
    """The blocks of an image, row by row. What would be a sliver at the border belongs to the block before it."""
    rows, columns = _edges(height, side), _edges(width, side)
    for top, bottom in itertools.pairwise(rows):
        for left, right in itertools.pairwise(columns):
            yield Block(image, Window(top, left, bottom - top, right - left))


def divide(blocks: Sequence[Block], names: Sequence[str], split: str, val_share: float, seed: int) -> list[Block]:
    """The blocks of "train" or "val": those with the lowest hashes of (seed, image's name, place) are held out until
    they hold about `val_share` of the labelled pixels; at least one is, and one is not. "all": every block."""

    def rank(block: Block) -> bytes:
        window = block.window
        return hashlib.sha256(f"{seed} {names[block.image]} {window.top} {window.left}".encode()).digest()

    if split == "all":
        return list(blocks)
    ranked = sorted((block for block in blocks if block.labelled > 0), key=rank)
    if len(ranked) < 2:
        return [] if split == "val" else list(blocks)
    worth = np.cumsum([block.worth for block in ranked])
    held = int(np.argmin(np.abs(worth - val_share * worth[-1]))) + 1
    chosen = {(block.image, block.window) for block in ranked[: min(held, len(ranked) - 1)]}
    return [block for block in blocks if ((block.image, block.window) in chosen) == (split == "val")]


def grid_windows(block: Block, window_px: int) -> list[Window]:
    """Windows side by side that cover a block; the last ones are moved back to its border."""
    inner = block.window
    return [
        Window(inner.top + w.top, inner.left + w.left, w.height, w.width)
        for w in windows(inner.height, inner.width, window_px)
    ]


def random_window(block: Block, window_px: int, rng: np.random.Generator) -> Window:
    """A window anywhere in a block; smaller where the block is."""
    inner = block.window
    height, width = min(window_px, inner.height), min(window_px, inner.width)
    return Window(
        inner.top + int(rng.integers(inner.height - height + 1)),
        inner.left + int(rng.integers(inner.width - width + 1)),
        height,
        width,
    )


def _edges(length: int, side: int) -> list[int]:
    edges = list(range(0, length, side))
    if len(edges) > 1 and length - edges[-1] < side / 2:
        edges.pop()
    return [*edges, length]
