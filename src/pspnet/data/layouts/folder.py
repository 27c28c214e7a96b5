"""Anybody's data: folders `images` and `labels`, or a CSV of pairs, with a class table beside them.

    ROOT/train/images, ROOT/train/labels, ROOT/val/...      one folder for each split
    ROOT/images/train, ROOT/labels/train, ...               or the splits within
    ROOT/images, ROOT/labels [, ROOT/train.txt, ...]        or no split folders: lists of names, or a share held out
    ROOT/pairs.csv (or ROOT itself is a CSV)                columns image,label[,split], paths relative to the file
    ROOT/classes.csv or classes.json                        code,name,red,green,blue[,ignore]

Without split folders and lists, `val_share` of the pairs, chosen by their names' hashes, is "val", the rest "train",
and "all" is everything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Literal

from pspnet.class_tables import csv_table, read_text
from pspnet.data.export_signs import looks_like
from pspnet.data.faults import Fault
from pspnet.data.matching import Pair, files_in, match, refuse_half_divided
from pspnet.data.paired_files import PairedFiles, decoder
from pspnet.errors import ConfigError, DataError
from pspnet.files import path_limits
from pspnet.images import IMAGE_SUFFIXES
from pspnet.labels import LabelSpace, read_classes

# how exports call the usual splits: Roboflow, Keras, ADE20K, hand-made folders
OTHER_NAMES = {
    "train": ("training",),
    "val": ("valid", "validation", "validate", "dev"),
    "test": ("testing",),
}


def folder(
    root: Path,
    split: str = "train",
    *,
    classes: str | Path | None = None,
    decode: Literal["codes", "colours"] = "codes",
    images: str = "images",
    labels: str = "labels",
    image_suffix: str = "",
    label_suffix: str = "",
    val_share: float = 0.2,
) -> PairedFiles:
    """Opens a split. classes: a table's file or name; None: classes.csv or classes.json in the root.

    decode: labels hold "codes" (grey, palette) or "colours". images, labels: the folders' names. image_suffix,
    label_suffix: what follows the shared name ('_sat', '_mask'). A test split may lack labels.
    Raises DataError when there is no such split, ConfigError when the class table is missing or wrong.
    """
    if not 0 < val_share < 1:
        raise ConfigError(f"val_share = {val_share}: a share between 0 and 1, such as 0.2")
    root = existing(root)
    label_space = read_classes(classes or _find_classes(root))
    if classes is None and root.is_dir():
        _refuse_other_tables(root, label_space)
    decode_labels = decoder(decode, label_space)
    table = _pairs_file(root)
    if table is not None:
        pairs, faults = _csv_split(table, split, val_share)
    else:
        pairs, faults = _folder_split(root, split, images, labels, image_suffix, label_suffix, val_share)
    return PairedFiles(
        f"{root} ({split})",
        pairs,
        label_space,
        decode=decode_labels,
        faults=faults,
    )


def folder_splits(root: Path, images: str = "images") -> tuple[str, ...]:
    """The splits that a folder has, those named train, val and test first."""
    root = existing(root)
    table = _pairs_file(root)
    if table is not None:
        splits = {row["split"] for row in _csv_rows(table)}
        return in_usual_order(splits) if splits != {""} else ("train", "val")
    splits = {path.parent.name for path in root.glob(f"*/{images}") if path.is_dir()}
    splits = splits or {
        path.name for path in (root / images).glob("*") if path.is_dir() and not path.name.startswith(".")
    }
    splits = splits or {path.stem for path in _lists(root)}
    return in_usual_order({usual_name(name, splits) for name in splits}) if splits else ("train", "val")


def usual_name(name: str, names: Collection[str]) -> str:
    """ "val" for a split that is called "valid" or "validation" where none is called "val"; likewise train and test."""
    for usual, others in OTHER_NAMES.items():
        if name.lower() in (usual, *others) and usual not in set(names) - {name}:
            return usual
    return name


def spelled(split: str, there: Callable[[str], bool]) -> str:
    """The spelling of a split that is there: its own, or another usual one ("valid" for "val")."""
    spellings = (
        name for name in (split, *OTHER_NAMES.get(split, ())) for name in (name, name.capitalize()) if there(name)
    )
    return next(spellings, split)


def existing(root: Path) -> Path:
    """`root`, made sure of. Raises DataError."""
    root = Path(root)
    if not root.exists():
        raise DataError(f"'{root}' does not exist; give the folder of the data set")
    path_limits.check(root)
    return root


def _find_classes(root: Path) -> Path:
    base = root.parent if root.is_file() else root
    for name in ("classes.csv", "classes.json"):
        if (base / name).is_file():
            return base / name
    other = looks_like(base)
    if other:
        raise ConfigError(
            f"'{base}' has no classes.csv, but {other[1]}: use the format {other[0]} (--format {other[0]})"
        )
    raise ConfigError(
        f"'{base}' has no classes.csv: a line code,name,red,green,blue[,ignore] for each class. Write one, or "
        "name a table in the option classes (ade20k, voc, cityscapes, camvid, or a file)"
    )


def _refuse_other_tables(root: Path, label_space: LabelSpace) -> None:
    """Raises ConfigError for a class table in a split's folder that says otherwise: whose codes its labels hold, nobody knows."""
    for file in sorted(path for name in ("classes.csv", "classes.json") for path in root.glob(f"*/{name}")):
        own_space = read_classes(file)
        if (own_space.names, own_space.codes) != (label_space.names, label_space.codes):
            raise ConfigError(
                f"'{file}' has other classes or codes than the table in '{root}', which is read for all splits. Bring the labels "
                "to one table, and remove the other; or name the one that counts in the option classes"
            )


