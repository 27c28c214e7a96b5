"""Checkpoints of hszhao/semseg (`train_epoch_N.pth`): {"epoch", "state_dict", "optimizer"}, names under `module.`.

What the weights do not hold: every block of the last two stages is dilated (2 and 4), bilinear resizing aligns corners,
the features come before the pyramid in the fusion, images are RGB with ImageNet's mean and deviation on 0..255.
"""

from __future__ import annotations

from typing import Any

from pspnet.config.model import IMAGENET_MEAN, IMAGENET_STD
from pspnet.weights.rename_table import Foreign, Plan, Rename, auxiliary_settings, width_settings

MARKER = r"layer0\.0\.weight|cls\.0\.weight"

DEEP_STEM: tuple[tuple[str, str], ...] = (  # position in a deep stem -> timm's name for it
    ("0", "conv1.0"),
    ("1", "conv1.1"),
    ("3", "conv1.3"),
    ("4", "conv1.4"),
    ("6", "conv1.6"),
    ("7", "bn1"),
)

RENAMES: tuple[Rename, ...] = (
    *((rf"layer0\.{theirs}\.", f"encoder.{ours}.") for theirs, ours in DEEP_STEM),
    (r"(layer[1-4])\.", r"encoder.\1."),
    (r"ppm\.features\.(\d+)\.1\.", r"pyramid.branches.\1.conv."),
    (r"ppm\.features\.(\d+)\.2\.", r"pyramid.branches.\1.norm."),
    (r"cls\.0\.", "pyramid.fusion.conv."),
    (r"cls\.1\.", "pyramid.fusion.norm."),
    (r"cls\.4\.", "classifier."),
    (r"aux\.0\.", "auxiliary.reduce.conv."),
    (r"aux\.1\.", "auxiliary.reduce.norm."),
    (r"aux\.4\.", "auxiliary.classifier."),
)


def plan(foreign: Foreign) -> Plan:
    """Depth, classes, bins and heads from the shapes; the rest is what semseg always does."""
    bins = foreign.bins(foreign.count(r"ppm\.features\.(\d+)\."))
    fused, classes = foreign.shape("cls.0.weight"), foreign.shape("cls.4.weight")[0]
    in_channels = foreign.shape("layer0.0.weight")[1]
    channels = 2048
    config: dict[str, Any] = {
        "encoder": f"resnet{foreign.resnet_layers('')}s",
        "num_classes": classes,
        "in_bands": in_channels,
        "output_stride": 8,
        "dilation": "uniform",
        "align_corners": True,
        "bins": bins,
        "concat": "input_first",
        "decoder": "bilinear",
        "decoder_channels": fused[0],
        "dropout": 0.1,
        **auxiliary_settings(foreign.shape("aux.0.weight") if "aux.0.weight" in foreign.state else None),
    }
    if bins:
        config["pyramid_options"] = width_settings(foreign.shape("ppm.features.0.1.weight")[0], channels, bins)
    if in_channels == 3:
        config |= {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    return Plan(config, foreign.state, RENAMES, protocol="semseg-ss")
