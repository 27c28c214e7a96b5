"""Video clips, made here: frames and table, flicker, cuts, damaged files, nothing left half done."""

from __future__ import annotations

import base64
import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from pspnet import LabelSpace, ModelConfig, Segmenter
from pspnet.cli import _run
from pspnet.errors import ConfigError, ImageError, OutputError
from pspnet.images import image_size
from pspnet.predict.videos import CODECS, VideoOptions, segment_video
from pspnet.weights.checkpoint import ModelCard
from support.browser import chromium

WIDTH, HEIGHT, FRAMES = 96, 64, 12


class Brightness:
    """An engine that takes bright pixels for land, with a confidence that grows with their distance from grey."""

    name, device = "brightness", "cpu"

    def coarse(self, images: np.ndarray) -> np.ndarray:
        shift = (images[:, :, ::8, ::8].mean(1, keepdims=True) - 127.5) / 20
        return np.concatenate([-shift, shift], 1).astype(np.float32)


@pytest.fixture
def seg() -> Segmenter:
    config = ModelConfig(encoder="resnet18", num_classes=2)
    return Segmenter(config, ModelCard(LabelSpace(("sea", "land"))), engine=Brightness())


def frames(noise: float = 0, count: int = FRAMES) -> list[np.ndarray]:
    """Sea on the left, land on the right; grey levels near the middle, each frame brighter or darker than the last."""
    steady = np.full((HEIGHT, WIDTH, 3), 118, np.uint8)
    steady[:, WIDTH // 2 :] = 138
    return [np.clip(steady.astype(float) + (noise if i % 2 else -noise), 0, 255).astype(np.uint8) for i in range(count)]


def clip(path: Path, pictures: list[np.ndarray], rate: float = 10) -> Path:
    height, width = pictures[0].shape[:2]
    code = cv2.VideoWriter.fourcc(*CODECS[path.suffix])
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, rate, (width, height))
    for picture in pictures:
        writer.write(picture)
    writer.release()
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_back(path: Path) -> tuple[int, float, tuple[int, ...], np.ndarray]:
    """Frames, frames a second, shape and the middle frame of a clip."""
    reader, pictures = cv2.VideoCapture(str(path)), []
    while (read := reader.read())[0]:
        pictures.append(read[1][..., ::-1])
    return len(pictures), reader.get(cv2.CAP_PROP_FPS), pictures[0].shape, pictures[len(pictures) // 2]


@pytest.mark.parametrize("ending", [".mp4", ".avi"])
def test_every_frame_is_parsed(seg: Segmenter, tmp_path: Path, ending: str) -> None:
    source = clip(tmp_path / f"in{ending}", frames())
    report = segment_video(seg, source, tmp_path / f"out{ending}", VideoOptions(opacity=1.0))
    count, rate, shape, middle = read_back(tmp_path / f"out{ending}")
    assert (report.frames, count, rate, shape) == (FRAMES, FRAMES, 10, (HEIGHT, WIDTH, 3))
    for name, column in (("sea", WIDTH // 4), ("land", 3 * WIDTH // 4)):
        colour = seg.colours[seg.classes.index(name)]
        assert np.abs(middle[HEIGHT // 2, column].astype(int) - colour).max() < 24  # the codec's loss
    table = rows(tmp_path / "out.csv")
    assert list(table[0]) == ["frame", "time_s", "changed", "sea", "land"]
    assert [float(row["time_s"]) for row in table] == pytest.approx([i / 10 for i in range(FRAMES)])
    assert all(abs(float(row["sea"]) - 0.5) < 0.1 for row in table)
    assert report.shares["sea"] + report.shares["land"] == pytest.approx(1)
    assert image_size(tmp_path / "out_legend.png")[1] == 320
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [source.name, f"out{ending}", "out.csv", "out_legend.png"]
    )


def test_the_average_takes_the_flicker_away(seg: Segmenter, tmp_path: Path) -> None:
    source = clip(tmp_path / "in.avi", frames(noise=12), rate=25)
    alone = segment_video(seg, source, tmp_path / "alone.avi", VideoOptions(earlier_weight=0))
    steady = segment_video(seg, source, tmp_path / "steady.avi")
    assert alone.changed > 0.9  # all flips with each frame
    assert steady.changed < 0.1
    last = rows(tmp_path / "steady.csv")[-1]
    assert abs(float(last["sea"]) - 0.5) < 0.1  # and what is steady is right


def test_pictures_of_every_second_are_not_mixed(seg: Segmenter, tmp_path: Path) -> None:
    segment_video(seg, clip(tmp_path / "in.avi", frames(noise=12), rate=1), tmp_path / "out.avi")
    assert [row["changed"] for row in rows(tmp_path / "out.csv")[1:]] == ["1.0000"] * (FRAMES - 1)


def test_a_cut_starts_anew(seg: Segmenter, tmp_path: Path) -> None:
    night, day = np.full((HEIGHT, WIDTH, 3), 20, np.uint8), np.full((HEIGHT, WIDTH, 3), 235, np.uint8)
    segment_video(seg, clip(tmp_path / "in.avi", [night] * 6 + [day] * 6), tmp_path / "out.avi")
    assert [row["land"] for row in rows(tmp_path / "out.csv")] == ["0.0000"] * 6 + ["1.0000"] * 6


def test_a_damaged_clip_leaves_nothing(seg: Segmenter, tmp_path: Path) -> None:
    whole = clip(
        tmp_path / "whole.avi", [np.random.default_rng(i).integers(0, 255, (64, 96, 3), np.uint8) for i in range(30)]
    )
    (tmp_path / "cut.avi").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (tmp_path / "noise.mp4").write_bytes(b"no video at all\0")
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile whole.avi\n")  # FFmpeg would show that clip
    for name, words in {
        "cut.avi": r"of 30 frames can be read",
        "noise.mp4": "cannot be opened",
        "list.mp4": "is no video but a text",
        "none.mp4": "exist",
    }.items():
        with pytest.raises(ImageError, match=words):
            segment_video(seg, tmp_path / name, tmp_path / "out.avi")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.avi", "list.mp4", "noise.mp4", "whole.avi"]


def test_what_is_refused(seg: Segmenter, tmp_path: Path) -> None:
    source = clip(tmp_path / "in.avi", frames(count=3))
    with pytest.raises(OutputError, match="is an input"):
        segment_video(seg, source, source, overwrite=True)
    with pytest.raises(ConfigError, match=r"ending '.gif'"):
        segment_video(seg, source, tmp_path / "out.gif")
    (tmp_path / "out.csv").write_text("mine")
    with pytest.raises(OutputError, match=r"out.csv' exists"):
        segment_video(seg, source, tmp_path / "out.avi")
    with pytest.raises(ConfigError, match="earlier_weight = 1"):
        VideoOptions(earlier_weight=1)


def test_large_frames_are_looked_at_smaller(seg: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pspnet.predict.videos.WHOLE_PIXELS", 48 * 32)
    report = segment_video(seg, clip(tmp_path / "in.avi", frames(count=3)), tmp_path / "out.mp4")
    assert report.notes == ["frames are looked at with 48 x 32 pixels, not 96 x 64: a frame is seen at once"]
    assert read_back(tmp_path / "out.mp4")[2] == (HEIGHT, WIDTH, 3)


@pytest.mark.browser
def test_a_browser_plays_what_is_said_to_play(seg: Segmenter, tmp_path: Path) -> None:
    source = clip(tmp_path / "in.avi", frames())
    plays = {}
    with chromium() as browser:
        page = browser.new_page()
        for ending in (".mp4", ".webm", ".mov"):
            report = segment_video(seg, source, tmp_path / f"out{ending}", overwrite=True)
            data = base64.b64encode((tmp_path / f"out{ending}").read_bytes()).decode()
            page.set_content(
                f'<video muted src="data:video/{"webm" if ending == ".webm" else "mp4"};base64,{data}"></video>'
            )
            page.wait_for_function(
                "() => { const v = document.querySelector('video'); return v.error || v.readyState >= 2; }"
            )
            plays[ending] = page.evaluate("() => document.querySelector('video').videoWidth") == WIDTH
            assert plays[ending] == (not any("browsers do not play" in note for note in report.notes))
    assert plays == {".mp4": True, ".webm": True, ".mov": False}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["in.avi"], "name the video to write"),
        (["in.avi", "photo.jpg", "--out", "out.mp4"], "give one clip"),
        (
            ["in.avi", "--out", "out.mp4", "--polygons", "coco", "--confidence"],
            "--confidence, --polygons: for photographs",
        ),
    ],
)
def test_the_command_refuses(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["segment", "scenes", *arguments], debug=False) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = clip(tmp_path / "in.avi", frames(count=2))
    assert (
        _run(["segment", "scenes", str(source), "--out", str(tmp_path / "out.mp4"), "--device", "cpu"], debug=False)
        == 0
    )
    assert "2 frames" in capsys.readouterr().out
    assert read_back(tmp_path / "out.mp4")[0] == 2
