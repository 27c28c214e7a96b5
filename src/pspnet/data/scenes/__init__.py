"""Generated scenes: small pictures of places in which what a thing is depends on what lies far from it.

The embedded default data set: nothing to download. Three ambiguities, each decided by a remote part of the picture:

    boat or car              the same hull; the near corner of its half of the picture is water or road
    building or skyscraper   the same facade; a church or towers on the far side of the horizon
    pillow or blanket        the same bulge of the sheet's cloth; a plaid or fresh linen at the foot of its side
"""

from __future__ import annotations

import zlib

import numpy as np

from pspnet.data.dataset import Dataset, Sample
from pspnet.data.scenes import bedroom, waterside
from pspnet.data.scenes.bedroom import Bedroom
from pspnet.data.scenes.brush import Canvas, develop
from pspnet.data.scenes.waterside import Waterside
from pspnet.errors import ConfigError
from pspnet.labels import LabelSpace

__all__ = ["AMBIGUOUS", "SCENE_CLASSES", "Bedroom", "Facts", "Scenes", "Waterside"]

Facts = Waterside | Bedroom
SCENE_CLASSES = LabelSpace(
    names=(
        "sky",
        "tree",
        "grass",
        "water",
        "road",
        "boat",
        "car",
        "building",
        "skyscraper",
        "wall",
        "bed",
        "pillow",
        "blanket",
    ),
    colours=(
        (128, 176, 226),
        (44, 104, 56),
        (146, 188, 84),
        (38, 98, 176),
        (112, 112, 120),
        (240, 148, 40),
        (208, 48, 60),
        (176, 118, 84),
        (120, 76, 168),
        (216, 204, 180),
        (232, 170, 188),
        (240, 220, 60),
        (58, 176, 170),
    ),
)
# the classes of the paper's three failure kinds: a relationship, two confusable categories, an inconspicuous thing
AMBIGUOUS = {
    "relationship": ("boat", "car"),
    "confusable": ("building", "skyscraper"),
    "inconspicuous": ("pillow", "blanket"),
}
MIN_SIZE_PX = 32
_BEDROOMS = 0.4  # share of the scenes


class Scenes(Dataset):
    """`count` generated scenes as a Dataset: image (size, size, 3) uint8 RGB, labels (size, size) uint8, no ignore.

    Scene i is a function of (seed, split, i) alone, so splits do not share scenes and a longer set begins with a
    shorter one. Raises ConfigError when count is below 1 or size below 32 px.
    """

    label_space = SCENE_CLASSES
    bands = 3
    band_names = ("red", "green", "blue")

    def __init__(self, count: int = 1000, seed: int = 0, size: int = 256, split: str = "train") -> None:
        if count < 1:
            raise ConfigError(f"count = {count}: a set of scenes has at least 1")
        if size < MIN_SIZE_PX:
            raise ConfigError(f"size = {size} px: scenes have at least {MIN_SIZE_PX} px, or nothing can be told apart")
        if seed < 0:
            raise ConfigError(f"seed = {seed}: use 0 or a positive number")
        self.count, self.seed, self.size, self.split = count, seed, size, split
        self.name = f"scenes ({split})"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        return self.draw(index)

    def facts(self, index: int) -> Facts:
        """What decides the labels of scene `index`."""
        rng = self._streams(index)[0]
        return Bedroom.draw(rng) if rng.random() < _BEDROOMS else Waterside.draw(rng)

    def draw(self, index: int, facts: Facts | None = None) -> Sample:
        """Scene `index`, or its counterfactual: the same place where other `facts` hold.

        The two differ in the pixels that tell, which lie far from the things whose class they change, and nowhere else.
        """
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        facts = facts or self.facts(index)
        _, scenery, telling, darkroom = self._streams(index)
        canvas = Canvas(self.size)
        if isinstance(facts, Bedroom):
            bedroom.paint(canvas, facts, scenery, telling)
        else:
            waterside.paint(canvas, facts, scenery, telling)
        return Sample(develop(canvas, darkroom), canvas.labels, f"{self.split}/{index:05d}")

    def _streams(self, index: int) -> list[np.random.Generator]:
        """Random numbers for the facts, for the scenery, for what tells, and for the photograph."""
        key = (self.seed, zlib.crc32(self.split.encode()), index)
        return [np.random.Generator(np.random.PCG64(child)) for child in np.random.SeedSequence(key).spawn(4)]
