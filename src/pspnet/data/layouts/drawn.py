"""What the layouts of annotation tools share: names become classes, pictures and objects become a data set."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pspnet.class_tables import normal_name, read_text
from pspnet.data.drawn_objects import DrawnLabels, DrawnObject
from pspnet.data.faults import Fault
from pspnet.data.layouts.folder import OTHER_NAMES, held_out, no_split, usual_name
from pspnet.data.matching import Pair
from pspnet.data.paired_files import PairedFiles
from pspnet.errors import DataError, parsing
from pspnet.labels import IGNORE, LabelSpace, distinct_colours, read_classes

BACKGROUND = {"background", "bg"}  # as normal_name writes them
IGNORED = {"ignore", "ignored", "void", "dontcare"}


@dataclass(frozen=True)
class Annotated:
    """A picture and its objects; their labels are not known yet: `names` has each object's class.

    split: the part that its place names, "" where there is none. size: (height, width) that it was annotated at.
    """

    name: str
    image: Path
    source: Path
    size: tuple[int, int] | None
    objects: Sequence[DrawnObject]
    names: Sequence[str]
    split: str = ""


def dataset_of(
    root: Path,
    split: str,
    pictures: Sequence[Annotated],
    classes: str | Path | None,
    val_share: float,
    faults: Iterable[Fault] = (),
    names: Sequence[str] | None = None,
) -> PairedFiles:
    """A split of annotated pictures. Classes: the table's; else `names` in their order; else those met, sorted. What nobody
    outlined is the class "background", or IGNORE where a table has none."""
    faults_seen = list(faults)
    if not pictures:
        raise DataError(f"'{root}' holds no annotated pictures; look at the folder and the format")
    divided = {picture.split for picture in pictures} != {""}
    parts = {usual_name(picture.split, [p.split for p in pictures]) for picture in pictures}
    chosen = [p for p in pictures if not divided or split in (usual_name(p.split, parts), p.split, "all")]
    if divided and not chosen:
        raise no_split(root, split, splits_of(pictures))
    space, background, index_of = _space(root, pictures, classes, names)
    drawn = DrawnLabels(background, in_order=True)
    pairs = []
    unknown: dict[str, int] = {}
    for picture in chosen:
        drawn.add_picture(picture.name, picture.image, picture.size)
        if not picture.image.is_file():
            message = f"'{picture.image}' does not exist, but '{picture.source}' annotates it"
            faults_seen.append(
                Fault("error", "missing", str(picture.image), message, "Add the image or remove its annotations")
            )
            continue
        pairs.append(Pair(picture.name, picture.image, picture.source))
        for item, name in zip(picture.objects, picture.names, strict=True):
            label = index_of.get(normal_name(name), -1)
            if label < 0:
                unknown[name] = unknown.get(name, 0) + 1
                label = background
            drawn.add(picture.name, replace(item, label=label))
    for name, count in unknown.items():
        message = f"'{root}': {count} objects of {name!r}, which the class table does not have, are left as background"
        faults_seen.append(
            Fault("warning", "unknown_class", str(root), message, "Add it to the table if it is a class")
        )
    faults_seen += drawn.faults(root)
    if not divided:
        pairs = held_out(pairs, split, val_share, root)
    return PairedFiles(f"{root} ({split})", pairs, space, decode=drawn.decode, faults=faults_seen)


def splits_of(pictures: Sequence[Annotated]) -> tuple[str, ...]:
    """The parts that the pictures' places name; train and val, held out, where they name none."""
    parts = {picture.split for picture in pictures}
    if parts == {""} or not parts:
        return ("train", "val")
    names = {usual_name(part, parts) for part in parts}
    usual = [name for name in ("train", "val", "test") if name in names]
    return (*usual, *sorted(names - set(usual)))


def part_of(path: Path, root: Path) -> str:
    """The split that the folders of a file below `root` name; "" for none."""
    known = {name for usual, others in OTHER_NAMES.items() for name in (usual, *others)}
    return next((part for part in path.relative_to(root).parts[:-1] if part.lower() in known), "")


def read_json(file: Path) -> Any:
    """Raises DataError naming the file."""
    with parsing(file, DataError, "is no JSON"):
        return json.loads(read_text(file))


def _space(
    root: Path, pictures: Sequence[Annotated], classes: str | Path | None, names: Sequence[str] | None
) -> tuple[LabelSpace, int, dict[str, int]]:
    """(classes, label of what nobody outlined, normal name -> label)."""
    if classes is not None:
        table = read_classes(classes)
        index_of = {normal_name(name): index for index, name in enumerate(table.names)}
        ground = next((index for name, index in index_of.items() if name in BACKGROUND), IGNORE)
        return table, ground, dict.fromkeys(IGNORED, IGNORE) | index_of
    met = names if names is not None else sorted({name for picture in pictures for name in picture.names})
    name_of: dict[str, str] = {}
    for name in met:
        if normal_name(name) not in BACKGROUND | IGNORED:
            name_of.setdefault(normal_name(name), name)
    if not name_of:
        raise DataError(f"'{root}': the annotations name no class besides background; export them with their labels")
    space = LabelSpace(("background", *name_of.values()), ((0, 0, 0), *distinct_colours(len(name_of))))
    index_of = {key: 1 + index for index, key in enumerate(name_of)}
    return space, 0, index_of | dict.fromkeys(BACKGROUND, 0) | dict.fromkeys(IGNORED, IGNORE)
