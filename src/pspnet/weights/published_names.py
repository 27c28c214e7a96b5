"""How files of ImageNet encoders call their tensors, by family: torchvision, timm, semseg, CSAIL, MMSegmentation, smp.

A family without a row is called in files as timm calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from pspnet.config.model import ModelConfig
from pspnet.weights import inverted_residuals, swin
from pspnet.weights.rename_table import Rename

ToOurs = Callable[[Mapping[str, Tensor], ModelConfig], dict[str, Tensor]]


@dataclass(frozen=True)
class PublishedNames:
    """marker: a pattern of a name that each file has. to_ours: the tensors under our names; what is unknown stays as it is."""

    marker: str
    to_ours: ToOurs


# a deep stem's three convolutions, which timm numbers as one sequence
_DEEP_STEM_INIT: tuple[Rename, ...] = (  # semseg's and CSAIL's ImageNet files
    (r"conv1\.", "conv1.0."),
    (r"bn1\.", "conv1.1."),
    (r"conv2\.", "conv1.3."),
    (r"bn2\.", "conv1.4."),
    (r"conv3\.", "conv1.6."),
    (r"bn3\.", "bn1."),
)
_DEEP_STEM_WHOLE: tuple[Rename, ...] = (  # semseg's and MMSegmentation's networks
    (r"(?:layer0|stem)\.7\.", "bn1."),
    (r"(?:layer0|stem)\.(\d)\.", r"conv1.\1."),
)
_TORCHVISION_EFFICIENTNET: tuple[Rename, ...] = (
    (r"features\.0\.0\.", "conv_stem."),
    (r"features\.0\.1\.", "bn1."),
    *(
        (rf"features\.{stage + 1}\.(\d+)\.block\.{theirs}\.", rf"blocks.{stage}.\1.{ours}.")
        for stage in range(7)
        for theirs, ours in (
            {
                "0.0": "conv_dw",
                "0.1": "bn1",
                "1.fc1": "se.conv_reduce",
                "1.fc2": "se.conv_expand",
                "2.0": "conv_pw",
                "2.1": "bn2",
            }
            if stage == 0
            else {
                "0.0": "conv_pw",
                "0.1": "bn1",
                "1.0": "conv_dw",
                "1.1": "bn2",
                "2.fc1": "se.conv_reduce",
                "2.fc2": "se.conv_expand",
                "3.0": "conv_pwl",
                "3.1": "bn3",
            }
        ).items()
    ),
)


def _by_rules(rules: Callable[[Mapping[str, Tensor], ModelConfig], tuple[Rename, ...]]) -> ToOurs:
    def to_ours(state: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
        names = rules(state, config)
        return {swin.renamed(name, names).removeprefix("encoder."): value for name, value in state.items()}

    return to_ours


def _resnet_rules(state: Mapping[str, Tensor], config: ModelConfig) -> tuple[Rename, ...]:
    if config.encoder[-1] not in "sc" or "conv1.0.weight" in state:
        return ()
    return _DEEP_STEM_INIT if "conv3.weight" in state else _DEEP_STEM_WHOLE


def _if_torchvisions(rules: tuple[Rename, ...]) -> ToOurs:
    return _by_rules(lambda state, config: rules if "features.0.0.weight" in state else ())


_RESNET = PublishedNames(r"layer1\.0\.conv1\.weight", _by_rules(_resnet_rules))
_BLOCKS = r"conv_stem\.weight|features\.0\.0\.weight"
PUBLISHED_NAMES: dict[str, PublishedNames] = {
    "resnet_basic": _RESNET,
    "resnet_bottleneck": _RESNET,
    "efficientnet": PublishedNames(_BLOCKS, _if_torchvisions(_TORCHVISION_EFFICIENTNET)),
    "mobilenetv2": PublishedNames(_BLOCKS, _if_torchvisions(inverted_residuals.torchvision_mobilenet(""))),
    "swin": PublishedNames(swin.MARKER, lambda state, config: swin.to_ours(state)),
}
