"""Which scenes the page shows, and the pictures of a scene. No scene is shown without saying why it was chosen."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pspnet.data.scenes import AMBIGUOUS, SCENE_CLASSES, Bedroom, Facts, Waterside
from pspnet.demo.outcomes import DemoOutcome, DemoReport, predict

RESCUED, LOST = (0, 178, 120), (214, 40, 130)
PER_KIND = 2


@dataclass(frozen=True)
class GalleryImage:
    """A picture for the page: a data URI and what it shows."""

    uri: str
    caption: str
    photograph: bool


def most_rescued(report: DemoReport) -> dict[str, list[int]]:
    """For each failure kind, PER_KIND test scenes that hold its classes, those in which PSPNet corrects most of their pixels."""
    gained = rescued(report)
    picked: dict[str, list[int]] = {}
    taken: set[int] = set()
    for kind, names in AMBIGUOUS.items():
        concerned = np.isin(report.labels, [SCENE_CLASSES.index(name) for name in names])
        counts = (gained & concerned).sum((1, 2))
        order = [int(i) for i in np.argsort(-counts, kind="stable") if int(i) not in taken and concerned[i].any()]
        picked[kind] = order[:PER_KIND]
        taken.update(picked[kind])
    return picked


def least_helped(report: DemoReport) -> int:
    """The test scene in which PSPNet has most pixels wrong."""
    return int(np.argmax((report.pspnet.predictions != report.labels).sum((1, 2))))


def rescued(report: DemoReport) -> NDArray[np.bool_]:
    """(N, H, W): the FCN is wrong and PSPNet right."""
    return (report.fcn.predictions != report.labels) & (report.pspnet.predictions == report.labels)


def lost(report: DemoReport) -> NDArray[np.bool_]:
    """(N, H, W): the FCN is right and PSPNet wrong."""
    return (report.fcn.predictions == report.labels) & (report.pspnet.predictions != report.labels)


def row(report: DemoReport, index: int) -> list[GalleryImage]:
    """Image, truth, the three predictions, and the image with the pixels that the pyramid rescued and lost."""
    image = report.images[index]
    gained, gone = rescued(report)[index], lost(report)[index]
    pictures = [photograph(image, "image"), label_map(report.labels[index], "truth")]
    pictures += [label_map(outcome.predictions[index], outcome.contender.title) for outcome in report.outcomes]
    share = 100.0 * float(gained.mean())
    return [*pictures, photograph(marked(image, gained, gone), f"{share:.0f} % rescued")]


def marked(image: NDArray[np.uint8], gained: NDArray[np.bool_], gone: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The image in pale grey, rescued pixels green and lost ones magenta."""
    grey = np.repeat(image.mean(2, keepdims=True) * 0.45 + 130.0, 3, axis=2)
    for where, tone in ((gained, RESCUED), (gone, LOST)):
        grey[where] = 0.22 * grey[where] + 0.78 * np.array(tone, np.float64)
    return grey.astype(np.uint8)


def counterfactual(report: DemoReport, index: int) -> list[GalleryImage]:
    """A scene and the same scene with other facts: the images, and what PSPNet says of each."""
    facts = report.test.facts(index)
    other = report.test.draw(index, opposite(facts)).image
    model: DemoOutcome = report.pspnet
    here, there = predict(model.model, np.stack([report.images[index], other]))
    return [
        photograph(report.images[index], "as drawn"),
        photograph(other, "only the signs changed"),
        label_map(here, "PSPNet, as drawn"),
        label_map(there, "PSPNet, signs changed"),
    ]


def opposite(facts: Facts) -> Facts:
    """The facts under which every ambiguous thing has the other class."""
    if isinstance(facts, Bedroom):
        return Bedroom(left=not facts.left, right=not facts.right)
    assert isinstance(facts, Waterside)
    return replace(
        facts,
        left="road" if facts.left == "water" else "water",
        right="road" if facts.right == "water" else "water",
        city=not facts.city,
    )


def photograph(image: NDArray[np.uint8], caption: str) -> GalleryImage:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=90, subsampling=0)
    return GalleryImage(uri("jpeg", buffer.getvalue()), caption, True)


def label_map(labels: NDArray[np.uint8], caption: str) -> GalleryImage:
    indexed = Image.frombytes("P", (labels.shape[1], labels.shape[0]), labels.tobytes())
    indexed.putpalette(SCENE_CLASSES.palette[: SCENE_CLASSES.num_classes].tobytes())
    buffer = io.BytesIO()
    indexed.save(buffer, "PNG", optimize=True)
    return GalleryImage(uri("png", buffer.getvalue()), caption, False)


def uri(kind: str, content: bytes) -> str:
    """A picture within the page, which then needs no other file."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
