"""Draws the pictures of docs/choosing.md from generated scenes and from the network itself.

    python docs/pictures/choosing.py [FOLDER]        (needs matplotlib, of the extra train)

Everything in them is computed here; nothing is drawn by hand. Prints the figures that the page quotes.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pspnet.config.model import ModelConfig
from pspnet.data.scenes import Scenes, Waterside
from pspnet.metrics import ConfusionMatrix
from pspnet.nn import PSPNet
from pspnet.nn.pointrend import points_on_grid, uncertainty

INK, ACCENT, SOFT = "#22303c", "#d1495b", "#edae49"
SIDE_PX = 256  # a multiple of every stride shown
SCENES = Scenes(400, seed=5, size=SIDE_PX, split="val")
plt.rcParams.update({"font.size": 9, "text.color": INK, "axes.titlecolor": INK, "axes.titlesize": 9})


def waterside(index: int = 0) -> int:
    """The number of the index-th waterside scene."""
    return [i for i in range(60) if isinstance(SCENES.facts(i), Waterside)][index]


def plain(axis: Any, image: Any = None, title: str = "", **options: Any) -> None:
    if image is not None:
        axis.imshow(image, **options)
    axis.set_title(title)
    axis.set_xticks([])
    axis.set_yticks([])


def coloured(labels: NDArray[Any]) -> NDArray[np.uint8]:
    return SCENES.label_space.palette[labels]


# --- why context ----------------------------------------------------------------------------------------------------


def context() -> None:
    """The same hull, a boat or a car: the pixels that decide lie elsewhere."""
    index = waterside(1)
    facts = SCENES.facts(index)
    assert isinstance(facts, Waterside)
    other = replace(facts, left="road" if facts.left == "water" else "water")
    pair = [SCENES.draw(index, f) for f in (facts, other)]
    names = SCENES.label_space.names
    changed = pair[0].labels != pair[1].labels
    hull = changed & np.isin(pair[0].labels, [names.index("boat"), names.index("car")])
    rows, columns = np.nonzero(hull)
    top, bottom, left, right = rows.min() - 6, rows.max() + 7, max(columns.min() - 6, 0), columns.max() + 7
    figure, axes = plt.subplots(2, 3, figsize=(7.6, 4.6), width_ratios=[1, 1, 1])
    for row, sample in zip(axes, pair, strict=True):
        assert sample.labels is not None
        word = names[int(np.bincount(sample.labels[hull]).argmax())]
        plain(row[0], sample.image[top:bottom, left:right], "a small window sees this")
        plain(row[1], sample.image, "the whole picture shows what it is")
        row[1].add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, color=ACCENT, lw=1.5))
        plain(row[2], coloured(sample.labels), f"labels: the framed thing is a {word}")
    save(figure, "context.png")
    same = (pair[0].image[top:bottom, left:right] == pair[1].image[top:bottom, left:right]).mean()
    print(f"context: {100 * same:.1f} % of the window's values are equal in both scenes")


# --- dilation -------------------------------------------------------------------------------------------------------


def dilation() -> None:
    """Where nine weights look at dilation 1, 2 and 4, and how far three such layers reach (measured by gradients)."""
    figure, axes = plt.subplots(1, 4, figsize=(7.6, 2.5))
    for axis, rate in zip(axes, (1, 2, 4), strict=False):
        cells = np.zeros((11, 11))
        cells[5 - rate : 6 + rate : rate, 5 - rate : 6 + rate : rate] = 1
        cells[5, 5] = 2
        grid(axis, cells, f"dilation {rate}: 9 weights,\n{2 * rate + 1} cells wide")
    seen = torch.zeros(1, 1, 17, 17, requires_grad=True)
    x = seen
    for rate in (1, 2, 4):
        x = F.conv2d(x, torch.ones(1, 1, 3, 3), padding=rate, dilation=rate)
    x[0, 0, 8, 8].backward()
    assert seen.grad is not None
    reach = (seen.grad[0, 0] > 0).double().numpy()
    reach[8, 8] = 2
    wide = int(reach.any(0).sum())
    grid(axes[3], reach, f"three layers, 1, 2 and 4:\n{wide} cells wide, no pixel lost")
    save(figure, "dilation.png")


def grid(axis: Any, cells: NDArray[Any], title: str) -> None:
    colours = np.array([[255, 255, 255], [237, 174, 73], [209, 73, 91]], np.uint8)
    plain(axis, colours[cells.astype(int)], title)
    axis.set_xticks(np.arange(-0.5, len(cells)), minor=True)
    axis.set_yticks(np.arange(-0.5, len(cells)), minor=True)
    axis.grid(which="minor", color="#c8ccd0", lw=0.6)
    axis.tick_params(which="minor", length=0)


# --- the pyramid ----------------------------------------------------------------------------------------------------


def bins() -> None:
    """What each level of the pyramid keeps of a picture: one average per cell."""
    image = SCENES[waterside(3)].image
    tensor = torch.from_numpy(image).movedim(-1, 0)[None].float()
    figure, axes = plt.subplots(2, 6, figsize=(7.6, 2.75))
    for column, count in enumerate((1, 2, 3, 5, 6, 8)):
        plain(axes[0, column], image, f"{count} x {count}")
        for line in np.linspace(0, SIDE_PX, count + 1)[1:-1]:
            axes[0, column].axhline(line, color="white", lw=0.8)
            axes[0, column].axvline(line, color="white", lw=0.8)
        pooled = F.adaptive_avg_pool2d(tensor, count)
        back = F.interpolate(pooled, size=(SIDE_PX, SIDE_PX), mode="bilinear")[0].movedim(0, -1).byte().numpy()
        plain(axes[1, column], back)
    axes[0, 0].set_ylabel("cells")
    axes[1, 0].set_ylabel("what is kept")
    save(figure, "bins.png")


# --- encoder and decoder --------------------------------------------------------------------------------------------


def stages() -> None:
    """The real sizes inside four networks for a 480 px image, as bars: height is the map's side."""
    figure, axes = plt.subplots(4, 1, figsize=(9.6, 6.4))
    for axis, decoder in zip(axes, ("bilinear", "progressive", "unet", "fpn"), strict=True):
        x = 0.0
        for name, channels, side, colour in traced(decoder):
            wide = 0.3 + channels / 900
            slot = max(wide + 0.4, 1.75)  # at least as wide as its labels
            middle = x + slot / 2
            axis.add_patch(Rectangle((middle - wide / 2, -side / 2), wide, side, color=colour, ec="white"))
            axis.text(middle, side / 2 + 12, name, ha="center", va="bottom", fontsize=7)
            axis.text(middle, -side / 2 - 14, f"{channels} x {side}²", ha="center", va="top", fontsize=6)
            x += slot
        axis.set_xlim(-2.9, 24.5)
        axis.set_ylim(-320, 320)
        axis.axis("off")
        axis.text(-2.9, 0, decoder, fontweight="bold", va="center")
    save(figure, "stages.png")


