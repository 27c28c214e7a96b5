"""Many images give what each gives alone, in order, however they are batched; they are read only a little ahead."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pspnet.errors import ConfigError, ImageError
from support.graphs import tiny_segmenter


def pictures(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (40 + 8 * (n // 3 % 2), 50, 3), dtype=np.uint8) for n in range(count)]


@pytest.mark.parametrize("batch_size", [None, 2, 3])
def test_each_is_as_alone_and_in_order(batch_size: int | None) -> None:
    seg, images = tiny_segmenter(), pictures(8)
    results = list(seg.segment_many(images, batch_size=batch_size))
    assert [result.name for result in results] == [f"image_{n:04d}" for n in range(8)]
    for image, result in zip(images, results, strict=True):
        alone = seg.segment(image)
        assert result.labels.shape == image.shape[:2]
        assert (result.labels == alone.labels).mean() > 0.999
        np.testing.assert_allclose(result.confidence, alone.confidence, atol=1e-3)
        np.testing.assert_array_equal(result.image, alone.image)


def test_files_are_named_and_an_endless_stream_is_read_a_little_ahead(tmp_path: Path) -> None:
    Image.fromarray(pictures(1)[0]).save(tmp_path / "street.png")
    taken = itertools.count()

    def endless() -> Iterator[Path]:
        while True:
            next(taken)
            yield tmp_path / "street.png"

    stream = tiny_segmenter().segment_many(endless(), confidence=False)
    first = next(stream)
    assert (first.name, first.confidence) == ("street", None)
    stream.close()  # type: ignore[attr-defined]
    assert next(taken) < 10


def test_what_cannot_be_is_told(tmp_path: Path) -> None:
    seg = tiny_segmenter()
    with pytest.raises(ConfigError, match="give a list of images"):
        seg.segment_many("photos")
    with pytest.raises(ConfigError, match="batch_size = -1"):
        seg.segment_many([], batch_size=-1)
    (tmp_path / "no.png").write_bytes(b"no picture")
    stream = seg.segment_many([pictures(1)[0], tmp_path / "no.png"])
    assert next(stream).name == "image_0000"
    with pytest.raises(ImageError, match=r"no\.png"):
        next(stream)
