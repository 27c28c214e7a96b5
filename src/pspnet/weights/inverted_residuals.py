"""MobileNetV2 and EfficientNet under other projects' names: the same blocks, counted and called differently.

Ours are timm's: conv_stem, bn1, blocks.<stage>.<block>.{conv_pw,bn1,conv_dw,bn2,se,conv_pwl,bn3}.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from pspnet.weights.rename_table import Rename

FIRST_ROLES = (("conv_dw", "bn1"), ("conv_pw", "bn2"))  # the first stage has no expansion
ROLES = (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3"))  # expand, look around, project

MOBILENET_REPEATS = (1, 2, 3, 4, 3, 3, 1)  # blocks of each stage: Sandler et al. 2018, table 2
EFFICIENTNET_REPEATS = (1, 2, 2, 3, 3, 4, 1)  # of b0: Tan and Le 2019, table 1
EFFICIENTNET_DEPTHS = {"b0": 1.0, "b1": 1.1, "b2": 1.2, "b3": 1.4, "b4": 1.8, "b5": 2.2, "b6": 2.6, "b7": 3.1}
EFFICIENTNET_SIZES = {  # (blocks, channels of the last one) -> subtype
    (16, 320): "b0",
    (23, 320): "b1",
    (23, 352): "b2",
    (26, 384): "b3",
    (32, 448): "b4",
    (39, 512): "b5",
    (45, 576): "b6",
    (55, 640): "b7",
}
STAGES_RUN = {3: 3, 4: 5, 5: 7}  # halvings of the image -> stages of either network that are needed for them


def places(repeats: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(stage, block) of every block, in order."""
    return ((stage, block) for stage, count in enumerate(repeats) for block in range(count))


def efficientnet_repeats(size: str) -> tuple[int, ...]:
    return tuple(math.ceil(count * EFFICIENTNET_DEPTHS[size]) for count in EFFICIENTNET_REPEATS)


def mmseg_mobilenet(prefix: str) -> tuple[Rename, ...]:
    """mmseg: conv1, layer1..7, each role a ConvModule {conv, bn}."""
    rules: list[Rename] = [(rf"{prefix}conv1\.conv\.", "encoder.conv_stem."), (rf"{prefix}conv1\.bn\.", "encoder.bn1.")]
    for stage, block in places(MOBILENET_REPEATS):
        for index, (conv, norm) in enumerate(ROLES if stage else FIRST_ROLES):
            theirs, ours = rf"{prefix}layer{stage + 1}\.{block}\.conv\.{index}\.", f"encoder.blocks.{stage}.{block}."
            rules += [(theirs + r"conv\.", f"{ours}{conv}."), (theirs + r"bn\.", f"{ours}{norm}.")]
    return tuple(rules)


def torchvision_mobilenet(prefix: str) -> tuple[Rename, ...]:
    """torchvision and smp: features.0 the stem, features.1..17 the blocks; the projection is not wrapped."""
    rules: list[Rename] = [
        (rf"{prefix}features\.0\.0\.", "encoder.conv_stem."),
        (rf"{prefix}features\.0\.1\.", "encoder.bn1."),
    ]
    for number, (stage, block) in enumerate(places(MOBILENET_REPEATS), start=1):
        theirs, ours = rf"{prefix}features\.{number}\.conv\.", f"encoder.blocks.{stage}.{block}."
        roles = ROLES if stage else FIRST_ROLES
        for index, (conv, norm) in enumerate(roles[:-1]):
            rules += [(rf"{theirs}{index}\.0\.", f"{ours}{conv}."), (rf"{theirs}{index}\.1\.", f"{ours}{norm}.")]
        last, (conv, norm) = len(roles) - 1, roles[-1]
        rules += [(rf"{theirs}{last}\.", f"{ours}{conv}."), (rf"{theirs}{last + 1}\.", f"{ours}{norm}.")]
    return tuple(rules)


def smp_efficientnet(prefix: str, size: str) -> tuple[Rename, ...]:
    """smp's own EfficientNet: _conv_stem, _blocks counted through, norms numbered from 0 (from 1 without expansion)."""
    rules: list[Rename] = [(rf"{prefix}_conv_stem\.", "encoder.conv_stem."), (rf"{prefix}_bn0\.", "encoder.bn1.")]
    own_roles = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))
    for number, (stage, block) in enumerate(places(efficientnet_repeats(size))):
        theirs, ours = rf"{prefix}_blocks\.{number}\.", f"encoder.blocks.{stage}.{block}."
        for (conv, norm), (our_conv, our_norm) in zip(
            own_roles if stage else own_roles[1:], ROLES if stage else FIRST_ROLES, strict=True
        ):
            rules += [(rf"{theirs}{conv}\.", f"{ours}{our_conv}."), (rf"{theirs}{norm}\.", f"{ours}{our_norm}.")]
        rules += [(rf"{theirs}_se_{part}\.", f"{ours}se.conv_{part}.") for part in ("reduce", "expand")]
    return tuple(rules)
