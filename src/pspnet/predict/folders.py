"""Segmenting files: images and folders in, label PNGs, overlays and class shares out; one broken image stops nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pspnet.data.dataset import Dataset, Sample
from pspnet.errors import ConfigError, DataError, PspnetError
from pspnet.files import write_bytes
from pspnet.images import IMAGE_SUFFIXES
from pspnet.predict.segmenter import Segmenter


@dataclass(frozen=True)
class ImageFile:
    """One input and the name, relative to the output folder and without ending, that its results get."""

    path: Path
    name: str


@dataclass
class FolderReport:
    """What became of a list of images. `results` has an entry per image done, `failures` path -> reason."""

    results: list[dict[str, Any]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    skipped: int = 0

    def to_dict(self) -> dict[str, Any]:
        return {"done": len(self.results), "skipped": self.skipped, "failures": self.failures, "images": self.results}


class Unlabelled(Dataset):
    """Image files as a Dataset without labels, read as a model reads them."""

    def __init__(self, segmenter: Segmenter, files: Sequence[ImageFile]) -> None:
        self.segmenter, self.images = segmenter, list(files)
        self.label_space, self.bands = segmenter.card.label_space, segmenter.config.in_bands
        self.band_names = segmenter.card.band_names

    def sources(self) -> Iterable[Path]:
        return (file.path for file in self.images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        file = self.images[index]
        return Sample(self.segmenter.read(file.path), None, file.name)


def find_images(inputs: Iterable[str | Path]) -> list[ImageFile]:
    """Files as they are, folders searched with their sub-folders; every result name is unique.

    Raises DataError for a path that does not exist and for a folder without images.
    """
    files: list[tuple[Path, str]] = []
    for given in map(Path, inputs):
        if given.is_dir():
            inside = sorted(p for p in given.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
            if not inside:
                raise DataError(f"'{given}' holds no images; looked for {', '.join(IMAGE_SUFFIXES)}")
            files += [(p, str(p.relative_to(given).with_suffix(""))) for p in inside]
        elif given.exists():
            files.append((given, given.stem))
        else:
            raise DataError(f"'{given}' does not exist; give an image or a folder of images")
    taken: dict[str, int] = {}
    named = []
    for path, name in files:
        # a.jpg beside a.png, or the same name in two folders, must not overwrite each other's result
        count = taken[name] = taken.get(name, 0) + 1
        named.append(ImageFile(path, name if count == 1 else f"{name}_{count}"))
    return named


def segment_files(
    segmenter: Segmenter,
    files: list[ImageFile],
    out_dir: str | Path,
    *,
    overlay: bool = True,
    opacity: float = 0.55,
    skip_existing: bool = False,
    protocol: str | None = None,
) -> Iterator[FolderReport]:
    """Segments each file into `out_dir`: NAME.png (labels), NAME_overlay.jpg; at the end summary.json.

    Yields the growing report after every image, for a progress bar. A file that cannot be read or segmented goes to
    `failures` and the rest goes on. Raises ConfigError when `out_dir` is a file.
    """
    out = Path(out_dir)
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out '{out}' is a file; give a folder")
    report = FolderReport()
    for file in files:
        target = out / f"{file.name}.png"
        if skip_existing and target.exists():
            report.skipped += 1
            yield report
            continue
        try:
            result = segmenter.segment(file.path, protocol=protocol, name=file.name)
            if overlay:
                write = result.overlay(opacity)
                _write_jpeg(out / f"{file.name}_overlay.jpg", write)
            result.save(target)
            report.results.append({"file": str(file.path), **result.to_dict()})
        except PspnetError as error:
            report.failures[str(file.path)] = str(error)
        yield report
    write_bytes(out / "summary.json", json.dumps(report.to_dict(), indent=1).encode())


def _write_jpeg(path: Path, image: Any) -> None:
    import cv2

    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
    if not done:
        raise DataError(f"'{path}': the overlay of {image.shape} could not be encoded")
    write_bytes(path, encoded.tobytes())
