"""Losses against slow references, and their behaviour where nothing or not everything counts."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pspnet import losses
from pspnet.config import LossConfig
from pspnet.errors import ConfigError
from pspnet.labels import IGNORE
from pspnet.losses import slim_cross_entropy as strips
from pspnet.losses import terms

K = 5
TERMS = ("cross_entropy", "focal", "dice", "lovasz", "ohem")
WEIGHTS = (0.5, 2.0, 1.0, 0.25, 3.0)


def only(term: str, **fields: object) -> LossConfig:
    return LossConfig(**{"cross_entropy": 0.0, term: 1.0, **fields})


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Logits and labels with ignored pixels, class 3 absent, one image ignored wholly."""
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(3, K, 6, 7, generator=generator)
    labels = torch.randint(0, 3, (3, 6, 7), generator=generator)
    labels[labels == 2] = 4
    labels[0, :2] = IGNORE
    labels[2] = IGNORE
    return logits.requires_grad_(), labels


def pixels_of(logits: Tensor, labels: Tensor) -> list[tuple[Tensor, int]]:
    """(probabilities (K,), label) of every counted pixel: what the slow references loop over."""
    p = logits.detach().double().softmax(1)
    places = [(b, y, x) for b, y, x in np.ndindex(*labels.shape) if labels[b, y, x] != IGNORE]
    return [(p[b, :, y, x], int(labels[b, y, x])) for b, y, x in places]


def slow_cross_entropy(logits: Tensor, labels: Tensor, w: tuple[float, ...], smoothing: float = 0.0) -> float:
    pixels = pixels_of(logits, labels)
    ours = sum(-w[y] * float(p[y].log()) for p, y in pixels)
    every = sum(-w[c] * float(p[c].log()) for p, _ in pixels for c in range(K)) / K
    return ((1 - smoothing) * ours + smoothing * every) / len(pixels)


def slow_focal(logits: Tensor, labels: Tensor, w: tuple[float, ...], gamma: float = 2.0) -> float:
    pixels = pixels_of(logits, labels)
    return sum(-w[y] * float((1 - p[y]) ** gamma * p[y].log()) for p, y in pixels) / len(pixels)


def slow_dice(logits: Tensor, labels: Tensor, w: tuple[float, ...]) -> float:
    pixels = pixels_of(logits, labels)
    present = sorted({y for _, y in pixels})
    overlap = {c: sum(float(p[c]) for p, y in pixels if y == c) for c in present}
    size = {c: sum(float(p[c]) + (y == c) for p, y in pixels) for c in present}
    return sum(w[c] * (1 - 2 * overlap[c] / size[c]) for c in present) / sum(w[c] for c in present)


def slow_lovasz(logits: Tensor, labels: Tensor, w: tuple[float, ...]) -> float:
    """The definition: the errors, sorted, times the growth of the Jaccard loss of the growing set of wrong pixels."""
    pixels = pixels_of(logits, labels)
    present = sorted({y for _, y in pixels})
    total = 0.0
    for c in present:
        truth = {i for i, (_, y) in enumerate(pixels) if y == c}
        errors = sorted(((abs((y == c) - float(p[c])), i) for i, (p, y) in enumerate(pixels)), reverse=True)
        wrong: set[int] = set()
        jaccard_losses = [0.0]
        for _, i in errors:  # the set of pixels that are wrong: predicted = truth xor wrong
            wrong.add(i)
            jaccard_losses.append(1 - len(truth - wrong) / len(truth | wrong))
        total += w[c] * sum(e * (b - a) for (e, _), (a, b) in zip(errors, pairwise(jaccard_losses), strict=True))
    return total / sum(w[c] for c in present)


def slow_ohem(logits: Tensor, labels: Tensor, w: tuple[float, ...]) -> float:
    threshold, share = 0.7, 0.1
    pixels = sorted(pixels_of(logits, labels), key=lambda pixel: float(pixel[0][pixel[1]]))
    hard = [(p, y) for p, y in pixels if p[y] < threshold]
    least = int(share * len(pixels))
    hard = hard if len(hard) >= least else pixels[:least]
    return sum(-w[y] * float(p[y].log()) for p, y in hard) / max(len(hard), 1)


SLOW = {
    "cross_entropy": slow_cross_entropy,
    "focal": slow_focal,
    "dice": slow_dice,
    "lovasz": slow_lovasz,
    "ohem": slow_ohem,
}


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("term", TERMS)
def test_a_loss_equals_its_slow_reference(
    term: str, weights: tuple[float, ...] | None, batch: tuple[Tensor, Tensor]
) -> None:
    logits, labels = batch
    loss = losses.build_loss(only(term), K, weights)(logits, labels)
    assert loss.item() == pytest.approx(SLOW[term](logits, labels, weights or (1.0,) * K), rel=2e-5)
    loss.backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[labels[:, None].expand_as(logits) == IGNORE] == 0).all(), "an ignored pixel moved the logits"
    assert (logits.grad[:2] != 0).any()


