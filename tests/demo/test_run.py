"""The demo, made tiny: it trains, scores, and leaves a page that needs nothing but itself."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pspnet.config import TrainConfig
from pspnet.data.scenes import SCENE_CLASSES, Bedroom, Waterside
from pspnet.demo import gallery, run_demo
from pspnet.demo.outcomes import CONTENDERS, DemoPlan, DemoReport
from pspnet.demo.page import _apart
from pspnet.demo.run import training_config
from pspnet.errors import OutputError
from pspnet.training.resolve import open_data
from pspnet.weights.checkpoint import load_checkpoint
from support.paths import ROOT

TINY: dict[str, Any] = {"seed": 1, "steps": 3, "size_px": 64, "train_scenes": 8, "test_scenes": 12, "quiet": True}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> DemoReport:
    return run_demo(tmp_path_factory.mktemp("demo"), **TINY)


class Page(HTMLParser):
    """Checks that tags close in order, and collects what the page refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.links += [v for k, v in attrs if k in ("src", "href") and v]
        if tag == "img":
            self.images.append(values)
        if tag not in ("meta", "img", "line", "circle", "polyline", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if tag in ("p", "li") and self.open[-1] != tag:
            return
        assert self.open.pop() == tag


def test_three_networks_differ_in_their_bins_alone() -> None:
    configs = [training_config(DemoPlan(), contender, None) for contender in CONTENDERS]
    assert [config.model.bins for config in configs] == [(), (1,), (1, 2, 3, 6)]
    same = {config.changed(name="", model=config.model.changed(bins=())).to_yaml() for config in configs}
    assert len(same) == 1


def test_the_page_is_whole_and_needs_nothing_else(report: DemoReport) -> None:
    text = report.page.read_text(encoding="utf-8")
    page = Page(text)
    assert all(link.startswith("data:image/") for link in page.links), page.links
    assert "http" not in re.sub(r"data:image/[^\"]+", "", text)
    assert not re.search(r"\$[a-z_]+", re.sub(r"<style>.*?</style>", "", text, flags=re.S)), "a field was not filled"
    assert len(page.images) == 3 * 2 * 6 + 2 * 4 + 6 + 1  # and the real ones
    assert all(image.get("alt") for image in page.images)
    assert len(text) < 600_000


def test_the_page_shows_the_scores_that_were_measured(report: DemoReport) -> None:
    text = report.page.read_text(encoding="utf-8")
    content = json.loads((report.page.parent / "scores.json").read_text(encoding="utf-8"))
    for outcome in report.outcomes:
        hits = outcome.predictions == report.labels
        actual = content["networks"][outcome.contender.key]
        assert actual["pixel_accuracy"] == pytest.approx(hits.mean())
        ious = []
        for number in range(SCENE_CLASSES.num_classes):
            truth, said = report.labels == number, outcome.predictions == number
            if (truth | said).any():
                ious.append((truth & said).sum() / (truth | said).sum())
        assert actual["mean_iou"] == pytest.approx(np.mean(ious))
        assert f"{100 * actual['mean_iou']:.1f} <small>% mIoU" in text


def test_the_kept_model_predicts_what_the_page_shows(report: DemoReport) -> None:
    path = report.page.parent / "pspnet.safetensors"
    assert path.stat().st_size < 2.5 * 2**20
    model, card = load_checkpoint(path)
    assert card.label_space.names == SCENE_CLASSES.names
    with torch.inference_mode():
        said = model(torch.from_numpy(report.images[:4]).permute(0, 3, 1, 2).float()).argmax(1).numpy()
    assert (said == report.pspnet.predictions[:4]).mean() > 0.99  # weights were stored as float16


def test_a_second_demo_replaces_the_first_and_repeats_it(report: DemoReport) -> None:
    again = run_demo(report.page.parent, **TINY)
    for one, two in zip(report.outcomes, again.outcomes, strict=True):
        assert np.array_equal(one.predictions, two.predictions)
    assert sorted(p.name for p in (report.page.parent / "runs").iterdir()) == sorted(c.key for c in CONTENDERS)


def test_a_demo_takes_no_folder_of_others(tmp_path: Path) -> None:
    run = tmp_path / "runs" / CONTENDERS[-1].key / "best.safetensors"
    run.parent.mkdir(parents=True)
    run.write_bytes(b"hours of work")
    with pytest.raises(OutputError, match="not empty"):
        run_demo(tmp_path, **TINY)
    (tmp_path / "index.html").write_text("my page")
    with pytest.raises(OutputError, match=r"index.html' exists"):
        run_demo(tmp_path, **TINY)
    assert run.read_bytes() == b"hours of work"
    assert not (tmp_path / "scores.json").exists()


def test_marks_lie_where_the_pyramid_changed_something(report: DemoReport) -> None:
    gained, gone = gallery.rescued(report), gallery.lost(report)
    assert not (gained & gone).any()
    fcn, pspnet = (o.predictions == report.labels for o in (report.fcn, report.pspnet))
    assert int(gained.sum()) - int(gone.sum()) == int(pspnet.sum()) - int(fcn.sum())
    image = np.full((4, 4, 3), 100, np.uint8)
    where = np.zeros((4, 4), bool)
    where[1, 2] = True
    marked = gallery.marked(image, where, ~where & False)
    assert marked[1, 2, 1] > marked[1, 2, 0] + 60
    assert len(np.unique(marked[~where].reshape(-1, 3), axis=0)) == 1


def test_opposite_facts_are_opposite_twice() -> None:
    for facts in (Bedroom(True, False), Waterside("water", "road", True, "left")):
        assert gallery.opposite(facts) != facts
        assert gallery.opposite(gallery.opposite(facts)) == facts


def test_names_beside_the_curves_do_not_overlap() -> None:
    placed = _apart([100.0, 101.0, 99.0])
    assert min(abs(a - b) for i, a in enumerate(placed) for b in placed[:i]) >= 14.0


def test_the_recipe_is_the_demos_pspnet_trained_longer() -> None:
    recipe = TrainConfig.from_yaml(ROOT / "recipes" / "scenes_resnet18_bilinear.yaml")
    demo = training_config(DemoPlan(), CONTENDERS[-1], None)
    assert recipe.model == demo.model
    assert recipe.augmentation == demo.augmentation
    assert recipe.optimizer == demo.optimizer
    assert (recipe.batch_size, recipe.data.options["size"]) == (demo.batch_size, DemoPlan().size_px)
    sets = open_data(recipe.data, check=False)
    assert (len(sets.train), len(sets.val or ())) == (2000, 160)
