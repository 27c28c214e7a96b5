"""What a map's bands hold: labels and, if asked for, confidence, entropy and probabilities, all as bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pspnet.config.raster import RasterConfig
from pspnet.errors import ConfigError, RasterError
from pspnet.labels import Colour, LabelSpace
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
        found = dict(zip(self.values, self.label_space.names, strict=True))
        if self.unsure_below is not None:
            found[max(found) + 1] = UNSURE
        return found

    @property
    def colours(self) -> list[Colour]:
        """The colour of each pixel value from 0; black where no class has the value."""
        found: list[Colour] = [(0, 0, 0)] * (max(self.names) + 1)
        for value, colour in zip(self.values, self.label_space.colours, strict=True):
            found[value] = colour
        if self.unsure_below is not None:
            found[-1] = UNSURE_COLOUR
        return found

    @property
    def descriptions(self) -> list[str]:
        """The name of each band."""
        return (
            ["class"]
            + ["confidence (%)"] * self.confidence
            + ["entropy (%)"] * self.entropy
            + [f"probability of {name} (%)" for name in self.label_space.names] * self.probabilities
        )

    @torch.inference_mode()
    def reduce(self, found: Tensor, valid: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
        """Probabilities (K, h, w) -> (bands, h, w) uint8 on the CPU, NODATA where not valid."""
        best, index = found.max(dim=0)
        if not torch.isfinite(best).all():
            raise RasterError("the model gives values that are not finite; its weights or its normalisation are broken")
        labels = torch.tensor(self.values, dtype=torch.uint8, device=found.device)[index]
        if self.unsure_below is not None:
            labels = torch.where(best < self.unsure_below, max(self.names), labels)
        planes = [labels]
        if self.confidence:
            planes.append(_percent(best))
        if self.entropy:
            most = math.log(max(len(found), 2))
            planes.append(_percent(-torch.special.xlogy(found, found).sum(dim=0) / most))
        if self.probabilities:
            planes += list(_percent(found))
        result: NDArray[np.uint8] = torch.stack(planes).cpu().numpy()
        if valid is not None:
            result[:, ~valid] = NODATA
        return result


def _percent(share: Tensor) -> Tensor:
    return (share * 100).round().clamp(0, 100).to(torch.uint8)