def _pairs_file(root: Path) -> Path | None:
    if root.is_file():
        return root
    return root / "pairs.csv" if (root / "pairs.csv").is_file() else None


def _csv_rows(table: Path) -> list[dict[str, str]]:
    """Rows with image, label and split; label and split may be empty."""
    columns, rows = csv_table(read_text(table), str(table), "image,label[,split]")
    if "image" not in columns or "label" not in columns:
        raise DataError(f"'{table}' has the columns {', '.join(columns) or 'none'}; it needs image,label[,split]")
    records = [dict(zip(columns, row, strict=False)) for _, row in rows]
    refuse_half_divided(table, [record.get("split", "") for record in records])
    return [
        {key: row.get(key, "").replace("\\", "/") for key in ("image", "label")}
        | {"split": usual_name(row.get("split", ""), {other.get("split", "") for other in records})}
        for row in records
    ]


def read_list(file: Path) -> list[str]:
    """Names of a list, one a line, with or without ending; where a line holds two files (DeepLab's lists), the first's."""
    names = []
    for line in read_text(file).splitlines():
        name = line.strip().replace("\\", "/")
        words = name.split()
        if len(words) == 2 and all(Path(word).suffix.lower() in IMAGE_SUFFIXES for word in words):
            name = words[0]
        if name and not name.startswith("#"):
            names.append(name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in IMAGE_SUFFIXES else name)
    return names


def _csv_split(table: Path, split: str, val_share: float) -> tuple[list[Pair], list[Fault]]:
    rows = _csv_rows(table)
    pairs, faults = [], []
    names: set[str] = set()
    for number, row in enumerate(rows, start=2):
        if row["split"] and split not in (row["split"], "all"):
            continue
        image, label = table.parent / row["image"], table.parent / row["label"]
        name = Path(row["image"]).with_suffix("").as_posix().lstrip("./")
        for what, path, needed in (("image", image, True), ("label", label, bool(row["label"]))):
            if needed and not path.is_file():
                faults.append(
                    Fault(
                        "error",
                        "missing",
                        str(path),
                        f"'{table}' line {number}: the {what} '{path}' does not exist",
                        "Correct the path (relative to the CSV) or remove the line",
                    )
                )
        if not row["label"] and split != "test":
            faults.append(
                Fault(
                    "error",
                    "missing",
                    str(image),
                    f"'{table}' line {number}: no label for '{image}'",
                    "Name its label file or remove the line",
                )
            )
        if name in names:
            faults.append(
                Fault(
                    "error",
                    "ambiguous",
                    str(image),
                    f"'{table}' line {number}: '{name}' occurs twice",
                    "Keep one line for each image",
                )
            )
        names.add(name)
        pairs.append(Pair(name, image, label if row["label"] else None))
    if not any(row["split"] for row in rows):
        pairs = held_out(pairs, split, val_share, table)
    elif not pairs:
        raise no_split(table, split, in_usual_order({row["split"] for row in rows}))
    faulty = {fault.file for fault in faults}
    return [pair for pair in pairs if not {str(pair.image), str(pair.label)} & faulty], faults


