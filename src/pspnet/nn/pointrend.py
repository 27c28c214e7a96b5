"""PointRend: predicts again, point by point, where the coarse logits are in doubt (Kirillov et al. 2020).

arXiv:1912.08193. A point is (x, y) in 0..1 across a map of any size. With align_corners = False 0 and 1 are the map's
outer edges and pixel i of n has its centre at (i + 0.5) / n; with True they are the outer pixels' centres.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pspnet.config.model import ModelConfig
from pspnet.nn.blocks import resize


class PointRend(nn.Module):
    """Point refinement on top of any decoder.

    What a point sees: the encoder's finest features at stride 4 or more (ResNet's c2, as in the paper; stride 2 costs
    four times the memory and holds little but edges) and the decoder's logits, joined along the channels.
    """

    def __init__(self, channels: list[int], strides: list[int], config: ModelConfig) -> None:
        super().__init__()
        self.options = config.pointrend_options
        self.align_corners = config.align_corners
        self.level = fine_level(strides)
        self.head = PointHead(channels[self.level], config.num_classes, self.options.channels, self.options.layers)

    def forward(self, features: list[Tensor], logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Encoder features and logits (B, K, h, w) -> logits refined at up to `size`, the input's: (B, K, h', w')."""
        options = self.options
        return subdivide(
            self.head, [features[self.level]], logits, options.steps, options.points, size, self.align_corners
        )

    def at_training_points(self, features: list[Tensor], logits: Tensor) -> tuple[Tensor, Tensor]:
        """Points to train on, most of them in doubt: coordinates (B, N, 2) and the head's logits there (B, K, N)."""
        options = self.options
        points = training_points(
            logits, options.train_points, options.oversample, options.importance, align_corners=self.align_corners
        )
        fine = point_sample(features[self.level], points, align_corners=self.align_corners)
        return points, self.head(fine, point_sample(logits, points, align_corners=self.align_corners))


class PointHead(nn.Module):
    """The point network: 1x1 convolutions with ReLU, each of which sees the coarse logits again.

    fine (B, C, N), coarse (B, K, N) -> logits (B, K, N). `channels` wide, `layers` hidden layers and a predictor.
    """

    def __init__(self, fine_channels: int, num_classes: int, channels: int = 256, layers: int = 3) -> None:
        super().__init__()
        widths = [fine_channels, *[channels] * layers]
        hidden = [nn.Conv1d(width + num_classes, channels, 1) for width in widths[:-1]]
        self.hidden = nn.ModuleList(hidden)
        self.predictor = nn.Conv1d(widths[-1] + num_classes, num_classes, 1)
        for layer in hidden:
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.predictor.weight, std=0.001)  # starts near "all classes equal", as in the paper's code
        for layer in [*hidden, self.predictor]:
            nn.init.constant_(layer.get_parameter("bias"), 0.0)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        x = fine
        for layer in self.hidden:
            x = F.relu(layer(torch.cat([x, coarse], dim=1)))
        logits: Tensor = self.predictor(torch.cat([x, coarse], dim=1))
        return logits


def fine_level(strides: list[int]) -> int:
    """Index of the finest features whose stride is 4 or more; the last where none is."""
    return next((index for index, stride in enumerate(strides) if stride >= 4), len(strides) - 1)


def uncertainty(logits: Tensor) -> Tensor:
    """(B, K, *S) -> (B, 1, *S): second largest minus largest logit, at most 0; nearer to 0 is less certain.

    With one class there is nothing to doubt: 0 everywhere.
    """
    if logits.shape[1] == 1:
        return torch.zeros_like(logits)
    largest = logits.topk(2, dim=1).values
    return largest[:, 1:2] - largest[:, 0:1]


def point_sample(features: Tensor, points: Tensor, mode: str = "bilinear", align_corners: bool = False) -> Tensor:
    """Features (B, C, H, W) at points (B, N, 2) or (B, h, w, 2) -> (B, C, N) or (B, C, h, w). Beyond the map is 0.

    Features in half precision are sampled in float32: a position needs more than their bits.
    """
    grid = 2 * (points[:, :, None] if points.dim() == 3 else points) - 1
    wide = features.double() if features.dtype == torch.float64 else features.float()
    sampled = F.grid_sample(wide, grid.to(wide.dtype), mode, "zeros", align_corners).to(features.dtype)
    return sampled[..., 0] if points.dim() == 3 else sampled


