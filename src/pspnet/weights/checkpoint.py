"""Our checkpoint: one safetensors file that holds a network and everything needed to use it as it was meant.

The tensors are the network's state dict. The metadata holds, under the key "pspnet", one JSON text: format version,
ModelConfig, classes and colours, bands, evaluation protocol, provenance, and digests of this text and of the tensors,
checked when it is loaded. Loading parses JSON and copies numbers; no code of the file ever runs.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pspnet.config.model import ModelConfig
from pspnet.errors import CheckpointError, require
from pspnet.files import new_file
from pspnet.labels import LabelSpace

if TYPE_CHECKING:
    from torch import Tensor

    from pspnet.nn import PSPNet

FORMAT = 1  # raised when an older pspnet would misread the file
_AGAIN = "Copy or download it again"


@dataclass(frozen=True)
class ModelCard:
    """What a model needs besides its weights.

    label_space: classes, colours, source codes. band_names: one for each input band. band_numbers: the bands' numbers,
    from 1, in the files trained on; empty where that is unknown. value_range: lowest and highest
    value of the images trained on, in their own units, to warn about others. protocol: name of the evaluation
    protocol that its scores were measured with. temperature: divides the logits before softmax (calibration).
    provenance: free JSON (data, recipe, commit, hardware, scores). trained_size: (height, width) of the photographs trained on,
    the median, in pixels: they are brought to it (see `pspnet.predict.scale`). ground_resolution: metres of a pixel's side,
    of images from above; 0 where it is unknown. One of the two is None. pixel_type: of the images trained on ("uint8",
    "uint16" ...), "" where it is unknown. band_scales, band_offsets: what their files said of each band's stored values.
    full_scale: what was white in deep photographs that were read as 8 bits; None: each by its own largest value.
    """

    label_space: LabelSpace
    band_names: tuple[str, ...] = ("red", "green", "blue")
    value_range: tuple[float, float] = (0.0, 255.0)
    protocol: str = "whole"
    temperature: float = 1.0
    provenance: Mapping[str, Any] = field(default_factory=dict)
    band_numbers: tuple[int, ...] = ()
    trained_size: tuple[int, int] | None = None
    ground_resolution: float | None = None
    pixel_type: str = ""
    band_scales: tuple[float, ...] = ()
    band_offsets: tuple[float, ...] = ()
    full_scale: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "label_space": self.label_space.to_dict(),
            "band_names": list(self.band_names),
            **({"band_numbers": list(self.band_numbers)} if self.band_numbers else {}),
            "value_range": list(self.value_range),
            "protocol": self.protocol,
            "temperature": self.temperature,
            "provenance": dict(self.provenance),
            **({"trained_size": list(self.trained_size)} if self.trained_size else {}),
            **({} if self.ground_resolution is None else {"ground_resolution": self.ground_resolution}),
            **({"pixel_type": self.pixel_type} if self.pixel_type else {}),
            **({"band_scales": list(self.band_scales)} if self.band_scales else {}),
            **({"band_offsets": list(self.band_offsets)} if self.band_offsets else {}),
            **({"full_scale": self.full_scale} if self.full_scale else {}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelCard:
        low, high = data["value_range"]
        return cls(
            LabelSpace.from_dict(data["label_space"]),
            tuple(data["band_names"]),
            (float(low), float(high)),
            str(data["protocol"]),
            float(data.get("temperature", 1.0)),
            dict(data["provenance"]),
            tuple(int(number) for number in data.get("band_numbers", ())),
            (int(data["trained_size"][0]), int(data["trained_size"][1])) if data.get("trained_size") else None,
            None if data.get("ground_resolution") is None else float(data["ground_resolution"]),
            str(data.get("pixel_type", "")),
            tuple(float(scale) for scale in data.get("band_scales", ())),
            tuple(float(offset) for offset in data.get("band_offsets", ())),
            int(data["full_scale"]) if data.get("full_scale") else None,
        )


def card_for(model: PSPNet | ModelConfig, label_space: LabelSpace | None = None, **fields: Any) -> ModelCard:
    """A card with what the model itself tells: numbered classes and bands where nobody named them."""
    config = model if isinstance(model, ModelConfig) else model.config
    bands = config.in_bands
    names = ("red", "green", "blue") if bands == 3 else tuple(f"band_{i + 1}" for i in range(bands))
    return ModelCard(label_space or LabelSpace.numbered(config.num_classes), **{"band_names": names, **fields})


def save_checkpoint(
    path: str | Path, model: PSPNet, card: ModelCard, half: bool = False, *, overwrite: bool = True
) -> Path:
    """Writes one .safetensors file, whole or not at all. Returns its path.

    half: stores floating-point weights as float16 (they load as float32 again), at half the size. Raises
    CheckpointError when the card does not fit the model, OutputError when the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = Path(path)
    if card.label_space.num_classes != model.config.num_classes:
        raise CheckpointError(
            f"the card names {card.label_space.num_classes} classes, the model has {model.config.num_classes}"
        )
    state = {
        name: (value.half() if half and value.is_floating_point() and _fits_half(value) else value)
        .detach()
        .cpu()
        .contiguous()
        for name, value in model.state_dict().items()
    }
    with new_file(path, overwrite=overwrite, durable=True, also=(SafetensorError,)) as part:
        part.touch()
        mode = part.stat().st_mode
        save_file(state, part, metadata={"pspnet": header_text(model.config, card, digest_of(state))})
        part.chmod(mode)  # safetensors writes for the owner alone; a model is as readable as any file
    return path


def _fits_half(value: Tensor) -> bool:
    """Norms' numbers fit too, unless one is too large; what is near 0 (dead channels) is lost beside a norm's epsilon. A single
    number or a band's mean stays exact."""
    return value.ndim > 1 or (value.numel() > 16 and float(value.abs().max()) < 65000)