def traced(decoder: str) -> list[tuple[str, int, int, str]]:
    """(name, channels, side, colour) of what flows through a ResNet-50 network, recorded while it runs."""
    seen: list[tuple[str, int, int, str]] = []

    def record(name: str, colour: str) -> Callable[..., None]:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            for number, tensor in enumerate(output if isinstance(output, list) else [output], start=1):
                label = f"{name}{number}" if isinstance(output, list) else name
                seen.append((label, tensor.shape[1], tensor.shape[2], colour))

        return hook

    with torch.device("meta"):
        model = PSPNet(ModelConfig(encoder="resnet50", decoder=decoder, num_classes=19)).eval()
        model.encoder.register_forward_pre_hook(lambda _, inputs, __: (inputs, {}), with_kwargs=True)  # every stage
        model.encoder.register_forward_hook(record("c", "#6d8fa8"))
        model.pyramid.register_forward_hook(record("pyramid", SOFT))
        for name in ("blocks", "join", "lateral"):
            for part in getattr(model.decoder, name, []):
                part.register_forward_hook(record("decoder", "#58a078"))
        if decoder == "fpn":
            model.decoder.fuse.register_forward_hook(record("fused", "#58a078"))
        model.classifier.register_forward_hook(record("classes", ACCENT))
        logits = model(torch.empty(1, 3, 480, 480))
    return [("image", 3, 480, "#b8c4cc"), *seen, ("answer", logits.shape[1], logits.shape[2], ACCENT)]


