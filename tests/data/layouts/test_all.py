"""Every layout opens its fake, and the faults of a folder come together, by name."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pspnet.config import DataConfig
from pspnet.data.catalog import LAYOUTS, available_splits, open_dataset
from pspnet.data.layouts.folder import read_classes
from pspnet.errors import ConfigError, DataError, LabelError
from pspnet.images import write_png
from pspnet.labels import IGNORE, LabelSpace
from support.fakes import FAKE_CLASSES, SPLITS, assert_conforms, fake_pair, write_camvid, write_class_csv, write_folder

FOLDERS = ["split_first", "images_first", "flat", "lists", "csv"]


@pytest.mark.parametrize("layout", FOLDERS)
def test_folder_layouts(tmp_path: Path, layout: str) -> None:
    write_folder(tmp_path, layout=layout)
    assert available_splits("folder", tmp_path) == ("train", "val")
    parts = {split: open_dataset("folder", tmp_path, split) for split in SPLITS}
    for split, dataset in parts.items():
        if layout == "flat":  # held out by hash
            assert_conforms(dataset, None, (40, 56))
        else:
            assert len(dataset) == SPLITS[split]
            assert_conforms(dataset, 0 if split == "train" else SPLITS["train"], (40, 56))
    names = [{dataset[i].name for i in range(len(dataset))} for dataset in parts.values()]
    assert not names[0] & names[1]
    assert len(names[0] | names[1]) == 6
    with pytest.raises(DataError, match="no split 'dev'; it has: train, val"):
        open_dataset("folder", tmp_path, "dev")


def test_folder_options(tmp_path: Path) -> None:
    write_folder(tmp_path / "colours", decode="colours")
    assert_conforms(open_dataset("folder", tmp_path / "colours", decode="colours"), 0, (40, 56))
    with pytest.raises(LabelError, match='decode="colours"'):
        open_dataset("folder", tmp_path / "colours")[0]
    write_folder(tmp_path / "other", {"train": 2})
    (tmp_path / "other/train/images").rename(tmp_path / "other/train/photos")
    for path in list((tmp_path / "other/train/labels").iterdir()):
        path.rename(path.with_name(path.stem + "_mask.png"))
    dataset = open_dataset("folder", tmp_path / "other", images="photos", label_suffix="_mask")
    assert_conforms(dataset, 0, (40, 56))
    grey = open_dataset("folder", tmp_path / "other", images="photos", label_suffix="_mask", bands=1)
    assert grey[0].image.shape == (40, 56, 1)
    assert grey.bands == 1
    with pytest.raises(DataError, match="it has the folders train"):
        open_dataset("folder", tmp_path / "other")
    with pytest.raises(ConfigError, match="option bands = 7"):
        open_dataset("folder", tmp_path / "other", images="photos", bands=7)
    with pytest.raises(ConfigError, match=r"decode = 'rgb'.*'codes' or 'colours'"):
        open_dataset("folder", tmp_path / "other", images="photos", decode="rgb")


def test_a_flat_folder_is_held_out_by_name(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 20}, layout="flat")
    val = open_dataset("folder", tmp_path, "val", val_share=0.25)
    held = {val[i].name for i in range(len(val))}
    assert len(held) == 5
    assert len(open_dataset("folder", tmp_path, "train", val_share=0.25)) == 15
    assert len(open_dataset("folder", tmp_path, "all")) == 20
    again = open_dataset("folder", tmp_path, "val", val_share=0.25)
    assert {again[i].name for i in range(len(again))} == held
    with pytest.raises(ConfigError, match="val_share = 1"):
        open_dataset("folder", tmp_path, "val", val_share=1)


def test_a_csv_anywhere(tmp_path: Path) -> None:
    write_folder(tmp_path, layout="csv")
    text = (tmp_path / "pairs.csv").read_text()
    (tmp_path / "mine.csv").write_text(text.replace("image,label,split", "\ufeffImage, Label ,SPLIT"), encoding="utf-8")
    assert_conforms(open_dataset("folder", tmp_path / "mine.csv"), 0, (40, 56))
    without_split = "\n".join(",".join(line.split(",")[:2]) for line in text.splitlines())
    (tmp_path / "mine.csv").write_text(without_split)
    assert len(open_dataset("folder", tmp_path / "mine.csv", "all")) == 6
    assert len(open_dataset("folder", tmp_path / "mine.csv", "val")) == 1
    (tmp_path / "mine.csv").write_text(
        text + "images/none.jpg,labels/none.png,train\nimages/val_000.jpg,,val\n"
        "images/train_000.jpg,labels/train_000.png,train\n"
    )
    with pytest.raises(DataError) as caught:
        open_dataset("folder", tmp_path / "mine.csv", "train")
    assert "line 8: the image" in str(caught.value)
    assert "line 10" in str(caught.value)
    assert "occurs twice" in str(caught.value)
    with pytest.raises(DataError, match="line 9: no label"):
        open_dataset("folder", tmp_path / "mine.csv", "val")
    (tmp_path / "mine.csv").write_text("picture,truth\na,b\n")
    with pytest.raises(DataError, match="columns picture, truth"):
        open_dataset("folder", tmp_path / "mine.csv")


def test_missing_pairs_are_reported_together(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "train/labels/train_000.png").unlink()
    (tmp_path / "train/labels/train_002.png").unlink()
    (tmp_path / "train/images/train_003.jpg").unlink()
    write_png(tmp_path / "train/images/train_001.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(DataError) as caught:
        open_dataset("folder", tmp_path, "train")
    assert len(caught.value.faults) == 4
    for name in (
        "train_000.jpg' has no labels",
        "train_002.jpg' has no labels",
        "train_003.png' has no image",
        "same name",
    ):
        assert name in str(caught.value)
    assert len(open_dataset("folder", tmp_path, "val")) == 2


def test_empty_and_absent_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_dataset("folder", tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"has no classes\.csv"):
        open_dataset("folder", tmp_path)
    write_class_csv(tmp_path / "classes.csv", FAKE_CLASSES)
    with pytest.raises(DataError, match="neither 'train/images' nor 'images/train'"):
        open_dataset("folder", tmp_path)
    (tmp_path / "train/images").mkdir(parents=True)
    (tmp_path / "train/labels").mkdir(parents=True)
    (tmp_path / "train/images/.DS_Store").write_bytes(b"x")
    with pytest.raises(DataError, match="holds no images"):
        open_dataset("folder", tmp_path)
    (tmp_path / "train/labels").rmdir()
    with pytest.raises(DataError, match=r"'.*train/labels' does not exist"):
        open_dataset("folder", tmp_path)


def test_a_test_split_may_lack_labels(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": 1, "test": 2})
    for path in (tmp_path / "test/labels").iterdir():
        path.unlink()
    (tmp_path / "test/labels").rmdir()
    dataset = open_dataset("folder", tmp_path, "test")
    assert dataset[1].labels is None
    assert dataset[1].image.shape == (40, 56, 3)


@pytest.mark.parametrize("layout", ["folders", "segnet"])
def test_camvid(tmp_path: Path, layout: str) -> None:
    write_camvid(tmp_path, layout=layout)
    assert available_splits("camvid", tmp_path) == ("train", "val", "test")
    train = open_dataset("camvid", tmp_path, "train")
    assert_conforms(train, 100, (36, 48))
    assert train.label_space.num_classes == 11
    assert (train[0].labels == IGNORE).any()  # void is 11 in the file
    test = open_dataset("camvid", tmp_path, "test")
    assert (test[0].labels is None) == (layout == "folders")
    with pytest.raises(DataError, match="no split 'dev'; it has: train, val, test"):
        open_dataset("camvid", tmp_path, "dev")
    table = json.loads((tmp_path / "classes.json").read_text())
    table["classes"][0], table["classes"][1] = table["classes"][1], table["classes"][0]
    (tmp_path / "classes.json").write_text(json.dumps(table))
    with pytest.raises(ConfigError, match="another order: building, sky"):
        open_dataset("camvid", tmp_path, "train")


def test_an_unknown_code_is_refused_by_name(tmp_path: Path) -> None:
    write_camvid(tmp_path)
    path = tmp_path / "val/labels/0016E5_00001.png"
    write_png(path, np.full((36, 48), 34, np.uint8))
    with pytest.raises(LabelError, match=r"0016E5_00001\.png' has code 34"):
        open_dataset("camvid", tmp_path, "val")[1]
    write_png(path, np.zeros((48, 36), np.uint8))
    with pytest.raises(LabelError, match=r"36 x 48 px, its image .* 48 x 36 px.*option exif"):
        open_dataset("camvid", tmp_path, "val")[1]


def test_labels_drawn_on_stored_pixels(tmp_path: Path) -> None:
    space = write_folder(tmp_path, {"train": 1})
    path = tmp_path / "train/images/train_000.jpg"
    image = Image.open(path)
    image.load()
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, exif=exif, quality=95)
    with pytest.raises(LabelError, match="set the option exif to false"):
        open_dataset("folder", tmp_path)[0]
    sample = open_dataset("folder", tmp_path, exif=False)[0]
    assert sample.image.shape[:2] == (40, 56)
    np.testing.assert_array_equal(sample.labels, fake_pair(space, 0)[1])


def test_class_tables(tmp_path: Path) -> None:
    path = tmp_path / "classes.json"
    path.write_text(
        json.dumps({"names": ["a", "b", "void"], "colors": [[1, 2, 3], [4, 5, 6], [0, 0, 0]], "ignore_index": 2})
    )
    space = read_classes(path)
    assert space.names == ("a", "b")
    assert space.ignored_codes == (2,)
    assert space.colours == ((1, 2, 3), (4, 5, 6))
    assert space.ignored_colours == ((0, 0, 0),)
    path.write_text(json.dumps({"classes": [{"value": 3, "name": "a"}, {"value": 9, "name": "b"}]}))
    assert read_classes(path).codes == (3, 9)
    assert read_classes("camvid").names == LabelSpace.named("camvid").names
    for wrong in (
        "not json",
        "[]",
        '{"names": ["a"], "colors": [[1, 2, 3], [4, 5, 6]]}',
        '{"classes": [{"name": "a"}]}',
        '{"classes": [{"value": 0, "name": "a", "color": [1, 2, 3]}, {"value": 1, "name": "b"}]}',
    ):
        path.write_text(wrong)
        with pytest.raises(ConfigError, match=r"classes\.json'"):
            read_classes(path)
    with pytest.raises(ConfigError, match="does not exist"):
        read_classes(tmp_path / "none.csv")
    with pytest.raises(ConfigError, match="no class table is called 'marsrover'"):
        read_classes("marsrover")


@pytest.mark.parametrize(
    ("format", "name", "value", "words"),
    [
        ("scenes", "count", "twenty", "valid integer"),
        ("scenes", "count", 2.5, "valid integer"),
        ("scenes", "seed", "x", "valid integer"),
        ("folder", "val_share", "twenty", "valid number"),
        ("folder", "bands", 2, "1, 3 or 4"),
        ("folder", "exif", "perhaps", "valid boolean"),
        ("folder", "decode", "colors", "'codes' or 'colours'"),
        ("cityscapes", "labels", "medium", "'fine' or 'coarse'"),
        ("raster", "bands", "red", "Sequence"),
        ("raster", "seed", -1, "greater than or equal to 0"),
        ("classified_tiles", "more", 5, "Sequence"),
    ],
)
def test_options_of_a_wrong_type_are_named(format: str, name: str, value: object, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"option {name} = .*{words}"):
        open_dataset(format, None if format == "scenes" else tmp_path, **{name: value})


def test_a_folder_that_is_called_like_a_number(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": 2})
    (tmp_path / "train/images").rename(tmp_path / "train/2021")
    assert len(open_dataset("folder", tmp_path, images=2021)) == 2


def test_formats_and_options_are_named() -> None:
    with pytest.raises(ConfigError, match=r"'camvit' is not known\. Did you mean 'camvid'\?") as caught:
        open_dataset("camvit", "x")
    for name in LAYOUTS:
        assert name in str(caught.value)
    with pytest.raises(ConfigError, match="sizes is no option of the format 'scenes'; did you mean 'size'"):
        open_dataset("scenes", sizes=3)
    with pytest.raises(ConfigError, match="camvid: give the folder"):
        open_dataset("camvid")
    with pytest.raises(ConfigError, match="generated, not read"):
        open_dataset("scenes", "somewhere")


def test_scenes_open_without_files() -> None:
    dataset = open_dataset("scenes", split="val", count=2, seed=1, size=64)
    assert_conforms(dataset, None, (64, 64))
    assert available_splits("scenes") == ("train", "val")


def test_data_settings() -> None:
    assert DataConfig().format == "scenes"
    assert DataConfig(format="camvid", root="x", train_splits="train").train_splits == ("train",)
    with pytest.raises(ConfigError, match="root is missing with format = camvid"):
        DataConfig(format="camvid")
    with pytest.raises(ConfigError, match="scenes are generated"):
        DataConfig(root="x")
    with pytest.raises(ConfigError, match=r"val_split = train is one of train_splits"):
        DataConfig(val_split="train")
