"""COCO files as tools really write them: every object is drawn, or counted and told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pspnet.config import DataConfig
from pspnet.data.catalog import available_splits, open_dataset, open_unchecked
from pspnet.data.doctor import check_splits
from pspnet.errors import DataError, LabelError
from pspnet.images import write_png
from pspnet.labels import IGNORE
from pspnet.training.resolve import open_data

HEIGHT, WIDTH = 24, 32


def box(number: Any, image: Any, category: Any, x: int, y: int, w: int, h: int, **more: Any) -> dict[str, Any]:
    outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": [x, y, w, h],
        "segmentation": outline,
        **more,
    }


def write(root: Path, content: dict[str, Any], *, size: tuple[int, int] = (HEIGHT, WIDTH), where: str = "") -> Path:
    """images, annotations and categories as given; `images` are (id, name) or whole entries."""
    images = [
        one if isinstance(one, dict) else {"id": one[0], "file_name": one[1], "height": size[0], "width": size[1]}
        for one in content["images"]
    ]
    for image in images:
        write_png(root / "train2017" / Path(image["file_name"]).name, np.zeros((*size, 3), np.uint8))
    file = root / (where or "annotations/instances_train2017.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    categories = [{"id": i, "name": n} for i, n in content["categories"]]
    file.write_text(json.dumps({"images": images, "annotations": content["annotations"], "categories": categories}))
    return root


def labels_of(root: Path, index: int = 0, **options: Any) -> tuple[tuple[str, ...], np.ndarray, list[str]]:
    dataset = open_unchecked("coco", root, "train", **options)
    labels = dataset[index].labels
    assert labels is not None
    return dataset.label_space.names, labels, [f"{fault.severity} {fault.kind}: {fault}" for fault in dataset.faults]


CAT, DOG = (1, "cat"), (2, "dog")


def test_ids_from_zero(tmp_path: Path) -> None:
    """Label Studio and FiftyOne number categories from 0: what nobody outlined is not category 0."""
    write(
        tmp_path,
        {
            "images": [(1, "a.png")],
            "categories": [(0, "cat"), (1, "dog")],
            "annotations": [box(1, 1, 0, 2, 2, 8, 8), box(2, 1, 1, 20, 5, 8, 8)],
        },
    )
    names, labels, faults = labels_of(tmp_path)
    assert (names, faults) == (("background", "cat", "dog"), [])
    assert [labels[4, 4], labels[6, 22], labels[20, 2]] == [1, 2, 0]
    table = tmp_path / "table.csv"
    table.write_text("code,name,red,green,blue\n0,cat,200,0,0\n1,dog,0,200,0\n")
    names, labels, _ = labels_of(tmp_path, classes=str(table))
    assert [labels[4, 4], labels[6, 22], labels[20, 2]] == [0, 1, IGNORE]
    table.write_text("code,name,red,green,blue\n0,cat,200,0,0\n1,dog,0,200,0\n9,Background,0,0,0\n")
    assert labels_of(tmp_path, classes=str(table))[1][20, 2] == 2


def test_text_numbers_and_fractions_as_ids(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"images": [(1, "a.png")], "categories": [("1", "cat"), CAT], "annotations": [box("x", "1", 1.0, 2, 2, 8, 8)]},
    )
    names, labels, faults = labels_of(tmp_path)
    assert (names, labels[4, 4], faults) == (("background", "cat"), 1, [])


def test_categories_that_are_background_or_named_twice(tmp_path: Path) -> None:
    categories = [(0, "_background_"), (3, "cat"), (7, "cat"), (8, "dog")]
    annotations = [box(1, 1, 0, 0, 0, 4, 4), box(2, 1, 7, 10, 10, 4, 4), box(3, 1, 3, 20, 10, 4, 4)]
    write(tmp_path, {"images": [(1, "a.png")], "categories": categories, "annotations": annotations})
    names, labels, _ = labels_of(tmp_path)
    assert names == ("_background_", "cat", "dog")
    assert [labels[1, 1], labels[11, 11], labels[11, 21]] == [0, 1, 1]
    write(tmp_path, {"images": [(1, "a.png")], "categories": [CAT, (1, "dog")], "annotations": annotations})
    with pytest.raises(DataError, match="the category id 1 is both 'cat' and 'dog'"):
        open_dataset("coco", tmp_path)


def runs(mask: np.ndarray, **more: Any) -> dict[str, Any]:
    flat = np.concatenate([[0], mask.T.ravel(), [0]])
    edges = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()
    return {"counts": counts, "size": list(mask.shape), **more}


def test_brush_masks_that_are_marked_as_crowds(tmp_path: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[3:9, 4:12] = True
    item = box(1, 1, 1, 4, 3, 8, 6) | {"segmentation": runs(mask), "iscrowd": 1}
    write(
        tmp_path, {"images": [(1, "a.png")], "categories": [CAT, DOG], "annotations": [item, box(2, 1, 2, 20, 5, 4, 4)]}
    )
    _, labels, faults = labels_of(tmp_path)
    assert set(labels[mask]) == {IGNORE}
    assert "warning crowds" in faults[0]
    assert "every object of the class 'cat' is marked iscrowd (1 objects)" in faults[0]
    _, labels, faults = labels_of(tmp_path, crowds="objects")
    np.testing.assert_array_equal(labels == 1, mask)
    assert faults == []


def test_boxes_without_an_outline(tmp_path: Path) -> None:
    """A detection export, or objects too small to draw: their boxes are no background."""
    bare: list[Any] = [[], None, {}]
    items = [box(i, 1, 1, 2 + 9 * i, 2, 6, 6, segmentation=given) for i, given in enumerate(bare)]
    del items[2]["segmentation"]
    write(
        tmp_path, {"images": [(1, "a.png")], "categories": [CAT], "annotations": [*items, box(9, 1, 1, 20, 15, 4, 4)]}
    )
    _, labels, faults = labels_of(tmp_path)
    assert [labels[4, 4], labels[4, 13], labels[4, 22], labels[16, 21], labels[20, 2]] == [IGNORE] * 3 + [1, 0]
    assert "warning objects_outline" in faults[0]
    assert "3 of 4 objects have no outline, only a box" in faults[0]
    write(tmp_path, {"images": [(1, "a.png")], "categories": [CAT], "annotations": items})
    with pytest.raises(DataError, match=r"3 of 3 objects have no outline.*a detection export teaches no segmentation"):
        open_dataset("coco", tmp_path)


@pytest.mark.parametrize(
    ("outline", "words"),
    [
        ([[1, 1, 5, 5]], "have fewer than 3 corners"),
        ([[100, 100, 120, 100, 120, 120]], "lie wholly outside"),
        ([[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]], "coordinates of 0 to 1"),
        ([[1, 1, 5, 5, 7]], "5 numbers are no pairs"),
        ([["a", "b"]], "could not convert"),
        ([[1, 1, None, 5, 7, 7]], "cannot be drawn"),
        ("polygon", "a list or run lengths, not str"),
        ({"counts": [4, 4], "size": [2, 4]}, "run lengths are of 4 x 2 px, the picture is 32 x 24"),
        ({"counts": [4, 4]}, "KeyError: 'size'"),
        ({"counts": [4, 4], "size": [HEIGHT, WIDTH]}, "cover 8 pixels"),
    ],
)
def test_outlines_that_cannot_be_drawn_are_told(outline: Any, words: str, tmp_path: Path) -> None:
    item = box(7, 1, 1, 1, 1, 1, 1, segmentation=outline)
    write(tmp_path, {"images": [(1, "a.png")], "categories": [CAT], "annotations": [item]})
    dataset = open_unchecked("coco", tmp_path)
    messages = [str(fault) for fault in dataset.faults if fault.severity == "error"] + [
        str(f) for f in dataset.inspect(0)[1]
    ]
    assert any(words in text for text in messages), messages
    assert any("7" in text for text in messages)


def test_a_flat_ring_and_an_area_of_nothing(tmp_path: Path) -> None:
    flat = box(1, 1, 1, 2, 2, 8, 8, segmentation=[2, 2, 10, 2, 10, 10, 2, 10], area=None)
    inner = box(2, 1, 2, 4, 4, 3, 3, area="")
    write(tmp_path, {"images": [(1, "a.png")], "categories": [CAT, DOG], "annotations": [inner, flat]})
    _, labels, _ = labels_of(tmp_path)
    assert [labels[3, 3], labels[5, 5], labels[9, 9]] == [1, 2, 1]  # the smaller one is on top


def test_objects_of_no_image(tmp_path: Path) -> None:
    items = [box(1, 1, 1, 2, 2, 8, 8), box(2, 601, 1, 2, 2, 8, 8), box(3, 602, 1, 2, 2, 8, 8)]
    write(tmp_path, {"images": [(1, "a.png")], "categories": [CAT], "annotations": items})
    assert "2 annotations belong to images that it does not list: '601', '602'" in labels_of(tmp_path)[2][0]


@pytest.mark.parametrize("sizes", [{}, {"height": None, "width": None}, {"height": 0, "width": 0}])
def test_sizes_that_are_absent_are_the_pictures_own(sizes: dict[str, Any], tmp_path: Path) -> None:
    image = {"id": 1, "file_name": "a.png", **sizes}
    write(tmp_path, {"images": [image], "categories": [CAT], "annotations": [box(1, 1, 1, 2, 2, 8, 8)]})
    _, labels, _ = labels_of(tmp_path)
    assert labels.shape == (HEIGHT, WIDTH)
    assert (labels == 1).sum() == 64


def test_a_size_that_is_not_the_pictures(tmp_path: Path) -> None:
    image = {"id": 1, "file_name": "a.png", "height": 48, "width": 64}
    write(tmp_path, {"images": [image], "categories": [CAT], "annotations": [box(1, 1, 1, 2, 2, 8, 8)]})
    with pytest.raises(LabelError, match=r"is 64 x 48 px, its image .* is 32 x 24 px"):
        open_dataset("coco", tmp_path)[0]


def test_one_stem_twice_and_images_named_twice(tmp_path: Path) -> None:
    items = [box(1, 1, 1, 2, 2, 8, 8), box(2, 2, 2, 2, 2, 8, 8)]
    write(tmp_path, {"images": [(1, "a.png"), (2, "a.tif")], "categories": [CAT, DOG], "annotations": items})
    dataset = open_dataset("coco", tmp_path)
    assert [dataset[i].name for i in range(2)] == ["a.png", "a.tif"]
    assert [dataset[i].labels[4, 4] for i in range(2)] == [1, 2]  # type: ignore[index]
    write(tmp_path, {"images": [(1, "a.png"), (1, "b.png")], "categories": [CAT, DOG], "annotations": items})
    with pytest.raises(DataError, match=r"the image id 1 belongs to 'a' and 'b\.png'"):
        open_dataset("coco", tmp_path)
    write(tmp_path, {"images": [(1, "a.png"), (2, "a.png")], "categories": [CAT, DOG], "annotations": items})
    with pytest.raises(DataError, match=r"the list names twice 'a\.png'"):
        open_dataset("coco", tmp_path)


def test_panoptic_files_and_lists_of_something_else(tmp_path: Path) -> None:
    item = {"image_id": 1, "file_name": "a.png", "segments_info": [{"id": 3, "category_id": 1}]}
    write(tmp_path, {"images": [(1, "a.png")], "categories": [CAT], "annotations": [item]})
    with pytest.raises(DataError, match="COCO's panoptic format"):
        open_dataset("coco", tmp_path)
    write(tmp_path, {"images": [(1, "a.png")], "categories": [CAT], "annotations": [[1, 2]]})
    with pytest.raises(DataError, match="annotations holds something else"):
        open_dataset("coco", tmp_path)
    write(tmp_path, {"images": [(1, "a.png")], "categories": [CAT], "annotations": [{"id": 3, "image_id": 1}]})
    with pytest.raises(DataError, match="annotation 3 has the category None"):
        open_dataset("coco", tmp_path)


@pytest.mark.parametrize(
    ("file", "folder"),
    [
        ("result.json", "images"),  # Label Studio
        ("annotations/instances_default.json", "images/default"),  # CVAT
        ("labels.json", "data"),  # FiftyOne
        ("_annotations.coco.json", "."),  # Roboflow, undivided
    ],
)
def test_exports_that_are_not_divided(file: str, folder: str, tmp_path: Path) -> None:
    """One file for all: a fifth is held out; the paths of another machine are found by their names."""
    images = [(i, f"C:\\work\\images\\{i}.png") for i in range(5)]
    items = [box(i, i, 1, 2, 2, 8, 8) for i in range(5)]
    write(tmp_path / "x", {"images": images, "categories": [CAT], "annotations": items})
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for i in range(5):
        write_png(tmp_path / folder / f"{i}.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "x/annotations/instances_train2017.json").rename(tmp_path / file)
    assert available_splits("coco", tmp_path) == ("train", "val")
    parts = [open_dataset("coco", tmp_path, split) for split in ("train", "val", "all")]
    assert [len(part) for part in parts] == [4, 1, 5]
    assert (parts[2][0].labels == 1).sum() == 64


RECTANGLE = st.tuples(
    st.integers(0, WIDTH - 2), st.integers(0, HEIGHT - 2), st.integers(1, WIDTH), st.integers(1, HEIGHT)
)


@given(
    st.lists(st.tuples(st.integers(0, 2), RECTANGLE, st.booleans()), min_size=1, max_size=6),
    st.sampled_from([(1, 2, 3), (0, 1, 2), (5, 70, 9)]),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_random_files_come_back(
    tmp_path_factory: pytest.TempPathFactory,
    objects: list[tuple[int, tuple[int, int, int, int], bool]],
    ids: tuple[int, int, int],
    with_area: bool,
) -> None:
    """Rectangles as polygons or run lengths, of ids from 0 or not, with areas or without: pixel for pixel."""
    annotations, painted = [], []
    for number, (category, (x, y, w, h), as_runs) in enumerate(objects):
        w, h = min(w, WIDTH - x), min(h, HEIGHT - y)
        item = box(number, 1, ids[category], x, y, w, h, **({"area": w * h} if with_area else {}))
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[y : y + h, x : x + w] = True
        if as_runs:
            item["segmentation"] = runs(mask)
        annotations.append(item)
        painted.append((-w * h, number, category, mask))
    names = [(i, name) for i, name in zip(ids, ("cat", "dog", "cow"), strict=True)]
    root = write(
        tmp_path_factory.mktemp("coco"), {"images": [(1, "a.png")], "categories": names, "annotations": annotations}
    )
    actual, labels, faults = labels_of(root)
    wanted = np.full((HEIGHT, WIDTH), "background", object)
    for _, _, category, mask in sorted(painted, key=lambda one: one[:2]):
        wanted[mask] = ("cat", "dog", "cow")[category]
    np.testing.assert_array_equal(np.array(actual, object)[labels], wanted)
    assert faults == []


def test_categories_that_differ_in_case_are_one_class_and_told(tmp_path: Path) -> None:
    write_export(tmp_path, "train", ["cat", "Cat "], [1, 2])
    dataset = open_dataset("coco", tmp_path)
    assert dataset.label_space.names == ("background", "cat")
    assert (dataset[0].labels == 1).sum() == 2 * 64
    assert "the categories 'cat', 'Cat' are taken for one class" in str(dataset.faults[0])


@pytest.mark.parametrize(("names", "words"), [(["dog", "cat"], "in another order"), (["cat"], "it lacks 'dog'")])
def test_splits_of_other_classes_are_refused_by_the_check(names: list[str], words: str, tmp_path: Path) -> None:
    """Roboflow numbers each part's categories anew: label 1 would be a cat here and a dog there."""
    write_export(tmp_path, "train", ["cat", "dog"], [1, 2])
    write_export(tmp_path, "valid", names, [1], seed=1)
    report = check_splits("coco", tmp_path)
    assert any(f.kind == "classes" and words in str(f) for f in report.errors), report.faults
    with pytest.raises(DataError, match=words):
        open_data(DataConfig(format="coco", root=tmp_path), check=True)


