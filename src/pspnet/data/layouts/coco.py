"""COCO: polygons of things (also any annotation tool's COCO export), and COCO-Stuff's masks.

    ROOT/{train,val}2017/*.jpg or ROOT/images/{train,val}2017, ROOT/annotations/instances_{train,val}2017.json
    ROOT/{train,valid,test}/_annotations.coco.json with the images beside it                    (Roboflow's export)
    ROOT/stuffthingmaps/{train,val}2017/*.png                              COCO-Stuff: id - 1, 255 unlabelled

    ROOT/result.json (Label Studio), ROOT/labels.json (FiftyOne), ROOT/annotations/instances_default.json (CVAT)

A pixel that no polygon covers is background; where things overlap, the smaller one is on top; crowds are ignored. What
cannot be drawn is counted and told: boxes without an outline, objects of no image, classes that are crowds throughout.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pspnet.class_tables import normal_name, read_text
from pspnet.data.archives import PublishedArchive
from pspnet.data.class_faults import some
from pspnet.data.drawn_objects import DrawnLabels, DrawnObject, Ring, Runs, ring_of
from pspnet.data.faults import Fault
from pspnet.data.layouts.folder import OTHER_NAMES, existing, held_out, no_split
from pspnet.data.paired_files import Pair, PairedFiles, match
from pspnet.errors import DataError
from pspnet.labels import IGNORE, LabelSpace, distinct_colours, read_classes

_SPLITS = {"train": ("train2017", "train"), "val": ("val2017", "valid", "val"), "test": ("test2017", "test")}
_BACKGROUND = {"background", "bg"}  # as normal_name writes them
_COUNTS = {"train": 118287, "val": 5000}
_IMAGES = {
    "train2017.zip": "sha1:10ad623668ab00c62c096f0ed636d6aff41faca5",
    "val2017.zip": "sha1:4950dc9d00dbe1c933ee0170f5797584351d2a41",
}
SOURCE = PublishedArchive(
    where="cocodataset.org: train2017.zip (18 GB), val2017.zip (0.8 GB), annotations_trainval2017.zip (0.2 GB). "
    "Annotations: CC BY 4.0; images: Flickr's terms",
    counts=_COUNTS,
    checksums=_IMAGES | {"annotations_trainval2017.zip": "sha1:8551ee4bb5860311e79dace7e79cb91e432e78b3"},
)
STUFF_SOURCE = PublishedArchive(
    where="cocodataset.org: train2017.zip, val2017.zip; github.com/nightrome/cocostuff: stuffthingmaps_trainval2017.zip "
    "(0.7 GB), whose masks end up in ROOT/stuffthingmaps. Annotations: CC BY 4.0; images: Flickr's terms",
    counts=_COUNTS,
    checksums=_IMAGES,
    finish=lambda root, progress: _gather_stuff(root),
)


def coco(
    root: Path,
    split: str = "train",
    *,
    images: str | None = None,
    annotations: str | None = None,
    classes: str | Path | None = None,
    crowds: Literal["ignored", "objects"] = "ignored",
    exif: bool = True,
    val_share: float = 0.2,
) -> PairedFiles:
    """Opens a split of polygons.

    images, annotations: folder and JSON file below the root, where they lie elsewhere. classes: a table whose codes are
    category ids; its class "background", or code 0 where no category has the id 0, is what nobody outlined; None: the
    JSON's categories. Categories that the table lacks are background. crowds: "objects" draws what is marked iscrowd, as
    CVAT and Datumaro mark every brush mask. exif: False where polygons were drawn on the pixels as stored. val_share: of an
    export that is not divided. Raises DataError when there is no such split or the JSON cannot be read.
    """
    root = existing(root)
    place = _place(root, split, images, annotations)
    if place is None:
        raise no_split(root, split, coco_splits(root))
    data = _read(place.file)
    table = read_classes(classes) if classes else None
    categories = _categories(place.file, data)
    space, background = _classes(place.file, data, categories, table)
    drawn = DrawnLabels(background)
    pairs, faults = _pictures(place, data, drawn)
    faults += _objects(place.file, data, categories, space, drawn, crowds == "objects")
    if place.undivided:
        pairs = held_out(pairs, split, val_share, root)
    if not pairs and not faults:
        faults.append(Fault("error", "empty", str(place.file), f"'{place.file}' lists no images", "Export it again"))
    return PairedFiles(f"{root} ({split})", pairs, space, decode=drawn.decode, exif=exif, faults=faults)


def coco_splits(root: Path) -> tuple[str, ...]:
    """The splits whose annotations are there; train and val for an export that is not divided."""
    root = existing(root)
    found = tuple(split for split in _SPLITS if _divided(root, split) is not None)
    return found or (("train", "val") if _undivided(root) is not None else ())


def coco_stuff(root: Path, split: str = "train") -> PairedFiles:
    """Opens a split of COCO-Stuff (171 classes). Raises DataError when it is not there."""
    root = existing(root)
    name = f"{split}2017"
    labels = root / "stuffthingmaps" / name
    images = next((path for path in (root / "images" / name, root / name) if path.is_dir()), None)
    if images is None or not labels.is_dir():
        raise no_split(root, split, coco_stuff_splits(root))
    pairs, faults = match(images, labels)
    return PairedFiles(f"{root} ({split})", pairs, LabelSpace.named("coco_stuff"), faults=faults)


def coco_stuff_splits(root: Path) -> tuple[str, ...]:
    """The splits whose masks are there."""
    return tuple(split for split in ("train", "val") if (existing(root) / "stuffthingmaps" / f"{split}2017").is_dir())


@dataclass(frozen=True)
class _Place:
    """folder: of the images. undivided: one file for all, of which a part is held out."""

    folder: Path
    file: Path
    undivided: bool = False


def _place(root: Path, split: str, images: str | None, annotations: str | None) -> _Place | None:
    found = _divided(root, split) or _undivided(root)
    if annotations:
        folder = root / images if images else found.folder if found else root
        return _Place(folder, root / annotations)
    return None if found is None else _Place(root / images if images else found.folder, found.file, found.undivided)


def _divided(root: Path, split: str) -> _Place | None:
    for name in dict.fromkeys((*_SPLITS.get(split, ()), split, *OTHER_NAMES.get(split, ()))):
        beside = root / name / "_annotations.coco.json"
        if beside.is_file():
            return _Place(beside.parent, beside)
        for file in (root / "annotations" / f"instances_{name}.json", root / "annotations" / f"{name}.json"):
            for folder in (root / "images" / name, root / name):
                if file.is_file() and folder.is_dir():
                    return _Place(folder, file)
        file = root / name / "labels.json"  # FiftyOne
        if file.is_file() and (root / name / "data").is_dir():
            return _Place(root / name / "data", file)
    return None


def _undivided(root: Path) -> _Place | None:
    """One file for all: Label Studio (result.json), CVAT (instances_default.json), FiftyOne (labels.json), Roboflow."""
    for name, folders in (
        ("result.json", ("images", ".")),
        ("annotations/instances_default.json", ("images/default", "images")),
        ("labels.json", ("data",)),
        ("_annotations.coco.json", (".",)),
        ("annotations/instances.json", ("images",)),
        ("annotations.json", ("images", ".")),
    ):
        folder = next((root / folder for folder in folders if (root / folder).is_dir()), None)
        if folder is not None and (root / name).is_file():
            return _Place(folder, root / name, undivided=True)
    return None


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise DataError(f"'{file}' does not exist; give the COCO annotation file")
    try:
        data = json.loads(read_text(file))
        missing = [key for key in ("images", "annotations", "categories") if not isinstance(data[key], list)]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"'{file}' is no COCO annotation file: {type(error).__name__}: {error}. It holds images, annotations "
            "and categories"
        ) from error
    if missing:
        raise DataError(f"'{file}': {', '.join(missing)} is no list")
    for key in ("images", "annotations", "categories"):
        if not all(isinstance(item, dict) for item in data[key]):
            raise DataError(f"'{file}': {key} holds something else than objects with names and values")
    if any("segments_info" in item for item in data["annotations"]):
        raise DataError(
            f"'{file}' is COCO's panoptic format: its segments lie in PNG files beside it. Give the instances file, or "
            "convert it to label PNGs (panopticapi) and use the format folder"
        )
    return data


def _key(value: Any) -> str:
    """An id as people write it: 1, 1.0 and "1" are the same."""
    if isinstance(value, float) and value == int(value):
        value = int(value)
    text = str(value).strip()
    return str(int(text)) if text.isascii() and text.isdigit() else text


def _categories(file: Path, data: dict[str, Any]) -> dict[str, tuple[int, str]]:
    """Category key -> (code, name). Ids that are no whole numbers get numbers. Raises DataError for an id twice."""
    found: dict[str, tuple[int, str]] = {}
    for number, category in enumerate(data["categories"], start=1):
        if category.get("id") is None or category.get("name") is None:
            raise DataError(f"'{file}': category {number} has no {'id' if category.get('id') is None else 'name'}")
        key, name = _key(category["id"]), str(category["name"]).strip()
        if key in found and found[key][1] != name:
            raise DataError(
                f"'{file}': the category id {key} is both {found[key][1]!r} and {name!r}; give each its own"
            )
        found[key] = (int(key) if key.isdigit() else -number, name)
    taken = max((code for code, _ in found.values()), default=0)
    return {key: (code if code >= 0 else taken - code, name) for key, (code, name) in found.items()}


def _classes(
    file: Path, data: dict[str, Any], categories: dict[str, tuple[int, str]], table: LabelSpace | None
) -> tuple[LabelSpace, int]:
    """The classes, and the label of what nobody outlined; COCO's own 80 as the table that comes along has them."""
    used = {_key(item.get("category_id")) for item in data["annotations"]}
    zero = any(code == 0 and key in used for key, (code, _) in categories.items())
    if table is not None:
        names = [normal_name(name) for name in table.names]
        by_name = next((i for i, name in enumerate(names) if name in _BACKGROUND), None)
        by_code = table.codes.index(0) if 0 in table.codes and not zero else None
        background = by_name if by_name is not None else by_code
        return table, IGNORE if background is None else background
    own = LabelSpace.named("coco")
    if dict(categories.values()) == dict(zip(own.codes[1:], own.names[1:], strict=True)):
        return own, 0
    # Roboflow writes the project's name as category 0, which no object has
    kept = {key: value for key, value in categories.items() if value[0] != 0 or key in used}
    ground = next((value for value in kept.values() if normal_name(value[1]) in _BACKGROUND), None)
    code = ground[0] if ground else 0 if not zero else max(code for code, _ in kept.values()) + 1
    rows: dict[str, list[int]] = {}
    for own_code, name in sorted(kept.values()):
        if ground is None or own_code != ground[0]:
            rows.setdefault(name, []).append(own_code)
    if not rows:
        raise DataError(f"'{file}' has no categories besides background; export it with its classes")
    names = list(rows)
    return (
        LabelSpace(
            (ground[1] if ground else "background", *names),
            ((0, 0, 0), *distinct_colours(len(names))),
            (code, *(codes[0] for codes in rows.values())),
            aliases={other: 1 + i for i, codes in enumerate(rows.values()) for other in codes[1:]},
        ),
        0,
    )


