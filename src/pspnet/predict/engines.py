"""What computes logits: PyTorch here; exported models bring engines of their own."""

from __future__ import annotations

import os
import shutil
from typing import Protocol

import torch
from torch import Tensor

from pspnet.errors import ConfigError
from pspnet.nn import PSPNet


class Engine(Protocol):
    """Anything that turns images into logits."""

    name: str
    device: torch.device

    def coarse(self, images: Tensor) -> Tensor:
        """(B, bands, H, W) float32 in the images' own range -> logits (B, K, h, w) at any stride, float32."""
        ...


class TorchEngine:
    """PyTorch: channels-last, inference mode, bfloat16 where the processor computes in it."""

    name = "torch"

    def __init__(self, model: PSPNet, device: torch.device, precision: str = "auto") -> None:
        self.device = device
        self.dtype = compute_dtype(precision, device)
        self.model = model.to(device).eval().to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def coarse(self, images: Tensor) -> Tensor:
        images = images.to(self.device, memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.model.coarse_logits(images).float()


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
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                found = self._compiled(images).float()
        except Exception as error:  # compilers fail in many classes of their own
            if self._ran:
                raise
            raise ConfigError(
                f"engine = 'compile': torch.compile failed here ({' '.join(str(error).split())[:300]}). On a processor it "
                "needs a C++ compiler and Python's headers; use engine = 'torch' or 'openvino'"
            ) from error
        self._ran = True
        return found


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """fp32 or bf16; "auto" is bfloat16 exactly where the hardware has it. Without it, bfloat16 is emulated, 400 times
    slower than float32 (measured on a Zen 3 processor), so it is never chosen by itself."""
    if precision not in ("auto", "fp32", "bf16"):
        raise ConfigError(f"precision = {precision!r}: auto, fp32 or bf16")
    if precision == "auto":
        precision = "bf16" if has_bfloat16(device) else "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32


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