# --- how fine a decoder must be -------------------------------------------------------------------------------------


def perfect(labels: NDArray[Any], stride: int) -> Tensor:
    """(1, K, h, w): what a network without any error could say at a stride: the share of each class in each cell."""
    one_hot = F.one_hot(torch.from_numpy(labels).long(), SCENES.label_space.num_classes).movedim(-1, 0)[None].float()
    return F.avg_pool2d(one_hot, stride)


def resolution() -> None:
    """The best possible answer at each stride, and its score over 200 scenes."""
    sample = SCENES[waterside(4)]
    assert sample.labels is not None
    names = SCENES.label_space.names
    thing = np.isin(sample.labels, [names.index("boat"), names.index("car")])[:, : SIDE_PX // 2]
    row, column = (int(places.mean()) for places in np.nonzero(thing))
    detail = np.s_[row - 40 : row + 40, max(column - 40, 0) : max(column - 40, 0) + 80]
    strides = (32, 16, 8, 4, 2)
    figure, axes = plt.subplots(1, 6, figsize=(7.6, 1.75))
    for axis, stride in zip(axes, strides, strict=False):
        scores = ConfusionMatrix(SCENES.label_space.num_classes)
        near = hit = 0
        for index in range(200):
            labels = SCENES[index].labels
            assert labels is not None
            answer = answer_at(labels, stride)
            scores.update(labels, answer)
            border = borders(labels)
            near, hit = near + int(border.sum()), hit + int((answer == labels)[border].sum())
        value = 100 * float(scores.scores().mean_iou)
        plain(axis, coloured(answer_at(sample.labels, stride))[detail], f"stride {stride}\n{value:.1f} mIoU")
        print(
            f"resolution: stride {stride}: at best {value:.1f} mIoU, {100 * hit / near:.1f} % right within 3 px of borders"
        )
    plain(axes[5], coloured(sample.labels)[detail], "labels\n(a detail)")
    save(figure, "resolution.png")


def answer_at(labels: NDArray[Any], stride: int) -> NDArray[Any]:
    size = labels.shape
    return F.interpolate(perfect(labels, stride), size=size, mode="bilinear")[0].argmax(0).byte().numpy()


def borders(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels within 3 px of another class."""
    here = torch.from_numpy(labels).float()[None, None]
    windows = F.max_pool2d(here, 7, 1, 3), -F.max_pool2d(-here, 7, 1, 3)
    return (windows[0] != windows[1])[0, 0].numpy()


# --- PointRend ------------------------------------------------------------------------------------------------------


def points() -> None:
    """The pixels that PointRend would predict again: after each doubling the least certain ones."""
    sample = SCENES[waterside(4)]
    assert sample.labels is not None
    coarse = perfect(sample.labels, 8)
    logits = coarse
    figure, axes = plt.subplots(1, 4, figsize=(7.6, 2.2))
    plain(axes[0], sample.image, "the image")
    plain(axes[1], coarse[0].argmax(0).numpy(), f"coarse answer: {coarse.shape[-1]} x {coarse.shape[-1]}")
    axes[1].images[0].set_data(coloured(coarse[0].argmax(0).byte().numpy()))
    for axis in axes[2:]:
        logits = F.interpolate(logits, scale_factor=2, mode="bilinear")
        side = logits.shape[-1]
        _, chosen = points_on_grid(uncertainty(logits), 600)
        plain(axis, coloured(logits[0].argmax(0).byte().numpy()), f"{side} x {side}, 600 in doubt")
        x, y = (chosen[0] * side - 0.5).T.numpy()
        axis.scatter(x, y, s=1.2, color="black", linewidths=0)
        share = 600 / side**2
        print(f"points: 600 points are {100 * share:.1f} % of {side} x {side}")
    save(figure, "points.png")


# --------------------------------------------------------------------------------------------------------------------


def save(figure: Any, name: str) -> None:
    """A PNG of at most 256 colours, which keeps a page's pictures small."""
    figure.tight_layout(pad=0.6)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, format="png", bbox_inches="tight", pad_inches=0.06)
    plt.close(figure)
    path = FOLDER / name
    Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB")


FOLDER = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for draw in (context, dilation, bins, stages, resolution, points):
        draw()
