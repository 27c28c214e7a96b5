"""Folders of images: names that meet, results that are no photographs, files that must not be replaced."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pspnet import LabelSpace, ModelConfig, PSPNet, Segmenter
from pspnet.data.catalog import open_dataset
from pspnet.errors import ConfigError, DataError, ImageError, OutputError
from pspnet.files import locked
from pspnet.images import image_size
from pspnet.predict.folders import FolderReport, find_images
from pspnet.predict.image_results import ImageFile, ImageOptions
from pspnet.predict.segmentation import Segmentation
from pspnet.weights.checkpoint import ModelCard
from support.folders import segment_files


@pytest.fixture(scope="module")
def seg() -> Segmenter:
    torch.manual_seed(0)
    config = ModelConfig(encoder="resnet18", num_classes=2, encoder_options={"depth": 3}, bins=(1, 2))
    return Segmenter(PSPNet(config), ModelCard(LabelSpace(("sea", "land"))), device="cpu")


def photo(path: Path, width: int = 32, height: int = 32) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = {".jfif": "JPEG", ".jpe": "JPEG"}.get(path.suffix.lower())
    Image.fromarray(np.full((height, width, 3), len(path.name), np.uint8)).save(path, ending)
    return path


def run(seg: Segmenter, files: Sequence[ImageFile], out: Path, **options: bool) -> FolderReport:
    return list(segment_files(seg, files, out, **options))[-1]


def widths(out: Path) -> dict[str, int]:
    return {path.name: image_size(path)[1] for path in sorted(out.glob("*.png"))}


def results(out: Path) -> dict[str, str]:
    content = json.loads((out / "summary.json").read_text())
    return {name: Path(record["file"]).name for name, record in content["results"].items()}


def test_names_that_meet_have_results_of_their_own(seg: Segmenter, tmp_path: Path) -> None:
    sizes = {"a.jpg": 32, "a.png": 40, "a_2.jpg": 48, "A.gif": 56, "a_overlay.jpg": 64, "a.jfif": 72}
    for name, width in sizes.items():
        photo(tmp_path / "in" / name, width)
    out = tmp_path / "out"
    report = run(seg, find_images([tmp_path / "in"]), out)
    assert report.failures == {}
    built = widths(out)
    assert {results(out)[name]: width for name, width in built.items()} == sizes
    assert len({name.casefold() for name in built}) == len(sizes)


def test_a_new_image_does_not_take_another_ones_result(seg: Segmenter, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    photo(folder / "a.png", 40)
    run(seg, find_images([folder]), out)
    photo(folder / "a.jpg", 32)  # sorts before a.png
    report = run(seg, find_images([folder]), out, skip_existing=True)
    assert (report.skipped, len(report.results)) == (1, 1)
    assert results(out) == {"a.png": "a.png", "a_2.png": "a.jpg"}
    assert widths(out) == {"a.png": 40, "a_2.png": 32}
    photo(folder / "a.png", 64)
    assert run(seg, find_images([folder]), out, skip_existing=True).skipped == 1  # what has changed is parsed again
    assert widths(out)["a.png"] == 64


def test_results_are_no_photographs(seg: Segmenter, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    photo(folder / "one.jpg")
    for out in (folder / "parsed", folder / "deep" / "er"):
        for _ in range(2):
            files = find_images([folder])
            assert [file.path.name for file in files] == ["one.jpg"]
            assert run(seg, files, out).failures == {}
    assert "a result of an earlier run" in files.left_out.left_out


def test_photographs_are_never_replaced(seg: Segmenter, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    before = {path: path.read_bytes() for path in (photo(folder / "one.png"), photo(folder / "two.png"))}
    link = tmp_path / "link"
    link.symlink_to(folder, target_is_directory=True)
    for out in (folder, link, folder / ".." / "in"):
        for options in ({}, {"overwrite": True}, {"skip_existing": True}):
            with pytest.raises(OutputError, match="among the inputs"):
                run(seg, find_images([folder]), out, **options)
    for name in ("one.png", "two.png"):  # a result's name may still be a link to a photograph
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / name).symlink_to(folder / name)
        with pytest.raises(OutputError, match="is an input"):
            run(seg, find_images([folder]), tmp_path / "out", overwrite=True)
    assert {path: path.read_bytes() for path in before} == before
    assert sorted(path.name for path in folder.iterdir()) == ["one.png", "two.png"]


def test_results_never_lie_among_the_photographs(
    seg: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = tmp_path / "in"
    photos = [photo(top / "one.jpg"), photo(top / "deep" / "er" / "two.jpg")]
    monkeypatch.chdir(top)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "deep").symlink_to(top / "deep")
    for given, out in (
        ([top], top),  # JPEGs: no name meets
        ([Path()], Path()),
        ([Path("one.jpg")], Path()),  # a single file
        ([top], top / "deep" / "er"),
        ([top / "deep"], top / "deep"),  # photographs in its sub-folders only
        ([top], tmp_path / "out"),  # by a link in the folder of results
        ([top / "deep" / "er", top / "one.jpg"], top),
    ):
        with pytest.raises(OutputError, match="among the inputs") as caught:
            run(seg, find_images(given), out)
        assert caught.value.exit_code == 2
        assert f"'{out / 'results'}'" in str(caught.value)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(photos)
    assert run(seg, find_images([Path("deep")]), Path()).failures == {}  # above them: theirs is another folder
    assert run(seg, find_images([top]), top / "deep").failures == {}  # below the top, where no photograph lies itself


def test_a_strangers_summary_leads_nowhere(seg: Segmenter, tmp_path: Path) -> None:
    path, victim = photo(tmp_path / "in" / "a.jpg"), photo(tmp_path / "mine.png")
    before, out = victim.read_bytes(), tmp_path / "out"
    out.mkdir()
    for name in ("../mine.png", str(victim), "x/../../mine.png"):
        (out / "summary.json").write_text(json.dumps({"results": {name: {"file": str(path)}}, "done": 1}))
        run(seg, find_images([path]), out, overwrite=True)
        assert victim.read_bytes() == before
    for odd in ("[" * 100_000, '{"results": 7}', '{"results": {"a.png": 7}}', "\0"):
        (out / "summary.json").write_text(odd)
        run(seg, find_images([path]), out, overwrite=True)
    assert widths(out) == {"a.png": 32}


def test_files_of_others_are_kept(seg: Segmenter, tmp_path: Path) -> None:
    photo(tmp_path / "in" / "one.jpg")
    for name in ("one.png", "one_overlay.jpg", "summary.json"):
        out = tmp_path / name
        out.mkdir()
        (out / name).write_bytes(b"somebody's")
        with pytest.raises(OutputError, match="exists; choose another name"):
            run(seg, find_images([tmp_path / "in"]), out)
        assert (out / name).read_bytes() == b"somebody's"
        run(seg, find_images([tmp_path / "in"]), out, overwrite=True)
        run(seg, find_images([tmp_path / "in"]), out)  # now they are ours


def test_results_of_a_killed_run_are_known(seg: Segmenter, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        photo(tmp_path / "in" / name)
    steps = segment_files(seg, find_images([tmp_path / "in"]), tmp_path / "out")
    next(steps)
    steps.close()
    assert run(seg, find_images([tmp_path / "in"]), tmp_path / "out", skip_existing=True).skipped == 1


def test_endings_of_cameras_and_browsers(seg: Segmenter, tmp_path: Path) -> None:
    for name in ("two.jfif", "three.jpe", "four.JPG"):
        photo(tmp_path / "in" / name)
    (tmp_path / "in" / "five.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    files = find_images([tmp_path / "in"])
    assert sorted(file.path.name for file in files) == ["four.JPG", "three.jpe", "two.jfif"]
    assert files.left_out.note() == "1 left out: 1 .heic (five.HEIC)"
    assert run(seg, files, tmp_path / "out").failures == {}
    (tmp_path / "heic").mkdir()
    (tmp_path / "heic" / "x.heic").write_bytes(b"x")
    with pytest.raises(DataError, match=r"holds no images; .* 1 left out: 1 \.heic"):
        find_images([tmp_path / "heic"])


def test_long_names_and_names_that_are_not_utf8(seg: Segmenter, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    for name in (
        b"caf\xe9.png",
        b"a" * 250 + b".png",
        b"a" * 251 + b".png",
        b"\xff" * 245 + b".png",
        "日本".encode() + b".png",
    ):
        photo(folder / "x.png").rename(os.fsdecode(os.fsencode(folder) + b"/" + name))
    report = run(seg, find_images([folder]), out)
    assert report.failures == {}
    assert len(list(out.glob("*.png"))) == len(list(out.glob("*_overlay.jpg"))) == 5
    assert run(seg, find_images([folder]), out, skip_existing=True).skipped == 5


def test_whatever_a_decoder_raises_is_one_failed_file(
    seg: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.jpg", "b.jpg"):
        photo(tmp_path / "in" / name)
    real = Segmenter.segment

    def moody(self: Segmenter, image: object, **options: object) -> object:
        if "a.jpg" in str(image):
            raise RecursionError("too deep")
        return real(self, image, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Segmenter, "segment", moody)
    report = run(seg, find_images([tmp_path / "in"]), tmp_path / "out")
    assert [Path(path).name for path in report.failures] == ["a.jpg"]
    assert len(report.results) == 1


def test_one_process_writes_into_a_folder(seg: Segmenter, tmp_path: Path) -> None:
    photo(tmp_path / "in" / "a.jpg")
    with locked(tmp_path / "out" / "summary.json"), pytest.raises(OutputError, match="another process"):
        run(seg, find_images([tmp_path / "in"]), tmp_path / "out")


def test_a_file_given_twice_counts_once(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg")
    assert len(find_images([path, tmp_path, path])) == 1


TWO_SQUARES = """
1 1 1 1 1 1
1 0 0 0 1 1
1 0 1 0 1 1
1 0 0 0 0 0
1 1 1 1 0 1
"""


class Drawn(Segmenter):
    """Gives the same labels for every photograph, with probabilities that follow from them."""

    labels_drawn = np.array([line.split() for line in TWO_SQUARES.strip().splitlines()], np.uint8)

    def segment(self, image: object, **options: object) -> Segmentation:
        labels = self.labels_drawn
        return Segmentation(labels, self.card.label_space, np.full(labels.shape, 0.75, np.float32), name="drawn")


def test_probabilities_agree_with_the_labels(seg: Segmenter, tmp_path: Path) -> None:
    files = find_images([photo(tmp_path / "in" / "a.jpg", 48, 40)])
    steps = segment_files(seg, files, tmp_path / "out", options=ImageOptions(confidence=True, probabilities=True))
    assert list(steps)[-1].failures == {}
    labels = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    with np.load(tmp_path / "out" / "a_probabilities.npz") as file:
        probabilities, classes = file["probabilities"], file["classes"]
    assert (probabilities.shape, probabilities.dtype) == ((2, 40, 48), np.float16)
    assert classes.tolist() == ["sea", "land"]
    assert np.allclose(probabilities.astype(float).sum(0), 1, atol=2e-3)
    best = probabilities.max(0).astype(float)
    assert ((probabilities.argmax(0) == labels) | (best < 0.501)).all()
    confidence = np.asarray(Image.open(tmp_path / "out" / "a_confidence.tif"))
    assert np.abs(confidence / 255 - best).max() < 0.004


@pytest.mark.parametrize("protocol", [None, "semseg-ms"])
@pytest.mark.parametrize("size", ["native", 40])
def test_probabilities_have_the_photographs_own_size(seg: Segmenter, protocol: str | None, size: Any) -> None:
    image = np.random.default_rng(0).integers(0, 255, (72, 96, 3)).astype(np.uint8)
    result = seg.segment(image, protocol=protocol, size=size, probabilities=True)
    assert result.probabilities is not None
    assert result.probabilities.shape == (2, 72, 96)
    assert np.allclose(result.probabilities.astype(float).sum(0), 1, atol=4e-3)
    # labels of a size of their own are the nearest pixels', probabilities are bilinear; and float16 makes ties
    agree = (result.probabilities.argmax(0) == result.labels) | (result.probabilities.max(0) < 0.501)
    assert agree.mean() > (0.9 if (size, protocol) == (40, "semseg-ms") else 0.9999)


def test_probabilities_of_a_large_image_come_from_its_windows(seg: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WHOLE_PIXELS": 64 * 64, "WINDOW_PX": 64, "OVERLAP_PX": 16}.items():
        monkeypatch.setattr(f"pspnet.predict.windows.{name}", value)
    image = np.random.default_rng(0).integers(0, 255, (100, 130, 3)).astype(np.uint8)
    result = seg.segment(image, probabilities=True)
    assert result.probabilities is not None
    assert result.confidence is not None
    assert np.abs(result.probabilities.max(0).astype(float) - result.confidence).max() < 1e-3


def test_probabilities_that_memory_will_not_hold(seg: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pspnet.predict.scale.free_memory_bytes", lambda: 1000)
    with pytest.raises(ImageError, match=r"2 classes for 48 x 32 pixels .* smaller"):
        seg.segment(np.zeros((32, 48, 3), np.uint8), probabilities=True)


@pytest.mark.parametrize(("kind", "layout"), [("yolo", "yolo_polygons"), ("coco", "coco")])
def test_outlines_come_back_as_they_were(seg: Segmenter, tmp_path: Path, kind: Any, layout: str) -> None:
    """Read by our own reader of the format: every pixel has its class again, the hole too."""
    root = tmp_path / "data"
    drawn = Drawn(seg.model, seg.card, device="cpu")
    height, width = Drawn.labels_drawn.shape
    photo(root / "images" / "train" / "a.png", width, height)
    out = root / "labels" / "train" if kind == "yolo" else tmp_path / "out"
    steps = segment_files(drawn, find_images([root / "images" / "train"]), out, options=ImageOptions(polygons=kind))
    assert list(steps)[-1].failures == {}
    options: dict[str, Any] = {}
    if kind == "yolo":
        (out / "data.yaml").rename(root / "data.yaml")
    else:
        (root / "annotations").mkdir()
        (out / "coco.json").rename(root / "annotations" / "train.json")
    data = open_dataset(layout, root, "train", **options)
    sample = data[0]
    assert sample.labels is not None
    names = np.array([*data.label_space.names, "nothing"])
    assert (names[sample.labels] == np.array(["sea", "land"])[Drawn.labels_drawn]).all()


def test_geojson_is_the_services(seg: Segmenter, tmp_path: Path) -> None:
    drawn = Drawn(seg.model, seg.card, device="cpu")
    files = find_images([photo(tmp_path / "in" / "a.png", 6, 5)])
    list(segment_files(drawn, files, tmp_path / "out", options=ImageOptions(polygons="geojson")))
    content = json.loads((tmp_path / "out" / "a.geojson").read_text())
    pixels = [(feature["properties"]["class"], feature["properties"]["pixels"]) for feature in content["features"]]
    assert sorted(pixels) == [("land", 1), ("land", 1), ("land", 17), ("sea", 11)]
    assert {feature["properties"]["confidence"] for feature in content["features"]} == {0.749}


def test_outlines_of_images_that_were_done_before(seg: Segmenter, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    drawn, options = Drawn(seg.model, seg.card, device="cpu"), ImageOptions(polygons="coco")
    for name in ("a.png", "deep/b.png"):
        photo(folder / name, 6, 5)
        list(segment_files(drawn, find_images([folder]), out, options=options, skip_existing=True))
    content = json.loads((out / "coco.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["a.png", os.path.join("deep", "b.png")]
    assert [one["id"] for one in content["annotations"]] == list(range(1, 9))


def test_a_coco_file_of_somebody_else_stays(seg: Segmenter, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "coco.json").write_text("{}")
    files = find_images([photo(tmp_path / "in" / "a.png")])
    with pytest.raises(OutputError, match=r"coco.json' exists"):
        list(segment_files(seg, files, tmp_path / "out", options=ImageOptions(polygons="coco")))


@pytest.mark.wrong_types
def test_options_that_are_none() -> None:
    with pytest.raises(ConfigError, match="polygons = shp: geojson, coco or yolo"):
        ImageOptions(polygons="shp")  # type: ignore[arg-type]
