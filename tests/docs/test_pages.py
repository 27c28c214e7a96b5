"""Every block of Python and every command that README and the guides show runs, here or in the test named below.

What cannot run (installing, other programs, several machines) is marked `text`. Data sets are small fakes, networks tiny.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from PIL import Image

from pspnet.config import ModelConfig
from pspnet.labels import LabelSpace
from pspnet.nn import PSPNet
from pspnet.predict.segmenter import Segmenter
from pspnet.weights.checkpoint import ModelCard
from support import fakes
from support.guides import GuideRunner, blocks
from support.paths import ROOT
from support.peers import recording, save, state_of

PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "docs" / "first-hours").glob("*.md"),
    ]
)
LANGUAGES = {"python", "sh", "yaml", "text"}
ELSEWHERE = {  # page -> the test that runs its blocks
    "README.md": "test_readme",
    "docs/segmenting.md": "test_readme",
    "docs/integrations.md": "test_integrations_page",
    "docs/rasters.md": "test_raster_guide",
    "docs/serving.md": "test_serving_guide",
    **{f"docs/first-hours/{name}.md": "test_first_hours" for name in ("analyst", "engineer", "researcher", "student")},
}
TINY = ["steps=2", "val_every=2", "batch_size=2", "workers=0", "pictures=0", "precision=fp32", "device=cpu"]
TINY += ["model.encoder=resnet18", "model.encoder_weights=random", "model.decoder_channels=8", "augmentation.crop=33"]
PUBLISHED = [*TINY[2:], "epochs=1", "val_every=1"]
SMALL = {"encoder": "resnet18", "encoder_options": {"depth": 3}, "bins": (1, 2), "decoder_channels": 8}


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def test_every_block_says_what_it_is_and_is_run() -> None:
    for page in PAGES:
        if page.name == "ARCHITECTURE.md":  # drawings and lists that test_structure.py reads
            continue
        languages = {language for language, _ in blocks(page)}
        assert languages <= LANGUAGES, (name_of(page), languages)
        if languages & {"python", "sh"}:
            assert name_of(page) in {*ELSEWHERE, *(f"docs/{name}.md" for name in STEPS)}, name_of(page)
    for test in set(ELSEWHERE.values()):
        assert (ROOT / "tests" / "docs" / f"{test}.py").is_file()


def tiny_model(path: Path, space: LabelSpace) -> None:
    torch.manual_seed(0)
    model = PSPNet(ModelConfig.model_validate({**SMALL, "num_classes": space.num_classes, "auxiliary": "none"}))
    torch.nn.init.normal_(model.classifier.weight)
    Segmenter(model, ModelCard(space), device="cpu", precision="fp32").save(path)


def peer(path: Path, source: str) -> None:
    """A recorded network of another project in that project's wrapper."""
    state = state_of(recording(source)[0], idle=r"encoder\.layer[34]" if source == "smp" else "^$")
    wrapped = {"epoch": 100, "state_dict": {f"module.{n}": v for n, v in state.items()}}
    save(path, {"semseg": wrapped, "mmseg": {"meta": {}, "state_dict": state}, "smp": state}[source])


def photograph(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(path)


def checkpoints(folder: Path) -> GuideRunner:
    peer(folder / "train_epoch_100.pth", "semseg")
    peer(folder / "pspnet_769.pth", "mmseg")
    peer(folder / "mine.pth", "smp")
    photograph(folder / "street.jpg")
    # the recordings have other classes than the pages' files, and weights that were never trained
    return GuideRunner(
        {"pspnet import mine.pth": ["--no-check"]},
        {"--classes ade20k": "--no-check", "--classes cityscapes": "--no-check"},
    )


def choosing(folder: Path) -> GuideRunner:
    return GuideRunner()


def protocols(folder: Path) -> GuideRunner:
    for name, write in (
        ("ade20k", fakes.write_ade20k),
        ("cityscapes", fakes.write_cityscapes),
        ("voc", fakes.write_voc),
    ):
        counts = {"train": 1, "val": 2} | ({"test": 1} if name == "cityscapes" else {})
        tiny_model(folder / f"{name}.safetensors", write(folder / name, counts))
    for name in ("old", "new"):
        tiny_model(folder / f"{name}.safetensors", LabelSpace.named("voc"))
    GuideRunner().run("sh", "pspnet evaluate old.safetensors --data voc --format voc --out old")
    return GuideRunner(
        replaced={
            "MODEL --data DIR --format ade20k": "ade20k.safetensors --data ade20k --format ade20k",
            "MODEL --data DIR --format cityscapes": "cityscapes.safetensors --data cityscapes --format cityscapes",
            "--data DIR --format voc": "--data voc --format voc",
        }
    )


def results(folder: Path) -> GuideRunner:
    peer(folder / "train_epoch_100.pth", "semseg")
    fakes.write_ade20k(folder / "ADE20K", {"train": 2, "val": 1})
    tiny_model(folder / "tiny.safetensors", LabelSpace.named("ade20k"))
    return GuideRunner(
        {"pspnet train": PUBLISHED, "pspnet import": ["--no-check"]},
        {"pspnet evaluate ade50.safetensors": "pspnet evaluate tiny.safetensors"},
    )


def scale(folder: Path) -> GuideRunner:
    line = "python benchmarks/scale.py --tflops YOURS --loader 101 --loader-cityscapes 11"
    assert (ROOT / "benchmarks" / "scale.py").is_file()
    return GuideRunner(stand_ins={line: lambda: None})  # a minute of counting; its table is the page's


def speed(folder: Path) -> GuideRunner:
    space = fakes.write_camvid(folder / "data" / "camvid")
    tiny_model(folder / "model.safetensors", space)
    for number in range(4):
        photograph(folder / "photos" / f"{number}.jpg", number)
    return GuideRunner(
        {},
        {
            "--engine auto": "--engine onnxruntime",
            "--max-drop 0.005": "--max-drop 0.9",
            "resnet50 --size 480 --size 1024x2048": "resnet18 --size 64",
        },
    )


def training(folder: Path) -> GuideRunner:
    fakes.write_camvid(folder / "data" / "camvid")
    fakes.write_ade20k(folder / "data" / "ade20k", {"train": 2, "val": 1})
    fakes.write_folder(folder / "my" / "data")
    runner = GuideRunner(
        {"pspnet train recipes/published": PUBLISHED, "pspnet train recipes": TINY},
        {
            'encoder="resnet18", output_stride=16': 'encoder="resnet18", encoder_options={"depth": 3}, decoder_channels=8, output_stride=8',
            "epochs=40,": "steps=2, workers=0, pictures=0, precision='fp32', augmentation={'crop': 33},",
            "batch_size=8": "batch_size=2",
            "RUN/best.safetensors": "runs/ade20k_resnet50_semseg/best.safetensors",
        },
    )
    return runner


STEPS: Mapping[str, Callable[[Path], GuideRunner]] = {
    one.__name__: one for one in (checkpoints, choosing, protocols, results, scale, speed, training)
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("page", STEPS)
def test_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "mlflow", MagicMock())
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    runner = STEPS[page](tmp_path)
    for language, code in blocks(ROOT / "docs" / f"{page}.md", "python", "sh"):
        runner.run(language, code)
    assert runner.unused == set()
