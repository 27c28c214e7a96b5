"""Named protocols against what semseg and MMSegmentation themselves computed, and the engine's own promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pspnet.config.protocol import VARIANTS
from pspnet.errors import ConfigError
from pspnet.predict.arrays import to_numpy
from pspnet.predict.protocols import (
    PROTOCOLS,
    Predictor,
    find_protocol,
    predict_labels,
    predict_map,
    predict_probabilities,
)
from pspnet.predict.resampling import taps
from support.golden_weights import fill_entry, make_image, make_input
from support.paths import GOLDEN

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
SMALL = {"base_px": (140,), "window_px": (97, 97), "stride_px": (65, 65)}  # the sizes of semseg's recording


def stand_in(align_corners: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    """The small network that stood in for a PSPNet when protocols were recorded: local features and the crop's mean."""
    weight, context, bias = (
        torch.from_numpy(fill_entry(f"standin.{name}", shape))
        for name, shape in (("conv.weight", (5, 3, 3, 3)), ("context.weight", (5, 3)), ("conv.bias", (5,)))
    )

    def logits(images: torch.Tensor) -> torch.Tensor:
        coarse = F.conv2d(images, weight, bias, stride=8, padding=1)
        coarse = coarse + (images.mean((2, 3)) @ context.T)[:, :, None, None]
        return F.interpolate(coarse, images.shape[2:], mode="bilinear", align_corners=align_corners)

    return logits


KINDS = {"arrays": "cpu", "tensors": torch.device("cpu")}
kind = "tensors"  # of array that the predictor takes and gives; every test below runs with both


@pytest.fixture(autouse=True, params=list(KINDS))
def kind_of_array(request: pytest.FixtureRequest) -> None:
    global kind
    kind = request.param


def for_kind(network: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Any], Any]:
    if kind == "tensors":
        return network
    return lambda x: network(torch.from_numpy(x)).numpy()


