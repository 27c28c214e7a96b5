"""Writers of tiny data sets with the layout of real ones, for every test that needs files.

Each class is painted in its own colour with a little noise, so that a tiny network can learn the picture in a few
steps. Equal arguments write equal bytes.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest

from pspnet.data.dataset import Dataset
from pspnet.images import write_label, write_png
from pspnet.labels import IGNORE, LabelSpace

SPLITS = {"train": 4, "val": 2}
FAKE_CLASSES = LabelSpace(
    ("ground", "house", "tree"), ((120, 90, 60), (200, 60, 60), (30, 160, 70)), ignored_codes=(7, 255)
)


def fake_pair(
    space: LabelSpace, seed: int, size: tuple[int, int] = (40, 56), ignore: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """(image (H, W, 3) uint8, labels (H, W) uint8): rectangles of every class on the first one; a corner is ignored."""
    rng = np.random.default_rng([seed, *size])
    height, width = size
    labels = np.full(size, rng.integers(space.num_classes), np.uint8)
    for label in rng.permutation(space.num_classes)[:6]:
        top, left = rng.integers(0, height * 3 // 4), rng.integers(0, width * 3 // 4)
        labels[top : top + height // 3, left : left + width // 3] = label
    if ignore:
        labels[: height // 8, : width // 8] = IGNORE
    image = space.palette[labels].astype(int) + rng.integers(-12, 13, (*size, 3))
    return np.clip(image, 0, 255).astype(np.uint8), labels


def write_jpeg(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    assert cv2.imwrite(str(path), image[..., ::-1], options)


def write_grey(path: Path, codes: np.ndarray) -> None:
    """A label file as most data sets have it: grey values."""
    write_png(path, codes.astype(np.uint8) if codes.max() < 256 else codes.astype(np.uint16))


def write_class_csv(path: Path, space: LabelSpace) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["code", "name", "red", "green", "blue", "ignore"])
        for code, name, colour in zip(space.codes, space.names, space.colours, strict=True):
            table.writerow([code, name, *colour, 0])
        table.writerow([space.ignored_codes[0], "void", 0, 0, 0, 1])


def write_folder(
    root: Path,
    splits: Mapping[str, int] = SPLITS,
    *,
    space: LabelSpace = FAKE_CLASSES,
    size: tuple[int, int] = (40, 56),
    layout: Literal["split_first", "images_first", "flat", "lists", "csv"] = "split_first",
    decode: Literal["codes", "colours"] = "codes",
) -> LabelSpace:
    """A folder data set: JPEG images, grey (or colour) PNG labels, classes.csv. Returns its classes as read back."""
    root.mkdir(parents=True, exist_ok=True)
    write_class_csv(root / "classes.csv", space)
    rows = []
    seed = 0
    for split, count in splits.items():
        images, labels = {
            "split_first": (root / split / "images", root / split / "labels"),
            "images_first": (root / "images" / split, root / "labels" / split),
        }.get(layout, (root / "images", root / "labels"))
        names = [f"{split}_{number:03d}" for number in range(count)]
        for name in names:
            image, label = fake_pair(space, seed, size)
            seed += 1
            write_jpeg(images / f"{name}.jpg", image)
            if decode == "codes":
                write_grey(labels / f"{name}.png", space.encode(label))
            else:
                write_png(labels / f"{name}.png", space.palette[label])
            rows.append((f"images/{name}.jpg", f"labels/{name}.png", split))
        if layout == "lists":
            (root / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    if layout == "csv":
        with (root / "pairs.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([("image", "label", "split"), *rows])
    return LabelSpace.from_csv(root / "classes.csv")


def write_camvid(
    root: Path,
    splits: Mapping[str, int] = SPLITS | {"test": 2},
    size: tuple[int, int] = (36, 48),
    layout: Literal["folders", "segnet"] = "folders",
) -> LabelSpace:
    """CamVid with void = 11; the test split has no labels in the layout "folders", as the copy in shared/data."""
    space = LabelSpace.named("camvid")
    seed = 100
    for split, count in splits.items():
        images, labels = (
            (root / split / "images", root / split / "labels")
            if layout == "folders"
            else (root / split, root / f"{split}annot")
        )
        for number in range(count):
            image, label = fake_pair(space, seed, size)
            seed += 1
            name = f"{'Seq05VD' if split == 'test' else '0016E5'}_{number:05d}"
            if layout == "folders":
                write_jpeg(images / f"{name}.jpg", image)
            else:
                write_png(images / f"{name}.png", image)
            if layout == "segnet" or split != "test":
                write_grey(labels / f"{name}.png", space.encode(label))
    rows = [
        {"value": i, "name": n, "color": list(c), "ignore": False}
        for i, (n, c) in enumerate(zip(space.names, space.colours, strict=True))
    ]
    void = {"value": 11, "name": "void", "color": [0, 0, 0], "ignore": True}
    (root / "classes.json").write_text(json.dumps({"classes": [*rows, void]}))
    return space


def write_palette(path: Path, labels: np.ndarray, space: LabelSpace) -> None:
    """A label file with a palette, as VOC has it."""
    write_label(path, labels, space)


def write_ade20k(root: Path, counts: Mapping[str, int] = SPLITS, size: tuple[int, int] = (40, 56)) -> LabelSpace:
    """ADEChallengeData2016: 0 is other, 1..150 the classes; grey PNG."""
    space, seed = LabelSpace.named("ade20k"), 200
    for split, count in counts.items():
        folder = {"train": "training", "val": "validation"}[split]
        for number in range(1, count + 1):
            image, label = fake_pair(space, seed, size)
            seed += 1
            name = f"ADE_{split}_{number:08d}"
            write_jpeg(root / "images" / folder / f"{name}.jpg", image)
            write_grey(root / "annotations" / folder / f"{name}.png", space.encode(label))
    return space


def write_voc(
    root: Path, counts: Mapping[str, int] = SPLITS, size: tuple[int, int] = (40, 56), *, aug: int = 0, test: int = 0
) -> LabelSpace:
    """VOCdevkit/VOC2012's inside: palette PNG with void 255; with `aug` more images that only trainaug labels."""
    space, seed = LabelSpace.named("voc"), 300
    lists: dict[str, list[str]] = {"trainval": [], "trainaug": []}
    for split, count in {**counts, "trainaug": aug, "test": test}.items():
        lists.setdefault(split, [])
        for _ in range(count):
            image, label = fake_pair(space, seed, size)
            name = f"2007_{seed:06d}"
            seed += 1
            write_jpeg(root / "JPEGImages" / f"{name}.jpg", image)
            lists[split].append(name)
            if split in counts:
                write_palette(root / "SegmentationClass" / f"{name}.png", label, space)
                lists["trainval"].append(name)
            if aug and split in ("train", "trainaug"):
                write_grey(root / "SegmentationClassAug" / f"{name}.png", label)
                if split == "train":
                    lists["trainaug"].append(name)
    folder = root / "ImageSets" / "Segmentation"
    folder.mkdir(parents=True, exist_ok=True)
    for split, names in lists.items():
        if names and (split != "trainaug" or aug):
            (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return space


def write_cityscapes(
    root: Path, counts: Mapping[str, int] = SPLITS, size: tuple[int, int] = (32, 64), *, coarse: bool = False
) -> LabelSpace:
    """leftImg8bit, gtFine (labelIds, instanceIds); gtCoarse beside it, and train_extra, with coarse=True."""
    space, seed = LabelSpace.named("cityscapes"), 400
    for split, count in {**counts, **({"train_extra": 1} if coarse else {})}.items():
        for number in range(count):
            image, label = fake_pair(space, seed, size)
            seed += 1
            city = "aachen" if number % 2 == 0 else "bochum"
            name = f"{city}_{number:06d}_000019"
            write_png(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", image)
            ids = space.encode(label)
            ids[label == IGNORE] = 4  # "static": one of several ids that do not count
            instances = ids.astype(np.uint16)
            instances[ids == 26] = 26001  # every car is one car
            for kind in [] if split == "test" else ["gtFine"] * (split != "train_extra") + ["gtCoarse"] * coarse:
                folder = root / kind / split / city
                write_grey(folder / f"{name}_{kind}_labelIds.png", ids)
                write_png(folder / f"{name}_{kind}_instanceIds.png", instances)
                write_png(folder / f"{name}_{kind}_color.png", image)
    return space


def write_loveda(
    root: Path, counts: Mapping[str, int] = SPLITS, size: tuple[int, int] = (48, 48), test: int = 0
) -> LabelSpace:
    """Train, Val and Test with Urban and Rural; the images alternate between the two areas."""
    space, seed = LabelSpace.named("loveda"), 500
    for split, count in {**counts, "test": test}.items():
        for number in range(count):
            image, label = fake_pair(space, seed, size)
            folder = root / split.capitalize() / ("Urban" if number % 2 == 0 else "Rural")
            write_png(folder / "images_png" / f"{seed}.png", image)
            if split != "test":
                write_grey(folder / "masks_png" / f"{seed}.png", space.encode(label))
            seed += 1
    return space


def write_isprs(root: Path, counts: Mapping[str, int] = SPLITS, size: tuple[int, int] = (48, 48)) -> LabelSpace:
    """Windows of Potsdam or Vaihingen as `data prepare` cuts them."""
    space, seed = LabelSpace.named("isprs"), 600
    for split, count in counts.items():
        for number in range(count):
            image, label = fake_pair(space, seed, size)
            seed += 1
            name = f"2_1{number}_0_0_{size[1]}_{size[0]}.png"
            write_png(root / "img_dir" / split / name, image)
            write_grey(root / "ann_dir" / split / name, space.encode(label))
    return space


def write_coco_stuff(root: Path, counts: Mapping[str, int] = SPLITS, size: tuple[int, int] = (40, 56)) -> LabelSpace:
    """Images and stuffthingmaps: id - 1, 255 unlabelled."""
    space, seed = LabelSpace.named("coco_stuff"), 700
    for split, count in counts.items():
        for number in range(count):
            image, label = fake_pair(space, seed, size)
            seed += 1
            write_jpeg(root / f"{split}2017" / f"{number:012d}.jpg", image)
            write_grey(root / "stuffthingmaps" / f"{split}2017" / f"{number:012d}.png", space.encode(label))
    return space


def write_coco(root: Path, counts: Mapping[str, int] = SPLITS, size: tuple[int, int] = (40, 56)) -> LabelSpace:
    """Images with rectangles as polygons, one crowd in run lengths, COCO's 80 categories. `coco_labels` gives the truth."""
    space, seed = LabelSpace.named("coco"), 800
    categories = [{"id": code, "name": name} for code, name in zip(space.codes[1:], space.names[1:], strict=True)]
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    for split, count in counts.items():
        images, annotations = [], []
        for number in range(count):
            labels, objects = coco_labels(space, seed, size)
            noise = np.random.default_rng(seed).integers(-12, 13, (*size, 3))
            seed += 1
            name = f"{number:012d}.jpg"
            write_jpeg(
                root / f"{split}2017" / name,
                np.clip(space.palette[labels].astype(int) + noise, 0, 255).astype(np.uint8),
            )
            images.append({"id": 1000 + number, "file_name": name, "height": size[0], "width": size[1]})
            annotations += [
                {"id": len(annotations) + i, "image_id": 1000 + number, **item} for i, item in enumerate(objects)
            ]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))
    return space


