"""What the files of a split say of themselves that may make an image or its labels something else than meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from pspnet.data.class_faults import some
from pspnet.data.dataset import Sample
from pspnet.data.faults import Fault
from pspnet.errors import DataError
from pspnet.images import IMAGE_SUFFIXES, is_raster, may_be_transparent, orientation_of, read_image
from pspnet.images.opacity import MEASURED, WAY_OUT, is_measured
from pspnet.images.pages import further_pictures, geo_tags, nodata_doubt
from pspnet.labels import IGNORE


def oddities_of(sample: Sample) -> dict[str, str]:
    """Kind of fault -> what its image file holds; empty where a file is plain, or there is none."""
    path = sample.image_path
    if path is None or path.suffix.lower() not in IMAGE_SUFFIXES:
        return {}
    oddities = {"pages": further_pictures(path)}
    if not is_raster(path):
        oddities |= _opacity(path, sample)
        if sample.image.dtype == np.uint8:
            oddities["nodata"] = nodata_doubt(geo_tags(path), sample.image, sample.labels)
    if sample.labels is not None and sample.label_path is not None:
        oddities["turned"] = _turned(path, sample)
    return {kind: text for kind, text in oddities.items() if text}


def _opacity(path: Path, sample: Sample) -> dict[str, str]:
    """What the fourth channel of a photograph holds: a band that is no opacity, or pixels that nobody sees and that have a
    label. Nothing where the sample was not put on white by it."""
    with suppress(DataError):
        pixels = read_image(path, bands=None) if may_be_transparent(path) else sample.image
        if (
            pixels.shape[2] != 4
            or sample.image.shape != (*pixels.shape[:2], 3)
            or (sample.image == pixels[..., :3]).all()
        ):
            return {}
        if is_measured(pixels[..., 3]):
            return {"measured_alpha": MEASURED}
        hidden = pixels[..., 3] == 0
        if sample.labels is not None and hidden.any() and (sample.labels[hidden] != IGNORE).any():
            return {"see_through": f"{hidden.mean():.0%}"}
    return {}


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
    "measured_alpha": (
        lambda split, files, what: f"{split}: {files}: each {what}",
        WAY_OUT,
    ),
    "see_through": (
        lambda split, files, what: (
            f"{split}: {files} have transparent pixels ({what} of the first), which are read as white and whose labels count"
        ),
        "Where they show nothing, give them the ignored label",
    ),
    "nodata": (
        lambda split, files, what: (
            f"{split}: {files}: the first {what}; as photographs all their pixels and labels count"
        ),
        "Read them as rasters (format raster), or give those pixels the ignored label",
    ),
    "turned": (
        lambda split, files, what: (
            f"{split}: {files} are turned by their {what}, and the labels are taken to be drawn on the turned picture; their "
            "size cannot tell"
        ),
        "If they were drawn on the pixels as stored, set the option exif to false",
    ),
}
