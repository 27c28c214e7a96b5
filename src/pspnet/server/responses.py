"""A parsed scene as the bytes of an answer, in the form that was asked for."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.display import image_for_display
from pspnet.images import encode_label, encode_png
from pspnet.labels import IGNORE
from pspnet.predict.label_encodings import as_polygons, as_rle, confidence_bytes
from pspnet.predict.scale import Wish
from pspnet.predict.segmentation import Segmentation
from pspnet.predict.segmenter import Segmenter
from pspnet.server.batching import Found
from pspnet.server.negotiation import MEDIA_TYPES, Format
from pspnet.server.problems import Problem


@dataclass(frozen=True)
class Wanted:
    """What a request asks for. classes: indices that are kept; None keeps all. opacity: of the overlay, 0..1. size: what the
    photograph is looked at with."""

    format: Format
    confidence: bool = False
    classes: tuple[int, ...] | None = None
    opacity: float = 0.55
    legend: bool = False
    size: Wish = "trained"

    @property
    def needs_confidence(self) -> bool:
        return self.confidence or self.format == "confidence"


@dataclass(frozen=True)
class Answer:
    """Bytes, their media type, and headers of their own."""

    body: bytes
    media_type: str
    headers: dict[str, str]


def pick_classes(names: list[str] | None, segmenter: Segmenter) -> tuple[int, ...] | None:
    """["car", "boat"] or ["car,boat"] -> indices. Raises Problem naming the first that is no class."""
    if not names:
        return None
    known = segmenter.classes
    wanted: list[str] = []
    for text in names:  # a class's own name may hold a comma, as ADE20K's do
        wanted += [text] if text in known else [part.strip() for part in text.split(",") if part.strip()]
    for name in wanted:
        if name not in known:
            raise Problem("bad_parameter", f"classes: {name[:80]!r} is not one of: {', '.join(known)}")
    return tuple(known.index(name) for name in dict.fromkeys(wanted))


def make_answer(result: Found, pixels: NDArray[Any], segmenter: Segmenter, wanted: Wanted) -> Answer:
    """The answer's bytes. pixels: (H, W, bands), shown below an overlay."""
    scene = Segmentation(result.labels, segmenter.card.label_space, result.confidence)
    if wanted.classes is not None:
        scene = replace(scene, labels=_only(result.labels, wanted.classes))
    headers = {}
    if scene.confidence is not None:
        known = scene.labels != IGNORE
        mean = float(scene.confidence[known].mean()) if known.any() else 0.0
        headers["x-mean-confidence"] = f"{mean:.4f}"
    return Answer(_body(scene, pixels, wanted), MEDIA_TYPES[wanted.format], headers)


def _body(scene: Segmentation, pixels: NDArray[Any], wanted: Wanted) -> bytes:
    if wanted.format == "labels":
        return encode_label(scene.labels, scene.label_space)
    if wanted.format == "confidence":
        assert scene.confidence is not None
        return encode_png(np.where(scene.labels == IGNORE, 0, confidence_bytes(scene.confidence)).astype(np.uint8))
    if wanted.format == "overlay":
        return encode_png(replace(scene, image=image_for_display(pixels)).overlay(wanted.opacity, wanted.legend))
    content = as_rle(scene) if wanted.format == "rle" else as_polygons(scene)
    return json.dumps(content, separators=(",", ":")).encode()


def _only(labels: NDArray[np.uint8], classes: tuple[int, ...]) -> NDArray[np.uint8]:
    table = np.full(256, IGNORE, np.uint8)
    table[list(classes)] = classes
    return table[labels]
