"""Mask exports of annotation tools: Roboflow's "semantic segmentation masks" and CVAT's "segmentation mask 1.1".

ROOT/{train,valid,test}/NAME.jpg, NAME_mask.png, _classes.csv (Pixel Value, Class)                       Roboflow
ROOT/SegmentationClass/NAME.png (colours), JPEGImages/NAME.jpg, labelmap.txt, ImageSets/Segmentation/*.txt   CVAT
"""

from __future__ import annotations

from pathlib import Path

from pspnet.class_tables import read_text
from pspnet.data.layouts.folder import existing, held_out, no_split, read_list, spelled, usual_name
from pspnet.data.matching import match
from pspnet.data.paired_files import PairedFiles, decode_colours
from pspnet.errors import ConfigError, DataError
from pspnet.labels import Colour, LabelSpace, read_classes

MASK = "_mask"
_LISTS = Path("ImageSets") / "Segmentation"


def roboflow_masks(root: Path, split: str = "train") -> PairedFiles:
    """Opens a split of Roboflow's masks. Raises DataError when it is not there."""
    root = existing(root)
    name = spelled(split, lambda part: (root / part / "_classes.csv").is_file())
    table = root / name / "_classes.csv"
    if not table.is_file():
        raise no_split(root, split, roboflow_masks_splits(root))
    pairs, faults = match(root / name, root / name, label_suffix=MASK, labels_optional=split == "test")
    return PairedFiles(f"{root} ({split})", pairs, read_classes(table), faults=faults)


def roboflow_masks_splits(root: Path) -> tuple[str, ...]:
    """The splits there are."""
    names = [path.parent.name for path in sorted(existing(root).glob("*/_classes.csv"))]
    splits = {usual_name(name, names) for name in names}
    return tuple(name for name in ("train", "val", "test") if name in splits) + tuple(
        sorted(splits - {"train", "val", "test"})
    )


def cvat_masks(root: Path, split: str = "train", *, images: str = "JPEGImages", val_share: float = 0.2) -> PairedFiles:
    """Opens a split of CVAT's masks: a list's, or a held-out part. images: the folder of the pictures, which CVAT only
    exports when asked. Raises DataError when it is not there, ConfigError for a labelmap.txt that is none."""
    root = existing(root)
    space = _labelmap(root / "labelmap.txt")
    if not (root / images).is_dir():
        raise DataError(
            f"'{root}' has no folder '{images}': export with 'save images', or name theirs in the option images"
        )
    lists = {usual_name(path.stem, ()): path for path in sorted((root / _LISTS).glob("*.txt"))}
    divided = set(lists) & {"train", "val", "test"}
    if divided and split not in lists:
        raise no_split(root, split, tuple(lists))
    names = read_list(lists[split]) if divided else None
    pairs, faults = match(root / images, root / "SegmentationClass", names=names)
    if not divided:
        pairs = held_out(pairs, split, val_share, root)
    return PairedFiles(f"{root} ({split})", pairs, space, decode=decode_colours, faults=faults)


def cvat_masks_splits(root: Path) -> tuple[str, ...]:
    """The splits that lists name, or train and val."""
    names = {usual_name(path.stem, ()) for path in (existing(root) / _LISTS).glob("*.txt")}
    return tuple(name for name in ("train", "val", "test") if name in names) or ("train", "val")


def _labelmap(file: Path) -> LabelSpace:
    """`name:r,g,b:parts:actions`, a line each; lines with # are comments."""
    if not file.is_file():
        raise DataError(f"'{file}' does not exist: CVAT's masks have their colours there")
    names: list[str] = []
    colours: list[Colour] = []
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        try:
            red, green, blue = (int(part) for part in rest.split(":")[0].split(","))
        except ValueError:
            raise ConfigError(f"'{file}' line {number}: {line!r}; name:red,green,blue:: is expected") from None
        if not all(0 <= part <= 255 for part in (red, green, blue)) or (red, green, blue) in colours or name in names:
            raise ConfigError(f"'{file}' line {number}: {line!r} repeats a name or a colour, or has one beyond 255")
        names.append(name)
        colours.append((red, green, blue))
    return LabelSpace(tuple(names), tuple(colours))
