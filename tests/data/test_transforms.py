"""Augmentation against the chain done step by step, pixel by pixel."""

import math
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pspnet.config.data import AugmentConfig
from pspnet.data.colour_jitter import jittered
from pspnet.data.dataset import Sample
from pspnet.data.transforms import _DRAWS, Augmentation, Geometry, render_labels
from pspnet.errors import ConfigError, DataError
from pspnet.labels import IGNORE

MEAN = (123.0, 116.0, 103.0)


def smooth(height: int, width: int, bands: int = 3) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width].astype(float)
    waves = [128 + 100 * np.sin(x / (9 + b) + b) * np.cos(y / (7 + 2 * b)) for b in range(bands)]
    return np.stack(waves, -1).round().astype(np.uint8)


def sample(height: int = 60, width: int = 81, bands: int = 3, classes: int = 6) -> Sample:
    y, x = np.mgrid[0:height, 0:width]
    labels = ((y // 7 + x // 11) % classes).astype(np.uint8)
    return Sample(smooth(height, width, bands), labels, "x")


def chain(
    image: np.ndarray,
    labels: np.ndarray,
    config: AugmentConfig,
    draws: dict[str, float],
    mean: tuple[float, ...] = MEAN,
) -> tuple[np.ndarray, np.ndarray]:
    """The chain by definition, one step after another. Slow, and interpolates twice where the image is turned."""
    height, width = labels.shape
    factor = config.scale_range[0] + draws["scale"] * (config.scale_range[1] - config.scale_range[0])
    rows, columns = round(height * factor), round(width * factor)
    image = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_LINEAR).reshape(rows, columns, -1)
    rows_from = np.clip(np.floor((np.arange(rows) + 0.5) * height / rows), 0, height - 1).astype(int)
    columns_from = np.clip(np.floor((np.arange(columns) + 0.5) * width / columns), 0, width - 1).astype(int)
    labels = labels[rows_from][:, columns_from]
    if draws["rotate"] < config.rotate_probability and config.rotate:
        angle = config.rotate_range[0] + draws["angle"] * (config.rotate_range[1] - config.rotate_range[0])
        matrix = cv2.getRotationMatrix2D(((columns - 1) / 2, (rows - 1) / 2), angle, 1)
        image = cv2.warpAffine(image, matrix, (columns, rows), flags=cv2.INTER_LINEAR, borderValue=mean)
        labels = cv2.warpAffine(labels, matrix, (columns, rows), flags=cv2.INTER_NEAREST, borderValue=IGNORE)
    if draws["blur"] < config.blur_probability and config.blur:
        image = cv2.GaussianBlur(image, (5, 5), config.blur_range[0])
    if draws["mirror"] < config.mirror_probability and config.mirror:
        image, labels = image[:, ::-1], labels[:, ::-1]
    assert config.crop
    down, right = max(config.crop[0] - rows, 0), max(config.crop[1] - columns, 0)
    box = ((down // 2, down - down // 2), (right // 2, right - right // 2))
    image = np.stack([np.pad(image[..., b], box, constant_values=round(mean[b])) for b in range(image.shape[2])], -1)
    labels = np.pad(labels, box, constant_values=IGNORE)
    top = int(draws["top"] * (labels.shape[0] - config.crop[0] + 1))
    left = int(draws["left"] * (labels.shape[1] - config.crop[1] + 1))
    window = np.s_[top : top + config.crop[0], left : left + config.crop[1]]
    return image[window], labels[window]


def draws_of(seed: int, epoch: int, index: int) -> dict[str, float]:
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, epoch, index))))
    return dict(zip(_DRAWS, rng.random(len(_DRAWS)), strict=True))


@settings(max_examples=60, deadline=None)
@given(index=st.integers(0, 10**6), rows=st.integers(20, 140), columns=st.integers(20, 140))
def test_one_warp_is_the_chain(index: int, rows: int, columns: int) -> None:
    config, given_sample = AugmentConfig(crop=(rows, columns)), sample()
    assert given_sample.labels is not None
    image, labels = Augmentation(config, MEAN)(given_sample, 1, 2, index)
    expected, expected_labels = chain(given_sample.image, given_sample.labels, config, draws_of(1, 2, index))
    assert image.shape == (rows, columns, 3)
    assert labels.shape == (rows, columns)
    assert image.dtype == labels.dtype == np.uint8
    # the edge of a turned image is where one interpolation and two differ: a line one to three pixels wide
    outside = (expected_labels == IGNORE).astype(np.uint8)
    edge = cv2.dilate(outside, np.ones((9, 9))).astype(bool) & ~cv2.erode(outside, np.ones((9, 9))).astype(bool)
    difference = np.abs(image.astype(int) - expected).max(-1)
    assert (difference[~edge] > 12).sum() <= 0.005 * edge.size  # (an edge just outside the window is not masked)
    assert difference[~edge].sum() <= 1.5 * edge.size
    # labels differ only where a border between classes runs: nearest once, or nearest twice
    assert (labels != expected_labels).mean() <= 0.2
    assert ((labels == IGNORE) != outside)[~edge].sum() == 0