def write_export(root: Path, split: str, names: list[str], objects: list[int], seed: int = 0) -> None:
    """Roboflow's: categories numbered from 1, an 8 x 8 px square of each object's."""
    folder = root / split
    folder.mkdir(parents=True)
    write_png(folder / "a.png", np.random.default_rng(seed).integers(0, 255, (32, 32, 3)).astype(np.uint8))
    annotations = [
        {
            "id": number,
            "image_id": 1,
            "category_id": category,
            "bbox": [10 * number, 2, 8, 8],
            "segmentation": [[10 * number, 2, 10 * number + 8, 2, 10 * number + 8, 10, 10 * number, 10]],
        }
        for number, category in enumerate(objects)
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 32, "height": 32}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, start=1)],
        "annotations": annotations,
    }
    (folder / "_annotations.coco.json").write_text(json.dumps(content))


def test_outlines_elsewhere_than_their_box(tmp_path: Path) -> None:
    """x and y exchanged in one of the two, or two exports put together; a box of two corners is a box."""
    good = box(1, 1, 1, 2, 3, 8, 4)
    corners = {**box(2, 1, 1, 10, 3, 6, 5), "bbox": [10, 3, 16, 8]}
    swapped = {**box(3, 1, 2, 2, 9, 3, 2), "bbox": [9, 2, 2, 3]}
    write(tmp_path, {"images": [(1, "a.png")], "categories": [CAT, DOG], "annotations": [good, corners, swapped]})
    faults = labels_of(tmp_path)[2]
    assert [text for text in faults if "1 of 3 objects have an outline elsewhere than their box: 'object 3" in text]
