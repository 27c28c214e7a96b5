"""Where a convolution looks: dilation in place of stride, which keeps an encoder's last stages fine (Yu and Koltun
2016, arXiv:1511.07122), and padding as TensorFlow does it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def dilate(stage: nn.Module, dilation: int) -> None:
    """Gives every convolution of a stage that looks at neighbours (3x3, 5x5, 7x7) the same dilation; sizes stay.

    timm contracts: it gives a stage's first block the dilation of the stage before, so that weights trained without
    dilation compute the same numbers. The paper's networks dilate the first block too; this makes a stage theirs.
    """
    for conv in stage.modules():
        if isinstance(conv, nn.Conv2d) and max(conv.kernel_size) > 1 and all(side % 2 for side in conv.kernel_size):
            conv.dilation = (dilation, dilation)
            if isinstance(conv.padding, tuple) and any(conv.padding):  # else it pads to "same" by itself, at run time
                conv.padding = tuple(dilation * (side // 2) for side in conv.kernel_size)


def strides_at(output_stride: int, finest: int, count: int) -> list[int]:
    """Strides of `count` features that would double from `finest` on, held at the output stride: 2, 4, 8, 8, 8."""
    return [min(finest * 2**index, output_stride) for index in range(count)]


class BorderConv2d(nn.Conv2d):
    """A convolution that pads each side by its own number of cells: `border` = (left, right, top, bottom)."""

    border: tuple[int, int, int, int]

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(F.pad(input, self.border), self.weight, self.bias)


def pad_for(network: nn.Module, side_px: int) -> None:
    """Pads strided convolutions as TensorFlow's "same" does for an image of side_px x side_px, at any image size.

    "Same" pads just enough for the last window to fit: on even maps one cell more at right and bottom than at left and
    top, where PyTorch pads all four sides alike. Convolutions without stride pad alike in both.
    """
    side = side_px
    for parent in list(network.modules()):
        for name, conv in list(parent.named_children()):
            if isinstance(conv, nn.Conv2d) and max(conv.stride) > 1:
                kernel, stride = conv.kernel_size[0], conv.stride[0]
                after = -(-side // stride)
                border = max((after - 1) * stride + kernel - side, 0)
                padded = BorderConv2d(
                    conv.in_channels, conv.out_channels, kernel, stride, groups=conv.groups, bias=conv.bias is not None
                )
                padded.weight, padded.bias = conv.weight, conv.bias
                padded.border = (border // 2, border - border // 2, border // 2, border - border // 2)
                setattr(parent, name, padded)
                side = after