def _pictures(place: _Place, data: dict[str, Any], drawn: DrawnLabels) -> tuple[list[Pair], list[Fault]]:
    """Pairs of the images that are there. One stem twice keeps its ending; an id or a file twice is a fault."""
    pairs: list[Pair] = []
    faults: list[Fault] = []
    file = place.file
    stems = Counter(_stem(image) for image in data["images"])
    ids: dict[str, str] = {}
    for number, image in enumerate(data["images"]):
        given = str(image.get("file_name") or "")
        if not given or image.get("id") is None:
            what = "id" if given else "file_name"
            faults.append(
                Fault("error", "image", str(file), f"'{file}': image {number} has no {what}", "Export it again")
            )
            continue
        stem = _stem(image)
        name = stem if stems[stem] == 1 else str(PurePosixPath(given.replace("\\", "/")))
        key = _key(image["id"])
        if key in ids or name in ids.values():
            what = f"the image id {key} belongs to '{ids[key]}' and" if key in ids else "the list names twice"
            mend = "Number the images anew, so that each object belongs to one" if key in ids else "Keep one of them"
            faults.append(Fault("error", "repeated_image", str(file), f"'{file}': {what} '{given}'", mend))
            continue
        ids[key] = name
        path = _file(place.folder, given)
        sizes = [image.get("height"), image.get("width")]
        size = (int(sizes[0]), int(sizes[1])) if all(isinstance(v, (int, float)) and v > 0 for v in sizes) else None
        drawn.add_picture(name, path, size)
        if path.is_file():
            pairs.append(Pair(name, path, file))
        else:
            told = f"'{path}' does not exist, but '{file}' lists it"
            faults.append(Fault("error", "missing", str(path), told, "Add the image or take it out of the JSON"))
    data["names"] = ids
    return pairs, faults


