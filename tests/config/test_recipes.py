"""Every recipe that comes along loads, builds its network and learns for three steps on a data set of its layout."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from pspnet import train
from pspnet.ablation.grid import key_of
from pspnet.config import ModelConfig, TrainConfig, find_protocol, read_recipe
from pspnet.config.base import read_yaml
from pspnet.config.model import last_channels
from pspnet.data.transforms import Augmentation
from pspnet.errors import ConfigError
from pspnet.losses import build_loss
from pspnet.nn import PSPNet
from pspnet.training.batches import BatchPlan, TrainingSamples, training_loader
from pspnet.training.initial_weights import first_model
from pspnet.training.optimizer import build_optimizer, rate_factor
from pspnet.training.resolve import open_data, resolve
from pspnet.training.step import to_tensors, total_loss
from support import fakes, towns
from support.paths import ROOT

FOLDER = ROOT / "recipes"
RECIPES = sorted(FOLDER.glob("**/*.yaml"))
PUBLISHED = sorted((FOLDER / "published").glob("*.yaml"))
WRITERS: dict[str, Callable[[Path], Any]] = {
    "camvid": fakes.write_camvid,
    "ade20k": fakes.write_ade20k,
    "voc": partial(fakes.write_voc, aug=2),
    "cityscapes": partial(fakes.write_cityscapes, coarse=True),
    "folder": fakes.write_folder,
    "raster": towns.write_labelled,
}
CROP = {True: "augmentation.crop=[48,96]", False: "augmentation.crop=57"}  # small, oblong where the recipe's is
SMALL = [
    "batch_size=2",
    "epochs=null",
    "steps=3",
    "model.encoder_weights=random",
    "workers=0",
    "pictures=0",
    "val_every=3",
    "device=cpu",
    "precision=fp32",
]
names: dict[str, Any] = {"ids": lambda path: path.stem}
DEEP = ("resnet101", "resnet152", "resnet269")


def format_of(recipe: Path) -> str:
    return str(read_recipe(recipe)["data"]["format"])


def loaded(recipe: Path, root: Path | str = "somewhere", overrides: list[str] | None = None) -> TrainConfig:
    given = [] if format_of(recipe) == "scenes" else [f"data.root={root}"]  # nothing is read of generated scenes
    return TrainConfig.from_yaml(recipe, [*given, *(overrides or [])])


def shrunk(recipe: Path, tmp_path: Path) -> TrainConfig:
    """The recipe on a fake data set: another input size, batch and length, the same network and augmentation."""
    overrides = [*SMALL, f"run_dir={tmp_path / 'run'}"]
    crop = loaded(recipe).augmentation.crop
    if crop is not None:
        overrides.append(CROP[crop[0] != crop[1]])
    if format_of(recipe) == "scenes":
        overrides += ["data.options.count=4", "data.options.size=48", "data.val_options.count=2"]
    else:
        WRITERS[format_of(recipe)](tmp_path / "data")
    if format_of(recipe) == "folder":  # the fake one has three classes and three bands
        overrides += ["loss.class_weights=none", "data.options={}"]
    return loaded(recipe, tmp_path / "data", overrides)


@pytest.mark.parametrize("recipe", RECIPES, **names)
def test_recipe(recipe: Path) -> None:
    config = loaded(recipe)
    assert config.name == recipe.stem
    assert config.run_dir is None  # a run's place is the user's choice
    assert config.rare_classes == "off"  # their figures were measured so
    assert config.model.encoder_weights in ("random", "imagenet")
    classes = {"scenes": 13, "camvid": 11, "ade20k": 150, "voc": 21, "cityscapes": 19}.get(config.data.format, 7)
    with torch.device("meta"):  # shapes without numbers: a PSPNet-269 in a second
        model = PSPNet(config.model.changed(num_classes=classes))
        outputs = model.forward_train(torch.empty(2, 3, 97, 129))
    assert outputs.logits.shape[:2] == (2, classes)
    assert (outputs.auxiliary is None) == (config.model.auxiliary == "none")


# the fakes are too small to show every class in each split, and their splits share one raster: of both a run warns
FEW_CLASSES = "ignore:.*(no pixel of the class|which no training image|of the ground of val is trained on too)"


@pytest.mark.filterwarnings(FEW_CLASSES)
@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(path, marks=[pytest.mark.slow] if "resnet50" in path.stem else [])
        for path in RECIPES
        if not any(deep in path.stem for deep in DEEP)
    ],
    **names,
)
def test_three_steps(recipe: Path, tmp_path: Path) -> None:
    config = shrunk(recipe, tmp_path)
    data = open_data(config.data, check=True)
    config = resolve(config, data)
    assert config.steps == 3
    model = first_model(config, data.train.label_space)[0].train()
    loss = build_loss(config.loss, data.train.label_space.num_classes)
    optimizer = build_optimizer(model, config.optimizer)
    rates = [group["lr"] for group in optimizer.param_groups]
    samples = TrainingSamples(data.train, Augmentation(config.augmentation, config.model.normalisation[0]), config.seed)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for step, batch in enumerate(
        training_loader(samples, BatchPlan(len(data.train), config.batch_size, 3, config.seed), 0, 0, False)
    ):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * rate_factor(config.schedule, step, 3)
        images, labels = to_tensors(batch, False)
        total, _ = total_loss(model.forward_train(images), labels, loss, config, config.model.align_corners)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert torch.isfinite(total)
    unchanged = [
        name for (name, now), was in zip(model.named_parameters(), before, strict=True) if torch.equal(now, was)
    ]
    assert not unchanged


@pytest.mark.slow
@pytest.mark.filterwarnings(FEW_CLASSES)
@pytest.mark.parametrize("recipe", PUBLISHED, **names)
def test_a_whole_run(recipe: Path, tmp_path: Path) -> None:
    best = train(shrunk(recipe, tmp_path), quiet=True)
    assert best.is_file()


@pytest.mark.parametrize("recipe", PUBLISHED, **names)
def test_published_settings(recipe: Path) -> None:
    """What a recipe's name says is what it trains, and it names its source and a protocol of its project."""
    config = loaded(recipe)
    dataset, encoder, project = recipe.stem.split("_")[:3]
    assert config.published is not None
    assert config.data.format == dataset
    assert config.model.encoder.rstrip("sc") == encoder
    stem, whose, source = {
        "paper": ("s", "caffe", "hszhao/PSPNet|1612.01105"),
        "semseg": ("s", "semseg", "hszhao/semseg"),
        "mmseg": ("c", "mmseg", "MMSegmentation"),
    }[project]
    assert config.model.encoder.endswith(stem)
    assert any(word in config.published.source for word in source.split("|"))
    assert all(protocol.startswith(whose) for protocol in config.published.mean_iou)
    assert all(("@cityscapes" in protocol) == (dataset == "cityscapes") for protocol in config.published.mean_iou)
    windows = {find_protocol(protocol).window_px for protocol in config.published.mean_iou} - {None}
    assert windows <= {config.augmentation.crop}  # tested on windows of the size it was trained on
    assert config.optimizer.weight_decay == (5e-4 if project == "mmseg" else 1e-4)
    assert last_channels(config.model) == 2048