def coco_labels(space: LabelSpace, seed: int, size: tuple[int, int]) -> tuple[np.ndarray, list[dict[str, object]]]:
    """(labels (H, W), the objects that make them): rectangles, the smaller ones on top, and an ignored crowd."""
    rng = np.random.default_rng(seed)
    height, width = size
    labels, objects = np.zeros(size, np.uint8), []
    for scale in (2, 3, 5):  # falling area
        top, left = rng.integers(0, height - height // scale), rng.integers(0, width - width // scale)
        bottom, right = top + height // scale, left + width // scale
        label = int(rng.integers(1, space.num_classes))
        labels[top:bottom, left:right] = label
        ring = [float(v) for v in (left, top, right, top, right, bottom, left, bottom)]
        objects.append(
            {
                "category_id": space.codes[label],
                "segmentation": [ring],
                "iscrowd": 0,
                "area": float((bottom - top) * (right - left)),
            }
        )
    labels[:, :3] = IGNORE
    objects.append(
        {
            "category_id": 1,
            "iscrowd": 1,
            "area": 3.0 * height,
            "segmentation": {"counts": [0, 3 * height, (width - 3) * height], "size": [height, width]},
        }
    )
    return labels, objects


def assert_conforms(dataset: Dataset, first_seed: int | None, size: tuple[int, int]) -> None:
    """What every data set is, whatever its files."""
    assert isinstance(dataset, Dataset)
    assert len(dataset) > 0
    folders = {Path(source).parent for source in dataset.sources()}
    before = {folder: sorted(folder.iterdir()) for folder in folders}
    names = set()
    for index in range(len(dataset)):
        sample = dataset[index]
        assert sample.image.shape == (*size, dataset.bands)
        assert sample.image.dtype == np.uint8
        assert sample.labels is not None
        assert sample.labels.dtype == np.uint8
        assert sample.labels.shape == size
        assert ((sample.labels < dataset.label_space.num_classes) | (sample.labels == IGNORE)).all()
        names.add(sample.name)
        if first_seed is not None:
            image, labels = fake_pair(dataset.label_space, first_seed + index, size)
            np.testing.assert_array_equal(sample.labels, labels)
            assert np.abs(sample.image.astype(int) - image).mean() < 12  # JPEG
    assert len(names) == len(dataset)
    with pytest.raises(IndexError):
        dataset[len(dataset)]
    assert {folder: sorted(folder.iterdir()) for folder in folders} == before  # reading writes nothing
