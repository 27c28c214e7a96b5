"""TensorFlow's "same" convolution, whose padding depends on whether a side is odd, exported as one ONNX node.

Written out, the padding of each of an EfficientNet-Lite's strided convolutions is a formula of the sizes before it; nested,
they cost an export minutes of symbolic arithmetic, and 8-bit convolutions a round trip through floats for each Pad.
ONNX's Conv knows the rule by name: auto_pad = SAME_UPPER.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame
from torch import Tensor, nn


class SameConvolution(Conv2dSame):  # type: ignore[misc]  # timm tells no types
    """timm's Conv2dSame, the same numbers: (B, C, H, W) -> (B, out, ceil(H / stride), ceil(W / stride)).

    Along an axis of n px, `span` = (kernel - 1) * dilation + 1 - stride + (-n mod stride) zeros are added, the larger half at
    the end: with a kernel of 3 and a stride of 2, (0, 1) for even n and (1, 1) for odd.
    """

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if torch.onnx.is_in_onnx_export():
            return self._as_onnx(images)
        top, bottom = self._added(height, 0)
        left, right = self._added(width, 1)
        padded = F.pad(images, (left, right, top, bottom))
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)

    def _added(self, side: int, axis: int) -> tuple[int, int]:
        stride = self.stride[axis]
        span = (self.kernel_size[axis] - 1) * self.dilation[axis] + 1 - stride
        total = span + -side % stride
        if span < 0:  # a kernel smaller than its stride
            total = max(total, 0)
        return total // 2, total - total // 2

    def _as_onnx(self, images: Tensor) -> Tensor:
        batch, _, height, width = images.shape
        # rounded up without negative numbers, which ONNX divides towards zero
        rows, columns = ((side + step - 1) // step for side, step in zip((height, width), self.stride, strict=True))
        return torch.onnx.ops.symbolic(
            "Conv",
            (images, self.weight) if self.bias is None else (images, self.weight, self.bias),
            {
                "auto_pad": "SAME_UPPER",
                "strides": list(self.stride),
                "dilations": list(self.dilation),
                "kernel_shape": list(self.kernel_size),
                "group": self.groups,
            },
            dtype=images.dtype,
            shape=(batch, self.out_channels, rows, columns),
        )


def exportable(network: nn.Module) -> None:
    """Makes every Conv2dSame of timm's below `network` a SameConvolution: parameters, their names and hooks stay."""
    for module in network.modules():
        if type(module) is Conv2dSame:
            module.__class__ = SameConvolution
