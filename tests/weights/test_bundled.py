"""Models that come along: made from a checkpoint with a card, found by name, refused when altered or not here."""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path

import pytest
import torch
import yaml

from pspnet.cli import _run
from pspnet.config import ModelConfig
from pspnet.data.catalog import open_dataset
from pspnet.errors import CheckpointError
from pspnet.images import read_image
from pspnet.nn import PSPNet
from pspnet.predict.segmenter import Segmenter
from pspnet.weights import bundled
from pspnet.weights.checkpoint import ModelCard, read_header
from support.paths import ROOT

TOOLS = ROOT / "tools"
FACTS = {
    "name": "tiny",
    "about": "Tiny scenes",
    "ships_in": "package",
    "data": "Scenes of 32 px",
    "terms": "CC0",
    "recipe": "none",
    "command": "pspnet demo",
    "limits": ["Knows nothing."],
    "format": "scenes",
    "options": {"size": 32, "count": 4},
    "splits": ["train", "val"],
    "summary": {"training_s": 90.0, "commit": "abc", "hardware": {"name": "toy", "cores": 2, "threads": 1}, "steps": 3},
}


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(TOOLS))
    return TOOLS


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    space = open_dataset("scenes").label_space
    model = PSPNet(
        ModelConfig(
            encoder="resnet18",
            encoder_options={"depth": 3},
            num_classes=space.num_classes,
            bins=(1, 2),
            decoder_channels=8,
            auxiliary="none",
        )
    )
    torch.nn.init.normal_(model.classifier.weight)
    return Segmenter(model, ModelCard(space), device="cpu", precision="fp32").save(
        tmp_path_factory.mktemp("run") / "best.safetensors"
    )


def run_bundle(folder: Path, checkpoint: Path, *options: str, **changes: object) -> int:
    from bundle_model import Places  # type: ignore[import-not-found]
    from bundle_model import main as bundle

    facts = folder / "facts.yaml"
    facts.write_text(yaml.safe_dump({**FACTS, **changes}))
    result: int = bundle([str(facts), str(checkpoint.parent), *options], Places(folder))
    return result


