"""What to label next: the choice itself, photographs, tiles on the map, the files that come of it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import torch
from PIL import Image

from pspnet import LabelSpace, ModelConfig, PSPNet, Segmenter
from pspnet.cli import _run
from pspnet.errors import ConfigError, DataError
from pspnet.images import image_size
from pspnet.picking import Candidate, class_balanced, greedy_choice, pick, save_choice
from pspnet.picking.candidates import described
from pspnet.predict.engines import TorchEngine
from pspnet.weights.checkpoint import ModelCard
from support.rasters import write_raster


@pytest.fixture(scope="module")
def seg() -> Segmenter:
    torch.manual_seed(0)
    config = ModelConfig(encoder="resnet18", num_classes=2, encoder_options={"depth": 3}, bins=(1,))
    return Segmenter(PSPNet(config), ModelCard(LabelSpace(("sea", "land"))), device="cpu")


COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (20, 40, 230)}


def photographs(folder: Path, each: int = 3) -> list[Path]:
    """Some nearly equal pictures of each colour."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, paths = np.random.default_rng(0), []
    for name, colour in COLOURS.items():
        for number in range(each):
            noise = rng.normal(0, 2, (48, 64, 3))
            paths.append(folder / f"{name}_{number}.png")
            Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(paths[-1])
    return paths


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "picked.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_choice_against_plain_loops() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(40, 5)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    unsure, known = rng.random(40).astype(np.float32), features[:3]
    order, distances = greedy_choice(features, unsure, 12, known)
    before = [row.astype(float) for row in known]
    for index, distance in zip(order.tolist(), distances.tolist(), strict=True):
        near = [min([2.0, *(float(np.linalg.norm(one - other)) for other in before)]) for one in features]
        best = max(unsure[i] * near[i] for i in range(40))
        assert unsure[index] * near[index] == pytest.approx(best, abs=2e-3)
        assert distance == pytest.approx(near[index], abs=2e-3)
        before.append(features[index])
    assert len(set(order.tolist())) == 12


