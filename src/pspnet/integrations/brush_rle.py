"""Label Studio's brush masks: the run lengths of @thi.ng/rle-pack, over pixels of four equal bytes.

32 bits   number of bytes (4 x H x W)        5 bits    bits of a value - 1 (7)
4 x 4     bits of the four sizes of a run's length, each - 1 (3, 4, 8, 16 bits)
then      1 bit "a run", 2 bits which size, the length - 1 in so many bits, 8 bits the value
and zeros up to a whole byte
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIZES = (3, 4, 8, 16)
LONGEST = 2**16


def encode_brush(mask: NDArray[np.bool_]) -> list[int]:
    """(H, W) bool -> the list of bytes that `value.rle` holds: 255 inside, 0 outside."""
    flat = mask.ravel()
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, len(flat))
    lengths = 4 * np.diff(ends, prepend=0)
    values = np.where(flat[ends - 1], np.uint32(255), np.uint32(0))
    # a run longer than 16 bits can tell is several
    parts = -(-lengths // LONGEST)
    values = np.repeat(values, parts)
    last = np.cumsum(parts) - 1
    pieces = np.full(len(values), LONGEST, np.int64)
    pieces[last] = lengths - (parts - 1) * LONGEST
    which = np.searchsorted(2 ** np.array(SIZES), pieces)
    size = np.array(SIZES)[which]
    words = (1 << (2 + size + 8)) | (which << (size + 8)) | ((pieces - 1) << 8) | values
    bits = np.unpackbits(words.astype(">u4").view(np.uint8)).reshape(-1, 32)
    token_bits = bits[np.arange(32) >= 32 - (3 + size + 8)[:, None]]
    head = f"{4 * len(flat):032b}{7:05b}" + "".join(f"{bits - 1:04b}" for bits in SIZES)
    return np.packbits(np.concatenate([np.frombuffer(head.encode(), np.uint8) - ord("0"), token_bits])).tolist()
