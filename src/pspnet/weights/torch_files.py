"""Files of other projects read as data: a pickle may hold numbers and text here, never code.

PyTorch's files are pickles, and a pickle is a small program. They are read by torch's restricted reader
(`weights_only=True`), which knows tensors and plain containers only. Checkpoints of mmengine carry training curves
beside the weights; the names of those harmless kinds are mapped to `Metadata`, which keeps nothing and does nothing.
Any other name stops the reading before anything of the file has run.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import safe_open
from torch import Tensor

from pspnet.errors import CheckpointError, parsing

_NUMPY = ("_reconstruct", "scalar")
METADATA_NAMES = (
    "mmengine.logging.history_buffer.HistoryBuffer",
    # HistoryBuffer pickles its statistics as getattr(HistoryBuffer, "mean"); the stub answers instead of getattr
    "builtins.getattr",
    "numpy.ndarray",
    "numpy.dtype",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in _NUMPY),
    "mmengine.config.config.ConfigDict",
    "argparse.Namespace",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)


class Metadata:
    """What an allow-listed name becomes: any arguments and state are accepted and forgotten."""

    def __new__(cls, *_: object) -> Self:
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def read_file(path: Path) -> Any:
    """The content of a .safetensors, .pth, .pt or .bin file: tensors, containers, numbers, text.

    Raises CheckpointError when the file is missing, damaged, or asks to run code.
    """
    if not path.is_file():
        raise CheckpointError(f"'{path}' does not exist or is not a file; give the checkpoint that the project wrote")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        mapped = zipfile.is_zipfile(
            path
        )  # the old format cannot be mapped; mapping spares reading an optimiser's state
        allowed = torch.serialization.safe_globals([(Metadata, name) for name in METADATA_NAMES])
        with allowed, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks about old kinds of pickle; what matters is an error below
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refused(path, str(error))) from error
    except Exception as error:  # whatever a strange file makes a parser raise
        # what torch raises on bytes that are no checkpoint, or only the beginning of one
        sentence = re.split(r"[.\n]", f"{type(error).__name__} {error}".strip())[0]
        raise CheckpointError(
            f"'{path}' ({path.stat().st_size:,} bytes) is cut off, damaged or no PyTorch file ({sentence}). "
            "Copy or download it again"
        ) from error


def find_state(content: Any, path: Path, marker: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Unwraps a checkpoint: (name -> tensor, everything else that came beside it).

    The state dict is the content itself or sits under one of the usual keys. `marker` is a regular expression of a
    name that the project always has; what stands before it (`module.`, `model.`) is cut from every name that has it.
    Raises CheckpointError when there are no tensors.
    """
    other_values: dict[str, Any] = {}
    if not isinstance(content, Mapping):
        raise CheckpointError(f"'{path}' holds {type(content).__name__}, not a state dict of tensors")
    for key in ("state_dict", "model_state_dict", "model", "net"):
        if isinstance(content.get(key), Mapping):
            other_values = {name: value for name, value in content.items() if name != key}
            content = content[key]
            break
    state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise CheckpointError(
            f"'{path}' holds no tensors; it has: {', '.join(map(str, list(content)[:8])) or 'nothing'}"
        )
    prefix = common_prefix(state, marker)
    return {name.removeprefix(prefix): value for name, value in state.items()}, other_values


def common_prefix(names: Mapping[str, Any], marker: str) -> str:
    """What stands before the marker in the first name that has it: '' where nothing does.

    A part of a larger network is not a wrapper: `encoder.` and `backbone.` are kept.
    """
    for name in names:
        match = re.search(rf"(?:^|\.)({marker})", name)
        if match:
            prefix = name[: match.start(1)]
            return "" if prefix.endswith(("encoder.", "backbone.")) else prefix
    return ""


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    problem = f"({path.stat().st_size:,} bytes) is cut off or damaged"
    with parsing(path, CheckpointError, problem, "Copy or download it again"), safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _refused(path: Path, message: str) -> str:
    named = re.search(r"GLOBAL (\S+)", message)
    if named is None:
        return f"'{path}' is damaged, or a kind of pickle that is not read here: {message.splitlines()[0]}"
    return (
        f"'{path}' was refused: to be read it wants to call '{named.group(1)}', and weights need no such thing. Nothing "
        "of it was run. If a whole model was pickled (torch.save(model)), save its state_dict() in the project that made "
        "it: torch.save(model.state_dict(), 'weights.pth'). If you do not know where the file comes from, delete it"
    )