@settings(max_examples=30, deadline=None)
@given(index=st.integers(0, 10**6), rows=st.integers(20, 140))
def test_without_rotation_the_chain_is_matched_closely(index: int, rows: int) -> None:
    config, given_sample = AugmentConfig(crop=rows, rotate=False), sample()
    assert given_sample.labels is not None
    image, labels = Augmentation(config, MEAN)(given_sample, 0, 0, index)
    expected, expected_labels = chain(given_sample.image, given_sample.labels, config, draws_of(0, 0, index))
    assert np.abs(image.astype(int) - expected).max() <= 2
    assert (labels != expected_labels).mean() <= 0.2  # ties, half way between two pixels


def naive(image: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Linear and nearest sampling of every window pixel by the definition; NaN and -1 outside."""
    height, width = geometry.source
    rows, columns = geometry.canvas
    values = np.full(geometry.crop, np.nan)
    nearest = np.full(geometry.crop, -1)
    cos, sin = math.cos(math.radians(geometry.angle)), math.sin(math.radians(geometry.angle))
    for v in range(geometry.crop[0]):
        for u in range(geometry.crop[1]):
            y, x = v + geometry.top - geometry.padding[0], u + geometry.left - geometry.padding[1]
            if not (0 <= y < rows and 0 <= x < columns):
                continue
            x = columns - 1 - x if geometry.mirror else x
            dx, dy = x - (columns - 1) / 2, y - (rows - 1) / 2
            # counter-clockwise as seen, y pointing down: the source of a pixel lies clockwise of it
            sx, sy = cos * dx - sin * dy + (columns - 1) / 2, sin * dx + cos * dy + (rows - 1) / 2
            sx, sy = (sx + 0.5) * width / columns - 0.5, (sy + 0.5) * height / rows - 0.5
            if not (0 <= sx <= width - 1 and 0 <= sy <= height - 1):
                continue
            i, j = min(int(sy), height - 2), min(int(sx), width - 2)
            a, b = sy - i, sx - j
            values[v, u] = (
                (1 - a) * (1 - b) * image[i, j]
                + (1 - a) * b * image[i, j + 1]
                + a * (1 - b) * image[i + 1, j]
                + a * b * image[i + 1, j + 1]
            )
            nearest[v, u] = round(sy) * width + round(sx)
    return values, nearest


@pytest.mark.parametrize(
    "geometry",
    [
        Geometry((20, 30), (31, 47), 0.0, False, (24, 25), 3, 5),
        Geometry((20, 30), (31, 47), 7.5, False, (24, 25), 3, 5),
        Geometry((20, 30), (11, 16), -10.0, True, (24, 25)),
        Geometry((20, 30), (60, 20), 10.0, True, (24, 25), 30, 0),
        Geometry((20, 30), (20, 30), 0.0, True, (20, 30)),
    ],
)
def test_pixels_come_from_where_the_definition_says(geometry: Geometry) -> None:
    image = smooth(20, 30)[..., 0]
    values, nearest = naive(image.astype(float), geometry)
    augment = Augmentation(AugmentConfig(blur=False, crop=geometry.crop), (77.0,))
    rendered = augment._render_image(image[..., None], geometry, dict.fromkeys(_DRAWS, 0.9))[..., 0]
    inside = ~np.isnan(values)
    assert inside.mean() > 0.15
    assert np.abs(rendered[inside] - values[inside]).max() <= 2
    numbers = np.arange(600, dtype=np.uint16).reshape(20, 30)
    rows = render_labels((numbers // 30).astype(np.uint8), geometry)
    columns = render_labels((numbers % 30).astype(np.uint8), geometry)
    exact = inside & (nearest == rows.astype(int) * 30 + columns)
    assert exact.sum() >= 0.93 * inside.sum()  # the rest are ties, half way between two pixels
    assert (np.abs(rows.astype(int) - nearest // 30)[inside] <= 1).all()


def test_the_same_numbers_give_the_same_pixels_and_others_do_not() -> None:
    augment, item = Augmentation(AugmentConfig(crop=40, jitter=True), MEAN), sample()
    first = augment(item, 3, 1, 7)
    again = Augmentation(AugmentConfig(crop=40, jitter=True), MEAN)(item, 3, 1, 7)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    for other in ((4, 1, 7), (3, 2, 7), (3, 1, 8)):
        assert not np.array_equal(first[0], augment(item, *other)[0])


def test_switches_are_independent() -> None:
    """A step that is switched off leaves the other steps' draws as they were."""
    item = sample()
    with_blur = Augmentation(AugmentConfig(crop=40), MEAN)
    without = Augmentation(AugmentConfig(crop=40, blur=False), MEAN)
    for index in range(8):
        np.testing.assert_array_equal(with_blur(item, 0, 0, index)[1], without(item, 0, 0, index)[1])


def test_everything_off_is_a_plain_crop() -> None:
    item = sample()
    assert item.labels is not None
    image, labels = Augmentation(AugmentConfig.none(crop=(60, 81)), MEAN)(item, 0, 0, 0)
    np.testing.assert_array_equal(image, item.image)
    np.testing.assert_array_equal(labels, item.labels)
    whole, _ = Augmentation(AugmentConfig.none(crop=None), MEAN)(item, 0, 0, 0)
    np.testing.assert_array_equal(whole, item.image)
    image, labels = Augmentation(AugmentConfig.none(crop=(64, 85)), MEAN)(item, 0, 0, 0)
    np.testing.assert_array_equal(image[2:62, 2:83], item.image)
    assert (labels != IGNORE).sum() == 60 * 81
    assert image[0, 0].tolist() == [123, 116, 103]
    mirrored = AugmentConfig(scale=False, rotate=False, blur=False, mirror_probability=1, crop=None)
    np.testing.assert_array_equal(Augmentation(mirrored, MEAN)(item, 0, 0, 0)[0], item.image[:, ::-1])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("bands", [1, 2, 3, 4, 5, 13])
def test_any_bands_and_types(dtype: Any, bands: int) -> None:
    item = sample(bands=bands)
    typed = Sample(item.image.astype(dtype), item.labels, "x")
    config = AugmentConfig(crop=40, jitter=dtype == np.uint8, rotate_probability=1, blur_probability=1)
    image, _ = Augmentation(config, (50.0,) * bands)(typed, 0, 0, 3)
    assert image.dtype == dtype
    assert image.shape == (40, 40, bands)
    if dtype != np.uint8:
        eight, _ = Augmentation(config, (50.0,) * bands)(item, 0, 0, 3)
        assert np.abs(image.astype(float) - eight).max() <= 1.5
    one, _ = Augmentation(config, (50.0,))(Sample(typed.image[..., -1:], item.labels, "x"), 0, 0, 3)
    if bands != 3 or dtype != np.uint8:  # saturation mixes the bands of an RGB image
        atol = 1 if np.dtype(dtype).kind in "iu" else 1e-4  # OpenCV's code differs by the number of bands
        np.testing.assert_allclose(image[..., -1:].astype(float), one, rtol=0, atol=atol)


def test_image_and_labels_stay_together() -> None:
    """Each class has a colour of its own, so the picture tells what the labels should be."""
    item = sample()
    assert item.labels is not None
    colours = np.array([20, 60, 100, 140, 180, 220], np.uint8)
    painted = Sample(colours[item.labels][..., None], item.labels, "x")
    for index in range(40):
        image, labels = Augmentation(AugmentConfig(crop=50, blur=False), (0.0,))(painted, 0, 0, index)
        known = labels != IGNORE
        right = np.abs(image[..., 0][known].astype(int) - colours[labels[known]]) <= 20
        assert right.mean() > 0.85  # all but pixels on borders, which are mixtures


def test_a_turn_is_counter_clockwise_as_seen() -> None:
    image = np.zeros((41, 41, 1), np.uint8)
    image[20, 25:] = 255  # a bar to the right
    config = AugmentConfig(
        scale=False, blur=False, mirror=False, rotate_range=(10, 10), rotate_probability=1, crop=None
    )
    turned, _ = Augmentation(config, (0.0,))(Sample(image, np.zeros((41, 41), np.uint8), "x"), 0, 0, 0)
    assert 15 <= turned[:, 38, 0].argmax() <= 18  # now it rises


def test_rare_crops_find_the_rare_class() -> None:
    labels = np.zeros((100, 200), np.uint8)
    labels[90:93, 180:183] = 4
    item = Sample(smooth(100, 200), labels, "x")

    def share(probability: float) -> float:
        augment = Augmentation(AugmentConfig(crop=32, rare_crop_probability=probability), MEAN)
        return float(np.mean([(augment(item, 0, 0, i)[1] == 4).any() for i in range(200)]))

    assert share(0.0) < 0.15
    assert share(1.0) > 0.45  # half of the crops are placed on it; a turn or the scale may lose three pixels
    nothing = Sample(item.image, np.full_like(labels, IGNORE), "x")
    assert (Augmentation(AugmentConfig(crop=32, rare_crop_probability=1), MEAN)(nothing, 0, 0, 0)[1] == IGNORE).all()


def test_crops_of_one_class_are_drawn_again() -> None:
    labels = np.zeros((100, 100), np.uint8)
    labels[:, 70:] = 1
    item = Sample(smooth(100, 100), labels, "x")

    def lopsided(limit: float) -> float:
        augment = Augmentation(AugmentConfig(crop=32, scale=False, rotate=False, crop_max_class_share=limit), MEAN)
        return float(
            np.mean(
                [
                    np.bincount(augment(item, 0, 0, i)[1].ravel(), minlength=2).max() >= 0.75 * 32 * 32
                    for i in range(100)
                ]
            )
        )

    assert lopsided(1.0) > 0.6
    assert lopsided(0.75) < 0.2


def test_fit_bounds_both_sides() -> None:
    config = AugmentConfig(fit=(100, 40), scale=False, rotate=False, blur=False, mirror=False, crop=None)
    for height, width, expected in ((60, 80, (40, 53)), (20, 80, (25, 100)), (80, 20, (100, 25))):
        image, labels = Augmentation(config, MEAN)(sample(height, width), 0, 0, 0)
        assert image.shape[:2] == labels.shape == expected


def test_jitter_changes_colours_and_nothing_else() -> None:
    item = sample()
    plain, labels = Augmentation(AugmentConfig(crop=90), MEAN)(item, 0, 0, 0)
    changed = 0
    for index in range(20):
        plain, labels = Augmentation(AugmentConfig(crop=90), MEAN)(item, 0, 0, index)
        jittered, same = Augmentation(AugmentConfig(crop=90, jitter=True), MEAN)(item, 0, 0, index)
        np.testing.assert_array_equal(labels, same)
        changed += not np.array_equal(plain, jittered)
        padding = labels == IGNORE
        corner = padding[:1, :1].all() and draws_of(0, 0, index)["rotate"] >= 0.5
        if corner:
            assert jittered[0, 0].tolist() == [123, 116, 103]
    assert changed >= 15


def test_jitter_does_what_its_names_say() -> None:
    red = np.full((2, 2, 3), (200, 0, 0), np.uint8)
    config = AugmentConfig(jitter=True, jitter_brightness=0.1, jitter_hue=120)
    off = dict.fromkeys(_DRAWS, 0.9)

    def pixel(image: np.ndarray, **draws: float) -> list[float]:
        return jittered(image, config, {**off, **draws})[0, 0].tolist()

    assert pixel(red) == [200, 0, 0]
    assert pixel(red, brightness=0, brightness_by=1) == [226, 26, 26]  # a tenth of 255 more
    assert pixel(red, brightness=0, brightness_by=0) == [174, 0, 0]
    assert pixel(red, contrast=0, contrast_by=0) == [100, 0, 0]
    assert pixel(red, contrast=0, contrast_by=1, order=0) == [255, 0, 0]
    assert np.abs(np.array(pixel(red, saturation=0, saturation_by=0)) - [200, 100, 100]).max() <= 2
    assert np.abs(np.array(pixel(red, hue=0, hue_by=1)) - [0, 200, 0]).max() <= 6  # 120 degrees on: green
    assert np.abs(np.array(pixel(red, hue=0, hue_by=0)) - [0, 0, 200]).max() <= 6
    deep = np.full((2, 2, 5), 30_000, np.uint16)
    assert pixel(deep, brightness=0, brightness_by=1, hue=0, saturation=0)[0] == 30_000 + round(0.1 * 65535)


def test_very_wide_images_are_no_obstacle() -> None:
    image = np.zeros((8, 40_000, 1), np.uint8)  # OpenCV warps no side above 32767
    image[:, 20_000:] = 200
    item = Sample(image, (image[..., 0] > 0).astype(np.uint8), "x")
    crop, labels = Augmentation(AugmentConfig(crop=(8, 64), rare_crop_probability=1), (0.0,))(item, 0, 0, 1)
    assert crop.shape == (8, 64, 1)
    assert (labels != IGNORE).any()


def test_what_cannot_be_augmented_is_refused() -> None:
    with pytest.raises(DataError, match="'x' has no labels"):
        Augmentation(AugmentConfig(), MEAN)(Sample(smooth(9, 9), None, "x"), 0, 0, 0)
    with pytest.raises(ConfigError, match="mean colour 1 values"):
        Augmentation(AugmentConfig(), (1.0,))(sample(), 0, 0, 0)
    with pytest.raises(ConfigError, match=r"scale_range.*least comes first"):
        AugmentConfig(scale_range=(2.0, 0.5))
    with pytest.raises(ConfigError, match=r"rare_crop_probability.*crop = None"):
        AugmentConfig(crop=None, rare_crop_probability=0.5)
    with pytest.raises(ConfigError, match="odd"):
        AugmentConfig(blur_kernel=4)
    assert AugmentConfig(crop=97).crop == (97, 97)
