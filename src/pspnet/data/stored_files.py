"""What the files of a split say of themselves that may make an image or its labels something else than meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from pspnet.data.class_faults import some
from pspnet.data.dataset import Sample
from pspnet.data.faults import Fault
from pspnet.errors import DataError
from pspnet.images import IMAGE_SUFFIXES, orientation_of
from pspnet.images.pages import further_pictures


def oddities_of(sample: Sample) -> dict[str, str]:
    """Kind of fault -> what its image file holds; empty where a file is plain, or there is none."""
    path = sample.image_path
    if path is None or path.suffix.lower() not in IMAGE_SUFFIXES:
        return {}
    oddities = {"pages": further_pictures(path)}
    if sample.labels is not None and sample.label_path is not None:
        oddities["turned"] = _turned(path, sample)
    return {kind: text for kind, text in oddities.items() if text}


def _turned(path: Path, sample: Sample) -> str:
    """An EXIF orientation that the size of the labels does not confirm: half a turn, a mirror, or a square picture."""
    with suppress(DataError):
        orientation = orientation_of(path)
        square = sample.image.shape[0] == sample.image.shape[1]
        if orientation in (2, 3, 4) or (orientation > 4 and square):
            return f"EXIF orientation {orientation}"
    return ""


def oddity_faults(split: str, oddities_by_file: Sequence[tuple[str, dict[str, str]]]) -> list[Fault]:
    """found: each image file with its oddities. One fault for each kind, with the number of files."""
    faults = []
    for kind, (sentence, mend) in _TOLD.items():
        files = [file for file, oddities in oddities_by_file if kind in oddities]
        if files:
            what = next(oddities[kind] for _, oddities in oddities_by_file if kind in oddities)
            faults.append(Fault("warning", kind, files[0], sentence(split, some(files), what), mend))
    return faults


_TOLD: dict[str, tuple[Callable[[str, str, str], str], str]] = {
    "pages": (
        lambda split, files, what: f"{split}: {files} hold more than one picture ({what}); the first one is read",
        "Split them into files (tiffsplit, magick), if the others count",
    ),
    "turned": (
        lambda split, files, what: (
            f"{split}: {files} are turned by their {what}, and the labels are taken to be drawn on the turned picture; their "
            "size cannot tell"
        ),
        "If they were drawn on the pixels as stored, set the option exif to false",
    ),
}
