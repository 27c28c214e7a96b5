"""One image looked at: at once, in blended windows, or as a protocol says; the result at the image's own size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pspnet.display import image_for_display
from pspnet.predict import logits as coarse_logits
from pspnet.predict import scale, windows
from pspnet.predict.arrays import copy_of, softmax_, to_numpy
from pspnet.predict.protocols import predict_probabilities
from pspnet.predict.segmentation import Segmentation

if TYPE_CHECKING:
    from pspnet.predict.segmenter import Segmenter

Labels = NDArray[np.uint8]
Confidence = NDArray[np.float32]


def segment_pixels(
    segmenter: Segmenter,
    pixels: NDArray[Any],
    size_seen: scale.Size,
    title: str,
    confidence: bool = True,
    probabilities: bool = False,
    protocol: str | None = None,
) -> Segmentation:
    """(H, W, bands) as the model reads them -> a Segmentation (H, W). size_seen: (height, width) that it is looked at with.

    See `Segmenter.segment`, which reads the image and chooses the size. Raises ImageError where memory will not hold the
    probabilities.
    """
    image_size = pixels.shape[:2]
    scaled = scale.at_size(pixels, size_seen)
    at_once = protocol is None and scaled.shape[0] * scaled.shape[1] <= windows.WHOLE_PIXELS
    every_class = None
    if probabilities:
        computed = image_size if at_once else size_seen
        every_class = scale.room_for_probabilities(segmenter.config.num_classes, computed, image_size)
    certainty: Confidence | None
    if at_once:
        labels, certainty, mean = _at_once(segmenter, scaled, image_size, confidence, every_class)
    else:
        labels, certainty = _piecewise(segmenter, scaled, protocol, every_class)
        mean = float(certainty.mean())
    certainty = certainty if confidence else None
    if labels.shape != image_size:
        labels = scale.labels_at(labels, image_size)
        certainty = None if certainty is None else scale.confidence_at(certainty, image_size)
    every_class = None if every_class is None else scale.probabilities_at(every_class, image_size)
    shown, space = image_for_display(pixels), segmenter.card.label_space
    return Segmentation(labels, space, certainty, shown, title, None, every_class, mean_confidence=mean)


def _at_once(
    segmenter: Segmenter,
    scaled: NDArray[Any],
    image_size: scale.Size,
    confidence: bool,
    every_class: NDArray[np.float16] | None,
) -> tuple[Labels, Confidence | None, float]:
    """Labels and confidence at `image_size`: the network's own last step makes it. every_class: (K, *image_size), to be
    filled with probabilities. Also the mean confidence over the coarse cells: labels without a map of it are several
    times as quick (`predict.candidates`)."""
    coarse = segmenter.coarse(windows.as_float(scaled)[None])
    corners, temperature = segmenter.config.align_corners, segmenter.card.temperature
    labels, certainty = coarse_logits.labels(coarse, image_size, corners, confidence, temperature)
    cells = softmax_(copy_of(coarse), 1, temperature)
    mean = float(to_numpy(cells).max(axis=1).mean())
    if every_class is not None:
        every_class[...] = to_numpy(coarse_logits.probabilities(coarse, image_size, corners, temperature)[0])
    return to_numpy(labels)[0], None if certainty is None else to_numpy(certainty)[0], mean


def _piecewise(
    segmenter: Segmenter, scaled: NDArray[Any], protocol: str | None, every_class: NDArray[np.float16] | None
) -> tuple[Labels, Confidence]:
    """Labels and confidence at the size looked at, where probabilities are blended: confidence costs nothing then."""
    if protocol is None:
        labels, certainty = windows.windowed_labels(
            scaled, segmenter.window_probabilities, True, segmenter.batch_windows, probabilities=every_class
        )
        assert certainty is not None  # it was asked for
        return labels, certainty
    scores = predict_probabilities(segmenter.predictor(), scaled, protocol)
    if every_class is not None:
        every_class[...] = scores
    return scores.argmax(0).astype(np.uint8), scores.max(0)
