"""ISPRS 2D semantic labelling: Potsdam (RGB, 5 cm) and Vaihingen (near infrared, red, green, 9 cm); 6 classes.

    ROOT/img_dir/{train,val}/2_10_0_0_512_512.png
    ROOT/ann_dir/{train,val}/2_10_0_0_512_512.png      0 boundary (ignored), 1..6

The published tiles of 6000 x 6000 px are too large to be read for every crop, so `pspnet data prepare potsdam` cuts them
into windows of 512 px, 256 apart. The splits are the contest's: its training tiles, and its test tiles as "val".
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pspnet.data.archives import Progress, PublishedArchive
from pspnet.data.layouts.folder import existing, no_split
from pspnet.data.matching import files_in, match
from pspnet.data.paired_files import PairedFiles
from pspnet.errors import DataError, LabelError
from pspnet.images import read_image, write_png
from pspnet.labels import IGNORE, LabelSpace

WINDOW_PX, STRIDE_PX = 512, 256
_UNKNOWN_SHARE = 0.01  # of a tile's pixels that may have a colour of no class: the tiles hold a few by mistake
_TILES = {  # the contest's training tiles, and its test tiles
    "potsdam": {
        "train": (
            "2_10",
            "2_11",
            "2_12",
            "3_10",
            "3_11",
            "3_12",
            "4_10",
            "4_11",
            "4_12",
            "5_10",
            "5_11",
            "5_12",
            "6_10",
            "6_11",
            "6_12",
            "6_7",
            "6_8",
            "6_9",
            "7_10",
            "7_11",
            "7_12",
            "7_7",
            "7_8",
            "7_9",
        ),
        "val": (
            "2_13",
            "2_14",
            "3_13",
            "3_14",
            "4_13",
            "4_14",
            "4_15",
            "5_13",
            "5_14",
            "5_15",
            "6_13",
            "6_14",
            "6_15",
            "7_13",
        ),
    },
    "vaihingen": {
        "train": tuple(f"area{n}" for n in (1, 3, 5, 7, 11, 13, 15, 17, 21, 23, 26, 28, 30, 32, 34, 37)),
        "val": tuple(f"area{n}" for n in (2, 4, 6, 8, 10, 12, 14, 16, 20, 22, 24, 27, 29, 31, 33, 35, 38)),
    },
}


def potsdam(root: Path, split: str = "train") -> PairedFiles:
    """Opens the windows of Potsdam's tiles. Raises DataError when the split is not there."""
    return _open(root, split, "potsdam")


def vaihingen(root: Path, split: str = "train") -> PairedFiles:
    """Opens the windows of Vaihingen's tiles. Raises DataError when the split is not there."""
    return _open(root, split, "vaihingen")


def isprs_splits(root: Path) -> tuple[str, ...]:
    """The splits there are."""
    return tuple(split for split in ("train", "val") if (existing(root) / "img_dir" / split).is_dir())


def _open(root: Path, split: str, name: str) -> PairedFiles:
    root = existing(root)
    if not (root / "img_dir" / split).is_dir():
        hint = (
            ""
            if isprs_splits(root)
            else f". Cut the published tiles with `pspnet data prepare {name} ARCHIVE... --out ROOT`"
        )
        raise DataError(f"{no_split(root, split, isprs_splits(root))}{hint}")
    pairs, faults = match(root / "img_dir" / split, root / "ann_dir" / split)
    return PairedFiles(f"{root} ({split})", pairs, LabelSpace.named("isprs"), faults=faults)


def cut_tiles(name: str, root: Path, progress: Progress | None = None) -> list[str]:
    """Cuts the tiles below `root` into the windows of img_dir and ann_dir; returns notes.

    Raises DataError when tiles or their labels are missing, LabelError when a label tile holds many foreign colours.
    """
    images: dict[str, Path] = {}
    labels: dict[str, Path] = {}
    for path in files_in(root, (".tif", ".tiff")):
        tile, kind = _tile_of(path, name)
        if kind == "image":
            images[tile] = path
        elif kind == "label" and (tile not in labels or "noBoundary" in path.stem):
            labels[tile] = path  # eroded labels where there are both: the contest's scores leave the boundaries out
    wanted = [(split, tile) for split, tiles in _TILES[name].items() for tile in tiles]
    there = [(split, tile) for split, tile in wanted if tile in images and tile in labels]
    if not there:
        raise DataError(
            f"'{root}' holds no {name} tile with its labels: {len(images)} image tiles, {len(labels)} label tiles"
        )
    notes = []
    if len(there) < len(wanted):
        lacking = ", ".join(tile for split, tile in wanted if (split, tile) not in there)
        notes.append(f"image or labels are missing for the tiles {lacking}")
    unknown = 0
    for done, (split, tile) in enumerate(there, start=1):
        unknown += _cut(root, split, tile, images[tile], labels[tile])
        if progress is not None:
            progress(done, len(there))
    if unknown:
        notes.append(f"{unknown} pixels have a colour of no class and are ignored")
    return notes


