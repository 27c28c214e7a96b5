"""Charts, legends and sheets of pictures, as far as they can be told without a browser."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pspnet import LabelSpace
from pspnet.metrics import Scores
from pspnet.playground import charts, try_tab
from pspnet.playground.run_views import picture_page
from pspnet.predict.segmentation import Segmentation
from pspnet.training.pictures import MIN_WIDTH_PX, PictureExample, draw, shrink
from pspnet.training.run_folder import RunFolder

COLOURS = {"sky": (1, 2, 3), "road": (200, 100, 50)}


@pytest.mark.parametrize(
    ("top", "marks"),
    [
        (0.73, [0, 0.2, 0.4, 0.6, 0.8]),
        (300, [0, 100, 200, 300]),
        (4321, [0, 1000, 2000, 3000, 4000, 5000]),
        (0.0017, [0, 0.0005, 0.001, 0.0015, 0.002]),
        (7, [0, 2, 4, 6, 8]),
        (1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (float("inf"), [0, 0.25, 0.5, 0.75, 1]),
        (0, [0, 0.25, 0.5, 0.75, 1]),
        (5e-324, [0, 0.25, 0.5, 0.75, 1]),
        (1e308, [0, 0.25, 0.5, 0.75, 1]),
    ],
)
def test_axes_have_round_marks(top: float, marks: list[float]) -> None:
    assert charts.round_ticks(top) == marks


def test_steps_are_marked_with_whole_numbers() -> None:
    chart = charts.line_chart("Loss", [charts.Line("training", [(1, 3.0), (2, 2.5)])])
    assert [mark in chart for mark in (">0.5<", ">1<", ">1.5<", ">step 2<")] == [False, True, False, True]


def test_words_in_a_confusion_matrix_can_be_read_in_both_looks() -> None:
    """At least 4.5 : 1 (WCAG 2.2) on the darkest cell, in the page's colours of words on its panels."""
    cell = charts.heat_table(Scores(np.array([[5, 0], [0, 5]]), names=("sky", "road")), COLOURS)
    opacity = max(float(text) for text in re.findall(r"rgb\(13 148 136 / ([\d.]+)\)", cell))
    for words, panel in (((31, 41, 55), (255, 255, 255)), ((243, 244, 246), (15, 23, 42))):
        mixed = [opacity * top + (1 - opacity) * below for top, below in zip((13, 148, 136), panel, strict=True)]
        low, high = sorted((luminance(words), luminance(mixed)))
        assert (high + 0.05) / (low + 0.05) > 4.5


def luminance(colour: Iterable[float]) -> float:
    parts = [v / 255 / 12.92 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def test_a_legend_names_classes_and_what_it_leaves_out() -> None:
    page = charts.colour_legend([*COLOURS.items(), ("<b>", (0, 0, 0))])
    assert page.count("swatch") == 3
    assert "rgb(200, 100, 50)" in page
    assert "&lt;b&gt;" in page
    assert "and 110 more" in charts.colour_legend([(str(k), (k, k, k)) for k in range(150)])


def test_a_confusion_matrix_has_the_datas_colours() -> None:
    scores = Scores(np.array([[3, 1], [0, 2]]), names=("sky", "road"))
    assert charts.heat_table(scores, COLOURS).count("rgb(1, 2, 3)") == 2  # row and column
    assert "swatch" not in charts.heat_table(scores, {})


def test_a_sheet_of_pictures_has_headings_and_a_legend(tmp_path: Path) -> None:
    """Images of 32 px are enlarged, so that the four headings do not run into one another, in the file and on the page."""
    space = LabelSpace(("sky", "road"), ((1, 2, 3), (200, 100, 50)))
    labels = np.zeros((32, 32), np.uint8)
    example = shrink(PictureExample("a", np.zeros((3, 32, 32), np.uint8), labels, labels))
    assert example.image.shape == (MIN_WIDTH_PX, MIN_WIDTH_PX, 3)
    sheet = draw([example], space)
    header = sheet[: sheet.shape[0] - MIN_WIDTH_PX - 6].min(axis=(0, 2)) < 128  # columns in which something is written
    column = sheet.shape[1] // 4
    for number in range(4):
        assert header[number * column : (number + 1) * column - 20].any()
        assert not header[(number + 1) * column - 20 : (number + 1) * column].any()
    run = RunFolder(tmp_path)
    run.pictures.mkdir()
    cv2.imwrite(str(run.pictures / "step_00000010.png"), sheet)
    assert "not counted" in picture_page(run)
    assert "after step 10" in picture_page(run)


def test_downloads_of_models_of_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run may be called as a model is that comes along, and a photograph's name may be as long as one can be."""
    monkeypatch.setattr(try_tab, "upload_folder", lambda: tmp_path)
    image = np.zeros((16, 16, 3), np.uint8)
    result = Segmentation(np.zeros((16, 16), np.uint8), LabelSpace(("sky", "road")), None, image)
    for stem in ("a", "ä" * 120):
        files = try_tab.downloads([("run: scenes", result), ("scenes", result)], stem)
        assert len({Path(file).name for file in files}) == 4
        assert all(Path(file).is_file() for file in files)