def read_header(path: str | Path) -> tuple[ModelConfig, ModelCard]:
    """Config and card of a checkpoint, without its weights. Raises CheckpointError as `load_checkpoint` does."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"'{path}' does not exist or is not a file; give a .safetensors file made by pspnet")
    try:
        metadata = _metadata(path)
    except Exception as error:  # a header of any bytes: too deep, too large, no text
        raise CheckpointError(_damaged(path, error)) from error
    if not isinstance(metadata.get("pspnet", ""), str):
        raise CheckpointError(f"'{path}' has damaged metadata: its 'pspnet' is no text")
    if "pspnet" not in metadata:
        raise CheckpointError(
            f"'{path}' is a safetensors file but not a pspnet checkpoint (it has no 'pspnet' metadata). "
            "Another project's weights enter with: pspnet import FILE OUT --source semseg|mmseg|smp|..."
        )
    return parse_header(metadata["pspnet"], path)


def _metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file: 8 bytes of length, JSON, numbers. Raises ValueError where that is not so."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, 100_000_000):  # the format's own limit
            raise ValueError("its header is not that of a safetensors file")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is not that of a safetensors file")
    metadata = header.pop("__metadata__", {})
    ends = [
        entry["data_offsets"][1] for entry in header.values() if isinstance(entry, dict) and "data_offsets" in entry
    ]
    if 8 + length + max(ends, default=0) != size:
        raise ValueError(f"its header tells of {8 + length + max(ends, default=0):,} bytes")
    return metadata if isinstance(metadata, dict) else {}


def header_text(config: ModelConfig, card: ModelCard, tensors: str | None = None) -> str:
    """The JSON text that every model file of ours carries, exported ones too.

    tensors: `digest_of` the tensors beside it. "check" is the digest of all the rest of the text.
    """
    # the weights are in the very file, whatever they started from
    plain = config.model_dump(mode="json") | {"encoder_weights": "random"}
    header: dict[str, Any] = {"format": FORMAT, "config": plain, "card": card.to_dict()}
    if tensors is not None:
        header["tensors"] = tensors
    header = json.loads(json.dumps(header))  # as it will be read back
    return json.dumps({**header, "check": _check(header)})


def _check(header: Mapping[str, Any]) -> str:
    text = json.dumps({key: value for key, value in header.items() if key != "check"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and every bit of a state dict on the CPU: an altered weight is noticed."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        if value.numel():
            digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def parse_header(text: str, path: str | Path) -> tuple[ModelConfig, ModelCard]:
    """What `header_text` wrote. Raises CheckpointError naming `path` when it is damaged or of a newer format."""
    try:
        header = json.loads(text)
        version = int(header["format"])
        intact = "check" not in header or header["check"] == _check(header)
    except Exception as error:  # whatever a text of somebody else makes a parser raise
        raise CheckpointError(f"'{path}' has damaged metadata: {error}") from error
    if version > FORMAT:
        raise CheckpointError(
            f"'{path}' has checkpoint format {version}; this pspnet reads up to {FORMAT}. Update pspnet from where it was installed"
        )
    try:
        config, card = ModelConfig.model_validate(header["config"]), ModelCard.from_dict(header["card"])
    except Exception as error:
        raise CheckpointError(f"'{path}' has damaged metadata: {error}") from error
    if not intact:
        raise CheckpointError(f"'{path}' was altered: its header is not the one that was saved. {_AGAIN}")
    return config, card


def load_checkpoint(path: str | Path) -> tuple[PSPNet, ModelCard]:
    """The network, in evaluation mode on the CPU, and its card.

    Raises CheckpointError when the file is cut off, not ours, of a newer format, or its tensors are not those that its
    config describes: the message says which.
    """
    config, card = read_header(path)
    torch = require("torch", "torch")  # and with it come safetensors and timm
    from safetensors import safe_open

    from pspnet.nn import PSPNet

    if card.label_space.num_classes != config.num_classes:
        raise CheckpointError(
            f"'{path}' names {card.label_space.num_classes} classes but its network has {config.num_classes}"
        )
    model = PSPNet(config)
    expected = model.state_dict()
    try:
        with safe_open(path, framework="pt") as file:
            state: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # SafetensorError, OSError, and what torch makes of odd types
        raise CheckpointError(_damaged(Path(path), error)) from error
    missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    altered = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & state.keys())
        if state[name].shape != expected[name].shape
    ]
    for what, names in (("lacks", missing), ("has unknown", unknown), ("has altered", altered)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise CheckpointError(
                f"'{path}' {what} tensors: {', '.join(names[:3])}{more}. It is not the file that was saved"
            )
    model.load_state_dict({name: value.to(expected[name].dtype) for name, value in state.items()})
    broken = [name for name, value in model.state_dict().items() if not torch.isfinite(value).all()]
    if broken:
        raise CheckpointError(f"'{path}' holds values that are not finite in {broken[0]} ({len(broken)} tensors)")
    saved = json.loads(_metadata(Path(path))["pspnet"]).get("tensors")
    if saved is None:
        warnings.warn(
            f"'{path}' was saved before checkpoints held a digest of their tensors: it cannot be told whether they were "
            "altered. Load and save it to add one",
            stacklevel=2,
        )
    elif saved != digest_of(state):
        raise CheckpointError(f"'{path}' was altered: its tensors are not those that were saved. {_AGAIN}")
    return model.eval(), card


def _damaged(path: Path, error: Exception) -> str:
    size = path.stat().st_size if path.exists() else 0
    return f"'{path}' ({size:,} bytes) is cut off or damaged: {error}. Copy or download it again"
