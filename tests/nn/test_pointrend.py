"""PointRend against recorded values of detectron2's own code, and as a part of PSPNet."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pspnet.config.model import ModelConfig
from pspnet.labels import IGNORE
from pspnet.nn import PSPNet, pointrend
from pspnet.nn.blocks import resize
from support import paths
from support.golden_weights import build_array, fill_state_dict

GOLDEN = paths.GOLDEN / "pointrend"
MANIFEST: dict[str, Any] = json.loads((GOLDEN / "manifest.json").read_text())
ARRAYS = {item["name"]: item for item in MANIFEST["arrays"]}
HEADS = {item["case"]: item for item in MANIFEST["head"]}
FUNCTIONS = {item["output"]: item for item in MANIFEST["functions"]}


@pytest.fixture(scope="module")
def recorded() -> dict[str, Tensor]:
    with np.load(GOLDEN / "outputs.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture(scope="module")
def head() -> pointrend.PointHead:
    """The peer's head, its weights under the peer's names renamed to ours."""
    config = MANIFEST["config"]
    network = pointrend.PointHead(config["in_channels"], config["num_classes"], config["fc_dim"], config["num_fc"])
    peer = fill_state_dict(MANIFEST["state_dict"], MANIFEST["gain"])
    names = {f"hidden.{i}.{leaf}": f"point_head.fc{i + 1}.{leaf}" for i in range(3) for leaf in ("weight", "bias")}
    names |= {f"predictor.{leaf}": f"point_head.predictor.{leaf}" for leaf in ("weight", "bias")}
    renamed = {ours: torch.from_numpy(peer[theirs]) for ours, theirs in names.items()}
    network.load_state_dict(renamed)
    return network.eval()


def given(name: str) -> Tensor:
    return torch.from_numpy(build_array(ARRAYS[name]))


def close(ours: Tensor, theirs: Tensor, atol: float, rtol: float = 0.0) -> None:
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=rtol)


# --- functions ------------------------------------------------------------------------------------------------------


def test_uncertainty(recorded: dict[str, Tensor]) -> None:
    close(
        pointrend.uncertainty(given("input/pointrend/logits")),
        recorded["uncertainty"],
        FUNCTIONS["uncertainty"]["recommended_atol"],
    )


@pytest.mark.parametrize(
    ("output", "points", "mode"),
    [
        ("point_sample_bilinear", "coords", "bilinear"),
        ("point_sample_nearest", "coords", "nearest"),
        ("point_sample_grid", "coords_grid", "bilinear"),
        ("point_sample_border", "coords_border", "bilinear"),
    ],
)
def test_point_sample(recorded: dict[str, Tensor], output: str, points: str, mode: str) -> None:
    sampled = pointrend.point_sample(given("input/pointrend/logits"), recorded[points], mode)
    close(sampled, recorded[output], FUNCTIONS[output]["recommended_atol"])


@pytest.mark.parametrize("count", [30, 500])
def test_points_on_grid(recorded: dict[str, Tensor], count: int) -> None:
    indices, points = pointrend.points_on_grid(recorded["uncertainty"], count)
    assert torch.equal(indices, recorded[f"grid_{count}_indices"].long())
    close(points, recorded[f"grid_{count}_coords"], 1e-6)


def test_points_with_randomness(recorded: dict[str, Tensor]) -> None:
    logits = given("input/pointrend/logits")
    points = pointrend.training_points(logits, 16, 3, 0.75, (recorded["draw_first"], recorded["draw_second"]))
    close(points, recorded["randomness_coords"], 1e-6)
    points = pointrend.training_points(logits, 16, 2, 1.0, (recorded["draw_third"],))
    close(points, recorded["randomness_coords_all_important"], 1e-6)


@pytest.mark.parametrize(("case", "every"), [("one", 2), ("two", 3)])
def test_subdivision(
    recorded: dict[str, Tensor], head: pointrend.PointHead, case: str, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = HEADS[case]
    chosen: list[Tensor] = []
    on_grid = pointrend.points_on_grid

    def spy(*arguments: Any) -> tuple[Tensor, Tensor]:
        indices, points = on_grid(*arguments)
        chosen.append(indices.sort(dim=1).values)
        return indices, points

    monkeypatch.setattr(pointrend, "points_on_grid", spy)
    with torch.no_grad():
        refined = pointrend.subdivide(
            head,
            [given(item["features"])],
            given(item["coarse_logits"]),
            item["subdivision_steps"],
            item["subdivision_num_points"],
        )
    assert list(refined.shape) == item["statistics"]["shape"]
    close(refined[..., ::every, ::every], recorded[item["output"]], item["recommended_atol"])
    assert float(refined.std()) == pytest.approx(item["statistics"]["std"], abs=0.02)
    assert len(chosen) == item["subdivision_steps"]
    for step, indices in enumerate(chosen, start=1):
        assert torch.equal(indices, recorded[f"inference_{case}_step{step}_indices_sorted"].long())


def test_training(recorded: dict[str, Tensor], head: pointrend.PointHead) -> None:
    item = HEADS["train"]
    coarse, features, labels = (given(item[k]) for k in ("coarse_logits", "features", "labels"))
    draws = (recorded["train_draw_first"], recorded["train_draw_second"])
    points = pointrend.training_points(
        coarse, item["train_num_points"], item["oversample_ratio"], item["importance_sample_ratio"], draws
    )
    close(points, recorded["train_coords"], 1e-6)
    logits = head(pointrend.point_sample(features, points), pointrend.point_sample(coarse, points))
    close(logits, recorded["train_point_logits"], 1e-4)
    targets = pointrend.labels_at_points(labels.long(), points)
    assert torch.equal(targets, recorded["train_point_targets"].long())
    loss = F.cross_entropy(logits, targets, ignore_index=IGNORE)
    assert loss.item() == pytest.approx(item["loss_sem_seg_point"], rel=item["recommended_rtol"])


# --- beyond the recorded cases --------------------------------------------------------------------------------------


@pytest.mark.parametrize("align_corners", [False, True])
def test_points_of_a_grid_are_its_pixels(align_corners: bool) -> None:
    """Sampling a map at its own points gives the map: indices and coordinates mean the same pixels."""
    features = torch.randn(2, 3, 5, 7)
    indices, points = pointrend.points_on_grid(torch.randn(2, 1, 5, 7), 35, align_corners)
    sampled = pointrend.point_sample(features, points, align_corners=align_corners)
    close(sampled, features.flatten(2).gather(2, indices[:, None].expand(-1, 3, -1)), 1e-5)
    labels = torch.randint(0, 256, (2, 5, 7))
    assert torch.equal(pointrend.labels_at_points(labels, points, align_corners), labels.flatten(1).gather(1, indices))


def test_labels_at_the_outer_edge_are_the_last_pixels() -> None:
    corners = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]])
    labels = torch.arange(1, 13).reshape(1, 3, 4)
    assert pointrend.labels_at_points(labels, corners).tolist() == [[1, 4, 9, 12]]


@pytest.mark.parametrize("align_corners", [False, True])
def test_a_head_that_repeats_the_coarse_logits_changes_nothing(align_corners: bool) -> None:
    """Refined pixels then hold the coarse map at their own places: doubling, points and scatter agree.

    A linear ramp, since only there one bilinear resize of the coarse map equals several in a row (inside the border).
    """

    class Repeat(pointrend.PointHead):
        def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
            return coarse

    ramp = torch.arange(8.0)[:, None] * 2 + torch.arange(10.0)[None]
    coarse = torch.stack([ramp, 40 - ramp, 0.5 * ramp])[None]
    fine = [torch.zeros(1, 2, 16, 20)]
    refined = pointrend.subdivide(Repeat(2, 3), fine, coarse, 2, 10_000, align_corners=align_corners)
    size = (29, 37) if align_corners else (32, 40)
    plain = F.interpolate(coarse, size=size, mode="bilinear", align_corners=align_corners)
    assert refined.shape[-2:] == size
    close(refined[..., 4:-4, 4:-4], plain[..., 4:-4, 4:-4], 1e-4)


def test_fine_maps_are_joined_along_the_channels(head: pointrend.PointHead) -> None:
    """detectron2 joins them along the batch at inference and fails; two halves must equal the whole."""
    item = HEADS["two"]
    features, coarse = given(item["features"]), given(item["coarse_logits"])
    with torch.no_grad():
        whole = pointrend.subdivide(head, [features], coarse, 2, 50)
        halves = pointrend.subdivide(head, [features[:, :2], features[:, 2:]], coarse, 2, 50)
    assert torch.equal(whole, halves)


def test_subdivision_stops_at_the_limit(head: pointrend.PointHead) -> None:
    features, coarse = torch.randn(1, 6, 20, 20), torch.randn(1, 5, 9, 12)
    with torch.no_grad():
        assert pointrend.subdivide(head, [features], coarse, 4, 50, (33, 47)).shape == (1, 5, 33, 47)
        at_full_size = pointrend.subdivide(head, [features], coarse, 4, 50, (9, 12))
    changed = (at_full_size != coarse).any(dim=1)
    assert int(changed.sum()) == 50, "at the limit the least certain points are refined once"


def test_training_points_prefer_doubt() -> None:
    """A map in doubt on one border: three quarters of the points lie there, the rest anywhere.

    Zero padding, which the peer has too, puts the map's own edge (half a pixel) in doubt as well.
    """
    logits = torch.zeros(1, 2, 40, 40)
    logits[:, 0, :, :20], logits[:, 1, :, 20:] = 9.0, 9.0
    generator = torch.Generator().manual_seed(0)
    points = pointrend.training_points(logits, 400, 20.0, 0.75, generator=generator)
    edge = torch.minimum(points[0], 1 - points[0]).min(dim=1).values
    near = ((points[0, :, 0] - 0.5).abs() < 0.025) | (edge < 0.5 / 40)
    assert points.shape == (1, 400, 2)
    assert near[:300].all()
    assert int(near[300:].sum()) < 25
    again = pointrend.training_points(logits, 400, 20.0, 0.75, generator=torch.Generator().manual_seed(0))
    assert torch.equal(points, again)


def test_one_class_is_never_in_doubt() -> None:
    assert torch.equal(pointrend.uncertainty(torch.randn(2, 1, 3, 3)), torch.zeros(2, 1, 3, 3))


# --- as a part of PSPNet --------------------------------------------------------------------------------------------


def network(decoder: str = "bilinear", align_corners: bool = False, **options: object) -> PSPNet:
    """A small PSPNet whose point head is sure of itself, so that refinement shows."""
    torch.manual_seed(0)
    config = ModelConfig(
        encoder="resnet18",
        num_classes=4,
        bins=(1, 2),
        decoder=decoder,
        decoder_channels=8,
        pointrend=True,
        align_corners=align_corners,
        pyramid_options={"fusion_channels": 16},
        pointrend_options={"points": 60, "train_points": 20, "channels": 8, "layers": 2, **options},
    )
    model = PSPNet(config)
    with torch.no_grad():
        model.pointrend.head.predictor.weight.normal_(std=3.0)
    return model.eval()


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("decoder", ["bilinear", "progressive", "unet", "fpn"])
def test_refines_any_decoder_at_any_size(decoder: str, align_corners: bool) -> None:
    model = network(decoder, align_corners)
    images = 255 * torch.rand(2, 3, 33, 47)
    with torch.no_grad():
        refined = model(images)
        features = model.encoder(model.normalise(images))
        plain = resize(model._classify(features), (33, 47), align_corners)
        one_by_one = torch.cat([model(image[None]) for image in images])
    assert refined.shape == plain.shape == (2, 4, 33, 47)
    assert not torch.allclose(refined, plain)
    torch.testing.assert_close(refined, one_by_one, atol=1e-4, rtol=1e-4)


def test_a_network_that_looks_at_a_smaller_image_refines_up_to_the_images_own_size() -> None:
    model = network("unet")
    half = PSPNet(model.config.changed(input_scale=0.5)).eval()
    half.load_state_dict(model.state_dict())
    images = 255 * torch.rand(1, 3, 66, 94)
    with torch.no_grad():
        refined = half.coarse_logits(images)
        smaller = half.normalise(images)
        expected = half.pointrend(half.encoder(smaller), half._classify(half.encoder(smaller)), (66, 94))
    assert half(images).shape == (1, 4, 66, 94)
    assert refined.shape[2] > model._classify(model.encoder(smaller)).shape[2]
    assert torch.equal(refined, expected)


def test_points_keep_their_places_in_bfloat16() -> None:
    """A ramp over 600 columns, refined by reading it: bfloat16 positions would be two columns off."""
    ramp = torch.linspace(0, 1, 600).expand(1, 1, 2, 600)
    _, points = pointrend.points_on_grid(-torch.arange(1200.0).reshape(1, 1, 2, 600).bfloat16(), 500)
    columns = points[0, :, 0] * 600 - 0.5
    torch.testing.assert_close(columns, columns.round(), atol=1e-3, rtol=0)
    actual = pointrend.point_sample(ramp.bfloat16(), points)[0, 0]
    torch.testing.assert_close(actual.float(), columns / 599, atol=4e-3, rtol=0)


def test_sees_features_of_stride_4() -> None:
    model = network()
    assert model.encoder.strides[model.pointrend.level] == 4
    assert model.pointrend.head.hidden[0].in_channels == 64 + 4
    assert pointrend.fine_level([4, 8, 16, 32]) == 0
    assert pointrend.fine_level([1, 2]) == 1


def test_training_reaches_encoder_decoder_and_head() -> None:
    model = network().train()
    outputs = model.forward_train(255 * torch.rand(2, 3, 32, 40))
    coordinates, logits = outputs.points
    assert coordinates.shape == (2, 20, 2)
    assert logits.shape == (2, 4, 20)
    assert outputs.logits.shape == (2, 4, 32, 40)
    labels = pointrend.labels_at_points(torch.randint(0, 4, (2, 32, 40)), coordinates)
    F.cross_entropy(logits, labels).backward()
    for part in (model.pointrend.head, model.encoder.conv1, model.classifier, model.pyramid):
        assert all(p.grad is not None and (p.grad != 0).any() for p in part.parameters()), part


def test_learns_what_coarse_logits_cannot_hold() -> None:
    """Labels finer than the coarse cells: the head, trained on its points alone, gets pixels right that a resize cannot.

    Fine features show the pattern, coarse logits only its blur, as at a border.
    """
    torch.manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    labels = ((rows + 3 * (columns // 5)) % 8 < 4).long()[None]
    fine = F.one_hot(labels, 2).movedim(-1, 1).float() + 0.1 * torch.randn(1, 2, 32, 32)
    coarse = F.avg_pool2d(fine, 8)
    head = pointrend.PointHead(2, 2, channels=8, layers=1)
    optimiser = torch.optim.Adam(head.parameters(), 0.02)
    for _ in range(60):
        points = pointrend.training_points(coarse, 64)
        logits = head(pointrend.point_sample(fine, points), pointrend.point_sample(coarse, points))
        loss = F.cross_entropy(logits, pointrend.labels_at_points(labels, points))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        refined = pointrend.subdivide(head, [fine], coarse, 3, 1024)
    plain = resize(coarse, (32, 32))
    accuracy = [(logits.argmax(1) == labels).float().mean().item() for logits in (plain, refined)]
    assert accuracy[0] < 0.8
    assert accuracy[1] > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["bilinear", "unet"])
def test_exports_at_a_fixed_size(decoder: str, tmp_path: Path) -> None:
    """onnxruntime gives the same logits: the points chosen are the same too."""
    onnxruntime = pytest.importorskip("onnxruntime")
    model = network(decoder)
    images = 255 * torch.rand(1, 3, 33, 47)
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (images,), path, dynamo=True, verbose=False, input_names=["images"])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (exported,) = session.run(None, {"images": images.numpy()})
    with torch.no_grad():
        expected = model(images)
    torch.testing.assert_close(torch.from_numpy(exported), expected, atol=2e-4, rtol=2e-4)
