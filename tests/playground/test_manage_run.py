"""A run's settings taken again, its name, its end, its files; what the page offers for it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pspnet import LabelSpace, ModelConfig, PSPNet
from pspnet.config import TrainConfig
from pspnet.errors import ConfigError, TrainingError
from pspnet.evaluation import Comparison
from pspnet.playground import form, manage_run
from pspnet.playground.app import make_context
from pspnet.playground.compare_tab import chosen_pair, comparison_page
from pspnet.playground.context import Context
from pspnet.playground.model_tab import as_model_form, model_fields, read_model
from pspnet.playground.run_views import buttons, curves_page
from pspnet.playground.train_tab import ASKED, _refresh, other_fields, settings
from pspnet.training.run_folder import RunFolder
from pspnet.weights.checkpoint import ModelCard, save_checkpoint

RECIPE = {
    "steps": 77,
    "batch_size": 3,
    "augmentation": {"crop": [64, 96], "rotate": False},
    "optimizer": {"learning_rate": 0.003, "head_lr_factor": 2.0},
    "ema": 0.99,
    "early_stopping": {"patience": 3},
    "model": {"encoder": "resnet18", "encoder_options": {"depth": 3}, "bins": [1, 2]},
    "data": {"format": "scenes", "options": {"count": 8, "size": 64}},
}


@pytest.fixture
def context(tmp_path: Path) -> Context:
    (tmp_path / "work").mkdir()
    return make_context([tmp_path / "work"], at_once=0)


@pytest.fixture
def run(context: Context) -> Path:
    name = context.runs.submit(TrainConfig.model_validate({**RECIPE, "name": "first"}))
    context.runs.stop(name)  # out of the queue again
    return context.runs.folder / name


def test_every_option_of_a_run_is_asked_for_and_explained() -> None:
    fields = form.fields_of(TrainConfig, ASKED)
    shown = [*fields, *(field for members in other_fields(fields).values() for field in members)]
    names = [field.name for field in shown]
    assert len(names) == len(set(names))
    left_out = {field.name for field in form.fields_of(TrainConfig)} - set(names)
    assert all(name == "run_dir" or name.split(".")[0] in ("data", "model", "published") for name in left_out)
    assert all(len(field.about) > 10 for field in shown), [field.name for field in shown if len(field.about) <= 10]


def test_settings_of_a_run_come_back_as_they_were(context: Context, run: Path) -> None:
    """Taken into the form and read from it again, they are those that the run was started with."""
    fields = form.fields_of(TrainConfig, ASKED)
    every = [*fields, *(field for members in other_fields(fields).values() for field in members)]
    network = model_fields(ModelConfig)
    values = manage_run.run_settings(context, run.name)
    shown = form.as_form(values, every)
    model = read_model(network, as_model_form(values["model"], network))
    rest = manage_run.left_over(values, [field.name for field in every])
    again = TrainConfig.model_validate(settings(context, every, shown, rest, values["data"], model))
    assert again == TrainConfig.model_validate(RECIPE)
    assert "first" in manage_run.what_it_was(values, "first")


def test_a_run_is_renamed_and_deleted_only_when_it_is_still(context: Context, run: Path) -> None:
    assert manage_run.rename(context, "first", " better name ") == "better name"
    assert context.runs.names() == ["better name"]
    for wrong in ("", "a/b", "../x", ".hidden", "better name", "x" * 300):
        with pytest.raises(ConfigError):
            manage_run.rename(context, "better name", wrong)
    with pytest.raises(ConfigError, match="delete it for good"):
        manage_run.delete(context, "better name", False)
    context.runs.resume("better name")
    for act in (
        lambda: manage_run.rename(context, "better name", "z"),
        lambda: manage_run.delete(context, "better name", True),
    ):
        with pytest.raises(TrainingError, match="is queued; stop it first"):
            act()
    assert buttons(context, "better name") == {"stop": True, "resume": False}
    context.runs.stop("better name")
    assert buttons(context, "better name") == {"stop": False, "resume": True}
    manage_run.delete(context, "better name", True)
    assert context.runs.names() == []
    assert buttons(context, "better name") == buttons(context, None) == {"stop": False, "resume": False}


def test_a_look_at_the_old_name_does_not_take_the_new_one_away(context: Context, run: Path) -> None:
    """The page asks each second for the run that it shows; such a question may be under way while the name changes."""
    refresh = _refresh(context)
    before = refresh("first", {})
    assert before[0]["value"] == "first"
    manage_run.rename(context, "first", "second")
    late = refresh("first", before[-1])
    assert late[0]["choices"] == ["second"]
    assert "value" not in late[0]
    assert refresh("second", late[-1])[0]["value"] == "second"


def test_models_can_be_downloaded(context: Context, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    with pytest.raises(TrainingError, match="no model yet"):
        manage_run.checkpoints(context, "first")
    (run / "best.safetensors").write_bytes(b"model")
    (run / "last.safetensors").symlink_to("/etc/hostname")
    files = manage_run.checkpoints(context, "first")
    assert [Path(file).name for file in files] == ["first-best.safetensors"]
    assert all(str(tmp_path / "cache") in file for file in files)


def test_classes_have_the_datas_colours(run: Path) -> None:
    folder = RunFolder(run)
    (run / "class_iou.csv").write_text("step,sky,road\n1,0.5,0.25\n2,0.6,0.5\n")
    assert "rgb(1, 2, 3)" not in curves_page(folder)
    card = ModelCard(LabelSpace(("sky", "road"), ((1, 2, 3), (200, 100, 50))))
    network = PSPNet(ModelConfig(encoder="resnet18", num_classes=2, encoder_options={"depth": 3}))
    save_checkpoint(folder.best_model, network, card)
    page = curves_page(folder)
    assert page.count("rgb(1, 2, 3)") >= 2  # line and legend
    assert "rgb(200, 100, 50)" in page


def test_the_newest_run_is_compared_with_its_predecessor() -> None:
    assert chosen_pair(["a"], None, None, None) == (None, "a")
    assert chosen_pair(["b", "a"], None, "a", [None, "a"]) == ("a", "b")
    assert chosen_pair(["c", "b", "a"], "a", "b", ["a", "b"]) == ("b", "c")  # nobody chose: the newest moves in
    assert chosen_pair(["c", "b", "a"], "a", "c", ["a", "b"]) == ("a", "c")  # somebody chose
    assert chosen_pair(["c", "a"], "b", "c", ["a", "b"]) == ("a", "c")  # what was chosen is gone
    assert chosen_pair([], "a", "b", ["a", "b"]) == (None, None)


@pytest.mark.wrong_types
def test_largest_losses_are_losses() -> None:
    difference: Any = SimpleNamespace(value=0.1, low=0.05, high=0.15, better=0.9)
    images = [("up", 0.4), ("better", 0.2), ("same", 0.0), ("worse", -0.3)]
    pair: Comparison = SimpleNamespace(differences={"mean_iou": difference}, images=images, level=0.95)  # type: ignore[assignment]
    page = comparison_page(pair, "one", "two")
    assert "largest gains: up +40.0, better +20.0" in page
    assert "largest losses: worse -30.0" in page
    pair.images[:] = images[:2]
    assert "largest losses: none" in comparison_page(pair, "one", "two")
