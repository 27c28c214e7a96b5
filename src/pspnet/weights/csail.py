"""Checkpoints of CSAILVision/semantic-segmentation-pytorch: an encoder file and a decoder file, no prefix.

What the weights do not hold: the first block of a dilated stage keeps half of the stage's dilation, resizing does not
align corners, the features come first in the fusion, images are RGB with ImageNet's mean and deviation.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from pspnet.config.model import IMAGENET_MEAN, IMAGENET_STD
from pspnet.errors import CheckpointError
from pspnet.weights.rename_table import Drop, Foreign, Plan, Rename, auxiliary_settings, width_settings
from pspnet.weights.torch_files import find_state, read_file

MARKER = r"conv_last\.0\.weight"

RENAMES: tuple[Rename, ...] = (
    (r"encoder\.conv1\.", "encoder.conv1.0."),  # the deep stem: timm numbers it as one Sequential
    (r"encoder\.bn1\.", "encoder.conv1.1."),
    (r"encoder\.conv2\.", "encoder.conv1.3."),
    (r"encoder\.bn2\.", "encoder.conv1.4."),
    (r"encoder\.conv3\.", "encoder.conv1.6."),
    (r"encoder\.bn3\.", "encoder.bn1."),
    (r"encoder\.(layer[1-4])\.", r"encoder.\1."),
    (r"decoder\.ppm\.(\d+)\.1\.", r"pyramid.branches.\1.conv."),
    (r"decoder\.ppm\.(\d+)\.2\.", r"pyramid.branches.\1.norm."),
    (r"decoder\.conv_last\.0\.", "pyramid.fusion.conv."),
    (r"decoder\.conv_last\.1\.", "pyramid.fusion.norm."),
    (r"decoder\.conv_last\.4\.", "classifier."),
    (r"decoder\.cbr_deepsup\.0\.", "auxiliary.reduce.conv."),
    (r"decoder\.cbr_deepsup\.1\.", "auxiliary.reduce.norm."),
    (r"decoder\.conv_last_deepsup\.", "auxiliary.classifier."),
)
DROPS: tuple[Drop, ...] = (
    (r".*\._tmp_", "a running sum of CSAIL's own synchronised batch norm; the statistics themselves are imported"),
    (r".*\._running_iter$", "a counter of CSAIL's own synchronised batch norm"),
    (r"encoder\.fc\.", "ImageNet's classifier"),
)


def read(source: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """One state of both files, under encoder. and decoder.; `source` is either of them, or their folder."""
    path = Path(source)
    encoder, decoder = _in_folder(path) if path.is_dir() else _beside(path)
    state: dict[str, Tensor] = {}
    for part, file in (("encoder", encoder), ("decoder", decoder)):
        tensors, _ = find_state(read_file(file), file, r"layer1\.|conv_last\.")
        state |= {f"{part}.{name}": value for name, value in tensors.items()}
    return state, {"files": [encoder.name, decoder.name]}


def _in_folder(folder: Path) -> tuple[Path, Path]:
    """The newest epoch that has both files."""
    encoders = {_epoch(file): file for file in folder.glob("encoder_*.pth")}
    decoders = {_epoch(file): file for file in folder.glob("decoder_*.pth")}
    both = sorted(encoders.keys() & decoders.keys())
    if not both:
        raise CheckpointError(
            f"'{folder}' has no pair encoder_*.pth and decoder_*.pth of one epoch; "
            f"it has: {', '.join(sorted(p.name for p in folder.iterdir())[:8]) or 'nothing'}"
        )
    return encoders[both[-1]], decoders[both[-1]]


def _beside(path: Path) -> tuple[Path, Path]:
    """The other half of a pair is called the same, with the other word."""
    for mine, other in (("encoder", "decoder"), ("decoder", "encoder")):
        if mine in path.name:
            partner = path.with_name(path.name.replace(mine, other))
            if not partner.is_file():
                raise CheckpointError(
                    f"'{path}' is one half of a pair; its other half '{partner.name}' is not beside it"
                )
            return (path, partner) if mine == "encoder" else (partner, path)
    raise CheckpointError(
        f"'{path}': a CSAIL checkpoint is two files, encoder_epoch_N.pth and decoder_epoch_N.pth; give either, or their "
        "folder"
    )


def _epoch(file: Path) -> tuple[int, str]:
    """Sorts epoch 20 behind epoch 9; the name keeps others apart."""
    number = re.search(r"epoch_(\d+)", file.name)
    return (int(number.group(1)) if number else -1, file.name.partition("_")[2])


def plan(foreign: Foreign) -> Plan:
    """Depth, widths, classes and heads from the shapes; the rest is what the project always does."""
    _check_kind(foreign)
    layers = foreign.resnet_layers("encoder.")
    channels = 512 if layers < 50 else 2048
    bins = foreign.bins(foreign.count(r"decoder\.ppm\.(\d+)\."))
    deep = "decoder.cbr_deepsup.0.weight"
    config: dict[str, Any] = {
        "encoder": f"resnet{layers}s",
        "num_classes": foreign.shape("decoder.conv_last.4.weight")[0],
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
        "output_stride": 8,
        "dilation": "contracted",
        "align_corners": False,
        "bins": bins,
        "concat": "input_first",
        "pyramid_options": width_settings(foreign.shape("decoder.ppm.0.1.weight")[0], channels, bins),
        "decoder": "bilinear",
        "decoder_channels": foreign.shape("decoder.conv_last.0.weight")[0],
        "dropout": 0.1,
        **auxiliary_settings(foreign.shape(deep) if deep in foreign.state else None),
    }
    notes = ("the encoder is taken as dilated (resnet50dilated and the like), as every PPM of CSAIL's has it",)
    return Plan(config, foreign.state, RENAMES, DROPS, notes=notes)


def _check_kind(foreign: Foreign) -> None:
    if "encoder.layer1.0.conv1.weight" not in foreign.state or "encoder.conv3.weight" not in foreign.state:
        raise CheckpointError(
            f"'{foreign.path}' has another encoder than CSAIL's ResNet with its deep stem (MobileNetV2, HRNet ...), "
            "which is not imported"
        )
    if "decoder.ppm.0.1.weight" not in foreign.state or any(name.startswith("decoder.fpn_") for name in foreign.state):
        raise CheckpointError(
            f"'{foreign.path}' has another decoder than ppm or ppm_deepsup (C1, UPerNet ...), which fits no PSPNet"
        )
