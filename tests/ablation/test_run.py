"""The paper's grid: rows are the right recipes, runs are made once and gone on with, tables say what was found."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from pspnet.ablation import ablate, run
from pspnet.ablation.grid import paper_content, tables_of
from pspnet.ablation.runs import cells_of
from pspnet.ablation.scores import mean_and_half_width
from pspnet.config import TrainConfig
from pspnet.config.ablation import AblationConfig
from pspnet.data.scenes import SCENE_CLASSES, Scenes
from pspnet.errors import ConfigError, OutputError, RunInterrupted, TrainingError
from pspnet.images import image_size
from pspnet.labels import LabelSpace
from pspnet.nn import PSPNet
from pspnet.weights.checkpoint import card_for, save_checkpoint

RECIPE = TrainConfig.model_validate(
    {
        "model": {"encoder": "resnet18", "encoder_options": {"depth": 3}, "decoder_channels": 16},
        "steps": 2,
        "batch_size": 2,
        "augmentation": {"crop": 33},
        "pictures": 0,
        "workers": 0,
        "precision": "fp32",
        "device": "cpu",
    }
)


def config(out: Path, **changes: object) -> AblationConfig:
    return AblationConfig.model_validate(
        {"recipe": RECIPE.model_dump(exclude_unset=True), "out": out, "encoders": ("resnet18",)} | changes
    )


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """Replaces training by a random network in a run's folder: what is tested here is the grid, not learning."""
    configs: list[TrainConfig] = []

    def train(recipe: TrainConfig, **_: object) -> Path:
        configs.append(recipe)
        assert recipe.run_dir is not None
        torch.manual_seed(recipe.seed)
        model = PSPNet(recipe.model.changed(num_classes=SCENE_CLASSES.num_classes))
        (recipe.run_dir / "config.yaml").parent.mkdir(parents=True)
        (recipe.run_dir / "config.yaml").write_text(recipe.to_yaml())
        return save_checkpoint(recipe.run_dir / "best.safetensors", model, card_for(model, SCENE_CLASSES))

    def resume(folder: Path, **_: object) -> Path:
        return folder / "best.safetensors"

    monkeypatch.setattr(run, "train", train)
    monkeypatch.setattr(run, "resume", resume)
    return configs


DATA = {"train_data": Scenes(2, size=33), "val_data": Scenes(3, size=33, split="val")}


def test_rows_change_what_the_paper_changes(tmp_path: Path) -> None:
    tables = {table.name: table for table in tables_of(config(tmp_path, encoders=("resnet18", "resnet34")))}
    best = tables["T1"].row("B1236+AVE+DR").recipe
    assert best is not None
    assert (best.model.bins, best.model.pool, best.model.reduce, best.steps) == ((1, 2, 3, 6), "avg", True, 2)
    assert len(tables["T1"].rows) == 7
    plain = tables["T1"].row("B1+MAX").recipe
    assert plain is not None
    assert (plain.model.bins, plain.model.pool, plain.model.reduce) == ((1,), "max", False)
    without = tables["T2"].row("without").recipe
    assert without is not None
    assert without.model.auxiliary == "none"
    assert [row.name for row in tables["T3"].rows][2:] == ["PSPNet (resnet34)", "PSPNet (resnet34) + MS"]
    assert tables["T3"].rows[0].paper is None  # the paper has no ResNet-18
    first = tables["T4"].row("baseline").recipe
    assert first is not None
    assert not any((first.augmentation.scale, first.augmentation.rotate, first.augmentation.mirror))
    deep = tables["T4"].row("deeper +DA+AL+PSP+MS")
    assert deep.multi_scale
    assert deep.recipe is not None
    assert deep.recipe.model.encoder == "resnet34"
    assert tables["T4"].row("FCN (published)").recipe is None
    usual = tables_of(AblationConfig(tables=("T3",)))[0]
    assert usual.rows[1].paper == (42.78, 80.76)