@pytest.mark.parametrize("term", TERMS)
def test_gradients_equal_numerical_ones(term: str, batch: tuple[Tensor, Tensor]) -> None:
    logits, labels = batch[0].detach()[:1, :, 1:4, :3].double().requires_grad_(), batch[1][:1, 1:4, :3]
    functions = {
        "cross_entropy": lambda x: terms.pixel_cross_entropy(x, labels, smoothing=0.1).sum(),
        "focal": lambda x: terms.focal_pixels(x, labels, gamma=0.5).sum(),
        "dice": lambda x: terms.dice_loss(x, labels),
        "lovasz": lambda x: terms.lovasz_loss(x, labels),
        "ohem": lambda x: (terms.pixel_cross_entropy(x, labels) * terms.hard_pixels(x, labels, 0.5, 0.1)).sum(),
    }
    assert torch.autograd.gradcheck(lambda x: functions[term](x.log_softmax(1)), logits)


def test_label_smoothing_is_pytorchs(batch: tuple[Tensor, Tensor]) -> None:
    logits, labels = batch
    ours = losses.build_loss(LossConfig(label_smoothing=0.2), K, WEIGHTS)(logits, labels)
    assert ours.item() == pytest.approx(slow_cross_entropy(logits, labels, WEIGHTS, 0.2), rel=1e-5)
    theirs = F.cross_entropy(
        logits, labels, torch.tensor(WEIGHTS), ignore_index=IGNORE, label_smoothing=0.2, reduction="none"
    )
    assert ours.item() == pytest.approx(theirs.sum().item() / int((labels != IGNORE).sum()), rel=1e-5)


def test_reductions_are_semsegs_and_mmsegs(batch: tuple[Tensor, Tensor]) -> None:
    logits, labels = batch
    semseg = F.cross_entropy(logits, labels, ignore_index=IGNORE)
    mmseg = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none").mean()
    assert torch.allclose(losses.build_loss(LossConfig(), K)(logits, labels), semseg)
    assert torch.allclose(losses.build_loss(LossConfig(reduction="all"), K)(logits, labels), mmseg)
    assert mmseg.item() < 0.8 * semseg.item()


@pytest.mark.parametrize("reduction", ["valid", "all"])
@pytest.mark.parametrize("term", TERMS)
def test_nothing_counted_gives_zero_and_keeps_the_graph(term: str, reduction: str) -> None:
    logits = torch.randn(2, K, 4, 4, requires_grad=True)
    config = only(term, reduction=reduction, label_smoothing=0.1)
    for weights in (None, WEIGHTS):
        loss = losses.build_loss(config, K, weights)(logits, torch.full((2, 4, 4), IGNORE))
        assert loss.item() == 0.0
        (gradient,) = torch.autograd.grad(loss, logits)
        assert (gradient == 0).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9999), scale=st.sampled_from([0.1, 3.0, 80.0]), gamma=st.sampled_from([0.0, 0.5, 2.0, 5.0]))
def test_any_batch_gives_finite_losses_and_gradients(seed: int, scale: float, gamma: float) -> None:
    """Extreme logits, rare classes, ignored pixels: all five losses at once."""
    generator = torch.Generator().manual_seed(seed)
    logits = (scale * torch.randn(2, K, 3, 5, generator=generator)).requires_grad_()
    labels = torch.randint(0, K, (2, 3, 5), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < (seed % 10) / 9] = IGNORE
    config = LossConfig(**dict.fromkeys(TERMS, 1.0), focal_gamma=gamma, label_smoothing=0.1)
    loss = losses.build_loss(config, K, WEIGHTS)(logits, labels)
    loss.backward()
    assert logits.grad is not None
    assert torch.isfinite(loss)
    assert loss.item() >= 0
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("term", TERMS)
def test_perfect_logits_cost_nothing_and_wrong_ones_do(term: str) -> None:
    labels = torch.arange(16).reshape(1, 4, 4) % 3
    right = 40.0 * F.one_hot(labels, K).movedim(-1, 1).float()
    loss = losses.build_loss(only(term), K)
    assert loss(right, labels).item() == pytest.approx(0.0, abs=1e-6)
    assert loss(right, (labels + 1) % 3).item() > 0.9


def test_focal_with_gamma_0_is_cross_entropy(batch: tuple[Tensor, Tensor]) -> None:
    focal = losses.build_loss(only("focal", focal_gamma=0.0), K)(*batch)
    assert torch.allclose(focal, losses.build_loss(LossConfig(), K)(*batch))