def _tile_of(path: Path, name: str) -> tuple[str, str]:
    """(tile, "image" | "label" | "") by the publisher's names; height models and other bands are neither."""
    if name == "potsdam":  # top_potsdam_2_10_RGB.tif, top_potsdam_2_10_label.tif, top_potsdam_2_10_label_noBoundary.tif
        match = re.fullmatch(r"top_potsdam_(\d+_\d+)_(RGB|label|label_noBoundary)", path.stem)
        return (match[1], "image" if match[2] == "RGB" else "label") if match else ("", "")
    match = re.fullmatch(r"top_mosaic_09cm_(area\d+)(_noBoundary)?", path.stem)
    if not match:
        return "", ""
    return match[1], "image" if path.parent.name == "top" else "label"  # both have one name, in different folders


def _cut(root: Path, split: str, tile: str, image_path: Path, label_path: Path) -> int:
    """Writes one tile's windows; returns the number of pixels with a foreign colour."""
    image, (codes, unknown) = read_image(image_path), _codes(label_path)
    if codes.shape != image.shape[:2]:
        raise LabelError(
            f"'{label_path}' is {codes.shape[1]} x {codes.shape[0]} px, its image '{image_path}' "
            f"{image.shape[1]} x {image.shape[0]} px (width x height)"
        )
    for top in _starts(codes.shape[0]):
        for left in _starts(codes.shape[1]):
            window = np.s_[top : top + WINDOW_PX, left : left + WINDOW_PX]
            height, width = codes[window].shape
            file = f"{tile}_{left}_{top}_{left + width}_{top + height}.png"
            write_png(root / "img_dir" / split / file, image[window])
            write_png(root / "ann_dir" / split / file, codes[window])
    return unknown


def _starts(size: int) -> list[int]:
    """Where windows begin: STRIDE_PX apart, the last one at the border."""
    last = max(size - WINDOW_PX, 0)
    return sorted({*range(0, last, STRIDE_PX), last})


def _codes(path: Path) -> tuple[NDArray[np.uint8], int]:
    """(codes 0..6, number of pixels with a foreign colour, which become 0)."""
    space, image = LabelSpace.named("isprs"), read_image(path).astype(np.int32)
    packed = image[..., 0] << 16 | image[..., 1] << 8 | image[..., 2]
    codes = np.full(packed.shape, IGNORE, np.uint8)
    known = dict(zip(space.codes, space.colours, strict=True)) | {0: (0, 0, 0)}
    for code, (red, green, blue) in known.items():
        codes[packed == (red << 16 | green << 8 | blue)] = code
    unknown = int((codes == IGNORE).sum())
    if unknown > _UNKNOWN_SHARE * codes.size:
        raise LabelError(
            f"'{path}': {100 * unknown / codes.size:.1f} % of the pixels have a colour of no class. Is it a label "
            "tile in colours?"
        )
    codes[codes == IGNORE] = 0
    return codes, unknown


POTSDAM_SOURCE = PublishedArchive(
    where="www.isprs.org, 2D Semantic Labeling Contest Potsdam (request): 2_Ortho_RGB.zip and 5_Labels_all_noBoundary.zip "
    "(or 5_Labels_all.zip), or Potsdam.zip that holds them. Research use with acknowledgement",
    counts={"train": 24 * 23 * 23, "val": 14 * 23 * 23},
    finish=partial(cut_tiles, "potsdam"),
)
VAIHINGEN_SOURCE = PublishedArchive(
    where="www.isprs.org, 2D Semantic Labeling Contest Vaihingen (request): ISPRS_semantic_labeling_Vaihingen.zip and "
    "ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE.zip (or ..._ground_truth_COMPLETE.zip). Research use "
    "with acknowledgement",
    counts={},  # the tiles' sizes differ
    checksums={
        "ISPRS_semantic_labeling_Vaihingen.zip": "md5:462b8dca7b6fa9eaf729840f0cdfc7f3",
        "ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE.zip": "md5:4802dd6326e2727a352fb735be450277",
    },
    finish=partial(cut_tiles, "vaihingen"),
)
