"""Many images, one after the other as they come: read ahead of the network, and batched where a batch gains something."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pspnet.display import image_for_display
from pspnet.errors import ConfigError
from pspnet.predict import scale, windows
from pspnet.predict.arrays import to_numpy
from pspnet.predict.segmentation import Segmentation
from pspnet.predict.windows import as_float

if TYPE_CHECKING:
    from pspnet.predict.segmenter import Segmenter

AnyImage = str | Path | Image.Image | NDArray[Any]
READ_AHEAD = 4  # images decoded ahead of the network, by two threads
Named = tuple[str, NDArray[Any]]


def segment_many(
    segmenter: Segmenter,
    images: Iterable[AnyImage],
    confidence: bool,
    protocol: str | None,
    size: scale.Wish | None,
    batch_size: int | None,
) -> Iterator[Segmentation]:
    """See `Segmenter.segment_many`."""
    if isinstance(images, (str, Path)):
        raise ConfigError(f"images = '{images}': give a list of images, such as sorted(Path('photos').glob('*.jpg'))")
    most = batch_size or segmenter.batch_windows
    if most < 1:
        raise ConfigError(f"batch_size = {batch_size}: 1 or more")
    return _parsed(segmenter, images, confidence, protocol, size, most)


def _parsed(
    segmenter: Segmenter,
    images: Iterable[AnyImage],
    confidence: bool,
    protocol: str | None,
    size: scale.Wish | None,
    most: int,
) -> Iterator[Segmentation]:
    for group in _groups(_read(segmenter, images), most):
        height, width = group[0][1].shape[:2]
        size_seen = segmenter.seen_size((height, width), size, protocol)
        if len(group) == 1 or protocol is not None or size_seen[0] * size_seen[1] > windows.WHOLE_PIXELS:
            for name, pixels in group:
                yield segmenter.segment(pixels, confidence=confidence, name=name, protocol=protocol, size=size)
            continue
        batch = np.stack([as_float(scale.at_size(pixels, size_seen)) for _, pixels in group])
        labels, certainty = segmenter.labels(batch, confidence, (height, width))
        for number, (name, pixels) in enumerate(group):
            confidences = None if certainty is None else to_numpy(certainty[number])
            shown = image_for_display(pixels)
            yield Segmentation(to_numpy(labels[number]), segmenter.card.label_space, confidences, shown, name)


def _read(segmenter: Segmenter, images: Iterable[AnyImage]) -> Iterator[Named]:
    """(name, pixels) in order. An image that cannot be read raises when its turn comes."""
    numbered = enumerate(images)

    def read(number: int, image: AnyImage) -> Named:
        name = Path(image).stem if isinstance(image, (str, Path)) else f"image_{number:04d}"
        return name, segmenter.read(image)

    with ThreadPoolExecutor(2, thread_name_prefix="reader") as pool:
        waiting: deque[Future[Named]] = deque()
        try:
            for number, image in numbered:
                waiting.append(pool.submit(read, number, image))
                if len(waiting) > READ_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _groups(images: Iterator[Named], most: int) -> Iterator[list[Named]]:
    """Neighbours of one size, `most` at a time."""
    for _, same in itertools.groupby(images, key=lambda one: one[1].shape):
        while group := list(itertools.islice(same, most)):
            yield group
