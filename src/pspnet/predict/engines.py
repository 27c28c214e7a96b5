"""PyTorch as an engine: the one file of this room that imports it. Exported models bring engines of their own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pspnet.errors import CheckpointError, ConfigError
from pspnet.nn import PSPNet
from pspnet.predict.processors import asked_threads


class TorchEngine:
    """A network in PyTorch: channels-last, bfloat16 where the processor computes in it. Its tensors lie on `device`."""

    name = "torch"

    def __init__(self, model: PSPNet, device: torch.device, precision: str = "auto") -> None:
        threads = asked_threads()
        if threads is not None:  # said before PyTorch was loaded
            torch.set_num_threads(threads)
        self.device = device
        self.dtype = compute_dtype(precision, device)
        self.precision = "bf16" if self.dtype == torch.bfloat16 else "fp32"
        self.model = model.to(device).eval().to(memory_format=torch.channels_last)

    def _autocast(self) -> torch.autocast:
        """The precision of a pass. Its cache of cast weights is of no use where each is used once, and would lie scattered
        between the features until the end: EfficientNet-B0 took a third less memory for an image without it."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32, cache_enabled=False)

    @torch.no_grad()  # inference mode saves nothing measurable here, and its tensors could not be blended in place
    def coarse(self, images: Tensor) -> Tensor:
        images = images.to(self.device, memory_format=torch.channels_last)
        with self._autocast():
            return self.model.coarse_logits(images).float()

    @torch.no_grad()
    def describe(self, images: NDArray[np.float32], temperature: float = 1.0) -> tuple[NDArray[Any], NDArray[Any]]:
        """(1, bands, H, W) -> the encoder's last feature averaged over the image (C,), and probabilities (K, h, w) at the
        decoder's stride."""
        on_card = torch.from_numpy(images).to(self.device, memory_format=torch.channels_last)
        with self._autocast():
            feature, logits = self.model.describe(on_card)
        probabilities = (logits[0].float() / temperature).softmax(0)
        return feature[0].float().cpu().numpy(), probabilities.cpu().numpy()


class CompiledEngine(TorchEngine):
    """PyTorch through torch.compile: a minute or more at the first image, then one graph for every size.

    Raises ConfigError where it cannot be compiled; on a processor that takes a C++ compiler and Python's headers.
    """

    name = "compile"

    def __init__(self, model: PSPNet, device: torch.device, precision: str = "auto") -> None:
        super().__init__(model, device, precision)
        if device.type == "cpu" and not any(map(shutil.which, [os.environ.get("CXX") or "g++", "g++", "clang++"])):
            raise ConfigError(
                "engine = 'compile' needs a C++ compiler on a processor, and neither g++ nor clang++ is here. Install one "
                "(Debian, Ubuntu: apt-get install g++ python3-dev), or use engine = 'torch' or 'openvino'"
            )
        self._compiled = torch.compile(self.model.coarse_logits, dynamic=True)
        self._ran = False

    @torch.no_grad()  # the compiler knows inference mode less well, and a graph has no version counters to save
    def coarse(self, images: Tensor) -> Tensor:
        images = images.to(self.device, memory_format=torch.channels_last)
        try:
            with self._autocast():
                logits = self._compiled(images).float()
        except Exception as error:  # compilers fail in many classes of their own
            if self._ran:
                raise
            raise ConfigError(
                f"engine = 'compile': torch.compile failed here ({' '.join(str(error).split())[:300]}). On a processor it "
                "needs a C++ compiler and Python's headers; use engine = 'torch' or 'openvino'"
            ) from error
        self._ran = True
        return logits


class PortableEngine:
    """A .pt2 file of torch.export, on the processor."""

    name = "torch.export"
    precision = "fp32"
    device = torch.device("cpu")

    def __init__(self, path: Path) -> None:
        extra = {"pspnet": ""}
        try:
            program = torch.export.load(path, extra_files=extra)
        except Exception as error:  # whatever the archive's parts raise
            text = " ".join(str(error).split())[:300]
            raise CheckpointError(f"'{path}' cannot be opened by torch.export: {text}") from error
        self.header: str | None = extra["pspnet"] or None
        self._module = program.module()

    @torch.no_grad()
    def coarse(self, images: Tensor) -> Tensor:
        logits: Tensor = self._module(images.float())
        return logits


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """fp32 or bf16; "auto" is bfloat16 exactly where the hardware has it. Without it, bfloat16 is emulated, 400 times
    slower than float32 (measured on a Zen 3 processor), so it is never chosen by itself."""
    if precision not in ("auto", "fp32", "bf16"):
        raise ConfigError(f"precision = {precision!r}: auto, fp32 or bf16")
    if precision == "auto":
        precision = "bf16" if has_bfloat16(device) else "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32


def computes_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether `compute_dtype` gives bfloat16."""
    return compute_dtype(precision, device) == torch.bfloat16


def gpu_name(device: torch.device) -> str:
    """What a CUDA device calls itself; nothing for other devices."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else ""


def cuda_count() -> int:
    """CUDA cards."""
    return torch.cuda.device_count()


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 itself."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and bool(torch.cpu._is_avx512_bf16_supported())
    return False


def pick_device(device: str) -> torch.device:
    """ "auto" -> a GPU when there is one; else what is named. Raises ConfigError where it does not exist."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device = {device!r} cannot be used ({str(error).splitlines()[0]}); give auto or cpu"
        ) from None
    return torch.device(device)