def test_lovasz_of_hard_decisions_is_one_minus_mean_iou() -> None:
    """Where every probability is 0 or 1 the Lovasz extension is the Jaccard loss itself."""
    generator = torch.Generator().manual_seed(0)
    labels, decided = (torch.randint(0, 3, (1, 9, 9), generator=generator) for _ in range(2))
    ious = [((labels == c) & (decided == c)).sum() / ((labels == c) | (decided == c)).sum() for c in range(3)]
    loss = losses.build_loss(only("lovasz"), 3)(200.0 * F.one_hot(decided, 3).movedim(-1, 1).float(), labels)
    assert loss.item() == pytest.approx(1 - float(torch.stack(ious).mean()), rel=1e-5)


def test_hard_pixels_keeps_at_least_the_share() -> None:
    p = torch.tensor([0.99, 0.98, 0.97, 0.96, 0.95, 0.94, 0.93, 0.92, 0.6, 0.91])
    log_probabilities = torch.stack([p, 1 - p]).log()[None]  # (1, 2, 10)
    labels = torch.zeros(1, 10, dtype=torch.int64)
    labels[0, 9] = IGNORE
    hard = [
        terms.hard_pixels(log_probabilities, labels, 0.7, share)[0].nonzero()[:, 0].tolist()
        for share in (0.1, 0.4, 1.0)
    ]
    assert hard == [[8], [6, 7, 8], [0, 1, 2, 3, 4, 5, 6, 7, 8]]


def test_ohem_pulls_on_hard_pixels_only(batch: tuple[Tensor, Tensor]) -> None:
    logits, labels = batch
    losses.build_loss(only("ohem", ohem_threshold=0.3), K)(logits, labels).backward()
    assert logits.grad is not None
    touched = (logits.grad != 0).any(dim=1)
    probability = logits.softmax(1).gather(1, labels.masked_fill(labels == IGNORE, 0)[:, None])[:, 0]
    assert torch.equal(touched, (probability < 0.3) & (labels != IGNORE))


def test_ignored_classes_are_ignored_pixels(batch: tuple[Tensor, Tensor]) -> None:
    logits, labels = batch
    config = LossConfig(**dict.fromkeys(TERMS, 1.0))
    without = losses.build_loss(config.changed(ignored_classes=(1, 4)), K)(logits, labels)
    by_hand = labels.clone()
    by_hand[(labels == 1) | (labels == 4)] = IGNORE
    assert torch.equal(without, losses.build_loss(config, K)(logits, by_hand))
    assert 1 in labels, "the labels are left as they were"


def test_a_sum_is_the_sum_of_its_terms(batch: tuple[Tensor, Tensor]) -> None:
    given = dict(zip(TERMS, (1.0, 0.5, 2.0, 0.25, 3.0), strict=True))
    total = losses.build_loss(LossConfig(**given), K)(*batch)
    terms = [weight * losses.build_loss(only(term), K)(*batch) for term, weight in given.items()]
    assert torch.allclose(total, torch.stack(terms).sum())


def test_points_and_maps_give_the_same(batch: tuple[Tensor, Tensor]) -> None:
    logits, labels = batch
    loss = losses.build_loss(LossConfig(**dict.fromkeys(TERMS, 1.0)), K)
    assert torch.allclose(loss(logits.flatten(2), labels.flatten(1)), loss(logits, labels))


def test_sixteen_bit_logits_are_computed_in_float32(batch: tuple[Tensor, Tensor]) -> None:
    logits, labels = batch
    loss = losses.build_loss(LossConfig(), K)
    assert torch.equal(loss(logits.half(), labels), loss(logits.half().float(), labels))


# --- class weights --------------------------------------------------------------------------------------------------


def test_inverse_weights_give_every_class_the_same_say() -> None:
    shares = torch.tensor([0.7, 0.2, 0.1])
    weights = losses.class_weights_from_shares(shares, "inverse")
    assert weights is not None
    assert torch.allclose(weights * shares, torch.full((3,), 1 / 3))


def test_tempered_weights_follow_the_formula() -> None:
    shares = [0.9, 0.09, 0.01, 0.0]
    weights = losses.class_weights_from_shares([100 * s for s in shares], "tempered")  # counts do as well as shares
    assert weights is not None
    raw = [1 / np.log(1.10 + s) for s in (0.9, 0.09, 0.01, 0.01)]
    mean = sum(r * s for r, s in zip(raw, shares, strict=True))
    assert weights.tolist() == pytest.approx([r / mean for r in raw], rel=1e-5)
    assert float(weights.max() / weights.min()) < 7.8
    assert losses.class_weights_from_shares(shares, "none") is None


@pytest.mark.parametrize("shares", [[0.0, 0.0], [0.5, -0.1], [float("nan"), 1.0]])
def test_bad_shares_are_refused(shares: list[float]) -> None:
    with pytest.raises(ConfigError, match="none below 0"):
        losses.class_weights_from_shares(shares, "inverse")


