"""Any image for eyes: what is 8-bit stays, the rest is stretched so that no single pixel decides."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from pspnet import display
from pspnet.display import image_for_display, legend, overlay

GREY = np.linspace(0, 1, 64 * 64).reshape(64, 64, 1)


def test_the_worked_example() -> None:
    assert doctest.testmod(display).failed == 0


@pytest.mark.parametrize(
    "image",
    [
        (GREY * 3000 + 200).astype(np.uint16),
        (GREY * 200).astype(np.uint16),
        (GREY * 400 - 200).astype(np.int16),
        GREY * 0.3,
        (GREY * 9e4).astype(np.float32),
        np.repeat(GREY * 0.01, 4, axis=2),
        (GREY * 4000)[..., 0].astype(np.uint16),
    ],
)
def test_a_hot_pixel_a_gap_and_an_infinite_one_change_nothing(image: np.ndarray) -> None:
    plain = image_for_display(image)
    assert plain.shape == (64, 64, 3)
    assert plain.min() == 0
    assert plain.max() == 255
    assert 100 < plain.mean() < 155
    hot = image.copy()
    hot[3, 3] = 65535 if image.dtype == np.uint16 else 32767
    if image.dtype.kind == "f":
        hot[5, 5], hot[6, 6] = np.nan, np.inf
    assert abs(float(image_for_display(hot).mean()) - float(plain.mean())) < 3


def test_what_has_8_bits_stays() -> None:
    image = (GREY * 90).astype(np.uint8)
    np.testing.assert_array_equal(image_for_display(image), np.repeat(image, 3, axis=2))
    np.testing.assert_array_equal(image_for_display(image.astype(np.float32)), np.repeat(image, 3, axis=2))
    five = np.random.default_rng(0).integers(0, 256, (8, 8, 5), np.uint8)
    np.testing.assert_array_equal(image_for_display(five), five[..., :3])


def test_images_with_nothing_to_see() -> None:
    assert len(np.unique(image_for_display(np.full((8, 8, 3), 700, np.uint16)))) == 1
    assert image_for_display(np.full((8, 8, 1), np.nan)).max() == 0
    sparse = np.zeros((100, 100), np.uint16)
    sparse[50, 50:60] = 4000  # fewer than the percentiles see
    assert image_for_display(sparse)[50, 55, 0] == 255


def test_colours_over_an_image_with_a_legend() -> None:
    palette = np.zeros((256, 3), np.uint8)
    palette[1] = (200, 100, 0)
    image, labels = np.full((4, 4, 3), 100, np.uint8), np.full((4, 4), 1, np.uint8)
    labels[0] = 255
    shown = overlay(image, labels, palette, 0.5)
    assert shown[0, 0].tolist() == [100, 100, 100]
    assert shown[1, 0].tolist() == [150, 100, 50]
    strip = legend({"a": 0.6, "b": 0.4}, [(200, 100, 0), (0, 0, 200)], 300)
    assert strip.shape[1:] == (300, 3)
    assert (strip == [0, 0, 200]).all(axis=2).any()