def normalised(align_corners: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    network = stand_in(align_corners)
    mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
    return lambda x: network((x - mean) / std)


def predictor(align_corners: bool = True, batch_windows: int = 3) -> Predictor:
    logits = for_kind(normalised(align_corners))
    return Predictor(logits, MEAN, align_corners, KINDS[kind], batch_windows=batch_windows)


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    return dict(np.load(GOLDEN / "semseg_evaluation" / "outputs.npz"))


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return make_image("image/semseg_eval/150x203", 150, 203)


@pytest.mark.parametrize(("name", "key"), [("semseg-ms", "multi_scale"), ("semseg-ss", "scale_1")])
def test_semsegs_probabilities(name: str, key: str, recorded: dict[str, np.ndarray], photo: np.ndarray) -> None:
    actual = predict_probabilities(predictor(), photo, PROTOCOLS[name].changed(**SMALL))
    np.testing.assert_allclose(
        actual.transpose(1, 2, 0)[::7, ::7], recorded[f"probabilities_{key}_every7"], atol=2e-5, rtol=0
    )
    labels = predict_labels(predictor(), photo, PROTOCOLS[name].changed(**SMALL))
    top = np.sort(actual, 0)
    clear = (top[-1] - top[-2])[::7, ::7] > 1e-4
    np.testing.assert_array_equal(labels[::7, ::7][clear], recorded[f"argmax_{key}_every7"][clear])
    assert clear.mean() > 0.99


@pytest.mark.parametrize("scale", PROTOCOLS["semseg-ms"].scales)
def test_each_of_semsegs_scales(scale: float, recorded: dict[str, np.ndarray], photo: np.ndarray) -> None:
    actual = predict_probabilities(predictor(), photo, PROTOCOLS["semseg-ms"].changed(**SMALL, scales=(scale,)))
    expected = recorded[f"scale_{str(scale).replace('.', '_')}_every10"]
    np.testing.assert_allclose(actual.transpose(1, 2, 0)[::10, ::10], expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize(("mirror", "key"), [("window", "flip"), ("none", "no_flip")])
def test_semsegs_single_crop(mirror: str, key: str, recorded: dict[str, np.ndarray], photo: np.ndarray) -> None:
    protocol = PROTOCOLS["semseg-ss"].changed(**SMALL | {"base_px": ()}, resize="none", mirror=mirror)
    actual = predict_probabilities(predictor(), photo[:97, :97], protocol)
    np.testing.assert_allclose(
        actual.transpose(1, 2, 0)[::6, ::6], recorded[f"net_process_{key}_every6"], atol=5e-6, rtol=0
    )


def test_mmsegmentations_slide_inference() -> None:
    recorded = np.load(GOLDEN / "mmseg_slide" / "outputs.npz")
    values = make_input("input/mmseg_slide_s1", (1, 3, 150, 203))[0].transpose(1, 2, 0)
    protocol = PROTOCOLS["mmseg-slide"].changed(resize="none", base_px=(), window_px=(64, 80), stride_px=(43, 54))
    actual, are_logits = predict_map(
        Predictor(for_kind(stand_in(False)), device=KINDS[kind], batch_windows=5), values, protocol
    )
    assert are_logits
    np.testing.assert_allclose(
        to_numpy(actual).transpose(2, 0, 1)[:, ::5, ::5], recorded["logits_every5"], atol=1e-5, rtol=0
    )
    np.testing.assert_array_equal(actual.argmax(2)[::5, ::5], recorded["argmax_every5"])


def test_the_batch_of_windows_does_not_matter(photo: np.ndarray) -> None:
    protocol = PROTOCOLS["semseg-ms"].changed(**SMALL, scales=(0.5, 1.5))
    one, many = (predict_probabilities(predictor(batch_windows=n), photo, protocol) for n in (1, 9))
    np.testing.assert_allclose(one, many, atol=1e-6)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_gives_probabilities_of_the_images_size(name: str) -> None:
    protocol = PROTOCOLS[name]
    small = {"base_px": tuple(b // 8 for b in protocol.base_px)}
    if protocol.window_px:
        small |= {"window_px": (48, 48), "stride_px": (32, 32)}
    photo = make_image("photo", 57, 75)
    actual = predict_probabilities(predictor(), photo, protocol.changed(**small))
    assert actual.shape == (5, 57, 75)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual.sum(0), 1, atol=1e-5)


def slow_mmseg_ms(photo: np.ndarray, protocol: object) -> np.ndarray:
    """MMSegmentation's own order of things, in plain words: resize, predict, resize logits, softmax, average."""
    total, network = 0, normalised(False)
    for scale in (0.5, 1.25):
        for mirrored in (False, True):
            factor = min(90 * scale // 1 / 75, 60 * scale // 1 / 57)
            scaled = cv2.resize(photo, (int(75 * factor + 0.5), int(57 * factor + 0.5)))
            if mirrored:
                scaled = cv2.flip(scaled, 1)
            actual = network(torch.from_numpy(scaled.astype(np.float32).transpose(2, 0, 1)[None].copy()))
            actual = torch.nn.functional.interpolate(actual, (57, 75), mode="bilinear")[0].softmax(0)
            total = total + (actual.flip(2) if mirrored else actual) / 4
    return total.numpy()


def test_mmseg_ms_equals_its_plain_restatement() -> None:
    photo = make_image("photo", 57, 75)
    protocol = PROTOCOLS["mmseg-ms"].changed(base_px=(90, 60), scales=(0.5, 1.25))
    actual = predict_probabilities(predictor(False), photo, protocol)
    np.testing.assert_allclose(actual, slow_mmseg_ms(photo, protocol), atol=2e-5)
    slid = protocol.changed(window_px=(500, 500), stride_px=(300, 300))  # one window: sliding must not change anything
    np.testing.assert_allclose(predict_probabilities(predictor(False), photo, slid), actual, atol=1e-6)


def test_sliding_over_scales_takes_softmax_after_all_windows() -> None:
    photo = make_image("photo", 57, 75)
    protocol = PROTOCOLS["mmseg-slide"].changed(
        base_px=(90, 60), window_px=(40, 40), stride_px=(30, 30), mirror="image", scales=(1.0, 1.5)
    )
    passes = []
    for scale in protocol.scales:
        for turned in (False, True):
            source = np.ascontiguousarray(photo[:, ::-1]) if turned else photo
            single = predict_probabilities(predictor(False), source, protocol.changed(mirror="none", scales=(scale,)))
            passes.append(single[:, :, ::-1] if turned else single)
    actual = predict_probabilities(predictor(False), photo, protocol)
    np.testing.assert_allclose(actual, np.mean(passes, 0), atol=1e-5)


def test_caffe_adds_logits_of_a_window_and_its_mirror() -> None:
    photo = make_image("photo", 48, 48)
    protocol = PROTOCOLS["caffe-ss"].changed(
        resize="none", base_px=(), extra_px=0, window_px=(48, 48), stride_px=(32, 32)
    )
    network = normalised(True)
    batch = torch.from_numpy(photo.astype(np.float32).transpose(2, 0, 1)[None].copy())
    expected = (network(batch) + network(batch.flip(3)).flip(3)).softmax(1)[0]
    np.testing.assert_allclose(predict_probabilities(predictor(), photo, protocol), expected, atol=1e-6)


@pytest.mark.parametrize(("source", "target"), [(13, 29), (29, 13), (8, 8), (5, 1)])
def test_taps_resize_as_torch_does(source: int, target: int) -> None:
    values = torch.randn(1, 1, source, generator=torch.Generator().manual_seed(0))
    for kind, corners in (("half_pixel", False), ("corners", True)):
        source_of, weight = taps(source, target, kind)
        expected = torch.nn.functional.interpolate(values, target, mode="linear", align_corners=corners)[0, 0]
        np.testing.assert_allclose((values[0, 0].numpy()[source_of] * weight).sum(1), expected, atol=1e-5)
    source_of, weight = taps(source, target, "antialias")
    assert source_of.min() >= 0
    assert source_of.max() < source
    np.testing.assert_allclose(weight.sum(1), 1, atol=1e-6)


def test_antialias_halving_is_the_triangle_of_matlab() -> None:
    source_of, weight = taps(8, 4, "antialias")
    row = np.zeros(8)
    np.add.at(row, source_of[1], weight[1])
    np.testing.assert_allclose(row, [0, 0.125, 0.375, 0.375, 0.125, 0, 0, 0], atol=1e-6)
    np.add.at(row := np.zeros(8), source_of[0], weight[0])
    np.testing.assert_allclose(row, [0.375 + 0.125, 0.375, 0.125, 0, 0, 0, 0, 0], atol=1e-6)  # the border is reflected


def test_names_variants_and_description() -> None:
    assert find_protocol("semseg-ms@cityscapes").window_px == (713, 713)
    assert find_protocol("semseg-ss", "cityscapes").base_px == (2048,)
    assert find_protocol("whole", "cityscapes") is PROTOCOLS["whole"]
    text = find_protocol("caffe-ms@voc").describe()
    for word in ("473 x 473", "316 x 316", "logits added", "0.5, 0.75, 1,", "bottom and right", "MATLAB"):
        assert word in text
    for variant in VARIANTS:
        for name in PROTOCOLS:
            assert find_protocol(f"{name}@{variant}").name == name


@pytest.mark.parametrize(
    ("build", "word"),
    [
        (lambda: find_protocol("semseg"), "semseg-ms"),
        (lambda: find_protocol("semseg-ss@mars"), "cityscapes"),
        (lambda: PROTOCOLS["whole"].changed(padding="end"), "window_px"),
        (lambda: PROTOCOLS["slide"].changed(stride_px=(600, 600)), "gaps"),
        (lambda: PROTOCOLS["semseg-ss"].changed(base_px=(1, 2)), "give 1"),
        (lambda: predict_labels(for_kind(stand_in(True)), make_image("photo", 30, 40), "semseg-ss"), "mean colour"),
        (lambda: predict_labels(lambda x: x[:, :, ::2], make_image("photo", 30, 40), "whole"), "logits of shape"),
    ],
)
def test_what_cannot_be_is_refused(build: object, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        build()  # type: ignore[operator]
