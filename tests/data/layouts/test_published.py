"""Published data sets: each opens its fake and, in slow tests, real samples; class tables; submissions; COCO's drawing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pspnet.data.catalog import LAYOUTS, available_splits, open_dataset, write_submission
from pspnet.data.doctor import check_dataset
from pspnet.data.polygons import polygon_mask, rle_mask
from pspnet.errors import ConfigError, DataError, LabelError
from pspnet.images import read_label, write_png
from pspnet.labels import IGNORE, LabelSpace
from support import fakes
from support.fakes import assert_conforms

PUBLISHED: dict[str, tuple[Callable[[Path], LabelSpace], int, tuple[int, int]]] = {
    "ade20k": (fakes.write_ade20k, 200, (40, 56)),
    "voc": (fakes.write_voc, 300, (40, 56)),
    "cityscapes": (fakes.write_cityscapes, 400, (32, 64)),
    "loveda": (fakes.write_loveda, 500, (48, 48)),
    "potsdam": (fakes.write_isprs, 600, (48, 48)),
    "vaihingen": (fakes.write_isprs, 600, (48, 48)),
    "coco_stuff": (fakes.write_coco_stuff, 700, (40, 56)),
    "camvid": (fakes.write_camvid, 100, (36, 48)),
    "coco": (fakes.write_coco, 800, (40, 56)),
}


def test_every_published_layout_is_tried_here() -> None:
    assert set(PUBLISHED) == {name for name, layout in LAYOUTS.items() if layout.source}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_fake_opens(tmp_path: Path, name: str) -> None:
    write, seed, size = PUBLISHED[name]
    space = write(tmp_path)
    assert {"train", "val"} <= set(available_splits(name, tmp_path))
    known = name not in ("loveda", "coco", "cityscapes")  # whose order or drawing is looked at below
    for split, first in (("train", seed), ("val", seed + 4)):
        dataset = open_dataset(name, tmp_path, split)
        assert len(dataset) == fakes.SPLITS[split]
        assert dataset.label_space.names == space.names
        assert_conforms(dataset, first if known else None, size)
        assert check_dataset(dataset).ok
    with pytest.raises(DataError, match="no split 'dev'; it has: train, val"):
        open_dataset(name, tmp_path, "dev")
    with pytest.raises(DataError, match="does not exist"):
        open_dataset(name, tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["ade20k", "voc", "cityscapes", "loveda", "coco_stuff"])
def test_a_missing_label_is_named(tmp_path: Path, name: str) -> None:
    PUBLISHED[name][0](tmp_path)
    label = open_dataset(name, tmp_path, "val")[1].label_path
    assert label is not None
    label.unlink()
    with pytest.raises(DataError, match=r"has no labels.*" + label.stem):
        open_dataset(name, tmp_path, "val")


def test_class_tables_are_the_published_ones() -> None:
    counts = {
        "ade20k": 150,
        "voc": 21,
        "cityscapes": 19,
        "coco": 81,
        "coco_stuff": 171,
        "loveda": 7,
        "isprs": 6,
        "camvid": 11,
    }
    for name, count in counts.items():
        assert LabelSpace.named(name).num_classes == count, name
    ade = LabelSpace.named("ade20k")
    assert (ade.names[0], ade.names[149], ade.codes[0], ade.codes[149]) == ("wall", "flag", 1, 150)
    assert ade.ignored_codes[0] == 0
    city = LabelSpace.named("cityscapes")
    assert city.codes == (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
    assert city.colours[city.index("car")] == (0, 0, 142)
    voc = LabelSpace.named("voc")
    assert voc.colours[1:4] == ((128, 0, 0), (0, 128, 0), (128, 128, 0))  # the development kit's bit rule
    assert LabelSpace.named("coco_stuff").codes[11:13] == (12, 13)  # 11 is "street sign", which was removed


def test_ade20k_below_its_archives_folder_and_test_images(tmp_path: Path) -> None:
    fakes.write_ade20k(tmp_path / "ADEChallengeData2016")
    shutil.copytree(tmp_path / "ADEChallengeData2016/images/validation", tmp_path / "release_test/testing")
    assert available_splits("ade20k", tmp_path) == ("train", "val", "test")
    assert open_dataset("ade20k", tmp_path, "test")[0].labels is None
    path = open_dataset("ade20k", tmp_path, "val")[0].label_path
    assert path is not None
    write_png(path, np.full((40, 56), 151, np.uint8))
    with pytest.raises(LabelError, match=r"has code 151; .*1\.\.150"):
        open_dataset("ade20k", tmp_path, "val")[0]


def test_voc_lists(tmp_path: Path) -> None:
    fakes.write_voc(tmp_path / "VOCdevkit/VOC2012", aug=3, test=2)
    assert available_splits("voc", tmp_path) == ("train", "val", "trainval", "trainaug", "test")
    sizes = {split: len(open_dataset("voc", tmp_path, split)) for split in available_splits("voc", tmp_path)}
    assert sizes == {"train": 4, "val": 2, "trainval": 6, "trainaug": 7, "test": 2}
    assert open_dataset("voc", tmp_path, "test")[0].labels is None
    assert_conforms(open_dataset("voc", tmp_path, "trainaug"), None, (40, 56))
    listed = tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation/trainaug.txt"
    names = listed.read_text().split()
    listed.unlink()
    (listed.parent / "train_aug.txt").write_text(
        "".join(f"/JPEGImages/{n}.jpg /SegmentationClassAug/{n}.png\n" for n in names)
    )
    assert len(open_dataset("voc", tmp_path, "trainaug")) == 7
    (listed.parent / "train_aug.txt").unlink()
    with pytest.raises(DataError, match="data prepare voc"):
        open_dataset("voc", tmp_path, "trainaug")


def test_cityscapes_ids_coarse_and_instances(tmp_path: Path) -> None:
    space = fakes.write_cityscapes(tmp_path, coarse=True)
    assert available_splits("cityscapes", tmp_path) == ("train", "val", "train_extra")
    train = open_dataset("cityscapes", tmp_path, "train")
    assert train[0].name == "aachen/aachen_000000_000019"
    _, labels = fakes.fake_pair(space, 400, (32, 64))
    np.testing.assert_array_equal(train[0].labels, labels)
    assert train[0].label_path is not None
    neighbour = train[0].label_path.with_name(
        "aachen_000000_000019_gtFine_instanceIds.png"
    )  # for instance-level scores
    np.testing.assert_array_equal(read_label(neighbour) == 26001, train[0].labels == space.index("car"))
    extra = open_dataset("cityscapes", tmp_path, "train_extra")
    assert "gtCoarse" in str(extra[0].label_path)
    coarse = open_dataset("cityscapes", tmp_path, "train", labels="coarse")
    assert "gtCoarse" in str(coarse[0].label_path)
    with pytest.raises(ConfigError, match="labels = 'rough'"):
        open_dataset("cityscapes", tmp_path, "train", labels="rough")
    fakes.write_cityscapes(tmp_path / "t", {"test": 2})
    assert open_dataset("cityscapes", tmp_path / "t", "test")[0].labels is None


def test_loveda_areas(tmp_path: Path) -> None:
    space = fakes.write_loveda(tmp_path, test=2)
    assert available_splits("loveda", tmp_path) == ("train", "val", "test")
    both = open_dataset("loveda", tmp_path, "train")
    assert [both[i].name for i in range(4)] == ["Urban/500", "Urban/502", "Rural/501", "Rural/503"]
    np.testing.assert_array_equal(both[2].labels, fakes.fake_pair(space, 501, (48, 48))[1])
    assert len(open_dataset("loveda", tmp_path, "train", area="rural")) == 2
    assert open_dataset("loveda", tmp_path, "test")[0].labels is None
    with pytest.raises(ConfigError, match="area = 'sea'"):
        open_dataset("loveda", tmp_path, "train", area="sea")


def test_coco_polygons(tmp_path: Path) -> None:
    space = fakes.write_coco(tmp_path)
    dataset = open_dataset("coco", tmp_path, "train")
    assert dataset.label_space.names == space.names
    for index in range(len(dataset)):
        np.testing.assert_array_equal(dataset[index].labels, fakes.coco_labels(space, 800 + index, (40, 56))[0])
    file = tmp_path / "annotations/instances_train2017.json"
    data = json.loads(file.read_text())
    (tmp_path / "classes.csv").write_text("code,name,red,green,blue\n0,rest,0,0,0\n1,person,255,0,0\n")
    subset = open_dataset("coco", tmp_path, "train", classes=tmp_path / "classes.csv")
    assert set(np.unique(subset[0].labels)) <= {0, 1, IGNORE}
    data["annotations"][0]["segmentation"] = [[1.0, 2.0, 3.0]]
    data["images"].append({"id": 5, "file_name": "gone.jpg", "height": 4, "width": 4})
    file.write_text(json.dumps(data))
    with pytest.raises(DataError, match=r"gone\.jpg' does not exist"):
        open_dataset("coco", tmp_path, "train")
    data["images"].pop()
    file.write_text(json.dumps(data))
    with pytest.raises(DataError, match=r"object 0 of '000000000000' cannot be drawn"):
        open_dataset("coco", tmp_path, "train")
    data["annotations"][0]["category_id"] = 12
    file.write_text(json.dumps(data))
    with pytest.raises(DataError, match="has the category 12"):
        open_dataset("coco", tmp_path, "train")
    for wrong in ("{", "{}", '{"images": [], "annotations": 3, "categories": []}'):
        file.write_text(wrong)
        with pytest.raises(DataError, match=r"instances_train2017\.json"):
            open_dataset("coco", tmp_path, "train")


def test_coco_export_of_an_annotation_tool(tmp_path: Path) -> None:
    """Roboflow's folder: images and _annotations.coco.json together, category 0 for the project."""
    folder = tmp_path / "valid"
    fakes.write_jpeg(folder / "a.jpg", np.zeros((10, 12, 3), np.uint8))
    content = {
        "images": [{"id": 0, "file_name": "a.jpg", "height": 10, "width": 12}],
        "categories": [{"id": 0, "name": "project"}, {"id": 1, "name": "ship"}],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 1, "segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]]}],
    }
    (folder / "_annotations.coco.json").write_text(json.dumps(content))
    dataset = open_dataset("coco", tmp_path, "val")
    assert dataset.label_space.names == ("background", "ship")
    labels = dataset[0].labels
    assert labels is not None
    assert labels.sum() == 16
    assert labels[:4, :4].all()
    elsewhere = open_dataset("coco", tmp_path, "val", images="valid", annotations="valid/_annotations.coco.json")
    np.testing.assert_array_equal(elsewhere[0].labels, labels)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-5, 25), st.floats(-5, 20)), min_size=3, max_size=9))
