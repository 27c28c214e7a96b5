"""PSPNet for inference on an NVIDIA card, with norms folded into convolutions and one cuDNN call for convolution, bias,
shortcut and ReLU: an experiment of benchmarks/gpu.py. Eager PyTorch reads and writes each map anew for norm, sum and ReLU.

Bottleneck ResNets and the folded 3x3 fusion only. On a processor the same sums are done by plain operators, so that a test
can hold the network equal to the one it was made from.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from timm.models.resnet import Bottleneck
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from pspnet import PSPNet
from pspnet.nn.folding import folded_terms

Images = Callable[[Tensor], Tensor]


def fused(model: PSPNet, dtype: torch.dtype) -> Images:
    """(B, bands, H, W) -> coarse logits, as `model.coarse_logits` gives; weights and maps in `dtype`, channels-last."""
    model = copy.deepcopy(model).eval()
    encoder, pyramid = model.encoder, model.pyramid
    stem = _Conv(encoder.conv1, encoder.bn1, dtype)
    stages = [[_Block(block, dtype) for block in getattr(encoder, name)] for name in encoder.stages]
    branches = [_Conv(branch.conv, branch.norm, dtype) for branch in pyramid.branches]
    fusion = _Conv(pyramid.fusion.conv, pyramid.fusion.norm, dtype)
    sizes = [pyramid.in_channels, *[pyramid.width] * len(pyramid.bins)]
    first, *parts = (part.contiguous(memory_format=torch.channels_last) for part in fusion.weight.split(sizes, dim=1))
    parts = [part.contiguous() for part in parts]  # small, and reshaped: any layout does
    fusion.weight = first
    classifier = model.classifier.to(dtype, memory_format=torch.channels_last)

    @torch.inference_mode()
    def coarse_logits(images: Tensor) -> Tensor:
        x = encoder.maxpool(stem(model.normalise(images).to(dtype, memory_format=torch.channels_last)))
        for stage in stages:
            for block in stage:
                x = block(x)
        pooled = [branch(F.adaptive_avg_pool2d(x, b)) for b, branch in zip(pyramid.bins, branches, strict=True)]
        terms = folded_terms(pooled, parts, x, pyramid.align_corners).contiguous(memory_format=torch.channels_last)
        return classifier(fusion(x, terms)).float()

    return coarse_logits


class _Conv:
    """act(conv(x) + bias [+ other]); the norm is in weight and bias."""

    def __init__(self, conv: nn.Conv2d, norm: nn.Module, dtype: torch.dtype, act: bool = True) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        mean, variance = norm.running_mean, norm.running_var
        weight, bias = fuse_conv_bn_weights(conv.weight, conv.bias, mean, variance, norm.eps, norm.weight, norm.bias)
        self.weight = weight.detach().to(dtype, memory_format=torch.channels_last)
        self.bias = bias.detach().to(dtype)
        self.options = (list(conv.stride), list(conv.padding), list(conv.dilation), conv.groups)
        self.act = act

    def __call__(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        if not self.act or x.device.type != "cuda":
            output = F.conv2d(x, self.weight, self.bias, *self.options)
            output = output if other is None else output + other
            return F.relu(output) if self.act else output
        if other is None:
            return torch.cudnn_convolution_relu(x, self.weight, self.bias, *self.options)
        return torch.cudnn_convolution_add_relu(x, self.weight, other, 1.0, self.bias, *self.options)


class _Block:
    def __init__(self, block: nn.Module, dtype: torch.dtype) -> None:
        assert isinstance(block, Bottleneck)
        self.first = _Conv(block.conv1, block.bn1, dtype)
        self.second = _Conv(block.conv2, block.bn2, dtype)
        self.third = _Conv(block.conv3, block.bn3, dtype)
        self.shortcut = (
            None if block.downsample is None else _Conv(block.downsample[0], block.downsample[1], dtype, act=False)
        )

    def __call__(self, x: Tensor) -> Tensor:
        return self.third(self.second(self.first(x)), x if self.shortcut is None else self.shortcut(x))
