"""Whether a fourth channel is opacity: some programs call every fourth band alpha, near infrared too."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_MANY = 16  # different values that a mask with soft edges does not have in half of its pixels

MEASURED = "has a fourth channel that is called opacity and holds many values, and the picture is put on white by it"
WAY_OUT = (
    "If it is a measured band (near infrared), say so in the file: gdal_translate -colorinterp_4 undefined IN.tif OUT.tif, and "
    "read it as a raster"
)


def is_measured(alpha: NDArray[Any]) -> bool:
    """Whether an alpha channel (H, W) looks like a band that measures something: more than half of its pixels are neither
    0 nor wholly opaque, and they have many values. Opacity is 0 or full nearly everywhere."""
    opaque = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "iu" else 1
    between = alpha[(alpha != 0) & (alpha != opaque) & (alpha == alpha)]
    return between.size > alpha.size / 2 and len(np.unique(between)) > _MANY