def _stem(image: dict[str, Any]) -> str:
    return PurePosixPath(str(image.get("file_name") or "").replace("\\", "/")).with_suffix("").as_posix()


def _file(folder: Path, name: str) -> Path:
    """Where a listed image lies: as listed, or by its name alone (tools write the paths of their own machines)."""
    listed = folder / name.replace("\\", "/")
    beside = folder / PurePosixPath(name.replace("\\", "/")).name
    return beside if not listed.is_file() and beside.is_file() else listed


def _objects(
    file: Path,
    data: dict[str, Any],
    categories: dict[str, tuple[int, str]],
    space: LabelSpace,
    drawn: DrawnLabels,
    crowds_too: bool,
) -> list[Fault]:
    """Gives each annotation to its picture; what has none, and classes of crowds alone, are faults."""
    index_of = {code: index for index, code in enumerate(space.codes)} | dict(space.aliases)
    homeless: dict[str, int] = {}
    crowds: dict[str, list[bool]] = {}
    undrawn: list[Fault] = []
    for number, item in enumerate(data["annotations"]):
        name = f"object {item.get('id', number)}"
        key, picture = _key(item.get("category_id")), data["names"].get(_key(item.get("image_id")))
        if key not in categories:
            raise DataError(
                f"'{file}': annotation {item.get('id', number)} has the category {item.get('category_id')}, which "
                f"is none of the file's {len(categories)} categories"
            )
        if picture is None:
            homeless[_key(item.get("image_id"))] = homeless.get(_key(item.get("image_id")), 0) + 1
            continue
        code, class_name = categories[key]
        crowd = _key(item.get("iscrowd") or 0) not in ("0", "False", "false")
        crowds.setdefault(class_name, []).append(crowd)
        try:
            rings, runs = _outline(item.get("segmentation"))
            box = None if not item.get("bbox") else tuple(map(float, item["bbox"]))
            area = item.get("area")
            drawn.add(
                picture,
                DrawnObject(
                    f"{name} ({class_name})",
                    index_of.get(code, drawn.background),
                    rings,
                    runs,
                    box=box if box is None or len(box) == 4 else None,
                    crowd=crowd and not crowds_too,
                    area=float(area) if isinstance(area, (int, float)) and area > 0 else None,
                ),
            )
        except (KeyError, TypeError, ValueError) as error:
            told = f"'{file}': {name} of '{picture}' cannot be drawn ({type(error).__name__}: {error})"
            undrawn.append(Fault("error", "object", str(file), told, "Draw it again, or remove it"))
    faults = drawn.faults(file) + undrawn
    if homeless:
        count = sum(homeless.values())
        told = f"'{file}': {count} annotations belong to images that it does not list: {some(list(homeless))}"
        mend = "Was the list of images cut, or were ids renumbered? Their pixels are missing from the labels"
        faults.append(Fault("warning", "objects_of_no_image", str(file), told, mend))
    only = [name for name, marked in crowds.items() if all(marked)]
    if only and not crowds_too:
        told = (
            f"'{file}': every object of {some(only, 'the class', 'the classes')} is marked iscrowd "
            f"({sum(len(crowds[name]) for name in only)} objects), so that it is ignored throughout"
        )
        mend = "CVAT and Datumaro mark brush masks so: the option crowds=objects draws them"
        faults.append(Fault("warning", "crowds", str(file), told, mend))
    return faults


def _outline(given: Any) -> tuple[tuple[Ring, ...], Runs | None]:
    """COCO's segmentation: a list of rings, one ring alone, or run lengths; nothing where there is only a box."""
    if not given:
        return (), None
    if isinstance(given, dict):
        height, width = given["size"]
        return (), Runs(given["counts"], int(height), int(width))
    if not isinstance(given, list):
        raise TypeError(f"a segmentation is a list or run lengths, not {type(given).__name__}")
    rings = given if isinstance(given[0], (list, tuple, dict)) else [given]
    return tuple(ring_of(ring) for ring in rings if ring), None


def _gather_stuff(root: Path) -> list[str]:
    """The mask archive unpacks to train2017 and val2017, into the images' folders: moves the masks out."""
    moved = 0
    for name in ("train2017", "val2017"):
        for path in sorted((root / name).glob("*.png")):
            target = root / "stuffthingmaps" / name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
            moved += 1
    return [f"{moved} masks put into stuffthingmaps"] if moved else []