def test_a_base_is_one_level_and_keeps_its_own_scores(tmp_path: Path) -> None:
    (tmp_path / "first.yaml").write_text(
        "name: mine\nmodel: {encoder: resnet18, output_stride: 16}\nsteps: 5\n"
        "published: {source: somebody, mean_iou: {whole: 50}}\n"
    )
    (tmp_path / "second.yaml").write_text("base: first.yaml\nmodel: {encoder: resnet34}\n")
    config = TrainConfig.from_yaml(tmp_path / "second.yaml", ["steps=7"])
    assert config.model == ModelConfig(encoder="resnet34", output_stride=16)
    assert (config.name, config.steps, config.published) == ("second", 7, None)
    first = TrainConfig.from_yaml(tmp_path / "first.yaml")
    assert first.name == "mine"
    assert str(first.published) == "mean IoU 50.00 % (whole) on val; somebody"
    assert key_of(first) == key_of(first.changed(published=None))
    (tmp_path / "third.yaml").write_text("base: second.yaml\n")
    with pytest.raises(ConfigError, match=r"Name 'first.yaml' as the base"):
        TrainConfig.from_yaml(tmp_path / "third.yaml")
    (tmp_path / "third.yaml").write_text("base: nowhere.yaml\n")
    with pytest.raises(ConfigError, match=r"nowhere.yaml' does not exist"):
        read_recipe(tmp_path / "third.yaml")
    (tmp_path / "third.yaml").write_text("base: [first.yaml]\n")
    with pytest.raises(ConfigError, match="the path of one recipe"):
        read_recipe(tmp_path / "third.yaml")
    with pytest.raises(ConfigError, match="semseg-xs"):
        first.changed(published={"source": "me", "mean_iou": {"semseg-xs": 3}})


LAUGHS = "a0: &a0 [x, x, x, x]\n" + "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 10))


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS,
        "a: &a [" + "x," * 2000 + "]\nb: [" + "*a," * 2000 + "]\n",
        "a: " + "[" * 5000 + "]" * 5000,
        "".join(" " * k + "a:\n" for k in range(1500)),
        "a: &a [*a]\n",
        "a: &a {" + ",".join(f"k{k}: 1" for k in range(200)) + "}\nb: {<<: [" + ",".join(["*a"] * 2000) + "]}\n",
        "steps: " + "9" * 6000,
        "name: 2020-13-45\n",
        "1: 2\n",
        "? [1]\n: 2\n",
        "model: !!python/object/apply:os.system ['true']\n",
        "a: \0\n",
    ],
    ids=range(12),
)
def test_yaml_of_strangers_is_refused_in_words_and_at_once(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"r\.yaml|recipe") as caught:
        TrainConfig.from_yaml(path)
    assert len(str(caught.value)) < 2000


def test_only_true_and_false_are_booleans(tmp_path: Path) -> None:
    """`off` is a word of ours, "no" a name of theirs; a switch takes yes, no, on and off as before."""
    (tmp_path / "r.yaml").write_text(
        "names: [yes, no, On, true]\nrare_classes: off\naugmentation: {mirror: no, blur: on}"
    )
    assert read_yaml(tmp_path / "r.yaml")["names"] == ["yes", "no", "On", True]
    (tmp_path / "r.yaml").write_text("rare_classes: off\ndata: {cache: off}\naugmentation: {mirror: no, blur: on}")
    config = TrainConfig.from_yaml(tmp_path / "r.yaml")
    assert (config.rare_classes, config.data.cache) == ("off", "off")
    assert (config.augmentation.mirror, config.augmentation.blur) == (False, True)


def test_an_anchor_may_be_used_again(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("a: &sizes [1, 2]\nb: *sizes\n")
    assert read_yaml(tmp_path / "r.yaml") == {"a": [1, 2], "b": [1, 2]}
    with pytest.raises(ConfigError, match="is no file"):
        read_yaml("/dev/zero")
