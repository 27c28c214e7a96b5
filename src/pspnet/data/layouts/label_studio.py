"""Label Studio's own exports, JSON and JSON-MIN: a list of tasks (labelstud.io/guide/export).

    ROOT/project-1-at-2024-....json, ROOT/images/NAME.jpg           pictures found by their names, below ROOT

Polygons and ellipses (in percent of the picture) and brush strokes (run lengths of their own) are drawn; rectangles are known
by their box alone, key points by a point: ignored and counted. Of several people's annotations of a task the first one
counts, the others are told.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

from pspnet.data.drawn_objects import DrawnObject, Runs, ellipse_ring, ring_of, undrawable
from pspnet.data.faults import Fault
from pspnet.data.layouts.drawn import Annotated, dataset_of, read_json
from pspnet.data.layouts.folder import existing
from pspnet.data.matching import files_in
from pspnet.data.paired_files import PairedFiles
from pspnet.errors import DataError, parsing
from pspnet.images import IMAGE_SUFFIXES


def label_studio(
    root: Path,
    split: str = "train",
    *,
    annotations: str | None = None,
    classes: str | Path | None = None,
    val_share: float = 0.2,
) -> PairedFiles:
    """Opens a split, a part of the tasks. annotations: the JSON below the root; None: the only one there. classes: a table;
    None: the labels that the tasks name, sorted, and background."""
    root = existing(root)
    file = root / annotations if annotations else _only(root)
    with parsing(file, DataError, "is no export of Label Studio's (JSON)"):
        pictures, faults = _pictures(root, file)
    return dataset_of(root, split, pictures, classes, val_share, faults)


def label_studio_splits(root: Path) -> tuple[str, ...]:
    """Always held out: an export is not divided."""
    existing(root)
    return ("train", "val")


def _only(root: Path) -> Path:
    files = sorted(root.glob("*.json"))
    if len(files) != 1:
        names = ", ".join(path.name for path in files) or "none"
        raise DataError(f"'{root}' has {len(files)} JSON files ({names}); name one in the option annotations")
    return files[0]


def _pictures(root: Path, file: Path) -> tuple[list[Annotated], list[Fault]]:
    tasks = read_json(file)
    if isinstance(tasks, list):
        tasks = [_whole_task(task) if isinstance(task, dict) and "data" not in task else task for task in tasks]
    if not isinstance(tasks, list) or not all(isinstance(task, dict) and task["data"] for task in tasks):
        raise DataError(
            f"'{file}' is no export of Label Studio's (JSON, JSON-MIN): a list of tasks with their picture and annotations"
        )
    images = {path.name: path for path in files_in(root)}
    pictures: list[Annotated] = []
    faults: list[Fault] = []
    doubled = []
    for number, task in enumerate(tasks):
        where = f"task {task.get('id', number)}"
        name = _name(task["data"])
        if not name:
            message = f"'{file}': {where} names no picture in its data"
            faults.append(Fault("error", "image", str(file), message, "Export pictures, or remove the task"))
            continue
        # Label Studio puts eight digits and a hyphen before the name of what was uploaded
        image = images.get(name) or images.get(name.partition("-")[2]) or root / "images" / name
        done = [one for one in task.get("annotations") or [] if not one.get("was_cancelled")]
        if not done:
            continue  # nobody annotated it
        if len(done) > 1:
            doubled.append(name)
        objects, names, size = _results(done[0].get("result") or [], where, file, faults)
        pictures.append(Annotated(PurePosixPath(name).stem, image, file, size, objects, names))
    if doubled:
        message = f"'{file}': {len(doubled)} pictures were annotated more than once, such as '{doubled[0]}': the first one counts"
        faults.append(
            Fault("warning", "annotated_twice", str(file), message, "Delete the others, or export them apart")
        )
    left = len(tasks) - len(pictures)
    if left:
        message = f"'{file}': {left} of {len(tasks)} tasks without an annotation are left out"
        faults.append(Fault("warning", "left_out", str(file), message, "Annotate them, if they are to count"))
    return pictures, faults


def _whole_task(task: dict[str, Any]) -> dict[str, Any]:
    """A task of JSON-MIN, where a region's value lies flat in a list beside the picture, as JSON has it."""
    regions = [
        region for value in task.values() if isinstance(value, list) for region in value if isinstance(region, dict)
    ]
    kinds = [next((key for key in region if key.endswith("labels")), "") for region in regions]
    result = [{**region, "type": kind, "value": region} for region, kind in zip(regions, kinds, strict=True)]
    data = {key: value for key, value in task.items() if isinstance(value, str) and not key.endswith("_at")}
    return {"id": task.get("id"), "data": data, "annotations": [{"result": result}]}


