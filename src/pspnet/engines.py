"""What computes logits: PyTorch here; exported models bring engines of their own."""

from __future__ import annotations

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
