"""`pspnet evaluate` beyond one model's scores, and `adapt` and `calibrate`, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pspnet import LabelSpace, ModelConfig, PSPNet, Segmenter
from pspnet.cli import _run
from pspnet.images import read_image
from pspnet.weights.checkpoint import ModelCard, load_checkpoint
from support import fakes


def run(*arguments: str | Path) -> int:
    return _run([str(a) for a in arguments], debug=False)


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


def a_model(path: Path, classes: str | LabelSpace, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    space = LabelSpace.named(classes) if isinstance(classes, str) else classes
    config = ModelConfig(encoder="resnet18", num_classes=space.num_classes, encoder_options={"depth": 3}, bins=(1, 2))
    return Segmenter(PSPNet(config), ModelCard(space), device="cpu", precision="fp32").save(path)


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A data set of Cityscapes' layout with a test split, and two models for it."""
    root = tmp_path_factory.mktemp("city")
    fakes.write_cityscapes(root / "data", {"val": 4, "test": 2})
    return (
        root / "data",
        a_model(root / "a.safetensors", "cityscapes"),
        a_model(root / "b.safetensors", "cityscapes", 1),
    )


def test_two_models_are_compared(
    city: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, one, two = city
    common = ("--data", data, "--format", "cityscapes", "--set", "resamples=50", "--device", "cpu")
    assert run("evaluate", two, "--against", one, *common, "--out", tmp_path / "out", "--calibration") == 0
    shown = capsys.readouterr().out
    assert f"{two} minus {one}, paired over 4 images" in " ".join(shown.split())
    assert "calibration error" in shown
    assert (tmp_path / "out" / "reliability.png").stat().st_size > 2000
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert (content["first"], content["second"]) == (str(one), str(two))
    assert run("evaluate", one, *common, "--json", tmp_path / "one.json") == 0
    alone = json.loads((tmp_path / "one.json").read_text())["mean_iou"]
    capsys.readouterr()
    assert run("evaluate", one, *common, "--json") == 0
    assert json.loads(capsys.readouterr().out)["mean_iou"] == alone
    assert run("evaluate", one, "extra", *common) == 2
    assert "one argument too many" in capsys.readouterr().err
    second = json.loads((tmp_path / "out" / "scores.json").read_text())["mean_iou"]
    assert content["differences"]["mean_iou"]["value"] == pytest.approx(second - alone, abs=1e-9)
    # a saved report does as well as the model
    assert run("evaluate", two, "--against", tmp_path / "one.json", *common, "--out", tmp_path / "again") == 0
    again = json.loads((tmp_path / "again" / "comparison.json").read_text())
    assert again["differences"] == content["differences"]
    # which it does not replace, and no results come to lie among the data
    capsys.readouterr()
    before = (tmp_path / "one.json").read_bytes()
    for option, path in (("--scores", tmp_path / "one.json"), ("--out", data)):
        assert run("evaluate", two, "--against", tmp_path / "one.json", *common, option, path, "--overwrite") == 2
        assert "input" in capsys.readouterr().err
    assert (tmp_path / "one.json").read_bytes() == before


def test_predictions_for_a_server(
    city: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, one, _ = city
    common = ("--data", data, "--format", "cityscapes", "--device", "cpu")
    assert run("evaluate", one, *common, "--split", "test", "--submission", tmp_path / "test") == 0
    assert "2 predictions (cityscapes, whole)" in capsys.readouterr().out
    files = sorted((tmp_path / "test").rglob("*.png"))
    assert len(files) == 2
    codes = set(LabelSpace.named("cityscapes").codes)
    assert set(np.unique(pixels_of(files[0]))) <= codes  # labelIds, not training ids
    image = next((data / "leftImg8bit" / "test").rglob("*.png"))
    ours = Segmenter.load(one, device="cpu").segment(image)
    written = pixels_of(next(f for f in files if f.name.startswith(image.name[:20])))
    assert np.mean(written == LabelSpace.named("cityscapes").encode(ours.labels)) > 0.999
    assert run("evaluate", one, *common, "--submission", tmp_path / "val", "--json", tmp_path / "s.json") == 0
    assert len(list((tmp_path / "val").rglob("*.png"))) == 4  # a split with labels is scored too
    assert json.loads((tmp_path / "s.json").read_text())["images"] == 4


def test_palettes_and_codes_of_the_other_servers(tmp_path: Path) -> None:
    fakes.write_voc(tmp_path / "voc", {"train": 1, "val": 1}, test=1)
    model = a_model(tmp_path / "voc.safetensors", "voc")
    assert (
        run(
            "evaluate",
            model,
            "--data",
            tmp_path / "voc",
            "--format",
            "voc",
            "--split",
            "test",
            "--submission",
            tmp_path / "sent",
            "--device",
            "cpu",
        )
        == 0
    )
    sent = list((tmp_path / "sent" / "results" / "VOC2012" / "Segmentation" / "comp6_test_cls").glob("*.png"))
    assert len(sent) == 1
    with Image.open(sent[0]) as picture:
        assert picture.mode == "P"
        assert tuple(picture.getpalette()[3:6]) == (128, 0, 0)  # VOC's colour of aeroplanes
    fakes.write_ade20k(tmp_path / "ade")
    model = a_model(tmp_path / "ade.safetensors", "ade20k")
    assert (
        run(
            "evaluate",
            model,
            "--data",
            tmp_path / "ade",
            "--format",
            "ade20k",
            "--submission",
            tmp_path / "ade_sent",
            "--device",
            "cpu",
        )
        == 0
    )
    codes = pixels_of(next((tmp_path / "ade_sent").glob("*.png")))
    assert codes.min() >= 1
    assert codes.max() <= 150


def test_what_needs_labels_is_refused_without_them(
    city: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, one, _ = city
    common = (one, "--data", data, "--format", "cityscapes", "--split", "test", "--device", "cpu")
    assert (
        run("evaluate", *common, "--submission", tmp_path / "t", "--against", one, "--json", tmp_path / "s.json") == 2
    )
    assert "leave out --against, --scores" in capsys.readouterr().err
    assert not (tmp_path / "t").exists()
    assert run("evaluate", *common) == 1
    assert "--submission" in capsys.readouterr().err
    fakes.write_folder(tmp_path / "mine")
    assert run("evaluate", one, "--data", tmp_path / "mine", "--submission", tmp_path / "t", "--device", "cpu") == 2
    assert "there are ade20k, voc, cityscapes, loveda" in capsys.readouterr().err
    assert run("evaluate", one, "--data", data, "--format", "cityscapes", "--against", tmp_path / "no.json") != 0
    assert "no.json" in capsys.readouterr().err


def test_statistics_and_temperature_are_fitted_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = fakes.write_folder(tmp_path / "data")
    model = a_model(tmp_path / "m.safetensors", space)
    assert run("adapt", model, tmp_path / "data" / "val" / "images", tmp_path / "n.safetensors", "--device", "cpu") == 0
    assert "towards 2 images" in capsys.readouterr().out
    before, after = load_checkpoint(model)[0].state_dict(), load_checkpoint(tmp_path / "n.safetensors")
    moved = {name for name, value in after[0].state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert all("running_" in name for name in moved)
    assert after[1].provenance["batch_norm_adapted"]["images"] == 2
    assert run("calibrate", model, tmp_path / "c.safetensors", "--data", tmp_path / "data", "--device", "cpu") == 0
    assert "temperature 1 -> " in capsys.readouterr().out
    assert load_checkpoint(tmp_path / "c.safetensors")[1].temperature != 1
    assert run("adapt", model, tmp_path / "nowhere", tmp_path / "x.safetensors") == 1
    assert "nowhere' does not exist" in capsys.readouterr().err
    assert read_image(next((tmp_path / "data" / "val" / "images").glob("*.jpg"))).shape == (40, 56, 3)
