"""Checks and statistics of data sets."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pspnet.data.catalog import open_dataset, open_unchecked
from pspnet.data.dataset import Sample
from pspnet.data.doctor import check_dataset, check_splits
from pspnet.data.fingerprints import closest, fingerprint
from pspnet.data.statistics import dataset_statistics
from pspnet.errors import ConfigError, DataError, ImageError
from pspnet.images import read_image, write_label, write_png
from pspnet.labels import IGNORE, LabelSpace
from support.fakes import FAKE_CLASSES, fake_pair, write_camvid, write_cityscapes, write_folder, write_jpeg, write_voc


class InMemory:
    """A user's own data set."""

    def __init__(self, samples: list[Sample], space: LabelSpace, bands: int = 3) -> None:
        self.samples, self.label_space, self.bands = samples, space, bands

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        if self.samples[index].name == "broken":
            raise ImageError("'broken' is cut off")
        return self.samples[index]


def test_a_good_data_set_has_no_faults(tmp_path: Path) -> None:
    write_camvid(tmp_path)
    calls: list[tuple[int, int]] = []
    report = check_dataset(open_dataset("camvid", tmp_path), lambda done, total: calls.append((done, total)))
    assert report.ok
    assert report.faults == ()
    assert report.samples == 4
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    report.raise_errors()


def test_all_faults_come_together(tmp_path: Path) -> None:
    """The faults that the issue lists: a code outside the table, sizes that differ, a missing label, a cut PNG."""
    write_folder(tmp_path, {"train": 7})
    labels, images = tmp_path / "train/labels", tmp_path / "train/images"
    write_png(labels / "train_000.png", np.full((40, 56), 34, np.uint8))
    write_png(labels / "train_001.png", np.zeros((30, 30), np.uint8))
    (labels / "train_002.png").unlink()
    (labels / "train_003.png").write_bytes((labels / "train_003.png").read_bytes()[:60])
    (images / "train_004.jpg").write_bytes((images / "train_004.jpg").read_bytes()[:-300])
    (images / "train_005.jpg").write_bytes(b"")
    write_png(labels / "train_005.png", np.full((40, 56, 3), (9, 80, 70), np.uint8))
    report = check_dataset(open_unchecked("folder", tmp_path))
    messages = {Path(fault.file).name: str(fault) for fault in report.errors}
    assert len(report.errors) == 7
    for name, words in (
        ("train_000.png", "code 34"),
        ("train_001.png", "30 x 30"),
        ("train_002.jpg", "has no labels"),
        ("train_003.png", "cut off"),
        ("train_004.jpg", "cut off"),
        ("train_005.jpg", "empty"),
        ("train_005.png", 'decode="colours"'),
    ):
        assert words in messages[name], name
    assert not report.ok
    with pytest.raises(DataError, match="7 faults") as caught:
        report.raise_errors()
    assert len(caught.value.faults) == 7