def look_in(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    monkeypatch.delenv("PSPNET_MODELS", raising=False)
    monkeypatch.setattr(bundled, "PACKAGE_MODELS", folders[0])
    monkeypatch.setattr(bundled, "REPOSITORY_MODELS", folders[-1])
    monkeypatch.chdir(folders[0])


@pytest.mark.slow
def test_int8_lies_beside_the_checkpoint_and_runs_by_name(tools: Path, checkpoint: Path, tmp_path: Path) -> None:
    assert run_bundle(tmp_path, checkpoint, "--int8") == 0
    package = tmp_path / "src" / "pspnet" / "models"
    entry = json.loads((package / "index.json").read_text())["tiny"]
    assert entry["int8"] == "tiny.int8.onnx"
    assert hashlib.sha256((package / "tiny.int8.onnx").read_bytes()).hexdigest() == entry["int8_sha256"]
    assert "## 8 bits" in (tmp_path / "models" / "tiny.md").read_text()


def test_a_checkpoint_becomes_a_model_with_a_card(
    tools: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_bundle(tmp_path, checkpoint) == 0
    package = tmp_path / "src" / "pspnet" / "models"
    look_in(monkeypatch, package)
    loaded, exact = Segmenter.load("tiny", device="cpu", precision="fp32"), Segmenter.load(checkpoint, device="cpu")
    assert (package / "tiny.safetensors").stat().st_size < 0.6 * checkpoint.stat().st_size
    for name, value in exact.model.state_dict().items():
        torch.testing.assert_close(loaded.model.state_dict()[name], value, rtol=1e-3, atol=1e-6)
    provenance = read_header(package / "tiny.safetensors")[1].provenance
    assert provenance["terms"] == "CC0"
    card = (tmp_path / "models" / "tiny.md").read_text()
    from pspnet.evaluation import assess

    actual = assess(loaded, open_dataset("scenes", None, "val", size=32, count=4))
    interval = actual.intervals["mean_iou"]
    assert f"| val | 4 | {100 * interval.value:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})" in card
    assert provenance["scores"]["val"]["mean_iou"] == pytest.approx(actual.scores.mean_iou)
    for text in (
        "abc",
        "| Hardware | toy, 2 cores, 1 thread |",
        "2 min",
        "Knows nothing.",
        "float16; in the wheel",
        loaded.classes[0],
    ):
        assert text in card, text
    pictures = sorted((tmp_path / "models" / "pictures").iterdir())
    assert [p.name for p in pictures] == ["tiny-bad-1.jpg", "tiny-bad-2.jpg", "tiny-good-1.jpg", "tiny-good-2.jpg"]
    for picture in pictures:
        assert f"(pictures/{picture.name})" in card
        assert read_image(picture).shape[1] == 4 * 360 + 18  # image, labels, prediction, mistakes
    overview = (tmp_path / "models" / "README.md").read_text()
    assert "| [tiny](tiny.md) | Tiny scenes |" in overview


def test_models_with_terms_stay_out_of_the_wheel(
    tools: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"ships_in": "repository", "terms": "research only", "show_images": False, "splits": ["val"]}
    assert run_bundle(tmp_path, checkpoint, **changes) == 0
    package, repository = tmp_path / "src" / "pspnet" / "models", tmp_path / "models"
    assert sorted(p.name for p in package.iterdir()) == ["index.json"]
    assert "not in the wheel" in (repository / "tiny.md").read_text()
    assert read_image(repository / "pictures" / "tiny-good-1.jpg").shape[1] == 2 * 360 + 6  # no image
    look_in(monkeypatch, package)  # as installed from a wheel
    with pytest.raises(CheckpointError, match=r"not in the wheel.*models/.*research only.*PSPNET_MODELS"):
        Segmenter.load("tiny")
    assert not bundled.bundled_models()["tiny"].here
    capsys.readouterr()
    assert _run(["models"], debug=False) == 0
    assert "not here: tiny; they lie in the folder models/" in capsys.readouterr().out  # on one line
    look_in(monkeypatch, package, repository)  # in a checkout
    assert Segmenter.load("tiny", device="cpu").classes
    assert _run(["models"], debug=False) == 0
    assert "research only" in " ".join(capsys.readouterr().out.split())
    file = repository / "tiny.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(CheckpointError, match="SHA-256 differs"):
        Segmenter.load("tiny")


def test_where_the_wheel_has_no_checkpoint_the_8_bit_file_is_taken_and_said(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = next(bundled.PACKAGE_MODELS.glob("scenes.int8.onnx"))
    (tmp_path / "tiny.int8.onnx").write_bytes(graph.read_bytes())
    digests = {
        "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "int8_sha256": hashlib.sha256(graph.read_bytes()).hexdigest(),
    }
    entry = {"file": "tiny.safetensors", "about": "Tiny", "terms": "CC0", "int8": "tiny.int8.onnx", **digests}
    (tmp_path / "index.json").write_text(json.dumps({"tiny": entry}))
    look_in(monkeypatch, tmp_path)
    with pytest.warns(UserWarning, match=r"'tiny'.*not in the wheel.*8-bit file is used.*PSPNET_MODELS"):
        assert Segmenter.load("tiny").engine.name == "onnxruntime"
    with pytest.raises(CheckpointError, match=r"'tiny'.*not in the wheel.*PSPNET_MODELS"):
        bundled.find_model("tiny", checkpoint=True)
    assert _run(["models"], debug=False) == 0
    listed = capsys.readouterr().out
    assert "0.9, 8-bit" in listed
    assert "not here" not in listed
    (tmp_path / "tiny.safetensors").write_bytes(checkpoint.read_bytes())
    assert bundled.find_model("tiny").suffix == bundled.find_model("tiny", checkpoint=True).suffix == ".safetensors"


def test_what_the_wheel_leaves_out_has_an_8_bit_file() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    index = json.loads((bundled.PACKAGE_MODELS / "index.json").read_text(encoding="utf-8"))
    left_out = {entry["file"] for entry in index.values() if entry.get("file") in build["wheel"]["exclude"]}
    assert left_out == set(build["wheel"]["exclude"])
    assert {f"/src/pspnet/models/{name}" for name in left_out} <= set(build["sdist"]["exclude"])
    assert all("int8" in entry for entry in index.values() if entry.get("file") in left_out)


def test_colours_of_the_facts_replace_those_of_the_data_set(
    tools: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_bundle(tmp_path, checkpoint, splits=["val"], colours={"sky": [1, 2, 3]}) == 0
    space = read_header(tmp_path / "src" / "pspnet" / "models" / "tiny.safetensors")[1].label_space
    plain = read_header(checkpoint)[1].label_space
    assert space.colours[space.index("sky")] == (1, 2, 3)
    assert sum(one != other for one, other in zip(space.colours, plain.colours, strict=True)) == 1
    assert run_bundle(tmp_path, checkpoint, splits=["val"], colours={"skye": [1, 2, 3]}) == 2
    assert "skye" in capsys.readouterr().err


def test_the_curve_of_a_run_is_kept_small(tools: Path, checkpoint: Path, tmp_path: Path) -> None:
    from model_curve import curve  # type: ignore[import-not-found]

    metrics = checkpoint.parent / "metrics.csv"
    rows = [f"{step},{2 / step:.6f},{0.5 + step / 4000 if step == 1000 else ''}" for step in range(1, 1001)]
    metrics.write_text("step,loss,val_mean_iou\n500,,0.5\n" + "\n".join(rows) + "\n")
    try:
        assert run_bundle(tmp_path, checkpoint, splits=["val"]) == 0
    finally:
        metrics.unlink()
    path = tmp_path / "models" / "curves" / "tiny.csv"
    actual = curve([path], points=10_000)
    assert len(actual) == 125  # of eight steps each
    assert actual[0][:2] == (8, pytest.approx(sum(2 / step for step in range(1, 9)) / 8, abs=1e-4))
    assert [(step, score) for step, _, score in actual if score is not None] == [(504, 0.5), (1000, 0.75)]
    assert [step for step, _, _ in curve([path, path], points=10_000)][124:126] == [1000, 1008]  # a run that goes on
    assert "(pictures/tiny-curve.png)" in (tmp_path / "models" / "tiny.md").read_text()
    assert read_image(tmp_path / "models" / "pictures" / "tiny-curve.png").ndim == 3


def test_a_model_that_is_too_large_or_misdescribed_is_refused(
    tools: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_bundle(tmp_path, checkpoint, max_mib=0.1, splits=["val"]) == 2
    assert "MiB in float16; max_mib = 0.1" in capsys.readouterr().err
    assert run_bundle(tmp_path, checkpoint, lmits=["typo"]) == 2
    assert "lmits" in capsys.readouterr().err
    assert not (tmp_path / "src").exists()


@pytest.mark.parametrize("folder", [bundled.PACKAGE_MODELS, bundled.REPOSITORY_MODELS], ids=["package", "repository"])
def test_every_model_that_comes_along_is_the_published_file(folder: Path) -> None:
    entries = json.loads((folder / "index.json").read_text())
    assert any("file" in entry for entry in entries.values())
    for name, entry in entries.items():
        assert entry["about"], name
        assert ("file" in entry) != ("elsewhere" in entry), name
        if "file" in entry:
            assert (folder / entry["file"]).stat().st_size <= 12 * 2**20
            assert Segmenter.load(name, device="cpu").classes


def test_an_index_that_is_damaged_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index.json").write_text('{"one": {"about": "no file"}}')
    look_in(monkeypatch, tmp_path)
    with pytest.raises(CheckpointError, match=r"index\.json' is damaged"):
        Segmenter.load("one")


@pytest.mark.parametrize("content", ["[]", "hello", '{"scenes": 3}', '{"x": {"file": 1}}', "[" * 100_000])
def test_a_strange_folder_called_models_hides_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "index.json").write_text(content)
    monkeypatch.chdir(tmp_path)
    assert "scenes" in bundled.bundled_models()
