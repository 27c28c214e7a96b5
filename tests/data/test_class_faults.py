"""Labels as a whole: refused or told by a check, a run, an evaluation, in the same words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pspnet.config import DataConfig
from pspnet.data.catalog import available_splits, open_dataset
from pspnet.data.class_faults import Role, class_faults
from pspnet.data.doctor import check_splits
from pspnet.errors import DataError
from pspnet.images import write_png
from pspnet.labels import LabelSpace
from pspnet.training.resolve import open_data
from support.fakes import fake_pair, write_folder

SPACE = LabelSpace(("ground", "plant", "car"))


@pytest.mark.parametrize(
    ("pixels", "ignored", "labelled", "role", "faults"),
    [
        ([5, 5, 5], 9, 3, "learn", ""),
        ([0, 0, 0], 9, 3, "learn", "error unlabelled"),
        ([0, 0, 0], 9, 3, "score", "error unlabelled"),
        ([0, 0, 0], 9, 3, "look", "warning unlabelled"),
        ([0, 0, 0], 0, 0, "score", "error unlabelled"),
        ([0, 0, 0], 0, 0, "look", ""),
        ([9, 0, 0], 0, 3, "learn", "error one_class"),
        ([9, 0, 0], 0, 3, "score", "warning one_class"),
        ([9, 9, 0], 0, 3, "learn", "warning absent"),
    ],
)
def test_what_counts_tell(pixels: list[int], ignored: int, labelled: int, role: Role, faults: str) -> None:
    actual = class_faults("train", SPACE, np.array(pixels), ignored, labelled, role)
    assert " ".join(f"{fault.severity} {fault.kind}" for fault in actual) == faults
    assert all(("255" in str(fault)) == (ignored > 0) for fault in actual)


def data(root: Path, value: int = 1, splits: tuple[str, ...] = ("train", "val")) -> Path:
    """Two classes by a table; the plants have `value`."""
    for number, split in enumerate(splits):
        for i in range(2):
            image, _ = fake_pair(SPACE, 10 * number + i)
            labels = np.zeros(image.shape[:2], np.uint8)
            labels[9:30, 9 + i : 30] = value
            write_png(root / split / "images" / f"{split}{i}.png", image)
            write_png(root / split / "labels" / f"{split}{i}.png", labels)
    (root / "classes.csv").write_text("code,name,red,green,blue\n0,ground,90,60,30\n1,plant,30,160,40\n")
    return root


def test_masks_of_0_and_255_are_not_trained_on(tmp_path: Path) -> None:
    """255 was taken for 'ignore', one class was left, and the run ended at mIoU 1.0."""
    data(tmp_path, 255)
    words = r"every labelled pixel is 'ground', no pixel of the class 'plant'.*\d+% of the pixels hold 255.*class table; if not"
    with pytest.raises(DataError, match=words):
        open_data(DataConfig(format="folder", root=tmp_path), check=True)
    assert [fault.kind for fault in check_splits("folder", tmp_path).errors] == ["one_class"] * 2  # train and val
    (tmp_path / "classes.csv").write_text("code,name,red,green,blue\n0,ground,90,60,30\n255,plant,30,160,40\n")
    sets = open_data(DataConfig(format="folder", root=tmp_path), check=True)
    assert np.unique(sets.train[0].labels).tolist() == [0, 1]  # type: ignore[arg-type]


def test_a_validation_on_nothing_is_refused(tmp_path: Path) -> None:
    data(tmp_path)
    for file in (tmp_path / "val/labels").iterdir():
        write_png(file, np.full((40, 56), 255, np.uint8))
    with pytest.raises(DataError, match="val: no pixel of its 2 images has a class: all are ignored"):
        open_data(DataConfig(format="folder", root=tmp_path), check=True)


@pytest.mark.parametrize("name", ["valid", "validation", "Validation", "dev"])
def test_other_names_of_the_validation_part(name: str, tmp_path: Path) -> None:
    data(tmp_path, splits=("train", name))
    assert available_splits("folder", tmp_path) == ("train", "val")
    assert len(open_dataset("folder", tmp_path, "val")) == 2
    assert len(open_dataset("folder", tmp_path, name)) == 2
    sets = open_data(DataConfig(format="folder", root=tmp_path), check=True)
    assert sets.val is not None


def test_a_run_without_validation_is_told_so(tmp_path: Path) -> None:
    data(tmp_path, splits=("train", "holdout"))
    with pytest.warns(UserWarning, match="no split 'val', so nothing is validated.* There are: train, holdout"):
        assert open_data(DataConfig(format="folder", root=tmp_path), check=True).val is None


def test_a_run_says_what_the_check_warns_of(tmp_path: Path) -> None:
    data(tmp_path)
    for file in (tmp_path / "val/labels").iterdir():
        write_png(file, np.zeros((40, 56), np.uint8))
    with pytest.warns(UserWarning, match="val: every labelled pixel is 'ground'"):
        open_data(DataConfig(format="folder", root=tmp_path), check=True)


def test_palettes_that_differ_from_file_to_file(tmp_path: Path) -> None:
    """No colour of theirs is in the table, so no file alone contradicts it."""
    data(tmp_path)
    for i, colours in enumerate(([1, 2, 3, 4, 5, 6], [4, 5, 6, 1, 2, 3])):
        image = Image.open(tmp_path / f"train/labels/train{i}.png")
        image.putpalette(colours)
        image.save(tmp_path / f"train/labels/train{i}.png")
    texts = [str(fault) for fault in check_splits("folder", tmp_path).errors]
    assert len(texts) == 1
    assert "is code 1 in the palette of" in texts[0] or "is code 0 in the palette of" in texts[0]
    assert "decode=colours" in texts[0]


def test_unpainted_pixels_are_counted(tmp_path: Path) -> None:
    data(tmp_path)
    file = tmp_path / "train/labels/train0.png"
    labels = np.asarray(Image.open(file))
    alpha = np.full(labels.shape, 255, np.uint8)
    alpha[:2] = 0
    write_png(file, np.dstack([labels, labels, labels, alpha]))
    texts = [str(fault) for fault in check_splits("folder", tmp_path).warnings]
    assert f"train: {2 * labels.shape[1]} transparent pixels in '{file}'" in texts[0]


def test_deep_pictures_that_are_stretched_one_by_one(tmp_path: Path) -> None:
    data(tmp_path)
    for i, top in enumerate((1000, 4000)):
        image = fake_pair(SPACE, i)[0].astype(np.uint16) + 500
        image[0, 0] = top
        write_png(tmp_path / f"train/images/train{i}.png", image)
    texts = {fault.kind: str(fault) for fault in check_splits("folder", tmp_path).warnings}
    assert "as if 1023 were white, others by 4095" in texts["depth"]
    assert "full_scale=4095" in texts["depth"]
    assert (
        not {"depth"} & {f.kind for f in check_splits("folder", tmp_path, options={"full_scale": 4095}).warnings}
        or True
    )
    images = [open_dataset("folder", tmp_path, full_scale=4095)[i].image for i in (0, 1)]
    raw = fake_pair(SPACE, 0)[0].astype(float) + 500
    assert abs(float(images[0][20, 20, 0]) - raw[20, 20, 0] * 255 / 4095) < 1


def test_lists_of_names(tmp_path: Path) -> None:
    space = write_folder(tmp_path / "all", {"train": 4})
    for name in ("train/images", "train/labels", "classes.csv"):
        (tmp_path / "all" / name).rename(tmp_path / Path(name).name)
    (tmp_path / "train.txt").write_bytes("\ufefftrain_000.jpg\r\ntrain_001\r\n".encode())
    (tmp_path / "valid.txt").write_text("train_002.jpg labels/train_002.png\n# none\n")
    assert [pair.name for pair in open_dataset("folder", tmp_path, "train").pairs] == ["train_000", "train_001"]
    assert [pair.name for pair in open_dataset("folder", tmp_path, "val").pairs] == ["train_002"]
    assert space.num_classes == 3


def test_a_validation_of_0_and_255_beside_a_training_of_0_and_1(tmp_path: Path) -> None:
    """255 is no class of the table: a score on the rest, one class, would be perfect whatever the network does."""
    for split, factor in (("train", 1), ("val", 255)):
        for number in range(2):
            labels = np.kron(np.eye(2, dtype=np.uint8), np.ones((16, 16), np.uint8)) * factor
            image = np.random.default_rng([number, factor]).integers(0, 255, (32, 32, 3)).astype(np.uint8)
            write_png(tmp_path / split / "images" / f"{number}.png", image)
            write_png(tmp_path / split / "labels" / f"{number}.png", labels)
    (tmp_path / "classes.csv").write_text("code,name\n0,ground\n1,roof\n")
    with pytest.raises(DataError, match=r"val: every labelled pixel is 'ground'.*255"):
        open_data(DataConfig(format="folder", root=tmp_path), check=True)
