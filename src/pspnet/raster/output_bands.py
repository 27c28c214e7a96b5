"""What a map's bands hold: labels and, if asked for, confidence, entropy and probabilities, all as bytes."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.config.raster import RasterConfig
from pspnet.errors import ConfigError, RasterError
from pspnet.labels import Colour, LabelSpace
from pspnet.predict.arrays import Array, best_class, is_tensor, to_numpy
from pspnet.raster.writing import NODATA

UNSURE = "unsure"
UNSURE_COLOUR = (160, 160, 160)


@dataclass(frozen=True)
class MapBands:
    """The bands of a map. Every share is in per cent, 0..100; 255 is nodata in each band."""

    label_space: LabelSpace
    codes: bool = False
    unsure_below: float | None = None
    confidence: bool = False
    entropy: bool = False
    probabilities: bool = False

    @classmethod
    def of(cls, config: RasterConfig, label_space: LabelSpace) -> MapBands:
        """What a run asks for. Raises ConfigError when the classes' codes do not fit into a byte."""
        bands = cls(
            label_space,
            config.codes,
            config.unsure_below,
            config.confidence or config.polygons is not None,
            config.entropy,
            config.probabilities,
        )
        if max(bands.names) >= NODATA:
            raise ConfigError(
                f"pixel value {max(bands.names)}: a map holds 0 to 254, and 255 for nodata. "
                "Leave codes or unsure_below out"
            )
        return bands

    @property
    def values(self) -> list[int]:
        """The pixel value of each class, in the model's order."""
        return list(self.label_space.codes) if self.codes else list(range(self.label_space.num_classes))

    @cached_property
    def names(self) -> dict[int, str]:
        """Pixel value -> class, 'unsure' last."""
        name_of = dict(zip(self.values, self.label_space.names, strict=True))
        if self.unsure_below is not None:
            name_of[max(name_of) + 1] = UNSURE
        return name_of

    @property
    def colours(self) -> list[Colour]:
        """The colour of each pixel value from 0; black where no class has the value."""
        colours: list[Colour] = [(0, 0, 0)] * (max(self.names) + 1)
        for value, colour in zip(self.values, self.label_space.colours, strict=True):
            colours[value] = colour
        if self.unsure_below is not None:
            colours[-1] = UNSURE_COLOUR
        return colours

    @property
    def descriptions(self) -> list[str]:
        """The name of each band."""
        return (
            ["class"]
            + ["confidence (%)"] * self.confidence
            + ["entropy (%)"] * self.entropy
            + [f"probability of {name} (%)" for name in self.label_space.names] * self.probabilities
        )

    def reduce(self, probabilities: Array, valid: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
        """Probabilities (K, h, w), an array or a tensor -> (bands, h, w) uint8, NODATA where not valid.

        What needs all classes is computed where they lie; the rest is a few bytes for each pixel.
        """
        best, index = (to_numpy(part) for part in best_class(probabilities))
        if not np.isfinite(best).all():
            raise RasterError("the model gives values that are not finite; its weights or its normalisation are broken")
        labels = np.array(self.values, np.uint8)[index]
        if self.unsure_below is not None:
            labels = np.where(best < np.float32(self.unsure_below), np.uint8(max(self.names)), labels)
        planes = [labels]
        if self.confidence:
            planes.append(_percent(best))
        if self.entropy:
            most = math.log(max(len(probabilities), 2))
            planes.append(_percent(to_numpy(_entropy(probabilities)).astype(np.float32) / np.float32(most)))
        if self.probabilities:
            planes += [_percent(to_numpy(plane)) for plane in probabilities]
        result: NDArray[np.uint8] = np.stack(planes)
        if valid is not None:
            result[:, ~valid] = NODATA
        return result


def _entropy(probabilities: Array) -> Array:
    """(K, h, w) probabilities -> (h, w), in units of e; 0 log 0 is 0."""
    if is_tensor(probabilities):
        return -sys.modules["torch"].special.xlogy(probabilities, probabilities).sum(dim=0)
    total = np.zeros(probabilities.shape[1:], np.float32)
    for plane in probabilities:
        total -= plane * np.log(np.maximum(plane, np.float32(1e-30)))
    return total


def _percent(share: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    return np.rint(share * np.float32(100)).clip(0, 100).astype(np.uint8)
