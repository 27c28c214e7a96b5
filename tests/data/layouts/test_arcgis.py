"""Classified Tiles: every oddity of real exports, written and read back, repaired; train and val share no ground."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil

from pspnet.data.catalog import available_splits, open_dataset
from pspnet.data.doctor import check_dataset, check_splits
from pspnet.data.layouts.arcgis import ClassifiedTiles
from pspnet.data.layouts.arcgis_chips import divide, pair_up
from pspnet.data.layouts.arcgis_metadata import ACCUMULATED, EMD, MAP, STATS, read_metadata
from pspnet.data.write_chips import repair_tiles, write_tiles
from pspnet.errors import ConfigError, DataError, ImageError, LabelError, OutputError
from pspnet.labels import IGNORE
from support.classified_tiles import CLASSES, SIZE, chip_labels, export
from support.rasters import scene, write_raster


def open_tiles(root: Path, split: str = "all", **options: Any) -> ClassifiedTiles:
    dataset = open_dataset("classified_tiles", root, split, **options)
    assert isinstance(dataset, ClassifiedTiles)
    return dataset


def decoded(number: int) -> np.ndarray:
    return np.array([IGNORE, 0, 0, 0, 0, 1], np.uint8)[np.array([0, 0, 1, 0, 0, 5])[chip_labels(number)]]


def test_an_export_as_esri_writes_it(tmp_path: Path) -> None:
    dataset = open_tiles(export(tmp_path / "out"))
    assert len(dataset) == 6
    assert dataset.label_space.names == ("Water", "Bare soil")
    assert dataset.label_space.codes == (2, 5)
    assert 0 in dataset.label_space.ignored_codes
    assert dataset.band_names == ("red", "green", "blue")
    assert dataset.metadata.band_means == (100.5, 100.5, 100.5)
    sample = dataset[2]
    np.testing.assert_array_equal(sample.image, scene(SIZE, SIZE, seed=2).transpose(1, 2, 0))
    np.testing.assert_array_equal(sample.labels, decoded(2))
    assert sample.name == "out/000000002"
    assert check_dataset(dataset).ok
    assert available_splits("classified_tiles", tmp_path / "out") == ("train", "val")
    assert dataset.grid(4).transform.c == 500_000 + 2 * SIZE


@pytest.mark.parametrize("keep", [[], [MAP], [STATS], [ACCUMULATED], [MAP, EMD]])
def test_missing_files_are_not_missed(tmp_path: Path, keep: list[str]) -> None:
    root = export(tmp_path / "out")
    (root / STATS).write_text(
        "images = 6 *3*32*32\nclasses = 2\nclasses per image = [min = 2, mean = 2.00, max = 2]\n"
        "cls name  cls value  images  pixels  min size  mean size  max size\n"
        "Water  2  6  3000  1.00  500.00  600.00\nBare soil  5  6  2400  300.5  400.00  500.00\n"
    )
    (root / ACCUMULATED).write_text(
        json.dumps(
            {
                "MetaDataMode": "Classified_Tiles",
                "Classes": [{"ClassValue": 2, "ClassName": "Water"}, {"ClassValue": 5, "ClassName": "Bare soil"}],
            }
        )
    )
    for name in (MAP, STATS, ACCUMULATED, EMD):
        if name not in keep:
            (root / name).unlink()
    dataset = open_tiles(root)
    named = keep not in ([], [MAP])
    assert dataset.label_space.names == (("Water", "Bare soil") if named else ("class_2", "class_5"))
    np.testing.assert_array_equal(dataset[1].labels, decoded(1))
    assert set(dataset.metadata.missing) == {MAP, STATS, ACCUMULATED, EMD} - set(keep)


def test_formats_folders_names_and_depths(tmp_path: Path) -> None:
    png = open_tiles(export(tmp_path / "png", suffix=".png", start=200))
    np.testing.assert_array_equal(png[0].image, scene(SIZE, SIZE, seed=200).transpose(1, 2, 0))
    mrf = open_tiles(export(tmp_path / "mrf", suffix=".mrf"))  # with an index and a data file beside it
    np.testing.assert_array_equal(mrf[1].image, scene(SIZE, SIZE, seed=1).transpose(1, 2, 0))
    jpeg = open_tiles(export(tmp_path / "jpeg", suffix=".jpg"))
    assert np.abs(jpeg[1].image.astype(int) - scene(SIZE, SIZE, seed=1).transpose(1, 2, 0)).mean() < 8  # it is lossy
    deep = export(tmp_path / "deep", dtype=np.uint16)
    for path in (deep / "labels").iterdir():  # 16-bit labels in folders named after classes
        with rasterio.open(path) as file:
            labels = file.read()
        (deep / "labels" / "Water").mkdir(exist_ok=True)
        write_raster(deep / "labels" / "Water" / path.name, labels.astype(np.uint16), tiled=False)
        path.unlink()
    assert open_tiles(deep)[0].image.dtype == np.uint16
    np.testing.assert_array_equal(open_tiles(deep)[3].labels, decoded(3))
    (deep / "labels").rename(deep / "LABELS")
    (deep / "images").rename(deep / "Images")
    np.testing.assert_array_equal(open_tiles(deep)[3].labels, decoded(3))


def test_map_may_pair_other_names_with_slashes_tabs_and_a_third_column(tmp_path: Path) -> None:
    root = export(tmp_path / "out", 3)
    (root / "images2").mkdir()
    lines = []
    for number in range(3):
        name = f"{number:09d}.tif"
        (root / "labels" / name).rename(root / "labels" / f"mask_{number}.tif")
        write_raster(root / "images2" / name, np.full((1, SIZE, SIZE), 7 + number, np.float32), tiled=False)
        lines.append(f"images/{name}\tlabels/mask_{number}.tif\timages2/{name}")
    (root / MAP).write_text("\n".join(lines))
    dataset = open_tiles(root)
    assert dataset.bands == 4
    assert (dataset[1].image[..., 3] == 8).all()
    np.testing.assert_array_equal(dataset[1].labels, decoded(1))
    assert open_tiles(root, bands=[4]).bands == 1


def test_zero_is_a_class_where_the_export_says_so(tmp_path: Path) -> None:
    listed = open_tiles(
        export(tmp_path / "listed", classes=[{"Value": 0, "Name": "Rest", "Color": [1, 2, 3]}, *CLASSES])
    )
    assert listed.label_space.names == ("Rest", "Water", "Bare soil")
    nodata = open_tiles(
        export(tmp_path / "nodata", classes=[{"Value": 0, "Name": "NoData", "Color": [1, 2, 3]}, *CLASSES])
    )
    assert nodata.label_space.names == ("Water", "Bare soil")
    asked = open_tiles(tmp_path / "nodata", background="other")
    assert asked.label_space.codes == (0, 2, 5)
    one = export(tmp_path / "one", classes=CLASSES[:1])
    for path in (one / "labels").iterdir():
        write_raster(path, np.where(chip_labels(0) == 2, 2, 0).astype(np.uint8)[None], tiled=False)
    with pytest.warns(UserWarning, match="one class, 'Water': value 0 is taken as its background"):
        assert open_tiles(one).label_space.names == ("background", "Water")


def test_several_exports_are_one_data_set(tmp_path: Path) -> None:
    export(tmp_path / "all" / "a")
    export(tmp_path / "all" / "b", start=100)
    assert len(open_tiles(tmp_path / "all")) == 12
    both = open_tiles(tmp_path / "all" / "a", more=["b"])
    assert len({both[i].name for i in range(12)}) == 12
    export(tmp_path / "c", classes=[{"Value": 2, "Name": "Forest", "Color": [-1, -1, -1]}])
    with pytest.warns(UserWarning, match="2 is Water in a and Forest in c"):
        both = open_tiles(tmp_path / "all" / "a", more=[str(tmp_path / "c")])
    assert both.label_space.names == ("Water", "Bare soil", "Forest")


def test_a_class_is_its_name_whatever_value_an_export_gives_it(tmp_path: Path) -> None:
    export(tmp_path / "a")
    turned = [CLASSES[0] | {"Value": 5}, CLASSES[1] | {"Value": 2, "Name": "bare soil"}]
    export(tmp_path / "b", classes=turned)
    with pytest.warns(UserWarning, match="Water: 2 in a, 5 in b"):
        both = open_tiles(tmp_path / "a", more=["b"])
    assert both.label_space.names == ("Water", "Bare soil")
    assert both.label_space.codes == (2, 5)
    count = len(both) // 2
    first, second = both[0].labels, both[count].labels
    assert (first[second != 255] == 1 - second[second != 255]).all()
    assert (second != 255).any()


@pytest.mark.parametrize("stride", [SIZE, SIZE // 2])
def test_train_and_val_never_overlap(tmp_path: Path, stride: int) -> None:
    """Exports with a stride of half a chip show each place in up to four chips."""
    chips = pair_up(export(tmp_path / "out", 64, stride=stride, columns=8))
    samples = {}
    for split in ("train", "val"):
        samples[split] = np.zeros((8 * SIZE, 8 * SIZE), bool)
        for chip in divide(chips, split, 0.2, 0):
            row, column = divmod(int(chip.images[0].stem), 8)
            samples[split][row * stride : row * stride + SIZE, column * stride : column * stride + SIZE] = True
    assert not (samples["train"] & samples["val"]).any()
    assert len(divide(chips, "val", 0.2, 0)) == pytest.approx(13, abs=7)
    assert len(divide(chips, "train", 0.2, 0)) >= 35
    assert divide(chips, "val", 0.2, 1) != divide(chips, "val", 0.2, 0)


def test_world_files_place_chips_without_opening_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = export(tmp_path / "out", 20, columns=5)
    for number in range(20):
        row, column = divmod(number, 5)
        (root / "images" / f"{number:09d}.tfw").write_text(
            f"2.0\n0.0\n0.0\n-2.0\n{500_001 + 64 * column}\n{5_599_999 - 64 * row}\n"
        )
    chips = pair_up(root)
    expected = [chip.name for chip in divide(chips, "val", 0.3, 0)]
    opened = []
    monkeypatch.setattr("pspnet.georaster.whole.open_raster", lambda p: opened.append(p) or rasterio.open(p))
    assert [chip.name for chip in divide(chips, "val", 0.3, 0)] == expected
    assert len(opened) == 1
    for path in (root / "images").glob("*.tfw"):
        path.unlink()
    assert [chip.name for chip in divide(chips, "val", 0.3, 0)] == expected


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    root = export(tmp_path / "out")
    (root / "labels" / "000000003.tif").unlink()
    with pytest.raises(DataError, match=r"1 of 6 chips.*\n.*000000003.tif' has no labels"):
        open_tiles(root)
    write_raster(root / "labels" / "000000003.tif", np.ones((1, 16, 16), np.uint8), tiled=False)
    with pytest.raises(LabelError, match="code 1"):
        open_tiles(root)[3]
    write_raster(root / "labels" / "000000003.tif", np.full((1, 16, 16), 2, np.uint8), tiled=False)
    with pytest.raises(LabelError, match="16 x 16 px, its image"):
        open_tiles(root)[3]
    (root / "images" / "000000003.tif").write_bytes(b"II*\0 nothing")
    with pytest.raises(ImageError, match="000000003"):
        open_tiles(root)[3]
    (root / EMD).write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        open_tiles(root)
    (root / EMD).write_text('{"MetaDataMode": "RCNN_Masks"}')
    with pytest.raises(DataError, match="exported as RCNN_Masks"):
        open_tiles(root)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no Classified Tiles export"):
        open_tiles(tmp_path / "none")
    with pytest.raises(DataError, match="no split 'test'"):
        open_tiles(root, "test")


def test_repair_writes_what_is_missing(tmp_path: Path) -> None:
    root = export(tmp_path / "out", emd=False)
    (root / MAP).unlink()
    assert repair_tiles(root) == (MAP, STATS, ACCUMULATED, EMD)
    assert repair_tiles(root) == ()
    metadata = read_metadata(root)
    assert metadata.classes == {2: ("class_2", None), 5: ("class_5", None)}
    images = np.concatenate([scene(SIZE, SIZE, seed=n).reshape(3, -1) for n in range(6)], axis=1).astype(float)
    np.testing.assert_allclose(metadata.band_means, images.mean(axis=1))
    np.testing.assert_allclose(metadata.band_stds, images.std(axis=1))
    assert (root / MAP).read_text().splitlines()[3] == "images\\000000003.tif  labels\\000000003.tif "
    stats = json.loads((root / ACCUMULATED).read_text())
    pixels = [int((chip_labels(n) == 5).sum()) for n in range(6)]
    assert stats["ClassPixelStats"]["NumPixelsPerClass"][1] == sum(pixels)
    assert stats["ClassPixelStats"]["PixelsPerClass"][1] == {
        "Min": min(pixels),
        "Max": max(pixels),
        "Mean": np.mean(pixels),
        "Sum": sum(pixels),
        "Count": 6,
    }
    assert "classes per image = [min = 2, mean = 2.00, max = 2]" in (root / STATS).read_text()
    assert stats["MinCellSize"]["x"] == 2
    np.testing.assert_array_equal(open_tiles(root)[0].labels, decoded(0))


@pytest.mark.parametrize("layout", ["classified_tiles", "folder"])
def test_windows_of_a_raster_written_as_chips_are_read_back(tmp_path: Path, layout: Any) -> None:
    (tmp_path / "town" / "images").mkdir(parents=True)
    (tmp_path / "town" / "classes.csv").write_text("code,name,red,green,blue\n10,water,0,80,220\n20,forest,10,120,20\n")
    write_raster(tmp_path / "town" / "images" / "a.tif", scene(64, 96))
    codes = np.where(scene(64, 96)[0] > 128, 20, 10).astype(np.uint8)
    codes[:9, :9] = 0
    write_raster(tmp_path / "town" / "labels.tif", codes[None], nodata=0)
    source = open_dataset("raster", tmp_path / "town", "all", labels="labels.tif", window_px=32)
    reports: list[tuple[int, int]] = []
    folder = write_tiles(source, tmp_path / "out", layout, progress=lambda done, total: reports.append((done, total)))
    assert reports[-1] == (6, 6)
    if layout == "folder":
        back = open_dataset("raster", folder, "all", window_px=32)
        plain = open_dataset("folder", folder, "all")
        assert sorted(plain[i].image.tobytes() for i in range(6)) == sorted(source[i].image.tobytes() for i in range(6))
    else:
        back = open_dataset("classified_tiles", folder, "all")
        assert {p.name for p in folder.iterdir()} == {"images", "labels", MAP, STATS, ACCUMULATED, EMD}
        assert (folder / "images" / "000000000.tfw").read_text().split()[0].startswith("2.0")
    assert back.label_space.names == source.label_space.names
    assert len(back) == len(source) == 6

    def content(dataset: Any) -> list[tuple[bytes, bytes, Any]]:
        return sorted(
            (dataset[i].image.tobytes(), dataset[i].labels.tobytes(), tuple(dataset.grid(i).transform))
            for i in range(6)
        )

    assert content(back) == content(source)
    with pytest.raises(OutputError, match="not empty"):
        write_tiles(source, folder, layout)
    write_tiles(source, folder, layout, overwrite=True)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_codes_that_use_zero_are_renumbered_for_arcgis(tmp_path: Path) -> None:
    scenes = open_dataset("scenes", split="val", count=2, seed=0, size=64)
    folder = write_tiles(scenes, tmp_path / "out", image_format="PNG", start_index=10)
    back = open_dataset("classified_tiles", folder, "all")
    assert min(back.label_space.codes) == 1
    assert back.label_space.names == scenes.label_space.names
    for index in range(2):
        np.testing.assert_array_equal(back[index].labels, scenes[index].labels)
        np.testing.assert_array_equal(back[index].image, scenes[index].image)
    assert (folder / "images" / "000000011.png").is_file()


@pytest.mark.wrong_types
def test_tiles_are_no_gif(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="image_format"):
        write_tiles(open_dataset("scenes", split="val", count=2), tmp_path / "x", image_format="GIF")  # type: ignore[arg-type]


def test_chips_of_another_type(tmp_path: Path) -> None:
    """An export that was made in two goes: 8 bits, then 16. The first chip alone told the type."""
    root = export(tmp_path / "chips")
    last = sorted((root / "images").glob("*.tif"))[-1]
    with rasterio.open(last) as file:
        pixels, profile = file.read(), file.profile
    profile.pop("photometric", None)
    with rasterio.open(last, "w", **{**profile, "dtype": "uint16"}) as file:
        file.write(pixels.astype(np.uint16) * 200)
    words = [str(fault) for fault in check_splits("classified_tiles", root).errors]
    assert any(f"'{last}' has type uint16 instead of uint8" in text for text in words)
