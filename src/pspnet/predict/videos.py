"""Video clips: the classes' colours over every frame, and a table of each frame's class shares, in bounded memory.

Parsed frame by frame, a clip flickers where two classes are about equally probable. So the probabilities of a frame are
averaged with those of the frames before it, whose weights fall by a factor each; after a cut the average starts anew.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pspnet import display
from pspnet.errors import ConfigError, ImageError, OutputError
from pspnet.files import new_file, path_limits
from pspnet.images import write_png
from pspnet.labels import IGNORE
from pspnet.predict import logits as coarse_logits
from pspnet.predict import scale
from pspnet.predict.arrays import Array, copy_of, is_tensor, on_device, softmax_, to_numpy
from pspnet.predict.segmenter import Segmenter
from pspnet.predict.windows import WHOLE_PIXELS, as_float

# what the FFmpeg in OpenCV's wheels can write everywhere, by the ending. Browsers play VP9, and no MPEG-4 part 2 ("mp4v");
# H.264 and AV1 cannot be written with these wheels. VP9 takes longer: 70 ms of a core a frame of 640 x 480, mp4v 2 ms
CODECS = {".mp4": "vp09", ".m4v": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG", ".webm": "VP90"}
IN_BROWSERS = (".mp4", ".webm")
VIDEO_SUFFIXES = (*CODECS, ".mpg", ".mpeg", ".wmv", ".ts", ".mts")
USUAL_RATE = 25.0  # frames a second, where a clip does not tell
CUT = 30.0  # mean difference of two frames' grey thumbnails, of 255: panning stays below, another scene is above
LOST = 0.05  # fraction of the announced frames that may be missing: some containers only estimate their number
Frame = NDArray[np.uint8]  # (H, W, 3) RGB


@dataclass(frozen=True)
class VideoOptions:
    """opacity: of the overlay's colours, 0 to 1. size: see `Segmenter.segment`. earlier_weight: of what is 1/25 s old in the
    average of the probabilities, 0 (each frame for itself) to below 1; it falls with age at any rate of frames."""

    opacity: float = 0.55
    size: scale.Wish | None = None
    earlier_weight: float = 0.6

    def __post_init__(self) -> None:
        if not 0 <= self.earlier_weight < 1:
            raise ConfigError(f"earlier_weight = {self.earlier_weight}: 0 (each frame for itself) to below 1")


@dataclass
class VideoReport:
    """frames: done. shares: class -> mean fraction of the pixels over the clip. changed: mean fraction of the pixels whose
    class differs from the frame before. notes: what a user should know."""

    frames: int = 0
    shares: dict[str, float] = field(default_factory=dict)
    changed: float = 0.0
    notes: list[str] = field(default_factory=list)


def is_video(path: str | Path) -> bool:
    """Whether a name is a video clip's, by its ending."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def frame_count(path: str | Path) -> int | None:
    """Frames that a clip announces, None where it does not. Raises ImageError."""
    with _opened(Path(path)) as clip:
        return _announced(clip)