def test_the_auxiliary_rows_have_the_head_where_the_recipe_has_none(tmp_path: Path) -> None:
    bare = RECIPE.model_dump(exclude_unset=True)
    bare["model"] = bare["model"] | {"auxiliary": "none"}
    tables = {table.name: table for table in tables_of(config(tmp_path, recipe=bare))}
    heads = {row.name: row.recipe.model.auxiliary for row in tables["T2"].rows if row.recipe is not None}
    assert heads == {"without": "none"} | {f"weight {w}": "pixel" for w in (0.3, 0.4, 0.6, 0.9)}
    steps = [row.recipe.model.auxiliary for row in tables["T4"].rows if row.recipe is not None]
    assert steps == ["none", "none", "pixel", "pixel", "pixel", "pixel"]


def test_equal_recipes_are_trained_once(tmp_path: Path) -> None:
    everything = config(tmp_path, seeds=2)
    cells = cells_of(everything, tables_of(everything))
    assert len({cell.folder for cell in cells}) == len(cells)
    shared = next(cell for cell in cells if "T1 baseline" in cell.rows)
    assert set(shared.rows) == {"T1 baseline", "T2 weight 0.4", "T4 +DA+AL"}
    # T1: 7, T2: 5 (one shared), T3: 1 (shared with T1), T4: one new (no augmentation); the deeper one is T3's
    assert len(cells) == 2 * (7 + 4 + 0 + 1)
    assert [cell.recipe.seed for cell in cells] == [0] * 12 + [1] * 12


def test_tables_of_others_are_left(tmp_path: Path, untrained: list[TrainConfig]) -> None:
    one = config(tmp_path, tables=("T1",), seeds=1, pictures=0)
    one.out.mkdir(parents=True, exist_ok=True)
    (one.out / "tables.md").write_text("mine")
    with pytest.raises(OutputError, match=r"tables.md' exists"):
        ablate(one, **DATA, say=print, quiet=True)
    with pytest.raises(OutputError, match="is an input"):
        ablate(one, **DATA, say=print, quiet=True, inputs=[one.out / "tables.md"], overwrite=True)
    assert not untrained
    assert (one.out / "tables.md").read_text() == "mine"


def test_the_grid_is_run_gone_on_with_and_written(tmp_path: Path, untrained: list[TrainConfig]) -> None:
    said: list[str] = []
    one = config(tmp_path, tables=("T1",), seeds=1, pictures=2)
    ablate(one, **DATA, say=said.append, quiet=True)
    assert len(untrained) == len(said) == 7
    two = config(tmp_path, tables=("T1",), seeds=2, pictures=2)
    path = ablate(two, **DATA, say=said.append, quiet=True)
    assert len(untrained) == 14  # the first seed was there already
    text = path.read_text()
    for word in ("| B1236+AVE+DR |", "| 41.68 | 80.04 |", "in 1 of 2 seeds", "Per class"):
        assert word in text or word.replace("1 of", "2 of") in text or word.replace("1 of", "0 of") in text, word
    content = json.loads((tmp_path / "tables.json").read_text())
    row = content["tables"]["T1"]["rows"][-1]
    values = list(row["mean_iou_by_seed"].values())
    assert row["mean_iou"][0] == pytest.approx(np.mean(values))
    base = content["tables"]["T1"]["rows"][0]["mean_iou_by_seed"]
    assert row["gain"][0] == pytest.approx(np.mean([row["mean_iou_by_seed"][s] - base[s] for s in base]))
    assert (tmp_path / "pictures.png").stat().st_size > 2000
    ablate(two, **DATA, say=said.append, quiet=True)
    assert len(said) == 14


@pytest.mark.slow
def test_tables_5_and_6_have_ours_where_the_data_is_theirs(tmp_path: Path, untrained: list[TrainConfig]) -> None:
    recipe = RECIPE.model_dump(exclude_unset=True)
    texts = {}
    for name in ("voc", "cityscapes", "camvid"):
        data = {"format": name, "root": tmp_path}
        changes = {"recipe": recipe | {"data": data}, "tables": ("T1",), "seeds": 1, "pictures": 0, "instances": False}
        texts[name] = ablate(config(tmp_path / name, **changes), **DATA, say=lambda _: None).read_text()
    for text in texts.values():
        assert "| DeconvNet | 89.9 | 39.3 |" in text
        assert "| PSPNet + | 80.2 | 58.1 | 90.6 | 78.2 |" in text
    # of VOC's classes the scenes have boat and car
    assert re.search(r"\| ours \(val\) \|  \|  \|  \| \d+\.\d \|  \|  \| \d+\.\d \|( .*\|)* \d+\.\d \|\n", texts["voc"])
    assert "Ours: none, since the data is voc, not cityscapes" in texts["voc"]
    assert texts["cityscapes"].count("| ours (val) |") == 1
    assert texts["camvid"].count("Ours: none") == 2