def labels_at_points(labels: Tensor, points: Tensor, align_corners: bool = False) -> Tensor:
    """(B, H, W) int64 labels at points (B, N, 2): the nearest pixel's, (B, N) int64."""
    # "border", since a coordinate that float32 rounds up to 1 would otherwise read class 0 beyond the map
    grid = 2 * points[:, :, None].float() - 1
    sampled = F.grid_sample(labels[:, None].float(), grid, "nearest", "border", align_corners)
    return sampled[:, 0, :, 0].long()


def points_on_grid(doubts: Tensor, count: int, align_corners: bool = False) -> tuple[Tensor, Tensor]:
    """The `count` most uncertain pixels of (B, 1, H, W): indices (B, N) in row-major order and points (B, N, 2).

    N = min(count, H * W), the least certain first. A point is its pixel's centre.
    """
    height, width = doubts.shape[-2:]
    indices = doubts.flatten(1).topk(min(count, height * width), dim=1).indices
    rows, columns = torch.div(indices, width, rounding_mode="floor"), indices % width
    if align_corners:
        points = torch.stack([columns / max(width - 1, 1), rows / max(height - 1, 1)], dim=2)
    else:
        points = torch.stack([(columns + 0.5) / width, (rows + 0.5) / height], dim=2)
    # never in bfloat16, whose eight bits tell no more than 256 places along a side
    return indices, points.to(torch.float64 if doubts.dtype == torch.float64 else torch.float32)


@torch.no_grad()
def training_points(
    logits: Tensor,
    count: int,
    oversample: float = 3.0,
    importance: float = 0.75,
    draws: tuple[Tensor, ...] = (),
    generator: torch.Generator | None = None,
    align_corners: bool = False,
) -> Tensor:
    """`count` points of each image, drawn at random with a preference for doubt: (B, K, H, W) -> (B, count, 2).

    int(count * oversample) points are drawn; the int(count * importance) of them whose logits are least certain are
    kept, in that order; the rest of `count` is drawn afresh. draws: these random numbers in 0..1 instead of new ones,
    (B, int(count * oversample), 2) and, where a rest remains, (B, rest, 2).
    """
    certain = count - int(count * importance)
    shapes = [(len(logits), int(count * oversample), 2), (len(logits), certain, 2)]
    if not draws:
        draws = tuple(torch.rand(shape, generator=generator, device=logits.device) for shape in shapes)
    candidates = draws[0]
    doubts = uncertainty(point_sample(logits.float(), candidates, align_corners=align_corners))  # (B, 1, candidates)
    chosen = doubts[:, 0].topk(count - certain, dim=1).indices
    points = candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
    return torch.cat([points, draws[1]], dim=1) if certain else points


def subdivide(
    head: PointHead,
    fine: list[Tensor],
    coarse: Tensor,
    steps: int,
    count: int,
    limit: tuple[int, int] | None = None,
    align_corners: bool = False,
) -> Tensor:
    """Doubles the logits `steps` times and after each time predicts the `count` least certain pixels again.

    fine: feature maps of any sizes, joined along the channels. coarse: (B, K, h, w), the logits to start from, which
    the head sees at every step. limit: no doubling goes beyond this height and width; at it there is one refinement
    and no more. -> (B, K, h', w'), h' = 2^steps h without a limit (with align_corners 2h - 1 at each step, so that the
    old pixels keep their places).
    """
    logits = coarse
    for step in range(steps):
        size = doubled(logits, limit, align_corners)
        if step and size == (logits.shape[-2], logits.shape[-1]):
            break
        logits = resize(logits, size, align_corners)
        indices, points = points_on_grid(uncertainty(logits), count, align_corners)
        fine_points = torch.cat([point_sample(f, points, align_corners=align_corners) for f in fine], dim=1)
        refined = head(fine_points, point_sample(coarse, points, align_corners=align_corners))  # (B, K, N)
        places = indices[:, None].expand(-1, logits.shape[1], -1)
        logits = logits.flatten(2).scatter(2, places, refined.to(logits.dtype)).reshape(logits.shape)
    return logits


def doubled(logits: Tensor, limit: tuple[int, int] | None, align_corners: bool) -> tuple[int, int]:
    """Twice the height and width (one less where corners are aligned), at most `limit`, never less than they are."""
    height, width = (2 * n - 1 if align_corners else 2 * n for n in logits.shape[-2:])
    if limit is None:
        return height, width
    return max(min(height, limit[0]), logits.shape[-2]), max(min(width, limit[1]), logits.shape[-1])