def segment_video(
    segmenter: Segmenter | str | Path,
    source: str | Path,
    target: str | Path,
    options: VideoOptions | None = None,
    *,
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda frames: None,
) -> VideoReport:
    """Writes `target` (the clip with the classes' colours, without sound), and beside it NAME.csv and NAME_legend.png.

    The table has a row for each frame: number, time in seconds, fraction of the pixels whose class changed, and the share of
    each class. Nothing is left where it fails.

    Args:
        segmenter: The model: a Segmenter, or what `Segmenter.load` takes.
        source: The clip.
        target: The parsed clip; its ending chooses among `CODECS`.
        options: Averaging over time, opacity and size; None: the defaults.
        overwrite: Whether files that exist may be replaced.
        progress: Called with the number of frames after each.

    Raises ImageError for a clip that cannot be read to its end, OutputError for files that cannot be written, ConfigError for
    an ending that is none of `CODECS`.
    """
    segmenter, source, target, options = Segmenter.of(segmenter), Path(source), Path(target), options or VideoOptions()
    codec = CODECS.get(target.suffix.lower())
    if codec is None:
        raise ConfigError(f"'{target}': ending {target.suffix!r}; a video is written as {', '.join(CODECS)}")
    table, legend = target.with_suffix(".csv"), target.with_name(f"{target.stem}_legend.png")
    parts = {path: new_file(path, inputs=[source], overwrite=overwrite) for path in (legend, table, target)}
    with _opened(source) as clip, parts[legend] as legend_part, parts[table] as table_part, parts[target] as part:
        report, sums = VideoReport(), np.zeros(segmenter.config.num_classes)
        rate = clip.get(cv2.CAP_PROP_FPS)
        if not (math.isfinite(rate) and 0 < rate <= 1000):
            report.notes.append(f"'{source}' does not tell its frames a second; {USUAL_RATE:g} are taken")
            rate = USUAL_RATE
        parser = FrameParser(segmenter, options, rate)
        with table_part.open("w", encoding="utf-8", newline="") as stream, _VideoWriter(part, codec, rate) as writer:
            rows = csv.writer(stream)
            rows.writerow(["frame", "time_s", "changed", *segmenter.classes])
            for frame, time_s in _frames(clip, source):
                labels, changed = parser.parse(frame)
                writer.write(display.overlay(frame, labels, segmenter.card.label_space.palette, options.opacity))
                counts = np.bincount(labels[labels != IGNORE].ravel(), minlength=len(sums))
                fractions = counts / max(int(counts.sum()), 1)
                rows.writerow([report.frames, f"{time_s:.3f}", f"{changed:.4f}", *(f"{v:.4f}" for v in fractions)])
                sums += fractions
                report.changed += changed
                report.frames += 1
                progress(report.frames)
        _check_written(part, report.frames, target)
        if target.suffix.lower() not in IN_BROWSERS:
            report.notes.append(
                f"browsers do not play '{target.name}'; they do where --out ends in {' or '.join(IN_BROWSERS)}"
            )
        report.notes += parser.notes
        report.changed /= max(report.frames - 1, 1)
        order = np.argsort(-sums, kind="stable")
        report.shares = {segmenter.classes[i]: float(sums[i]) / report.frames for i in order.tolist() if sums[i]}
        colours = [segmenter.colours[segmenter.classes.index(name)] for name in report.shares]
        write_png(legend_part, display.legend(report.shares, colours, max(parser.native[1], 320)))
    return report


class FrameParser:
    """Labels of one frame after the other. rate: frames a second. native: (height, width) of the frames; notes: what was done
    to their size."""

    def __init__(self, segmenter: Segmenter, options: VideoOptions, rate: float = USUAL_RATE) -> None:
        self.segmenter, self.options = segmenter, options
        weight = options.earlier_weight ** (USUAL_RATE / rate)
        self.average = TemporalAverage(weight, segmenter.card.temperature)
        self.native, self.looked_at = (0, 0), (0, 0)
        self.notes: list[str] = []
        self._before: NDArray[np.uint8] | None = None

    def parse(self, frame: Frame) -> tuple[NDArray[np.uint8], float]:
        """(H, W, 3) -> labels (H, W), and the fraction of them that differ from the frame before (0 for the first)."""
        segmenter = self.segmenter
        pixels = segmenter.read(frame)
        if self._before is None:
            self.native = (pixels.shape[0], pixels.shape[1])
            self.looked_at = self._size(self.native)
        images = as_float(scale.at_size(pixels, self.looked_at))[None]
        coarse = segmenter.engine.coarse(on_device(images, segmenter.engine.device))
        coarse = self.average.update(frame, coarse)
        labels = to_numpy(coarse_logits.labels(coarse, self.native, segmenter.config.align_corners)[0])[0]
        changed = 0.0 if self._before is None else float((labels != self._before).mean())
        self._before = labels
        return labels, changed

    def _size(self, native: scale.Size) -> scale.Size:
        size = self.segmenter.seen_size(native, self.options.size)
        times = (WHOLE_PIXELS / (size[0] * size[1])) ** 0.5
        if times >= 1:
            return size
        smaller = int(size[0] * times), int(size[1] * times)
        self.notes.append(
            f"frames are looked at with {smaller[1]} x {smaller[0]} pixels, not {size[1]} x {size[0]}: a frame is seen at once"
        )
        return smaller


