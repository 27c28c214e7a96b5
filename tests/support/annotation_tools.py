"""Writers of tiny exports of annotation tools: rectangles of two classes on one picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pspnet.images import write_png

HEIGHT, WIDTH = 20, 40  # powers of two and ten: percents and fractions of them are exact
NAMES = ("cat", "dog")
Rectangle = tuple[int, int, int, int, int]  # class, left, top, right, bottom


def truth(objects: list[Rectangle]) -> np.ndarray:
    """Names of the classes; later ones are on top."""
    actual = np.full((HEIGHT, WIDTH), "background", object)
    for label, left, top, right, bottom in objects:
        actual[top:bottom, left:right] = NAMES[label]
    return actual


def corners(one: Rectangle) -> list[list[float]]:
    _, left, top, right, bottom = one
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def picture(path: Path) -> None:
    write_png(path, np.zeros((HEIGHT, WIDTH, 3), np.uint8))


def write_labelme(root: Path, objects: list[Rectangle], **shape: Any) -> None:
    picture(root / "train/a.png")
    shapes = [{"label": NAMES[one[0]], "points": corners(one), "shape_type": "polygon", **shape} for one in objects]
    content = {"imagePath": "..\\photos\\a.png", "imageHeight": HEIGHT, "imageWidth": WIDTH, "shapes": shapes}
    (root / "train/a.json").write_text(json.dumps(content))


def write_yolo(root: Path, objects: list[Rectangle]) -> None:
    picture(root / "images/train/a.png")
    scale = np.array([WIDTH, HEIGHT])
    lines = [" ".join(map(str, [one[0], *(np.array(corners(one)) / scale).ravel().tolist()])) for one in objects]
    (root / "labels/train").mkdir(parents=True, exist_ok=True)
    (root / "labels/train/a.txt").write_text("\r\n".join(lines) + "\r\n")
    (root / "data.yaml").write_text("names: [cat, dog]\ntrain: images/train\n")


def write_label_studio(root: Path, objects: list[Rectangle]) -> None:
    picture(root / "images/a.png")
    size = {"original_width": WIDTH, "original_height": HEIGHT}
    result = [
        {
            "type": "polygonlabels",
            **size,
            "value": {
                "points": (np.array(corners(one)) * [100 / WIDTH, 100 / HEIGHT]).tolist(),
                "polygonlabels": [NAMES[one[0]]],
            },
        }
        for one in objects
    ]
    task = {"id": 7, "data": {"image": "/data/upload/1/0a1b2c3d-a.png"}, "annotations": [{"result": result}]}
    (root / "project-1-at-2026-01-01.json").write_text(json.dumps([task]))


def brush_bytes(mask: np.ndarray, seed: int) -> list[int]:
    """Label Studio's run lengths of a mask, written by hand: bits as text, runs cut and repeated at random."""
    random = np.random.default_rng(seed)
    words = np.repeat(mask.astype(np.uint8).ravel() * 255, 4)
    sizes = sorted(random.choice(range(1, 15), 4, replace=False).tolist())
    text = f"{len(words):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in sizes)
    at = 0
    while at < len(words):
        chosen = int(random.integers(4))
        most = min(2 ** sizes[chosen], len(words) - at)
        same = next((k for k in range(most) if words[at + k] != words[at]), most)
        repeats = bool(random.integers(2)) or same > 40
        count = same if repeats else int(random.integers(1, most + 1))
        text += f"{int(repeats)}{chosen:02b}" + format(count - 1, f"0{sizes[chosen]}b")
        text += "".join(f"{int(word):08b}" for word in (words[at : at + 1] if repeats else words[at : at + count]))
        at += count
    text += "0" * (-len(text) % 8)
    return [int(text[i : i + 8], 2) for i in range(0, len(text), 8)]


def write_brushes(root: Path, objects: list[Rectangle]) -> None:
    picture(root / "images/a.png")
    result = []
    for number, (label, left, top, right, bottom) in enumerate(objects):
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[top:bottom, left:right] = True
        value = {"format": "rle", "rle": brush_bytes(mask, number), "brushlabels": [NAMES[label]]}
        result.append({"type": "brushlabels", "original_width": WIDTH, "original_height": HEIGHT, "value": value})
    task = {"data": {"title": "no. 1", "image": "/data/upload/1/0a1b2c3d-a.png"}, "annotations": [{"result": result}]}
    (root / "project-1-at-2026-01-01.json").write_text(json.dumps([task]))