def test_a_file_with_two_faults_shows_both(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": 2})
    write_png(tmp_path / "train/labels/train_000.png", np.full((30, 20), 34, np.uint8))
    write_png(tmp_path / "train/labels/train_001.png", np.full((30, 20, 3), (9, 80, 70), np.uint8))
    report = check_dataset(open_unchecked("folder", tmp_path))
    messages = [str(fault) for fault in report.errors]
    assert len(messages) == 4
    for first, words in ((0, "code 34"), (2, 'decode="colours"')):
        assert words in messages[first]
        assert "20 x 30 px, its image" in messages[first + 1]


def test_a_users_own_data_set_is_checked() -> None:
    good = Sample(*fake_pair(FAKE_CLASSES, 0), "good")
    report = check_dataset(InMemory([good, Sample(good.image, None, "broken")], FAKE_CLASSES))
    assert [fault.message for fault in report.errors] == ["'broken' is cut off"]
    assert not check_dataset(InMemory([], FAKE_CLASSES)).ok


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_statistics_are_those_of_all_pixels(dtype: type) -> None:
    rng = np.random.default_rng(0)
    samples = []
    for number, size in enumerate([(10, 12), (17, 9), (5, 40)]):
        image = (rng.normal(1e4 if dtype != np.uint8 else 120, 20, (*size, 3)) + 10 * number).astype(dtype)
        labels = rng.integers(0, 2, size).astype(np.uint8)
        labels[0] = IGNORE
        samples.append(Sample(image, labels if number else None, str(number)))
    statistics = dataset_statistics(InMemory(samples, FAKE_CLASSES), workers=2)
    pixels = np.concatenate([s.image.reshape(-1, 3) for s in samples]).astype(np.float64)
    np.testing.assert_allclose(statistics.mean, pixels.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(statistics.std, pixels.std(axis=0), rtol=1e-9)
    labels = np.concatenate([s.labels.ravel() for s in samples if s.labels is not None])
    counts = np.bincount(labels, minlength=256)
    assert statistics.class_pixels == (counts[0], counts[1], 0)
    np.testing.assert_allclose(statistics.class_shares, counts[:3] / counts[:3].sum())
    assert statistics.ignored_share == pytest.approx(counts[255] / counts.sum())
    assert statistics.class_images == (2, 2, 0)
    assert (statistics.images, statistics.labelled) == (3, 2)
    assert statistics.height == (5, 10, 17)
    assert statistics.width == (9, 12, 40)


def test_statistics_of_nothing_and_of_a_broken_file() -> None:
    empty = dataset_statistics(InMemory([], FAKE_CLASSES))
    assert empty.images == 0
    assert empty.class_shares == (0.0, 0.0, 0.0)
    image, labels = fake_pair(FAKE_CLASSES, 0)
    with pytest.raises(ImageError, match="broken"):
        dataset_statistics(InMemory([Sample(image, labels, "a"), Sample(image, labels, "broken")], FAKE_CLASSES))


def test_a_good_data_set_is_good_in_all_splits(tmp_path: Path) -> None:
    for format, write in (("folder", write_folder), ("voc", write_voc), ("cityscapes", write_cityscapes)):
        write(tmp_path / format)
        report = check_splits(format, tmp_path / format)
        assert report.ok, format
        kinds = {fault.kind for fault in report.warnings}
        assert kinds <= {"absent", "unseen"}, (format, report.warnings)  # six tiny pictures do not show 21 classes
    assert check_splits("scenes", None, ["train", "val"], {"count": 3, "size": 64}).samples == 6


def found(root: Path, format: str = "folder", **options: object) -> dict[str, str]:
    """Kind of each fault -> its text."""
    return {
        f"{fault.severity} {fault.kind}": str(fault) for fault in check_splits(format, root, options=options).faults
    }


def test_duplicates_across_splits(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": 4, "val": 3})
    train, val = tmp_path / "train/images", tmp_path / "val/images"
    (val / "val_000.jpg").write_bytes((train / "train_002.jpg").read_bytes())
    copy = cv2.resize(read_image(train / "train_003.jpg"), (84, 60))
    write_jpeg(val / "val_001.jpg", cv2.resize(copy, (56, 40)))
    report = check_splits("folder", tmp_path)
    same = [str(fault) for fault in report.warnings if fault.kind == "duplicate"]
    near = [str(fault) for fault in report.warnings if fault.kind == "near_duplicate"]
    assert len(same) == len(near) == 1
    assert "val_000.jpg' in val is the same picture as" in same[0]
    assert "train_002.jpg' in train" in same[0]
    assert "val_001.jpg' in val is almost the same picture as" in near[0]
    assert "train_003.jpg' in train" in near[0]


def test_splits_that_are_made_of_each_other_are_no_duplicates(tmp_path: Path) -> None:
    write_voc(tmp_path, aug=2)
    assert "warning duplicate" not in found(tmp_path, "voc")  # trainval holds val


def test_repeated_pictures_and_flat_ones(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": 4, "val": 2})
    images = tmp_path / "train/images"
    (images / "train_001.jpg").write_bytes((images / "train_000.jpg").read_bytes())
    for path in (images / "train_002.jpg", images / "train_003.jpg", tmp_path / "val/images/val_000.jpg"):
        write_jpeg(path, np.zeros((40, 56, 3), np.uint8))  # nodata: says nothing
    faults = found(tmp_path)
    assert "the same picture 2 times" in faults["warning repeated"]
    assert "train_001.jpg" in faults["warning repeated"]
    assert "warning duplicate" not in faults


def test_labels_without_a_class_and_classes_without_a_pixel(tmp_path: Path) -> None:
    space = write_folder(tmp_path, {"train": 3, "val": 2})
    for path in (tmp_path / "train/labels").iterdir():
        write_png(path, np.full((40, 56), space.codes[0], np.uint8))
    write_png(tmp_path / "val/labels/val_001.png", np.full((40, 56), 7, np.uint8))  # void
    faults = found(tmp_path)
    assert "val_001.png' without a single labelled pixel" in faults["warning unlabelled"]
    assert (
        "train: every labelled pixel is 'ground', no pixel of the classes 'house', 'tree'" in faults["error one_class"]
    )
    assert "val shows the class" in faults["warning unseen"]
    assert "which no training image does" in faults["warning unseen"]


def test_palettes_that_contradict_the_table(tmp_path: Path) -> None:
    space = write_folder(tmp_path, {"train": 3})
    first, second, third = space.colours
    for colours, right in (
        (space.colours, True),
        ((first, third, second), False),
        (((9, 9, 9), (8, 8, 8), (7, 7, 7)), True),  # any other colours mean nothing
    ):
        for index, path in enumerate(sorted((tmp_path / "train/labels").iterdir())):
            write_label(path, fake_pair(space, index)[1], replace(space, colours=colours), codes=True)
        errors = [str(fault) for fault in check_splits("folder", tmp_path).errors]
        assert len(errors) == (0 if right else 3)
        assert right or "shows code 1 in the colour of 'tree', but the class table calls it 'house'" in errors[0]


def test_images_of_another_mode(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": 4})
    path = tmp_path / "train/images/train_001.jpg"
    grey = read_image(path, bands=1)
    path.unlink()
    write_png(path.with_suffix(".png"), grey)
    assert "train_001.png' stored as L, the other images as RGB" in found(tmp_path)["warning mode"]


def test_faults_of_all_splits_come_together(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": 3, "val": 2})
    (tmp_path / "train/labels/train_000.png").unlink()
    write_png(tmp_path / "val/labels/val_000.png", np.full((40, 56), 99, np.uint8))
    calls: list[tuple[int, int]] = []
    report = check_splits("folder", tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(i, 4) for i in range(1, 5)]
    assert {Path(fault.file).name for fault in report.errors} == {"train_000.jpg", "val_000.png"}
    assert not report.ok
    gone = check_splits("folder", tmp_path, ["train", "dev"])
    assert any("no split 'dev'" in fault.message for fault in gone.errors)
    with pytest.raises(ConfigError, match="no option"):
        check_splits("folder", tmp_path, options={"colour": 1})
    (tmp_path / "empty").mkdir()
    assert "has no split" in str(check_splits("cityscapes", tmp_path / "empty").errors[0])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_fingerprints_know_copies_and_tell_others_apart(seed: int) -> None:
    image = photograph(seed)
    copies = [
        cv2.resize(image, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA),
        decode_jpeg(image, 50),
        cv2.convertScaleAbs(image, alpha=1.0, beta=15),
    ]
    for copy in copies:
        assert closest([fingerprint(copy)], [fingerprint(image), fingerprint(photograph(seed + 5000))])[0][:2] == (0, 0)
    assert closest([fingerprint(image)], [fingerprint(photograph(seed + 5000))]) == []
    assert closest([], [fingerprint(image)]) == []
    deep = image.astype(np.uint16) * 200
    assert closest([fingerprint(deep)], [fingerprint(image.astype(np.float32))])


def photograph(seed: int) -> np.ndarray:
    """Blotches of many sizes, as far as a hash can tell a photograph."""
    rng = np.random.default_rng(seed)
    total = np.zeros((96, 128, 3), np.float32)
    for cells in (3, 6, 12, 24):
        total += cv2.resize(
            rng.normal(0, 1 / cells**0.5, (cells, cells, 3)).astype(np.float32),
            (128, 96),
            interpolation=cv2.INTER_CUBIC,
        )
    return np.clip(128 + 90 * total, 0, 255).astype(np.uint8)


def decode_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


@pytest.mark.slow
def test_real_splits_show_no_false_alarm(shared: Path) -> None:
    for format, name in (("camvid", "camvid"), ("folder", "aerial")):
        report = check_splits(format, shared / "data" / name)
        assert report.ok
        assert not [fault for fault in report.faults if "duplicate" in fault.kind]


def test_what_image_files_hold_beside_their_picture(tmp_path: Path) -> None:
    """Pages after the first, and half turns by EXIF, which no size shows."""
    write_folder(tmp_path, {"train": 3})
    folder = tmp_path / "train/images"
    images = [Image.open(path) for path in sorted(folder.iterdir())]
    exif = images[1].getexif()
    exif[0x0112] = 3
    images[1].save(folder / "train_001.jpg", exif=exif, quality=95)
    images[2].save(folder / "train_002.tif", save_all=True, append_images=[images[0]])
    (folder / "train_002.jpg").unlink()
    messages = "\n".join(map(str, check_splits("folder", tmp_path).warnings))
    assert "train_002.tif' hold more than one picture (2 pages); the first one is read" in messages
    assert "train_001.jpg' are turned by their EXIF orientation 3" in messages
    assert "set the option exif to false" in messages
