"""Networks of other projects, recorded: their state dicts by formula, their inputs, their outputs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pspnet.nn import PSPNet
from support.golden_weights import build_array, fill_entry, make_input
from support.paths import GOLDEN


def recording(folder: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(manifest, arrays) of a folder of tests/golden."""
    with np.load(next((GOLDEN / folder).glob("network*.npz"))) as file:
        arrays = {name: file[name] for name in file.files}
    return json.loads(arrays.pop("manifest").tobytes()), arrays


def state_of(case: dict[str, Any], idle: str = "^$") -> dict[str, Tensor]:
    """The case's state dict under the peer's own names. Tensors that match `idle` never run: they stay 0, cheaply."""
    return {
        name: torch.zeros(shape, dtype=torch.float32)
        if re.search(idle, name)
        else torch.from_numpy(fill_entry(name, shape, case["gain"]))
        for name, shape, *_ in case["state_dict"]
    }


def inputs_of(case: dict[str, Any]) -> dict[str, np.ndarray]:
    """Every array that the manifest describes."""
    return {item["name"]: build_array(item) for item in case["arrays"]}


def in_units(model: PSPNet, normalised: np.ndarray) -> Tensor:
    """Peers were given normalised images; ours normalises by itself, so it gets them in 0..255."""
    return torch.from_numpy(normalised) * model.std[:, None, None] + model.mean[:, None, None]


def peer_input(case: dict[str, Any]) -> np.ndarray:
    return make_input(case["input"]["name"], case["input"]["shape"])


def auxiliary_logits(model: PSPNet, images: Tensor) -> Tensor:
    """The auxiliary head's logits before they are resized."""
    assert model.auxiliary is not None
    return model.auxiliary(model.encoder(model.normalise(images))[model.auxiliary_stage])


def save(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path
