"""What is wrong with the labels of a data set as a whole: nothing labelled, one class, a class that nobody has.

Counts alone tell it, so that a check, a run and an evaluation say the same, whoever counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pspnet.data.faults import Fault
from pspnet.labels import IGNORE, LabelSpace

Role = Literal["learn", "score", "look"]  # trained on, scored on, or only looked at
_NAMED = 5


def role_of(split: str) -> Role:
    """What a split is used for, by its name."""
    name = split.lower()
    return "learn" if name.startswith("train") else "score" if name.startswith("val") else "look"


def class_faults(
    where: str, space: LabelSpace, pixels: NDArray[Any], ignored: int, labelled: int, role: Role = "look"
) -> list[Fault]:
    """where: the split, or what messages call the data. pixels: (K,) of each class. ignored: pixels that do not count.
    labelled: images with labels. An error is what makes training or scoring senseless; else it is a warning.
    """
    total = int(pixels.sum())
    if not labelled:
        if role == "look":
            return []
        return [
            Fault("error", "unlabelled", where, f"{where}: no image has labels", "Label them, or use another split")
        ]
    hint = _hint(space, pixels, ignored)
    if not total:
        return [
            Fault(
                "warning" if role == "look" else "error",
                "unlabelled",
                where,
                f"{where}: no pixel of its {labelled} images has a class: all are ignored{hint}",
                "Label them, or use another split: nothing can be learnt or scored",
            )
        ]
    present = np.flatnonzero(pixels)
    lacking = [space.names[index] for index in np.flatnonzero(pixels == 0)]
    if len(present) == 1:
        other = (
            f"no pixel of {some(lacking, 'the class', 'the classes')}" if lacking else "the class table has no other"
        )
        return [
            Fault(
                "error" if role == "learn" or (role == "score" and hint) else "warning",
                "one_class",
                where,
                f"{where}: every labelled pixel is {space.names[int(present[0])]!r}, {other}{hint}",
                "Nothing can be told apart: look at the labels, or name the rest as a class (background)",
            )
        ]
    if lacking:
        return [
            Fault(
                "warning",
                "absent",
                where,
                f"{where}: no pixel of {some(lacking, 'the class', 'the classes')}{hint}",
                "Move images so that each split shows each class, or expect no score for it",
            )
        ]
    return []


def _hint(space: LabelSpace, pixels: NDArray[Any], ignored: int) -> str:
    """What the ignored pixels may be, where a class is missing and no table said that 255 means nothing."""
    if not ignored or space.ignored_codes != (IGNORE,):
        return ""
    part = ignored / max(ignored + int(pixels.sum()), 1)
    return (
        f". {part:.0%} of the pixels hold 255, which was taken for 'do not count': if it is a class (masks of 0 and 255), "
        "give that class the code 255 in the class table; if not, say so there: 255,ignored,0,0,0,1"
    )


def some(items: Sequence[str], one: str = "", many: str = "") -> str:
    """A few of many, for a message."""
    shown = ", ".join(f"'{item}'" for item in items[:_NAMED])
    rest = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    words = one if len(items) == 1 else many
    return f"{words} {shown}{rest}".strip()