def test_a_polygon_covers_the_pixels_whose_centres_it_holds(corners: list[tuple[float, float]]) -> None:
    mask = polygon_mask(np.array(corners), 15, 20)
    for row in range(15):
        for column in range(20):
            x, y = column + 0.5, row + 0.5
            crossings, nearest = 0, 1.0
            for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True):
                if (x1 <= x) != (x2 <= x):
                    at = y1 + (x - x1) * (y2 - y1) / (x2 - x1)
                    crossings += at <= y
                    nearest = min(nearest, abs(at - y))
            if nearest > 1e-6:
                assert mask[row, column] == (crossings % 2 == 1)


def test_polygons_that_are_none() -> None:
    with pytest.raises(ValueError, match="at least 3"):
        polygon_mask(np.zeros((2, 2)), 4, 4)
    with pytest.raises(ValueError, match="not a number"):
        polygon_mask(np.array([[0, 0], [np.nan, 1], [1, 1]]), 4, 4)
    assert polygon_mask(np.array([[10.0, 1], [12, 1], [12, 3]]), 4, 4).sum() == 0  # beside the picture


def rle_text(runs: list[int]) -> str:
    """COCO's text of run lengths, by the rule in maskApi's documentation."""
    text = ""
    for index, run in enumerate(runs):
        value = run - (runs[index - 2] if index > 2 else 0)
        while True:
            group, value = value & 31, value >> 5
            more = value != (-1 if group & 16 else 0)
            text += chr(48 + (group | 32 if more else group))
            if not more:
                break
    return text


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 10**6))
def test_run_lengths_come_back(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((height, width)) < rng.random()
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat]).astype(int)) != 0)
    runs = np.diff([0, *edges, flat.size]).tolist()
    np.testing.assert_array_equal(rle_mask(runs, height, width), mask)
    np.testing.assert_array_equal(rle_mask(rle_text(runs), height, width), mask)