def _name(data: dict[str, Any]) -> str:
    names = [_file_name(str(value)) for value in data.values()]
    pictures = [name for name in names if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES]
    return next((name for name in (*pictures, *names) if PurePosixPath(name).suffix), "")


def _file_name(text: str) -> str:
    """The last part of a path or address, or of the path that an address asks for (?d=)."""
    address = urlparse(text)
    path = parse_qs(address.query).get("d", [address.path])[0]
    return PurePosixPath(unquote(path).replace("\\", "/")).name


def _results(
    results: list[dict[str, Any]], where: str, file: Path, faults: list[Fault]
) -> tuple[list[DrawnObject], list[str], tuple[int, int] | None]:
    objects, names, size, several = [], [], None, 0
    pictures = {(item.get("to_name"), item.get("item_index")) for item in results if "original_width" in item}
    if len(pictures) > 1:
        raise DataError(
            f"'{file}': {where} holds regions of {len(pictures)} pictures, and a task is read as one. Export each picture as a "
            "task of its own"
        )
    for number, item in enumerate(results):
        kind, value = str(item.get("type")), item.get("value") or {}
        labels = next((value[key] for key in (kind, f"{kind}labels", "labels") if value.get(key)), None)
        title = f"{where}, region {number} ({labels[0] if labels else kind})"
        if not labels or "original_width" not in item:
            continue  # a choice, a text, a relation: no region
        size = int(item["original_height"]), int(item["original_width"])
        if item.get("image_rotation"):
            message = f"'{file}': {title} was drawn on the picture turned by {item['image_rotation']} degrees"
            faults.append(
                Fault("error", "turned", str(file), message, "Turn the picture back in the tool, and export again")
            )
            continue
        several += len(labels) > 1
        with undrawable(faults, file, title):
            objects.append(_object(title, value, size))
            names.append(str(labels[0]))
    if several:
        message = f"'{file}': {several} regions of {where} have several labels; the first one counts"
        faults.append(
            Fault("warning", "labels", str(file), message, "A pixel has one class: give each region one label")
        )
    return objects, names, size


def _object(title: str, value: dict[str, Any], size: tuple[int, int]) -> DrawnObject:
    """A region of a picture of `size` (height, width), by what its value holds. Raises anything: see
    `undrawable`."""
    high, wide = size[0] / 100, size[1] / 100
    if "rle" in value:
        return DrawnObject(title, 0, runs=Runs(value["rle"], *size, brush=True))
    if "points" in value:
        return DrawnObject(title, 0, rings=(ring_of(value["points"]) * (wide, high),))
    if "radiusX" in value:
        radii = (value["radiusX"] * wide, value["radiusY"] * high)
        middle = (value["x"] * wide, value["y"] * high)
        return DrawnObject(title, 0, rings=(ellipse_ring(middle, radii, value.get("rotation") or 0.0),))
    if "height" in value:
        box = (value["x"] * wide, value["y"] * high, value["width"] * wide, value["height"] * high)
        return DrawnObject(title, 0, box=box)
    return DrawnObject(title, 0)
