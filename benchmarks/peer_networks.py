"""Other projects' networks for benchmarks/peers.py, each as its own project builds and calls it, eager, every logit resized.

Imported in the other projects' environment, so it takes nothing of ours but the golden weights of tests/golden_weights.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

NOTES = {
    "mmsegmentation": "the same network and weights as ours; its own path: encode_decode, then argmax",
    "smp PSPNet": "runs the resnet50's first two of four stages only (stride 8 without dilation): far fewer operations",
    "torchvision FCN": "the dilated resnet50 with a 3x3 head of 512 channels: no pyramid, nothing joined",
    "torchvision DeepLabV3": "the dilated resnet50 with atrous pyramid (rates 12, 24, 36) and a 3x3 layer of 256",
    "smp U-Net": "the whole resnet50, down to stride 32, and skip connections up to stride 1",
    "smp DeepLabV3+": "resnet50 at stride 16, separable atrous pyramid of 256 channels",
    "SegFormer-B0": "transformers; a small transformer, four stages joined at stride 4, the logits resized by the caller",
}


MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def golden_input(size: int, number: int = 0) -> np.ndarray[Any, Any]:
    """(1, 3, size, size) float32, normalised. number: another one, of the same kind."""
    from support.golden_weights import make_input

    return make_input(f"input/mmseg_pspnet_r50/peers{number or ''}", (1, 3, size, size))


def fill(model: torch.nn.Module, gain: float) -> None:
    """The golden weights, by name."""
    from support.golden_weights import fill_entry

    state = model.state_dict()
    model.load_state_dict({n: torch.from_numpy(fill_entry(n, tuple(v.shape), gain)) for n, v in state.items()})


class _NoOperators(ModuleType):
    """Stands for mmcv.ops, whose compiled operators mmcv-lite leaves out: other networks name them, PSPNet uses none."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (torch.nn.Module,), {})


def mmsegmentation(job: dict[str, Any]) -> torch.nn.Module:
    sys.modules["mmcv.ops"] = _NoOperators("mmcv.ops")
    from mmseg.registry import MODELS
    from mmseg.utils import register_all_modules

    register_all_modules()
    norm = {"type": "BN", "requires_grad": True}
    loss = {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0}
    config = {
        "type": "EncoderDecoder",
        "backbone": {
            "type": "ResNetV1c",
            "depth": 50,
            "num_stages": 4,
            "out_indices": (0, 1, 2, 3),
            "dilations": (1, 1, 2, 4),
            "strides": (1, 2, 1, 1),
            "norm_cfg": norm,
            "norm_eval": False,
            "style": "pytorch",
            "contract_dilation": True,
        },
        "decode_head": {
            "type": "PSPHead",
            "in_channels": 2048,
            "in_index": 3,
            "channels": 512,
            "pool_scales": (1, 2, 3, 6),
            "dropout_ratio": 0.1,
            "num_classes": 150,
            "norm_cfg": norm,
            "align_corners": False,
            "loss_decode": loss,
        },
        "auxiliary_head": {
            "type": "FCNHead",
            "in_channels": 1024,
            "in_index": 2,
            "channels": 256,
            "num_convs": 1,
            "concat_input": False,
            "dropout_ratio": 0.1,
            "num_classes": 150,
            "norm_cfg": norm,
            "align_corners": False,
            "loss_decode": loss,
        },
        "train_cfg": {},
        "test_cfg": {"mode": "whole"},
    }
    model = MODELS.build(config).eval()
    fill(model, 0.72)
    torch.save(
        {"meta": {"cfg": f"model = {config!r}"}, "state_dict": model.state_dict()}, Path(job["folder"]) / "mmseg.pth"
    )
    return model


def smp(design: str) -> torch.nn.Module:
    import segmentation_models_pytorch

    network: torch.nn.Module = getattr(segmentation_models_pytorch, design)(
        "resnet50", encoder_weights=None, classes=150
    )
    return network.eval()


def fcn(_: dict[str, Any]) -> torch.nn.Module:
    from torchvision.models.segmentation import fcn_resnet50

    return fcn_resnet50(weights=None, weights_backbone=None, num_classes=150).eval()


def deeplab(_: dict[str, Any]) -> torch.nn.Module:
    from torchvision.models.segmentation import deeplabv3_resnet50

    return deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=150).eval()


def segformer(_: dict[str, Any]) -> torch.nn.Module:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    return SegformerForSemanticSegmentation(SegformerConfig(num_labels=150)).eval()  # the defaults are B0


THEIRS: dict[str, Callable[[dict[str, Any]], torch.nn.Module]] = {
    "mmsegmentation": mmsegmentation,
    "smp PSPNet": lambda _: smp("PSPNet"),
    "smp U-Net": lambda _: smp("Unet"),
    "smp DeepLabV3+": lambda _: smp("DeepLabV3Plus"),
    "torchvision FCN": fcn,
    "torchvision DeepLabV3": deeplab,
    "SegFormer-B0": segformer,
}


def their_work(job: dict[str, Any]) -> tuple[Callable[[], Any], dict[str, Any]]:
    """Their network as it is usually called: eager, in its own memory layout, every logit resized, then argmax."""
    from torch.utils.flop_counter import FlopCounterMode

    torch.set_num_threads(job["threads"])
    name = job["name"]
    model = THEIRS[name](job)
    images = torch.from_numpy(golden_input(job["size"]))

    def logits(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
        if name == "mmsegmentation":
            side = tuple(images.shape[2:])
            return model.encode_decode(images, [{"img_shape": side, "ori_shape": side, "pad_shape": side}])
        outputs = model(images)
        if name == "SegFormer-B0":
            return F.interpolate(outputs.logits, images.shape[2:], mode="bilinear", align_corners=False)
        return outputs["out"] if isinstance(outputs, dict) else outputs

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        logits(model, images)
    half = job["precision"] == "bf16"

    def work() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            labels = logits(model, images).argmax(dim=1)
        np.save(Path(job["folder"]) / f"{job['key']}.npy", labels[0].numpy().astype(np.uint8))

    return work, {"gflop": counter.get_total_flops() / 1e9, "parameters": sum(p.numel() for p in model.parameters())}