def test_run_lengths_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="cover 5 pixels, the image has 6"):
        rle_mask([2, 3], 2, 3)
    with pytest.raises(ValueError, match="middle of a number"):
        rle_mask("Q", 2, 3)


def test_submissions_hold_what_the_servers_expect(tmp_path: Path) -> None:
    labels = np.array([[0, 1], [2, 18]], np.uint8)
    path = write_submission("cityscapes", tmp_path, "berlin/berlin_000000_000019", labels)
    assert path.name == "berlin_000000_000019.png"
    np.testing.assert_array_equal(read_label(path), [[7, 8], [11, 33]])
    np.testing.assert_array_equal(read_label(write_submission("ade20k", tmp_path, "ADE_test_1", labels)), labels + 1)
    np.testing.assert_array_equal(read_label(write_submission("loveda", tmp_path, "Urban/7", labels % 7)), labels % 7)
    voc = write_submission("voc", tmp_path, "2008_000001", labels)
    assert voc == tmp_path / "results/VOC2012/Segmentation/comp6_test_cls/2008_000001.png"
    np.testing.assert_array_equal(read_label(voc), labels)
    with pytest.raises(ConfigError, match="one for ade20k, voc"):
        write_submission("camvid", tmp_path, "x", labels)


SAMPLES = {"ade20k": "ade20k", "voc": "voc", "loveda": "loveda", "potsdam": "isprs", "vaihingen": "isprs"}


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLES)
def test_real_samples(tmp_path: Path, shared: Path, name: str) -> None:
    folder = shared / "data/samples" / name
    plain = open_dataset("folder", folder, "all", classes=SAMPLES[name])
    assert check_dataset(plain).ok
    names = [plain[i].name for i in range(len(plain))]
    stems = {p.stem: p for p in folder.glob("images/*")}
    for stem, image in stems.items():  # the same files where the data set's own layout has them
        label = folder / "labels" / f"{stem}.png"
        places = {
            "ade20k": ("images/validation", "annotations/validation"),
            "voc": ("JPEGImages", "SegmentationClass"),
            "loveda": ("Val/Urban/images_png", "Val/Urban/masks_png"),
        }.get(name, ("img_dir/val", "ann_dir/val"))
        for source, path in ((image, places[0]), (label, places[1])):
            (tmp_path / path).mkdir(parents=True, exist_ok=True)
            (tmp_path / path / source.name).symlink_to(source)
    if name == "voc":
        (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
        (tmp_path / "ImageSets/Segmentation/val.txt").write_text("\n".join(stems))
    dataset = open_dataset(name, tmp_path, "val", **({"area": "urban"} if name == "loveda" else {}))
    assert len(dataset) == len(names)
    assert check_dataset(dataset).ok
    shown = set()
    for index in range(len(dataset)):
        sample = dataset[index]
        assert sample.labels is not None
        assert sample.image.shape[:2] == sample.labels.shape
        shown |= set(np.unique(sample.labels).tolist())
    assert len(shown - {IGNORE}) >= 2


@pytest.mark.slow
def test_real_camvid_and_aerial(shared: Path) -> None:
    """The counts and shares that the copies' READMEs state."""
    from pspnet.data.statistics import dataset_statistics

    train = dataset_statistics(open_dataset("camvid", shared / "data/camvid", "train"))
    assert train.images == 367
    with_void = [100 * share * (1 - train.ignored_share) for share in train.class_shares]
    assert (
        np.abs(np.array(with_void) - [16.84, 23.26, 0.98, 31.66, 4.49, 9.72, 1.17, 1.13, 5.87, 0.64, 0.29]).max()
        < 0.011
    )
    assert np.abs(np.array(train.std) / 255 - [0.3071, 0.3116, 0.3072]).max() < 0.001
    for split, count in (("train", 48), ("val", 8), ("test", 8)):
        aerial = open_dataset("folder", shared / "data/aerial", split)
        assert len(aerial) == count
        assert aerial.label_space.names == ("water", "land", "road", "building", "vegetation")
        assert check_dataset(aerial).ok