def _folder_split(
    root: Path, split: str, images: str, labels: str, image_suffix: str, label_suffix: str, val_share: float
) -> tuple[list[Pair], list[Fault]]:
    pair_up = partial(match, image_suffix=image_suffix, label_suffix=label_suffix, labels_optional=split == "test")
    outer = spelled(split, lambda name: (root / name / images).is_dir())
    if (root / outer / images).is_dir():
        return pair_up(root / outer / images, root / outer / labels)
    inner = spelled(split, lambda name: (root / images / name).is_dir())
    if (root / images / inner).is_dir():
        return pair_up(root / images / inner, root / labels / inner)
    splits = folder_splits(root, images)
    if not (root / images).is_dir():
        inside = sorted(path.name for path in root.iterdir() if path.is_dir())
        if any((root / name / images).is_dir() for name in splits):
            raise no_split(root, split, splits)
        raise DataError(
            f"'{root}' has neither '{split}/{images}' nor '{images}/{split}' nor '{images}'; it has the folders "
            f"{', '.join(inside) or 'none'}. Name the folders in the options images and labels"
        )
    lists = {usual_name(path.stem, ()): path for path in _lists(root)}
    if split in lists:
        pairs, faults = pair_up(root / images, root / labels, names=read_list(lists[split]))
        return pairs, [*faults, *_in_no_list(root / images, image_suffix, lists)]
    if lists or any((root / images / name).is_dir() for name in splits):
        raise no_split(root, split, splits)
    pairs, faults = pair_up(root / images, root / labels)
    return held_out(pairs, split, val_share, root), faults


def _in_no_list(images: Path, suffix: str, lists: Mapping[str, Path]) -> list[Fault]:
    """Pictures that no list names: nobody trains on them, and nobody scores them."""
    listed = {name for file in lists.values() for name in read_list(file)}
    stems = [path.relative_to(images).with_suffix("").as_posix() for path in files_in(images)]
    left = [stem for stem in stems if stem.endswith(suffix) and stem.removesuffix(suffix) not in listed]
    if not left:
        return []
    message = (
        f"'{images}': {len(left)} of {len(stems)} pictures are in none of the lists, such as '{left[0]}': left out"
    )
    return [Fault("warning", "left_out", str(images / left[0]), message, "Add them to a list, if they are to count")]


def _lists(root: Path) -> list[Path]:
    """Lists of names: train.txt, val.txt, test.txt or trainval.txt in the root or in its folder `splits`."""
    known = ("train", "val", "test", "trainval", *(name for names in OTHER_NAMES.values() for name in names))
    return [path for base in (root, root / "splits") for name in known if (path := base / f"{name}.txt").is_file()]


def held_out(pairs: list[Pair], split: str, val_share: float, source: Path) -> list[Pair]:
    """The part of an undivided data set that is `split`: by hash, so it does not hang on the order of files."""
    if split == "all":
        return pairs
    if split not in ("train", "val"):
        raise no_split(source, split, ("train", "val", "all"))
    ranked = sorted(pairs, key=lambda pair: hashlib.sha256(pair.name.encode()).digest())
    held = {pair.name for pair in ranked[: max(1, round(val_share * len(pairs)))]} if len(pairs) > 1 else set()
    return [pair for pair in pairs if (pair.name in held) == (split == "val")]


def in_usual_order(names: set[str]) -> tuple[str, ...]:
    """train, val, test, then others by name."""
    usual = [name for name in ("train", "val", "test") if name in names]
    return (*usual, *sorted(name for name in names if name and name not in usual))


def no_split(source: Path, split: str, splits: tuple[str, ...]) -> DataError:
    """The error for a split that is not there."""
    return DataError(f"'{source}' has no split {split!r}; it has: {', '.join(splits) or 'none'}")