class TemporalAverage:
    """Probabilities averaged over the frames so far, an older frame counting `earlier_weight` times as much as the one after it.

    >>> average = TemporalAverage(earlier_weight=0.5)
    >>> dark = np.zeros((8, 8, 3), np.uint8)
    >>> sure, unsure = (np.log(np.float32(p)).reshape(1, 2, 1, 1) for p in ((0.9, 0.1), (0.4, 0.6)))
    >>> np.exp(average.update(dark, sure)).ravel().round(2)
    array([0.9, 0.1], dtype=float32)
    >>> np.exp(average.update(dark, unsure)).ravel().round(2)      # (0.9 + 0.4) / 2: the class stays
    array([0.65, 0.35], dtype=float32)
    >>> np.exp(average.update(dark + 200, unsure)).ravel().round(2)    # a cut
    array([0.4, 0.6], dtype=float32)
    """

    def __init__(self, earlier_weight: float, temperature: float = 1.0) -> None:
        self.earlier_weight, self.temperature = earlier_weight, temperature
        self._mean: Array | None = None
        self._thumbnail: NDArray[np.float32] | None = None

    def update(self, frame: Frame, coarse: Array) -> Array:
        """Logits (1, K, h, w) of a frame -> logits whose softmax is the average; the input itself where that is 0."""
        if self.earlier_weight == 0:
            return coarse
        thumbnail = cv2.resize(frame, (32, 18), interpolation=cv2.INTER_AREA).mean(axis=2, dtype=np.float32)
        is_cut = self._thumbnail is None or float(np.abs(thumbnail - self._thumbnail).mean()) > CUT
        self._thumbnail = thumbnail
        probabilities = softmax_(copy_of(coarse), 1, self.temperature)
        if self._mean is not None and not is_cut:
            probabilities = self.earlier_weight * self._mean + (1 - self.earlier_weight) * probabilities
        self._mean = probabilities
        return probabilities.clamp_min(1e-12).log() if is_tensor(probabilities) else np.log(probabilities.clip(1e-12))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """OpenCV's reader. Raises ImageError for what is no clip."""
    path_limits.check(path)
    if not path.is_file():
        raise ImageError(f"'{path}' does not exist or is no file; give a video clip")
    with path.open("rb") as file:
        head = file.read(256)
    if head and min(head) >= 9:  # FFmpeg goes by the content: a list of files (ffconcat, m3u8) would show those
        raise ImageError(f"'{path}' is no video but a text: it begins with {head[:20]!r}")
    clip = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        if not clip.isOpened():
            raise ImageError(
                f"'{path}' cannot be opened as a video: it is damaged, not wholly copied, or of a codec that OpenCV has not. "
                f"Try: ffmpeg -i '{path}' -c:v libx264 mended.mp4"
            )
        yield clip
    finally:
        clip.release()


def _announced(clip: Any) -> int | None:
    count = clip.get(cv2.CAP_PROP_FRAME_COUNT)
    return round(count) if math.isfinite(count) and 0 < count < 1e9 else None


def _frames(clip: Any, path: Path) -> Iterator[tuple[Frame, float]]:
    """Each frame and its time in seconds. Raises ImageError where the clip ends before it should, or changes its size."""
    announced, done, size = _announced(clip), 0, None
    while True:
        read, frame = clip.read()
        if not read:
            break
        time_s = clip.get(cv2.CAP_PROP_POS_MSEC) / 1000  # of the frame that was read last
        if size is not None and frame.shape != size:
            raise ImageError(
                f"'{path}': frame {done} has the shape {frame.shape}, those before {size}; convert it first"
            )
        size = frame.shape
        done += 1
        yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), time_s
    if done == 0 or (announced is not None and announced - done > max(2, LOST * announced)):
        raise ImageError(
            f"'{path}' is damaged or was not wholly copied: {done} of {announced or 'its'} frames can be read. Copy it again, or "
            f"keep what is whole: ffmpeg -i '{path}' -c:v libx264 mended.mp4"
        )


class _VideoWriter:
    """OpenCV's writer, opened with the first frame. Raises OutputError where the codec cannot be had."""

    def __init__(self, path: Path, codec: str, rate: float) -> None:
        self.path, self.codec, self.rate = path, codec, rate
        self._writer: Any = None

    def __enter__(self) -> _VideoWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.release()

    def write(self, frame: Frame) -> None:
        if self._writer is None:
            size = (frame.shape[1], frame.shape[0])
            code = cv2.VideoWriter.fourcc(*self.codec)
            self._writer = cv2.VideoWriter(str(self.path), cv2.CAP_FFMPEG, code, self.rate, size)
            if not self._writer.isOpened():
                raise OutputError(
                    f"OpenCV here cannot write {self.codec} as {self.path.suffix} with {size[0]} x {size[1]} pixels; "
                    "choose another ending, such as .avi"
                )
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))


def _check_written(part: Path, frames: int, target: Path) -> None:
    """OpenCV's writer says nothing of a full disk: the file is opened again. Raises OutputError."""
    try:
        with _opened(part) as clip:
            written = _announced(clip) or frames  # some containers do not tell
    except ImageError:
        written = 0
    if written < frames:
        raise OutputError(f"'{target}' holds {written} of {frames} frames: the disk may be full")
