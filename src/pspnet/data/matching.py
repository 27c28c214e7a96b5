"""Which image belongs to which label file: by their names below two folders, with all that has no partner."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pspnet.data.faults import Fault
from pspnet.errors import DataError
from pspnet.files import list_files
from pspnet.images import IMAGE_SUFFIXES, LABEL_SUFFIXES

# pictures that cameras and GIS write and that are not read here: what is left out is told, an index or a text beside is not
UNREAD_PICTURES = (
    *(
        ".heic",
        ".heif",
        ".avif",
        ".jxl",
        ".dng",
        ".cr2",
        ".cr3",
        ".nef",
        ".arw",
        ".orf",
        ".raf",
        ".rw2",
        ".psd",
        ".exr",
    ),
    *(
        ".hdr",
        ".svg",
        ".pdf",
        ".mat",
        ".npy",
        ".npz",
        ".nii",
        ".dcm",
        ".sid",
        ".ecw",
        ".ntf",
        ".nitf",
        ".hdf",
        ".h5",
        ".nc",
    ),
    *(".grb", ".grib", ".dat", ".bil", ".bip", ".bsq", ".asc", ".adf", ".mp4", ".mov"),
)


@dataclass(frozen=True)
class Pair:
    """An image file and the file that holds its labels; None where the data set keeps its labels back."""

    name: str
    image: Path
    label: Path | None


def composed(name: str) -> str:
    """A file's name with its accents put together: a Mac writes é as two characters, and so do its archives."""
    return unicodedata.normalize("NFC", name)


def files_in(folder: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> list[Path]:
    """Files below `folder`, sorted, with one of the endings (see `list_files`)."""
    return list_files(folder, suffixes).files


def match(
    images: Path,
    labels: Path,
    *,
    image_suffix: str = "",
    label_suffix: str = "",
    names: Sequence[str] | None = None,
    labels_optional: bool = False,
) -> tuple[list[Pair], list[Fault]]:
    """Pairs images with labels by their path below the two folders, without ending, and says what has no partner.

    image_suffix, label_suffix: what ends the stems, '_leftImg8bit' say, and is not part of the name. names: only these,
    in this order. labels_optional: an absent label folder means a split without labels, not a fault.
    """
    have_labels = labels.is_dir() or not labels_optional
    by_name, faults = _by_name(images, image_suffix, IMAGE_SUFFIXES)
    if label_suffix and images.resolve() == labels.resolve():  # side by side: photo.jpg and photo_mask.png
        by_name = {name: path for name, path in by_name.items() if not path.stem.endswith(label_suffix)}
    label_of, more = _by_name(labels, label_suffix, LABEL_SUFFIXES) if have_labels else ({}, [])
    faults += more
    pairs = []
    for name in by_name if names is None else map(composed, names):
        image, label = by_name.get(name), label_of.get(name)
        if image is None:
            faults.append(
                Fault(
                    "error",
                    "missing",
                    str(images / name),
                    f"'{images / name}' has no image, but the split's list names it",
                    "Add the image or remove the line",
                )
            )
        elif label is None and have_labels:
            faults.append(
                Fault(
                    "error",
                    "missing",
                    str(image),
                    f"'{image}' has no labels: no "
                    f"'{labels / (name + label_suffix)}' with the ending {', '.join(LABEL_SUFFIXES)}",
                    "Add the label file or remove the image",
                )
            )
        else:
            pairs.append(Pair(name, image, label))
    if names is None:
        faults += [
            Fault(
                "error",
                "missing",
                str(label),
                f"'{label}' has no image in '{images}'",
                "Add the image or remove the label file",
            )
            for name, label in label_of.items()
            if name not in by_name
        ]
    if not pairs and not faults:
        faults.append(
            Fault(
                "error",
                "empty",
                str(images),
                f"'{images}' holds no images",
                f"Put files with the ending {', '.join(IMAGE_SUFFIXES)} there",
            )
        )
    return pairs, faults


def _by_name(folder: Path, suffix: str, endings: Sequence[str]) -> tuple[dict[str, Path], list[Fault]]:
    """Files by their path below `folder` without ending and `suffix`."""
    if not folder.is_dir():
        return {}, [
            Fault(
                "error",
                "missing",
                str(folder),
                f"the folder '{folder}' does not exist",
                "Make it, or name another in the layout's options",
            )
        ]
    path_of: dict[str, Path] = {}
    listing = list_files(folder, endings)
    faults = [
        Fault(
            "warning",
            "left_out",
            str(files[0]),
            f"'{folder}': {len(files)} {ending} files are not read and left out, such as '{files[0].name}'",
            f"Convert them to one of {', '.join(endings)}",
        )
        for ending, files in listing.left_out.items()
        if ending in UNREAD_PICTURES
    ]
    for path in listing.files:
        stem = composed(path.relative_to(folder).with_suffix("").as_posix())
        if not stem.endswith(suffix):
            continue
        name = stem.removesuffix(suffix)
        if name in path_of:
            faults.append(
                Fault(
                    "error",
                    "ambiguous",
                    str(path),
                    f"'{path}' and '{path_of[name]}' have the same name '{name}'",
                    "Remove or rename one",
                )
            )
        else:
            path_of[name] = path
    return path_of, faults


def refuse_half_divided(table: Path, splits: Sequence[str]) -> None:
    """Raises DataError where some rows of a CSV name a split and others none: those would be in every part, or in none."""
    lacking = [number for number, split in enumerate(splits, start=1) if not split]
    if lacking and len(lacking) < len(splits):
        numbers = ", ".join(map(str, lacking[:5])) + (" ..." if len(lacking) > 5 else "")
        raise DataError(
            f"'{table}': {len(lacking)} of {len(splits)} rows have no split (row {numbers}), the others have one. Name it in "
            "each row (train, val, test), or in none"
        )
