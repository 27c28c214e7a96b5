"""Draws the pictures of README and of the first hours with the models that come along.

    python tools/readme_pictures.py scenes
    python tools/readme_pictures.py aerial DIR      # the Dubai set: images and labels of its split val
    python tools/readme_pictures.py failures DUBAI COAST

Written into docs/pictures. Colours are those of models/facts, so that they agree with the cards.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from pathlib import Path

import numpy as np
import yaml
from model_pictures import coloured, legend_entries, save_jpeg, side_by_side
from PIL import Image

from pspnet import Segmenter
from pspnet.data.catalog import open_dataset
from pspnet.data.scenes import Scenes, Waterside
from pspnet.explorer import explore
from pspnet.explorer.page import Picture, views_of
from pspnet.labels import LabelSpace

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
AERIAL, SCENE = "tile4_part007", 29  # the parts of the sets that are shown
FAILURES = (  # the explorer's kind, labelled as, taken for
    ("mismatched", "water", "land"),
    ("confusable", "vegetation", "water"),
    ("inconspicuous", "road", "land"),
)


def aerial(data: Path) -> Path:
    """A satellite image that the model was not trained on, what it says, and what a person drew."""
    segmenter = Segmenter.load("aerial-dubai", device="cpu", precision="fp32")
    space = _natural(segmenter.card.label_space, "aerial-dubai")
    dataset = open_dataset("folder", data, "val")
    sample = next(s for s in (dataset[i] for i in range(len(dataset))) if s.name.endswith(AERIAL))
    predicted = segmenter.segment(sample.image, confidence=False).labels
    assert sample.labels is not None
    panels = [
        ("satellite image, not trained on", sample.image),
        ("what aerial-dubai says", coloured(predicted, space)),
        ("what a person drew", coloured(sample.labels, space)),
    ]
    print(f"{sample.name}: {(predicted == sample.labels)[sample.labels != 255].mean():.1%} of the pixels as labelled")
    path = PICTURES / "aerial.jpg"
    save_jpeg(side_by_side(panels, legend_entries(space, [predicted, sample.labels]), 330), path, quality=82)
    return path


def failures(dubai: Path, coast: Path) -> Path:
    """A real error of each of the paper's three kinds, as the explorer sorts them: photograph, a person's labels, the model's."""
    rows = []
    for model, data, errors in (("coast", coast, FAILURES[:1]), ("aerial-dubai", dubai, FAILURES[1:])):
        segmenter = Segmenter.load(model, device="cpu", precision="fp32")
        space = _natural(segmenter.card.label_space, model)
        dataset = open_dataset("folder", data, "val")
        with tempfile.TemporaryDirectory() as folder:
            report = explore(segmenter, dataset, Path(folder) / "page.html")
        for kind, true, wrong in errors:
            same = [
                e
                for e in report.kind(kind).examples
                if (space.names[e.label], space.names[e.predicted]) == (true, wrong)
            ]
            sample = dataset[same[0].index]
            assert sample.labels is not None
            predicted = segmenter.segment(sample.image, confidence=False).labels
            views = views_of(Picture(sample.image, sample.labels, predicted), same[0].box, space)
            print(f"{kind}: {true} taken for {wrong} in {sample.name}; {same[0].note}", flush=True)
            panels = zip((kind, f"a person: {true}", f"{model}: {wrong}"), views, strict=True)
            rows.append(side_by_side(list(panels), legend_entries(space, [sample.labels, predicted]), 286))
    for folder in (PICTURES, ROOT / "src" / "pspnet" / "demo"):  # the demo's page shows it from a wheel, too
        save_jpeg(np.vstack(rows), folder / "failures.jpg", quality=80)
    return PICTURES / "failures.jpg"


def scenes() -> Path:
    """A generated scene as drawn, and with the near corners exchanged: the hulls' classes follow what they stand on."""
    segmenter = Segmenter.load("scenes", device="cpu", precision="fp32")
    drawn = Scenes(SCENE + 1, seed=0, size=128, split="val")
    facts = drawn.facts(SCENE)
    assert isinstance(facts, Waterside)
    other = dataclasses.replace(facts, left=facts.right, right=facts.left)
    space, panels, maps = drawn.label_space, [], []
    for title, sample in (
        ("road left, water right", drawn.draw(SCENE)),
        ("near corners exchanged", drawn.draw(SCENE, other)),
    ):
        predicted = segmenter.segment(sample.image, confidence=False).labels
        assert sample.labels is not None
        print(f"{title}: {(predicted == sample.labels).mean():.1%} of the pixels right")
        panels += [(title, sample.image), ("labels", coloured(sample.labels, space))]
        panels += [("PSPNet", coloured(predicted, space))]
        maps += [sample.labels, predicted]
    Image.fromarray(drawn.draw(SCENE).image).save(PICTURES / "scene.png", optimize=True)
    path = PICTURES / "scenes.png"
    picture = Image.fromarray(side_by_side(panels, legend_entries(space, maps), 220))
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    return path


def _natural(space: LabelSpace, model: str) -> LabelSpace:
    """The classes with the colours that the model's facts name."""
    colours = yaml.safe_load((ROOT / "models" / "facts" / f"{model}.yaml").read_text(encoding="utf-8"))["colours"]
    return dataclasses.replace(space, colours=tuple(tuple(colours[name]) for name in space.names))


if __name__ == "__main__":
    draw = {"scenes": scenes, "aerial": aerial, "failures": failures}[sys.argv[1]]
    written = draw(*map(Path, sys.argv[2:]))
    print(f"{written}: {written.stat().st_size / 1024:.0f} KiB")