# --- the classes in an image ----------------------------------------------------------------------------------------


def test_classes_present(batch: tuple[Tensor, Tensor]) -> None:
    labels = batch[1]
    expected = [[float((image == c).any()) for c in range(K)] for image in labels]
    assert terms.classes_present(labels, K).tolist() == expected
    assert expected[2] == [0.0] * K


def test_image_loss_leaves_out_images_without_labels(batch: tuple[Tensor, Tensor]) -> None:
    labels = batch[1]
    image_logits = torch.randn(3, K, requires_grad=True)
    loss = losses.image_loss(image_logits, labels)
    p = image_logits[:2].detach().sigmoid()
    t = terms.classes_present(labels, K)[:2]
    assert loss.item() == pytest.approx(float(-(t * p.log() + (1 - t) * (1 - p).log()).mean()), rel=1e-5)
    nothing = losses.image_loss(image_logits, torch.full_like(labels, IGNORE))
    assert nothing.item() == 0.0
    nothing.backward()


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cross_entropy": 0.0}, "every loss has weight 0"),
        ({"dice": -1.0}, "dice"),
        ({"class_weights": "inverted"}, "inverted"),
        ({"diice": 1.0}, "did you mean 'dice'"),
    ],
)
def test_wrong_settings_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LossConfig(**fields)


@pytest.mark.parametrize(
    ("config", "weights", "message"),
    [
        (LossConfig(class_weights="inverse"), None, "needs the shares"),
        (LossConfig(class_weights=(1.0, 2.0)), None, "2 numbers for 5 classes"),
        (LossConfig(), [1.0] * 4, "4 numbers for 5 classes"),
        (LossConfig(ignored_classes=(5,)), None, "ignored_classes holds 5"),
    ],
)
def test_weights_that_do_not_fit_are_refused(config: LossConfig, weights: list[float] | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        losses.build_loss(config, K, weights)


def test_shapes_that_do_not_fit_are_refused(batch: tuple[Tensor, Tensor]) -> None:
    logits, labels = batch
    with pytest.raises(ConfigError, match=r"logits \(3, 5, 6, 7\) and labels \(3, 3, 7\)"):
        losses.build_loss(LossConfig(), K)(logits, labels[:, ::2])


def test_settings_survive_yaml() -> None:
    import yaml

    config = LossConfig(dice=0.5, class_weights=WEIGHTS, ignored_classes=(2,), reduction="all")
    assert LossConfig(**yaml.safe_load(config.to_yaml())) == config


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("classes", [5, strips.ROW_CLASSES + 1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["valid", "all"])
def test_slim_cross_entropy_is_the_plain_one(
    layout: torch.memory_format,
    dtype: torch.dtype,
    classes: int,
    weighted: bool,
    reduction: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Value and gradient are those of the log probabilities of the whole batch, whatever layout, type and strip."""
    monkeypatch.setattr(strips, "STRIP_NUMBERS", 37 * classes)
    random = torch.Generator().manual_seed(0)
    scores = (8 * torch.randn((2, classes, 9, 13), generator=random)).to(dtype).contiguous(memory_format=layout)
    labels = torch.randint(0, classes, (2, 9, 13), generator=random)
    labels[0, :4] = IGNORE
    share = torch.linspace(0, 3, classes) if weighted else None
    slim, plain = scores.clone().requires_grad_(), scores.clone().requires_grad_()
    actual = strips.slim_cross_entropy(slim, labels, share, reduction)
    pixels = terms.pixel_cross_entropy(plain.float().log_softmax(1), labels, share)
    wanted = terms.mean_over_pixels(pixels, labels, reduction)
    torch.testing.assert_close(actual, wanted, rtol=1e-5, atol=1e-6)
    (0.4 * actual).backward()
    (0.4 * wanted).backward()
    assert slim.grad is not None
    assert slim.grad.dtype == dtype
    assert slim.grad.is_contiguous(memory_format=layout)
    near = {"rtol": 0.02, "atol": 1e-4} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-7}
    torch.testing.assert_close(slim.grad, plain.grad, **near)


def test_slim_cross_entropy_of_points_and_of_nothing() -> None:
    points = torch.randn((2, 3, 11), requires_grad=True)
    labels = torch.full((2, 11), IGNORE)
    loss = strips.slim_cross_entropy(points, labels, None, "valid")
    loss.backward()
    assert loss == 0
    assert points.grad is not None
    assert not points.grad.any()
    with torch.no_grad():
        some = strips.slim_cross_entropy(points, torch.zeros_like(labels), None, "valid")
    assert some == pytest.approx(torch.nn.functional.cross_entropy(points.detach(), torch.zeros_like(labels)).item())