def write_small_tasks(root: Path, objects: list[Rectangle]) -> None:
    """JSON-MIN: the values of the regions, flat."""
    write_label_studio(root, objects)
    file = root / "project-1-at-2026-01-01.json"
    (task,) = json.loads(file.read_text())
    result = task["annotations"][0]["result"]
    regions = [{**one["value"], "original_width": WIDTH, "original_height": HEIGHT} for one in result]
    flat = {
        "id": 7,
        "created_at": "2026-01-01T00:00:00.5Z",
        "note": "a.b",
        **task["data"],
        "label": regions,
        "annotator": 1,
    }
    file.write_text(json.dumps([flat]))


def write_roboflow(root: Path, objects: list[Rectangle]) -> None:
    picture(root / "train/a_jpg.rf.12.png")
    index = {"background": 0, "cat": 1, "dog": 2}
    labels = np.vectorize(index.get)(truth(objects)).astype(np.uint8)
    write_png(root / "train/a_jpg.rf.12_mask.png", labels)
    (root / "train/_classes.csv").write_text("Pixel Value, Class\n0, background\n1, cat\n2, dog\n")


def write_cvat(root: Path, objects: list[Rectangle]) -> None:
    picture(root / "JPEGImages/a.png")
    colours = {"background": (0, 0, 0), "cat": (250, 50, 83), "dog": (51, 221, 255)}
    (root / "SegmentationClass").mkdir(parents=True, exist_ok=True)
    pixels = np.array([colours[name] for name in truth(objects).ravel()], np.uint8).reshape(HEIGHT, WIDTH, 3)
    Image.fromarray(pixels).save(root / "SegmentationClass/a.png")
    lines = "".join(f"{name}:{r},{g},{b}::\n" for name, (r, g, b) in colours.items())
    (root / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n" + lines)
    (root / "ImageSets/Segmentation").mkdir(parents=True, exist_ok=True)
    (root / "ImageSets/Segmentation/default.txt").write_text("a\n")


def write_cvat_xml(root: Path, objects: list[Rectangle], masks: bool = False) -> None:
    picture(root / "images/a.png")
    shapes = []
    for order, (label, left, top, right, bottom) in enumerate(objects):
        if masks:
            pixels = np.ones((bottom - top, right - left), bool)
            shape = f'mask label="{NAMES[label]}" rle="0, {pixels.size}" left="{left}" top="{top}" '
            shape += f'width="{right - left}" height="{bottom - top}"'
        else:
            points = ";".join(f"{x:.2f},{y:.2f}" for x, y in corners((label, left, top, right, bottom)))
            shape = f'polygon label="{NAMES[label]}" source="manual" occluded="0" points="{points}"'
        shapes.append(f'<{shape} z_order="{order}"/>')
    labels = "".join(f"<label><name>{name}</name></label>" for name in ("cat", "dog"))
    picture_of = f'<image id="0" name="a.png" width="{WIDTH}" height="{HEIGHT}">{"".join(reversed(shapes))}</image>'
    text = f"<annotations><version>1.1</version><meta><task><labels>{labels}</labels></task></meta>{picture_of}</annotations>"
    (root / "annotations.xml").write_text(f'<?xml version="1.0" encoding="utf-8"?>\n{text}')


def write_cvat_xml_masks(root: Path, objects: list[Rectangle]) -> None:
    write_cvat_xml(root, objects, masks=True)


TOOLS: dict[str, tuple[Callable[[Path, list[Rectangle]], None], str]] = {
    "labelme": (write_labelme, "train"),
    "yolo_polygons": (write_yolo, "train"),
    "label_studio": (write_label_studio, "all"),
    "label_studio brushes": (write_brushes, "all"),
    "label_studio small": (write_small_tasks, "all"),
    "roboflow_masks": (write_roboflow, "train"),
    "cvat_masks": (write_cvat, "all"),
    "cvat_xml": (write_cvat_xml, "all"),
    "cvat_xml masks": (write_cvat_xml_masks, "all"),
}