def test_copies_come_last() -> None:
    features = np.repeat(np.eye(2, dtype=np.float32), 2, axis=0)
    order, _ = greedy_choice(features, np.float32([0.9, 0.9, 0.1, 0.1]), 4)
    assert sorted(order[:2].tolist()) == [0, 2]
    assert sorted(order.tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("count", [0, 5])
def test_more_than_there_are(count: int) -> None:
    with pytest.raises(ConfigError, match="there are 4 candidates"):
        greedy_choice(np.eye(4, dtype=np.float32), np.ones(4, np.float32), count)


def test_one_of_each_kind(seg: Segmenter, tmp_path: Path) -> None:
    paths = photographs(tmp_path)
    choice = pick(seg, paths, 3)
    assert sorted(one.path.stem.split("_")[0] for one in choice.picked) == ["blue", "green", "red"]
    assert choice.candidates == 9
    assert all(0 < one.uncertainty <= 1 for one in choice.picked)


def test_nothing_like_what_is_labelled(seg: Segmenter, tmp_path: Path) -> None:
    paths = photographs(tmp_path)
    labelled = [path for path in paths if path.stem in ("red_0", "green_0")]
    choice = pick(seg, paths, 3, labelled=labelled)
    assert choice.picked[0].path.stem.startswith("blue")
    assert choice.candidates == 7  # what is labelled is no candidate
    assert not {one.path for one in choice.picked} & set(labelled)


def test_tiles_lie_where_they_were_cut(seg: Segmenter, tmp_path: Path) -> None:
    pixels = np.zeros((3, 128, 128), np.uint8)
    for number, colour in enumerate(COLOURS.values()):  # the fourth quarter holds no data
        rows, columns = divmod(number, 2)
        part = pixels[:, 64 * rows : 64 * rows + 64, 64 * columns : 64 * columns + 64]
        part[:] = np.array(colour)[:, None, None]
    pixels[:, 64:, 64:80] = 90  # but for a strip
    path = write_raster(tmp_path / "town.tif", pixels, nodata=0)
    choice = pick(seg, [path], 3, tile_px=64)
    assert choice.candidates == 3
    written = save_choice(choice, tmp_path / "out", seg)
    assert [file.name for file in written] == ["picked.csv", "picked.txt", "picked.jpg", "picked.gpkg"]
    assert {(row["top"], row["left"]) for row in table(tmp_path / "out")} == {("0", "0"), ("0", "64"), ("64", "0")}
    frame = pyogrio.read_dataframe(tmp_path / "out" / "picked.gpkg")
    assert frame.crs.to_epsg() == 32631
    assert sorted(frame["rank"]) == [1, 2, 3]
    assert set(frame.area) == {128.0 * 128.0}  # 64 px of 2 m
    bounds = {tuple(row) for row in frame.bounds.to_numpy()}
    assert (500_000.0, 5_600_000.0 - 128, 500_128.0, 5_600_000.0) in bounds


def test_uncertainty_is_that_of_the_pixels_with_data(seg: Segmenter) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 64, 64)).astype(np.float32)
    valid = np.zeros((64, 64), bool)
    valid[:32, 16:] = True
    assert isinstance(seg.engine, TorchEngine)
    probabilities = seg.engine.describe(pixels[None])[1].astype(float)
    entropy = -(probabilities * np.log2(probabilities)).sum(0)
    side = entropy.shape[0]
    expected = entropy[: side // 2, side // 4 :].mean()
    assert described(seg, pixels, valid)[2].sum() == pytest.approx(expected, rel=1e-4)
    assert described(seg, pixels, None)[2].sum() == pytest.approx(entropy.mean(), rel=1e-4)


def test_every_class_counts_alike() -> None:
    rng = np.random.default_rng(2)
    shares = rng.dirichlet([30, 5, 0.5], 7).astype(np.float32)
    doubts = (shares * rng.random((7, 3))).astype(np.float32)
    candidates = [Candidate(Path(str(i)), np.ones(1, np.float32), shares[i], doubts[i]) for i in range(7)]
    for i, weight in enumerate(class_balanced(candidates)):
        by_class = [doubts[i, k] / max(sum(share[k] for share in shares) / 7, 1e-3) for k in range(3)]
        assert weight == pytest.approx(sum(by_class) / 3, rel=1e-5)
    never = [Candidate(one.path, one.feature, np.float32([1, 0]), np.float32([0.2, 1e-9])) for one in candidates]
    assert class_balanced(never) == pytest.approx(0.1, rel=1e-3)  # a class that is nowhere decides nothing


def test_rasters_of_two_systems_share_a_layer(seg: Segmenter, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(1, 255, (3, 64, 64)).astype(np.uint8)
    paths = [write_raster(tmp_path / f"{code}.tif", pixels, crs=f"EPSG:{code}") for code in (32631, 32632)]
    save_choice(pick(seg, paths, 2, tile_px=64), tmp_path / "out", seg)
    frame = pyogrio.read_dataframe(tmp_path / "out" / "picked.gpkg")
    assert frame.crs.to_epsg() == 4326
    assert sorted(round(x) for x in frame.bounds["minx"]) == [3, 9]  # the zones' middle meridians


def test_a_damaged_image_is_told(seg: Segmenter, tmp_path: Path) -> None:
    paths = photographs(tmp_path, 1)
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    choice = pick(seg, [*paths, tmp_path / "broken.jpg"], 2)
    assert list(choice.failures) == [str(tmp_path / "broken.jpg")]
    with pytest.raises(DataError, match="none of 1 images can be chosen"):
        pick(seg, [tmp_path / "broken.jpg"], 1)


def test_the_command(seg: Segmenter, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photographs(tmp_path / "in", 2)
    model = str(seg.save(tmp_path / "model.safetensors"))
    arguments = ["data", "pick", model, str(tmp_path / "in"), "--count", "4", "--device", "cpu"]
    arguments += ["--out", str(tmp_path / "out")]
    assert _run(arguments, debug=False) == 0
    assert "4 of 6 chosen" in capsys.readouterr().out
    rows = table(tmp_path / "out")
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    assert (tmp_path / "out" / "picked.txt").read_text().splitlines() == [row["file"] for row in rows]
    assert image_size(tmp_path / "out" / "picked.jpg") == (218, 1200)
    assert _run(arguments, debug=False) == 1  # not over an earlier choice
    assert "--overwrite" in capsys.readouterr().err
    for out in (tmp_path / "in", tmp_path / "in" / "picked"):  # where picked.jpg would be a photograph the next time
        assert _run([*arguments[:-1], str(out), "--overwrite"], debug=False) == 2
        assert "lies in it" in capsys.readouterr().err
