"""COCO: polygons of things (also any annotation tool's COCO export), and COCO-Stuff's masks.

    ROOT/{train,val}2017/*.jpg or ROOT/images/{train,val}2017, ROOT/annotations/instances_{train,val}2017.json
    ROOT/{train,valid,test}/_annotations.coco.json with the images beside it                    (Roboflow's export)
    ROOT/stuffthingmaps/{train,val}2017/*.png                              COCO-Stuff: id - 1, 255 unlabelled

    ROOT/result.json (Label Studio), ROOT/labels.json (FiftyOne), ROOT/annotations/instances_default.json (CVAT)

A pixel that no polygon covers is background; where things overlap, the smaller one is on top; crowds are ignored. What
cannot be drawn is counted and told: boxes without an outline, objects of no image, classes that are crowds throughout.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pspnet.data.archives import PublishedArchive
from pspnet.data.class_faults import some
from pspnet.data.drawn_objects import DrawnLabels, DrawnObject, Ring, Runs, ring_of, undrawable
from pspnet.data.faults import Fault
from pspnet.data.layouts.coco_classes import classes_of, id_text, read_categories, twin_faults
from pspnet.data.layouts.coco_files import SPLITS, CocoFiles, divided, find_files, read_annotations, undivided
from pspnet.data.layouts.folder import existing, held_out, no_split
from pspnet.data.matching import Pair, match
from pspnet.data.paired_files import PairedFiles
from pspnet.errors import DataError, parsing
from pspnet.labels import LabelSpace, read_classes

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
    val_share: float = 0.2,
) -> PairedFiles:
    """Opens a split of polygons.

    images, annotations: folder and JSON file below the root, where they lie elsewhere. classes: a table whose codes are
    category ids; its class "background", or code 0 where no category has the id 0, is what nobody outlined; None: the
    JSON's categories. Categories that the table lacks are background. crowds: "objects" draws what is marked iscrowd, as
    CVAT and Datumaro mark every brush mask. val_share: of an
    export that is not divided. Raises DataError when there is no such split or the JSON cannot be read.
    """
    root = existing(root)
    files = find_files(root, split, images, annotations)
    if files is None:
        raise no_split(root, split, coco_splits(root))
    table = read_classes(classes) if classes else None
    with parsing(files.file, DataError, "is no COCO annotation file"):
        data = read_annotations(files.file)
        categories = read_categories(files.file, data)
        space, background = classes_of(files.file, data, categories, table)
        drawn = DrawnLabels(background)
        pairs, faults = _pictures(files, data, drawn)
        faults += twin_faults(files.file, categories) if table is None else []
        faults += _objects(files.file, data, categories, space, drawn, crowds == "objects")
    if files.undivided:
        pairs = held_out(pairs, split, val_share, root)
    if not pairs and not faults:
        faults.append(Fault("error", "empty", str(files.file), f"'{files.file}' lists no images", "Export it again"))
    return PairedFiles(f"{root} ({split})", pairs, space, decode=drawn.decode, faults=faults)


def coco_splits(root: Path) -> tuple[str, ...]:
    """The splits whose annotations are there; train and val for an export that is not divided."""
    root = existing(root)
    splits = tuple(split for split in SPLITS if divided(root, split) is not None)
    return splits or (("train", "val") if undivided(root) is not None else ())


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


def _pictures(files: CocoFiles, data: dict[str, Any], drawn: DrawnLabels) -> tuple[list[Pair], list[Fault]]:
    """Pairs of the images that are there. One stem twice keeps its ending; an id or a file twice is a fault."""
    pairs: list[Pair] = []
    faults: list[Fault] = []
    file = files.file
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
        key = id_text(image["id"])
        if key in ids or name in ids.values():
            what = f"the image id {key} belongs to '{ids[key]}' and" if key in ids else "the list names twice"
            mend = "Number the images anew, so that each object belongs to one" if key in ids else "Keep one of them"
            faults.append(Fault("error", "repeated_image", str(file), f"'{file}': {what} '{given}'", mend))
            continue
        ids[key] = name
        path = _file(files.folder, given)
        sizes = [image.get("height"), image.get("width")]
        size = (int(sizes[0]), int(sizes[1])) if all(isinstance(v, (int, float)) and v > 0 for v in sizes) else None
        drawn.add_picture(name, path, size)
        if path.is_file():
            pairs.append(Pair(name, path, file))
        else:
            message = f"'{path}' does not exist, but '{file}' lists it"
            faults.append(Fault("error", "missing", str(path), message, "Add the image or take it out of the JSON"))
    data["names"] = ids
    return pairs, faults


def _stem(image: dict[str, Any]) -> str:
    return PurePosixPath(str(image.get("file_name") or "").replace("\\", "/")).with_suffix("").as_posix()


def _file(folder: Path, name: str) -> Path:
    """Where a listed image lies: as listed, or by its name alone (tools write the paths of their own machines)."""
    listed = folder / name.replace("\\", "/")
    by_name = folder / PurePosixPath(name.replace("\\", "/")).name
    return by_name if not listed.is_file() and by_name.is_file() else listed


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
        key, picture = id_text(item.get("category_id")), data["names"].get(id_text(item.get("image_id")))
        if key not in categories:
            raise DataError(
                f"'{file}': annotation {item.get('id', number)} has the category {item.get('category_id')}, which "
                f"is none of the file's {len(categories)} categories"
            )
        if picture is None:
            homeless[id_text(item.get("image_id"))] = homeless.get(id_text(item.get("image_id")), 0) + 1
            continue
        code, class_name = categories[key]
        crowd = id_text(item.get("iscrowd") or 0) not in ("0", "False", "false")
        crowds.setdefault(class_name, []).append(crowd)
        with undrawable(undrawn, file, f"{name} of '{picture}'"):
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
    faults = drawn.faults(file) + undrawn
    if homeless:
        count = sum(homeless.values())
        message = f"'{file}': {count} annotations belong to images that it does not list: {some(list(homeless))}"
        mend = "Was the list of images cut, or were ids renumbered? Their pixels are missing from the labels"
        faults.append(Fault("warning", "objects_of_no_image", str(file), message, mend))
    only = [name for name, marked in crowds.items() if all(marked)]
    if only and not crowds_too:
        message = (
            f"'{file}': every object of {some(only, 'the class', 'the classes')} is marked iscrowd "
            f"({sum(len(crowds[name]) for name in only)} objects), so that it is ignored throughout"
        )
        mend = "CVAT and Datumaro mark brush masks so: the option crowds=objects draws them"
        faults.append(Fault("warning", "crowds", str(file), message, mend))
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
