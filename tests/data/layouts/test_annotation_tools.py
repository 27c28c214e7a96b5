"""Exports of annotation tools: random rectangles come back pixel for pixel, and what cannot be drawn is told by name."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pspnet.data.catalog import available_splits, open_dataset, open_unchecked
from pspnet.errors import ConfigError, DataError, LabelError, PspnetError
from pspnet.images import encode_png
from pspnet.labels import IGNORE
from support.annotation_tools import (
    HEIGHT,
    TOOLS,
    WIDTH,
    Rectangle,
    corners,
    picture,
    truth,
    write_brushes,
    write_cvat,
    write_cvat_xml,
    write_label_studio,
    write_labelme,
    write_roboflow,
    write_yolo,
)
from support.fakes import write_folder, write_voc

EDGES = st.tuples(st.sampled_from(range(2)), st.integers(0, WIDTH - 4), st.integers(0, HEIGHT - 4))
RECTANGLES = st.lists(
    EDGES.flatmap(
        lambda at: st.tuples(*map(st.just, at), st.integers(at[1] + 2, WIDTH), st.integers(at[2] + 2, HEIGHT))
    ),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize("tool", TOOLS)
@given(objects=RECTANGLES)
@settings(max_examples=25, deadline=None)
def test_random_objects_come_back(
    tool: str, objects: list[Rectangle], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp(tool.replace(" ", "_"))
    write, split = TOOLS[tool]
    write(root, objects)
    dataset = open_dataset(tool.split()[0], root, split)
    assert [str(fault) for fault in dataset.faults] == []
    np.testing.assert_array_equal(np.array(dataset.label_space.names, object)[dataset[0].labels], truth(objects))


@pytest.mark.parametrize("tool", ["yolo_polygons", "roboflow_masks", "cvat_masks", "label_studio", "cvat_xml"])
def test_the_folder_layout_names_the_right_one(tool: str, tmp_path: Path) -> None:
    TOOLS[tool][0](tmp_path, [(0, 1, 1, 9, 9)])
    with pytest.raises(ConfigError, match=f"use the format {tool}"):
        open_dataset("folder", tmp_path)


ONE: list[Rectangle] = [(0, 4, 4, 12, 12)]


def faults_of(format: str, root: Path, split: str = "train", **options: Any) -> tuple[Any, str]:
    dataset = open_unchecked(format, root, split, **options)
    return dataset, "\n".join(f"{fault.severity} {fault.kind}: {fault}" for fault in dataset.faults)


def test_shapes_of_labelme(tmp_path: Path) -> None:
    write_labelme(tmp_path, ONE, shape_type="rectangle", points=[[12, 12], [4, 4]])
    np.testing.assert_array_equal(open_dataset("labelme", tmp_path)[0].labels == 1, truth(ONE) == "cat")
    write_labelme(tmp_path, ONE, shape_type="circle", points=[[20, 10], [26, 10]])
    assert abs(int((open_dataset("labelme", tmp_path)[0].labels == 1).sum()) - np.pi * 36) < 4
    mask = base64.b64encode(encode_png(np.full((8, 8), 255, np.uint8))).decode()
    write_labelme(tmp_path, ONE, shape_type="mask", mask=mask, points=[[4, 4], [11, 11]])
    np.testing.assert_array_equal(open_dataset("labelme", tmp_path)[0].labels == 1, truth(ONE) == "cat")
    write_labelme(tmp_path, ONE, label="__ignore__")
    content = json.loads((tmp_path / "train/a.json").read_text())
    content["shapes"].insert(0, {"label": "cat", "points": [[0, 0], [40, 0], [40, 20]], "shape_type": "polygon"})
    content["shapes"].append({"label": "dog", "points": [[1, 1], [3, 3]], "shape_type": "line"})
    content["shapes"].append({"label": "dog", "points": [[1, 1], [3, 3]], "shape_type": "spline"})
    (tmp_path / "train/a.json").write_text(json.dumps(content))
    dataset, messages = faults_of("labelme", tmp_path)
    assert (dataset[0].labels[5:11, 5:11] == IGNORE).all()
    assert "warning objects_outline" in messages
    assert "error object" in messages
    assert "shape_type 'spline' is not known" in messages


def test_labelme_undivided_and_with_a_table(tmp_path: Path) -> None:
    for i in range(5):
        write_labelme(tmp_path / "x", ONE)
        for ending in ("png", "json"):
            (tmp_path / f"x/train/a.{ending}").rename(tmp_path / f"p{i}.{ending}")
    (tmp_path / "x/train").rmdir()
    assert available_splits("labelme", tmp_path) == ("train", "val")
    assert [len(open_dataset("labelme", tmp_path, split)) for split in ("train", "val", "all")] == [4, 1, 5]
    (tmp_path / "table.csv").write_text("code,name,red,green,blue\n0,dog,1,1,1\n1,Background,0,0,0\n")
    _, messages = faults_of("labelme", tmp_path, "all", classes=tmp_path / "table.csv")
    assert "warning unknown_class" in messages
    assert "5 objects of 'cat', which the class table does not have" in messages


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0.5 0.5 0.2 0.2", "error objects_outline"),
        ("5 0.1 0.1 0.2 0.1 0.2 0.2", "class 5; data.yaml names 0, 1"),
        ("0 10 10 20 10 20 20", "20 is no fraction"),
        ("0 0.1 0.1 0.2", "3 numbers after the class are neither"),
        ("cat 0.1 0.1 0.2 0.1 0.2 0.2", "something else than numbers"),
    ],
)
def test_lines_of_yolo_that_are_no_polygons(line: str, words: str, tmp_path: Path) -> None:
    write_yolo(tmp_path, ONE)
    (tmp_path / "labels/train/a.txt").write_text(line + "\n")
    assert words in faults_of("yolo_polygons", tmp_path)[1]


def test_yolo_counts_pictures_without_a_file(tmp_path: Path) -> None:
    write_yolo(tmp_path, ONE)
    picture(tmp_path / "images/train/b.png")
    dataset, messages = faults_of("yolo_polygons", tmp_path)
    assert "1 of 2 pictures have no text file" in messages
    assert not dataset[1].labels.any()


def test_what_label_studio_cannot_hand_over(tmp_path: Path) -> None:
    write_label_studio(tmp_path, ONE)
    file = tmp_path / "project-1-at-2026-01-01.json"
    tasks = json.loads(file.read_text())
    size = {"original_width": WIDTH, "original_height": HEIGHT}
    done = tasks[0]["annotations"]
    done.append({"result": []})
    done[0]["result"] += [
        {
            "type": "rectanglelabels",
            **size,
            "value": {"x": 50, "y": 50, "width": 25, "height": 25, "rectanglelabels": ["dog"]},
        },
        {"type": "choices", "value": {"choices": ["sharp"]}},
    ]
    tasks.append({"id": 8, "data": {"image": "b.png"}, "annotations": []})
    file.write_text(json.dumps(tasks))
    dataset, messages = faults_of("label_studio", tmp_path, "all")
    assert "1 of 2 objects have no outline, only a box" in messages
    assert "1 pictures were annotated more than once" in messages
    assert "1 of 2 tasks without an annotation are left out" in messages
    assert set(np.unique(dataset[0].labels[10:15, 20:30])) == {IGNORE}
    done[0]["result"].append(
        {"type": "polygonlabels", **size, "image_rotation": 90, "value": {"polygonlabels": ["dog"]}}
    )
    done[0]["result"].append(
        {"type": "polygonlabels", **size, "value": {"points": [[1, "x"]], "polygonlabels": ["dog"]}}
    )
    file.write_text(json.dumps(tasks))
    _, messages = faults_of("label_studio", tmp_path, "all")
    assert "region 3 (dog) was drawn on the picture turned by 90 degrees" in messages
    assert "region 4 (dog) cannot be drawn" in messages
    file.write_text('[{"id": 3}]')
    with pytest.raises(DataError, match="no export of Label Studio's"):
        open_dataset("label_studio", tmp_path, "all")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[: len(data) // 2], "end early"),
        (lambda data: [*data[:3], data[3] + 4, *data[4:]], "the picture 800 pixels"),
        (lambda data: [300, *data], "no list of bytes"),
        pytest.param(lambda data: "rle", "no list of bytes", marks=pytest.mark.wrong_types),
    ],
)
def test_damaged_brush_strokes_of_label_studio(change: Callable[[Any], Any], words: str, tmp_path: Path) -> None:
    write_brushes(tmp_path, ONE)
    file = tmp_path / "project-1-at-2026-01-01.json"
    tasks = json.loads(file.read_text())
    value = tasks[0]["annotations"][0]["result"][0]["value"]
    value["rle"] = change(value["rle"])
    file.write_text(json.dumps(tasks))
    with pytest.raises(LabelError, match=rf"task 0, region 0 \(cat\) of '.*{words}"):
        open_dataset("label_studio", tmp_path, "all")[0]


def test_an_ellipse_of_label_studio(tmp_path: Path) -> None:
    write_label_studio(tmp_path, ONE)
    file = tmp_path / "project-1-at-2026-01-01.json"
    tasks = json.loads(file.read_text())
    value = {"x": 50, "y": 50, "radiusX": 10, "radiusY": 40, "rotation": 90, "ellipselabels": ["cat"]}
    tasks[0]["annotations"][0]["result"][0].update(type="ellipselabels", value=value)
    file.write_text(json.dumps(tasks))
    labels = open_dataset("label_studio", tmp_path, "all")[0].labels
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    wanted = ((columns - 20) / 8) ** 2 + ((rows - 10) / 4) ** 2 < 1  # a quarter turn exchanges the radii
    assert (labels != wanted).sum() <= 4


def test_cvat_without_its_pictures_or_colours(tmp_path: Path) -> None:
    write_cvat(tmp_path, ONE)
    (tmp_path / "labelmap.txt").write_text("background:0,0,0::\ncat:300,0,0::\n")
    with pytest.raises(ConfigError, match=r"labelmap\.txt' line 2"):
        open_dataset("cvat_masks", tmp_path, "all")
    (tmp_path / "labelmap.txt").write_text("background:0,0,0::\ncat:250,50,83::\n")
    (tmp_path / "JPEGImages").rename(tmp_path / "photos")
    with pytest.raises(DataError, match="export with 'save images'"):
        open_dataset("cvat_masks", tmp_path, "all")
    assert len(open_dataset("cvat_masks", tmp_path, "all", images="photos")) == 1


def test_masks_beside_their_pictures_in_a_plain_folder(tmp_path: Path) -> None:
    write_roboflow(tmp_path, ONE)
    options = {"images": ".", "labels": ".", "label_suffix": "_mask", "classes": tmp_path / "train/_classes.csv"}
    assert len(open_dataset("folder", tmp_path, **options)) == 1


def write_coco_export(root: Path, objects: list[Rectangle]) -> None:
    picture(root / "images/a.png")
    annotations = [
        {
            "id": number,
            "image_id": 1,
            "category_id": one[0] + 1,
            "iscrowd": 0,
            "area": 4.0,
            "bbox": [one[1], one[2], 2, 2],
            "segmentation": [np.array(corners(one)).ravel().tolist()],
        }
        for number, one in enumerate(objects)
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    (root / "result.json").write_text(json.dumps(content))


def places_of(content: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON content."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [position for key, value in items for position in [(content, key), *places_of(value)]]


ODD = st.sampled_from(
    [None, True, -1, 0, 10**400, 1e308, float("nan"), float("inf"), "", "x", "\ud800", [], {}, [[]], [None], {"a": 1}]
)
JSON_TOOLS = {"labelme": write_labelme, "label_studio": write_label_studio, "coco": write_coco_export}


@pytest.mark.parametrize("tool", JSON_TOOLS)
@given(where=st.integers(0, 10**6), odd=ODD)
@settings(max_examples=60, deadline=None)
def test_any_value_of_an_export_is_read_or_is_an_error_of_ours(
    tool: str, where: int, odd: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp(tool)
    JSON_TOOLS[tool](root, [(0, 1, 1, 9, 9), (1, 3, 3, 8, 8)])
    file = next(root.rglob("*.json"))
    content = json.loads(file.read_text())
    container, key = places_of(content)[where % len(places_of(content))]
    container[key] = odd
    file.write_text(json.dumps(content))
    text = str(root)
    try:
        dataset = open_unchecked(tool, root, "train", val_share=0.01)
        for index in range(len(dataset)):
            dataset.inspect(index)
    except PspnetError as error:
        text = str(error)
    assert str(root) in text


@pytest.mark.parametrize(
    "line", ["nan 0 0 1 0 1 1", "inf 0 0 1 0 1 1", "0 nan 0 1 0 1 1", "0 inf 0 1 0 1 1", "1e999 0 0"]
)
def test_numbers_that_are_none_are_a_fault_of_the_line(line: str, tmp_path: Path) -> None:
    write_yolo(tmp_path, ONE)
    (tmp_path / "labels/train/a.txt").write_text(line)
    _, messages = faults_of("yolo_polygons", tmp_path)
    assert "a.txt' line 1: " in messages


@pytest.mark.parametrize(
    "text", ["names: {a: b}", "names: {.inf: b}", "[" * 5000, "names: [[]]\n? [1]\n: 2", "3", "!!set {a}"]
)
def test_names_of_any_content_are_an_error_of_the_file(text: str, tmp_path: Path) -> None:
    write_yolo(tmp_path, ONE)
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(PspnetError, match=r"data.yaml'"):
        open_unchecked("yolo_polygons", tmp_path, "train")


def test_what_cvats_xml_holds(tmp_path: Path) -> None:
    """Boxes, points and lines are no outline; tracks are a film; a mask that does not fit is named."""
    write_cvat_xml(tmp_path, ONE)
    file = tmp_path / "annotations.xml"
    text = file.read_text()
    more = (
        '<box label="dog" xtl="20" ytl="2" xbr="30" ybr="12" z_order="0"/><points label="cat" points="1,1"/>'
        '<ellipse label="dog" cx="35" cy="10" rx="3" ry="5" z_order="0"/><tag label="cat"/>'
        '<mask label="cat" rle="1, 2" left="0" top="0" width="2" height="2"/>'
    )
    file.write_text(text.replace("</image>", more + "</image>"))
    dataset, words = faults_of("cvat_xml", tmp_path, "all")
    assert "2 of 4 objects have no outline" in words
    assert "mask 4 (cat) of 'a.png' cannot be drawn (its run lengths cover 3 pixels, its box has 4)" in words
    labels = dataset[0].labels
    assert (labels[2:12, 20:30] == IGNORE).all()
    assert labels[10, 35] == 2
    file.write_text(text.replace("<image ", "<track/><image "))
    with pytest.raises(DataError, match=r"'CVAT for video'.*export the task as 'CVAT for images 1\.1'"):
        open_dataset("cvat_xml", tmp_path)
    file.write_text(text.replace('name="a.png"', 'name="a.png" subset="Validation"'))
    assert available_splits("cvat_xml", tmp_path) == ("val",)
    file.write_text("<html>")
    with pytest.raises(DataError, match=r"annotations\.xml' is no XML of CVAT's"):
        open_dataset("cvat_xml", tmp_path)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (("meta.json", "ds0/ann/a.png.json"), "Supervisely's own format.*Export as masks"),
        (("via_region_data.json",), "VGG Image Annotator's own format.*COCO"),
        (("export.ndjson",), "Labelbox's own format"),
        (("annotations/default.json",), "Datumaro's own format.*datum convert"),
        (("gTruth.mat",), r"MATLAB's own format.*imwrite"),
        (("data/train-0001.parquet",), "Hugging Face's own format"),
        (("Annotations/a.xml",), "detection data set's own format.*boxes"),
        (("config_v2.0.json",), "Mapillary Vistas' own format"),
    ],
)
@pytest.mark.parametrize("format", ["folder", "coco", "labelme"])
def test_exports_that_no_format_reads_are_refused_by_name(
    format: str, files: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    with pytest.raises(PspnetError, match=f"{files[-1]}' is in (the |a |){words}"):
        open_dataset(format, tmp_path)


def test_boxes_that_were_exported_as_outlines(tmp_path: Path) -> None:
    """Roboflow, CVAT and Ultralytics write boxes as polygons of four corners; so are oriented boxes (OBB)."""
    rng = np.random.default_rng(0)
    picture(tmp_path / "images/train/a.png")
    (tmp_path / "labels/train").mkdir(parents=True)
    (tmp_path / "data.yaml").write_text("names: [cat, dog]\n")
    lines = []
    for number in range(25):
        turn, middle = rng.uniform(0, np.pi), rng.uniform(8, 12, 2)
        axes = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) * [[4], [2]]
        ring = np.array([middle + a * axes[0] + b * axes[1] for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))])
        lines.append(f"{number % 2} " + " ".join(f"{v:.6f}" for v in (ring / [WIDTH, HEIGHT]).ravel()))
    file = tmp_path / "labels/train/a.txt"
    file.write_text("\n".join(lines))
    _, text = faults_of("yolo_polygons", tmp_path)
    assert "each of its 25 objects is a rectangle: were boxes exported as outlines?" in text
    file.write_text("\n".join([*lines, "0 0.1 0.1 0.5 0.1 0.2 0.6"]))
    assert "rectangle" not in faults_of("yolo_polygons", tmp_path)[1]


def test_what_exports_hold_beside_pairs_is_counted(tmp_path: Path) -> None:
    write_yolo(tmp_path / "yolo", ONE)
    (tmp_path / "yolo/labels/train/b.txt").write_text("0 0.5 0.5 0.1 0.1\n")  # its picture is a HEIC
    assert "1 text files have no picture that is read, such as" in faults_of("yolo_polygons", tmp_path / "yolo")[1]
    (tmp_path / "yolo/data.yaml").write_text("names: [person]\nkpt_shape: [17, 3]\n")
    with pytest.raises(DataError, match="kpt_shape: its lines hold a box and key points"):
        open_dataset("yolo_polygons", tmp_path / "yolo")
    write_labelme(tmp_path / "labelme", ONE)
    picture(tmp_path / "labelme/train/b.png")
    assert "1 pictures have no JSON beside them and are left out" in faults_of("labelme", tmp_path / "labelme")[1]
    write_folder(tmp_path / "folder")
    (tmp_path / "folder/train/images/IMG_1.HEIC").write_bytes(b"ftypheic")
    assert (
        "1 .heic files are not read and left out, such as 'IMG_1.HEIC'" in faults_of("folder", tmp_path / "folder")[1]
    )


def test_regions_that_are_no_label_of_one_picture(tmp_path: Path) -> None:
    """Tasks of two pictures (or pages of a document), and regions with several labels."""
    write_label_studio(tmp_path, [*ONE, (1, 20, 4, 30, 12)])
    file = tmp_path / "project-1-at-2026-01-01.json"
    (task,) = json.loads(file.read_text())
    first, second = task["annotations"][0]["result"]
    first["value"]["polygonlabels"] = ["cat", "dog"]
    file.write_text(json.dumps([task]))
    assert (
        "1 regions of task 7 have several labels; the first one counts" in faults_of("label_studio", tmp_path, "all")[1]
    )
    for key, values in (("to_name", ("left", "right")), ("item_index", (0, 1))):
        first[key], second[key] = values
        file.write_text(json.dumps([task]))
        with pytest.raises(DataError, match="task 7 holds regions of 2 pictures"):
            open_dataset("label_studio", tmp_path, "all")
        del first[key], second[key]


def test_yolo_with_another_number_of_names(tmp_path: Path) -> None:
    write_yolo(tmp_path, ONE)
    (tmp_path / "data.yaml").write_text("nc: 3\nnames: [cat, dog]\n")
    with pytest.raises(DataError, match="says nc: 3 classes and names 2"):
        open_dataset("yolo_polygons", tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("labelmap.txt", "background:0,0,0::\nroad:128,0,0::\n", "cvat_masks"),
        ("class_names.txt", "_background_\nroad\n", "folder"),
    ],
)
def test_vocs_folders_with_other_classes(name: str, text: str, words: str, tmp_path: Path) -> None:
    """CVAT and labelme2voc write any data set in VOC's folders; its codes are no aeroplanes."""
    write_voc(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=rf"{name}' names other classes than VOC's 21 \(.*road.*{words}"):
        open_dataset("voc", tmp_path)
    (tmp_path / name).write_text("__ignore__\n_background_\naeroplane\nperson\n")
    assert len(open_dataset("voc", tmp_path))
