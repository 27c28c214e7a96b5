"""segmentation_models_pytorch's PSPNet: a state dict, a folder (config.json + model.safetensors) or a hub id.

What the weights do not hold: the encoder stops after three halvings (deeper stages lie in the file, unused), the
pyramid comes before the features in the fusion, the 1 x 1 bin has no norm, all resizing aligns corners.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pspnet.errors import CheckpointError, MissingExtraError, parsing
from pspnet.weights.hub import hub_file
from pspnet.weights.rename_table import Drop, Foreign, Plan, Rename, width_settings
from pspnet.weights.smp_encoders import encoder_plan
from pspnet.weights.torch_files import find_state, read_file

MARKER = r"decoder\.psp\.|segmentation_head\."
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")

HEADS: tuple[Rename, ...] = (
    (r"decoder\.psp\.blocks\.(\d+)\.pool\.1\.0\.", r"pyramid.branches.\1.conv."),
    (r"decoder\.psp\.blocks\.(\d+)\.pool\.1\.1\.", r"pyramid.branches.\1.norm."),
    (r"decoder\.conv\.0\.", "pyramid.fusion.conv."),
    (r"decoder\.conv\.1\.", "pyramid.fusion.norm."),
    (r"segmentation_head\.0\.", "classifier."),
)
CLASSIFICATION: Drop = (
    r"classification_head\.",
    "smp's image-level classifier (aux_params): it does not take part in the segmentation",
)


WRAPPER: Drop = (r"(mean|std)$", "the wrapper's own normalisation: it is the network's mean and std here")


def read(source: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(state, what lay beside it, with config.json's content or {} as "config") of a file, a folder or a hub id."""
    path = Path(source)
    if not path.exists() and re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        path = _download(str(source))
    if path.is_dir():
        weights = next((path / name for name in WEIGHT_FILES if (path / name).is_file()), None)
        if weights is None:
            raise CheckpointError(f"'{path}' has none of {', '.join(WEIGHT_FILES)}; give a folder of save_pretrained")
    else:
        weights = path
    state, other_values = find_state(read_file(weights), weights, MARKER)
    return state, {**other_values, "config": _config(weights.with_name("config.json")) if path.is_dir() else {}}


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    with parsing(path, CheckpointError, "is damaged"):
        config = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise CheckpointError(f"'{path}' holds {type(config).__name__} instead of smp's settings")
    if config.get("_model_class", "PSPNet") != "PSPNet":
        raise CheckpointError(f"'{path}' describes smp's {config['_model_class']}; only its PSPNet is imported")
    return config


def _download(name: str) -> Path:
    try:
        files = [hub_file(name, file) for file in ("config.json", WEIGHT_FILES[0])]
    except ImportError as error:
        raise MissingExtraError(f"'{name}' is a hub id, which needs: pip install huggingface_hub") from error
    faults = [one for one in files if isinstance(one, str)]
    if faults:
        raise CheckpointError(
            f"'{name}' is no file here, and could not be fetched from the Hugging Face hub: {faults[0]}. Is the name right and "
            "the network reachable? Otherwise download config.json and model.safetensors elsewhere and give their folder"
        )
    return Path(files[0]).parent


def plan(foreign: Foreign) -> Plan:
    """Encoder and its depth, widths, norms and classes from the shapes; dropout from config.json where there is one."""
    saved_config: Mapping[str, Any] = foreign.meta.get("config", {})
    norm = saved_config.get("decoder_use_norm", saved_config.get("psp_use_batchnorm", "batchnorm"))
    if norm not in (True, "batchnorm") or "decoder.conv.1.running_mean" not in foreign.state:
        raise CheckpointError(
            f"'{foreign.path}': its decoder has another norm than smp's default, 'batchnorm' (decoder_use_norm), which is "
            "the only one imported"
        )
    fused = foreign.shape("decoder.conv.0.weight")
    branches = foreign.count(r"decoder\.psp\.blocks\.(\d+)\.")
    width, channels = foreign.shape("decoder.psp.blocks.0.pool.1.0.weight")[:2]
    encoder = encoder_plan(foreign, channels)
    depth = encoder.config["encoder_options"]["depth"]
    head = foreign.shape("segmentation_head.0.weight")
    notes = []
    normalisation = _own_normalisation(foreign)
    if normalisation and "mean" not in foreign.settings:
        mean, std = normalisation["mean"], normalisation["std"]
        notes.append(
            f"mean {_short(mean)} and std {_short(std)} of the file itself (the wrapper's buffers), taken for images "
            f"of 0..1. If the training code gave images of 0..255: --set mean={_short(mean)} --set std={_short(std)}"
        )
    elif "mean" not in foreign.settings:
        notes.append(
            "mean and std: ImageNet's, RGB, 0..255 (smp leaves it to its caller; others: --set mean=[...] --set std=[...])"
        )
    if saved_config.get("activation") not in (None, "identity"):
        notes.append(f"activation {saved_config['activation']!r} is left out: pspnet's logits are before it")
    config: dict[str, Any] = {
        **encoder.config,
        **normalisation,
        "num_classes": head[0],
        "in_bands": foreign.shape(encoder.first)[1],
        "output_stride": 2**depth,
        "align_corners": True,
        "bins": foreign.bins(branches),
        "concat": "pooled_first",
        "pyramid_options": {
            "branch_norm": "except_global",
            "fusion_kernel": fused[2],
            **width_settings(width, channels, range(branches)),
        },
        "decoder": "bilinear",
        "decoder_channels": fused[0],
        "dropout": float(saved_config.get("psp_dropout", 0.2)),
        "classifier_kernel": head[2],
        "auxiliary": "none",
    }
    drops = (*encoder.drops, CLASSIFICATION, WRAPPER)
    return Plan(config, foreign.state, (*encoder.renames, *HEADS), drops, notes=tuple(notes))


def _own_normalisation(foreign: Foreign) -> dict[str, tuple[float, ...]]:
    """mean and std that a Lightning wrapper keeps beside the network, as smp's examples do, in the units of 0..255."""
    own_values = {name: foreign.state[name].flatten().tolist() for name in ("mean", "std") if name in foreign.state}
    if len(own_values) < 2 or len(own_values["mean"]) != len(own_values["std"]) or min(own_values["std"]) <= 0:
        return {}
    scale = 255.0 if max(own_values["mean"]) <= 1.0 else 1.0
    return {name: tuple(value * scale for value in values) for name, values in own_values.items()}


def _short(values: tuple[float, ...]) -> str:
    """As the file has them, in the units of 0..1."""
    return "[" + ",".join(f"{value / 255:.4g}" for value in values) + "]"