def test_table_5_has_the_classes_of_voc() -> None:
    table = paper_content()["T5"]
    assert tuple(table["classes"]) == LabelSpace.named("voc").names[1:]
    assert len(table["methods"]) == 18
    for method, (*iou, mean) in table["methods"].items():
        assert len(iou) == 20
        # the mean is over background, too, which the paper does not list; a wrong digit would show in it
        assert 90 < 21 * mean - sum(iou) < 97, method
    background = {"FCN": 91.2, "PSPNet": 95.3, "PSPNet +": 96.2}
    rows = {method: table["methods"][method] for method in background}
    assert background == {method: pytest.approx(21 * row[-1] - sum(row[:-1])) for method, row in rows.items()}


def test_the_depth_curve_is_drawn(tmp_path: Path, untrained: list[TrainConfig]) -> None:
    ablate(config(tmp_path, tables=("T3",), seeds=2, pictures=1), **DATA, say=lambda _: None)
    assert image_size(tmp_path / "depth.png")[1] > 500


def test_a_run_that_was_scored_only_once_gets_its_other_score(tmp_path: Path, untrained: list[TrainConfig]) -> None:
    ablate(config(tmp_path, tables=("T1",), seeds=1, pictures=0), **DATA, say=lambda _: None)
    said: list[str] = []
    path = ablate(config(tmp_path, tables=("T3",), seeds=1, pictures=0), **DATA, say=said.append)
    assert "| PSPNet (resnet18) + MS |" in path.read_text()
    assert len(untrained) == 7  # T3's network is T1's last one: only its multi-scale score was missing
    assert len(said) == 1
    damaged = next((tmp_path / "runs").iterdir()) / "result.json"
    damaged.write_text("{")
    with pytest.raises(TrainingError, match="delete it"):
        ablate(config(tmp_path, tables=("T1",), seeds=1, pictures=0), **DATA, say=said.append)


def test_a_stopped_grid_says_how_to_go_on(
    tmp_path: Path, untrained: list[TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = run.train

    def stopped_in_the_second(recipe: TrainConfig, **options: object) -> Path:
        if len(untrained) == 1:
            raise RunInterrupted("stopped by SIGTERM after step 1", 15)
        return usual(recipe, **options)

    monkeypatch.setattr(run, "train", stopped_in_the_second)
    with pytest.raises(RunInterrupted, match=r"in run 2 of 5; .* the same command again") as stop:
        ablate(config(tmp_path, tables=("T2",), seeds=1, pictures=0), **DATA, say=lambda _: None, quiet=True)
    assert stop.value.exit_code == 143
    monkeypatch.setattr(run, "train", usual)
    said: list[str] = []
    ablate(config(tmp_path, tables=("T2",), seeds=1, pictures=0), **DATA, say=said.append, quiet=True)
    assert len(said) == 4  # the first run was there


def test_intervals_are_students() -> None:
    assert mean_and_half_width([]) == (None, None)
    assert mean_and_half_width([3.0]) == (3.0, None)
    mean, half = mean_and_half_width([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (mean, half) == (3.0, pytest.approx(2.776 * np.sqrt(2.5) / np.sqrt(5)))


def test_what_cannot_be_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="validation split"):
        ablate(config(tmp_path), train_data=Scenes(2, size=33))
    with pytest.raises(ConfigError, match="semseg-ms"):
        config(tmp_path, protocol="semseg")


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:.*no pixel of the class", "ignore:.*which no training image"
)  # two images of 13 classes
def test_the_grid_with_real_training(tmp_path: Path) -> None:
    path = ablate(config(tmp_path, tables=("T2",), seeds=1, pictures=0), **DATA, say=lambda _: None, quiet=True)
    assert "| weight 0.4 |" in path.read_text()
    assert len(list((tmp_path / "runs").glob("*/result.json"))) == 5
