"""Label pictures as programs write them: read as what they say, or refused by name; nothing of a photograph is done."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.transform import from_origin

from pspnet.errors import LabelError
from pspnet.images import may_be_transparent, read_labels
from pspnet.images.label_images import Holds
from pspnet.labels import IGNORE, LabelSpace

SPACE = LabelSpace(("ground", "plant", "roof"), ((0, 0, 0), (30, 160, 40), (255, 255, 255)))
PLACE = from_origin(0, 0, 2, 2)
LABELS = np.repeat(np.array([[0, 1, 2, 1]], np.uint8), 3, axis=0)
COLOURS = np.array(SPACE.colours, np.uint8)[LABELS]


def saved(folder: Path, image: Image.Image, name: str = "a.png", **options: object) -> Path:
    image.save(folder / name, **options)
    return folder / name


def palette(labels: np.ndarray, colours: object, **options: object) -> Image.Image:
    image = Image.fromarray(labels)
    image.putpalette(np.array(colours, np.uint8).tobytes())
    return image


def test_a_grey_mask_in_three_channels(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.repeat(LABELS[..., None], 3, 2))
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png", SPACE), LABELS)


def test_a_colour_picture_is_not_read_by_its_red_band(tmp_path: Path) -> None:
    odd = np.stack([LABELS, LABELS * 100, LABELS * 50], axis=2)  # the red band happens to hold codes
    with pytest.raises(
        LabelError, match=r"a\.png' is a colour image \(3 colours in 3 bands.*1 of them in the class table"
    ):
        read_labels(saved(tmp_path, Image.fromarray(odd)), SPACE)
    with pytest.raises(LabelError, match=r"a\.png' has the colour \(1, 100, 50\)"):
        read_labels(tmp_path / "a.png", SPACE, "colours")


@pytest.mark.parametrize("under", [0, 255, 77])
def test_what_nobody_painted_has_no_label(under: int, tmp_path: Path) -> None:
    """A painting program's layer: what stands under transparent pixels means nothing; on white it would be a roof."""
    pixels = np.dstack([COLOURS, np.full(LABELS.shape, 255, np.uint8)])
    pixels[0] = (under, under, under, 0)
    wanted = LABELS.copy()
    wanted[0] = IGNORE
    np.testing.assert_array_equal(read_labels(saved(tmp_path, Image.fromarray(pixels)), SPACE, "colours"), wanted)
    grey = np.dstack([LABELS, pixels[..., 3]])
    np.testing.assert_array_equal(read_labels(saved(tmp_path, Image.fromarray(grey, "LA")), SPACE), wanted)


@pytest.mark.parametrize("form", ["palette", "grey", "colours"])
def test_a_transparent_value(form: str, tmp_path: Path) -> None:
    """PNG's tRNS, which GIMP, Photoshop and GIF write: as a colour nobody painted it; as a code it is what the table says."""
    ignored = np.where(LABELS == 1, IGNORE, LABELS)
    path = tmp_path / "a.png"
    if form == "colours":
        Image.fromarray(COLOURS).save(path, transparency=SPACE.colours[1])
        np.testing.assert_array_equal(read_labels(path, SPACE, "colours"), ignored)
        return
    image = Image.fromarray(LABELS, "P" if form == "palette" else "L")
    if form == "palette":
        image.putpalette(SPACE.palette.ravel().tolist())
    image.save(path, transparency=1)
    assert may_be_transparent(path)
    np.testing.assert_array_equal(read_labels(path, SPACE), LABELS)
    if form == "palette":
        np.testing.assert_array_equal(read_labels(path, SPACE, "colours"), ignored)
    unlisted = LabelSpace(tuple(SPACE.names[i] for i in (0, 2)), codes=(0, 2))
    np.testing.assert_array_equal(read_labels(path, unlisted), unlisted.decode(ignored, "a"))


def test_antialiasing_is_refused(tmp_path: Path) -> None:
    pixels = np.dstack([COLOURS, np.full(LABELS.shape, 255, np.uint8)])
    pixels[1, 1, 3] = 120
    with pytest.raises(LabelError, match="half transparent"):
        read_labels(saved(tmp_path, Image.fromarray(pixels)), SPACE, "colours")


def test_palettes(tmp_path: Path) -> None:
    straight = palette(LABELS, SPACE.colours)
    for name, image in (("a.png", straight), ("a.gif", straight), ("a.bmp", straight)):
        np.testing.assert_array_equal(read_labels(saved(tmp_path, image, name), SPACE), LABELS)
        np.testing.assert_array_equal(read_labels(tmp_path / name, SPACE, "colours"), LABELS)
    other = palette(LABELS, [(1, 1, 1), (2, 2, 2), (3, 3, 3)])  # colours that no class has mean nothing
    np.testing.assert_array_equal(read_labels(saved(tmp_path, other), SPACE), LABELS)


def test_a_palette_of_this_file_alone_is_refused_as_codes_and_read_as_colours(tmp_path: Path) -> None:
    order = np.array([2, 0, 1])  # entry k shows class order[k]
    image = palette(np.argsort(order).astype(np.uint8)[LABELS], np.array(SPACE.colours)[order])
    with pytest.raises(
        LabelError, match=r"a\.png' shows code 0 in the colour of 'roof', but the class table calls it 'ground'"
    ):
        read_labels(saved(tmp_path, image), SPACE)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png", SPACE, "colours"), LABELS)


def test_nothing_of_a_photograph_is_done(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    np.testing.assert_array_equal(read_labels(saved(tmp_path, Image.fromarray(LABELS), exif=exif), SPACE), LABELS)
    np.testing.assert_array_equal(
        read_labels(saved(tmp_path, Image.fromarray(COLOURS), exif=exif), SPACE, "colours"), LABELS
    )
    deep = LabelSpace(("a", "b", "c"), codes=(0, 1000, 40_000))
    path = saved(tmp_path, Image.fromarray(np.array(deep.codes, np.uint16)[LABELS]))
    np.testing.assert_array_equal(read_labels(path, deep), LABELS)  # no stretch
    with pytest.raises(LabelError, match="uint16 codes, no colours"):
        read_labels(path, deep, "colours")
    cv2.imwrite(str(tmp_path / "a.png"), np.repeat((LABELS.astype(np.uint16) * 257)[..., None], 3, 2))
    with pytest.raises(LabelError, match="16 bits in each of several channels"):
        read_labels(tmp_path / "a.png", SPACE, "colours")
    with pytest.raises(LabelError, match="stored as CMYK"):
        read_labels(saved(tmp_path, Image.fromarray(COLOURS).convert("CMYK"), "a.tif"), SPACE, "colours")
    with pytest.raises(LabelError, match="JPEG, which alters values"):
        read_labels(saved(tmp_path, Image.fromarray(COLOURS), "a.jpg"), SPACE, "colours")


def test_black_and_white(tmp_path: Path) -> None:
    """A mask of one bit, of 0 and 255, of 0 and 1: by codes and by colours, each only what it says."""
    two = LabelSpace(("ground", "roof"), ((0, 0, 0), (255, 255, 255)))
    one = (LABELS == 2).astype(np.uint8)
    for image, holds in (
        (Image.fromarray(one.astype(bool)), "codes"),
        (Image.fromarray(one.astype(bool)), "colours"),
        (Image.fromarray(one), "codes"),
        (Image.fromarray(one * 255), "colours"),
    ):
        np.testing.assert_array_equal(read_labels(saved(tmp_path, image), two, holds), one)
    with pytest.raises(LabelError, match=r"the colour \(1, 1, 1\)"):
        read_labels(saved(tmp_path, Image.fromarray(one)), two, "colours")


@given(st.data())
@settings(deadline=None)
def test_random_labels_come_back(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Every way to store a label picture, pixel for pixel."""
    folder = tmp_path_factory.getbasetemp()
    count = data.draw(st.integers(1, 12))
    codes = tuple(data.draw(st.lists(st.integers(0, 254), min_size=count, max_size=count, unique=True)))
    triple = st.tuples(*[st.integers(0, 255)] * 3)
    colours = tuple(data.draw(st.lists(triple, min_size=count, max_size=count, unique=True)))
    space = LabelSpace(tuple(f"c{i}" for i in range(count)), colours, codes)
    shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    labels = np.random.default_rng(data.draw(st.integers(0, 999))).integers(0, count, shape).astype(np.uint8)
    stored = np.array(codes, np.uint8)[labels]
    table = np.zeros((256, 3), np.uint8)
    table[list(codes)] = colours
    ways: dict[str, tuple[Image.Image, Holds]] = {
        "grey": (Image.fromarray(stored), "codes"),
        "16 bits": (Image.fromarray(stored.astype(np.uint16)), "codes"),
        "three channels": (Image.fromarray(np.repeat(stored[..., None], 3, 2)), "codes"),
        "palette": (palette(stored, table), "codes"),
        "palette's colours": (palette(stored, table), "colours"),
        "RGB": (Image.fromarray(np.array(colours, np.uint8)[labels]), "colours"),
        "RGBA": (Image.fromarray(np.array(colours, np.uint8)[labels]).convert("RGBA"), "colours"),
    }
    way = data.draw(st.sampled_from(sorted(ways)))
    ending = data.draw(st.sampled_from([".png", ".tif"]))
    path = saved(folder, ways[way][0], "random" + ending)
    np.testing.assert_array_equal(read_labels(path, space, ways[way][1]), labels)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_in_a_tiff_are_not_stretched(bits: int, tmp_path: Path) -> None:
    labels = np.minimum(LABELS, 2**bits - 1)
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", height=3, width=4, count=1, dtype="uint8", nbits=bits, transform=PLACE
    ) as file:
        file.write(labels, 1)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif", SPACE), labels)


@pytest.mark.parametrize("largest", [1, 2, 150, 255, 1000, 65_535])
@pytest.mark.parametrize("plain", [True, False])
def test_a_pgm_of_any_maximum_is_not_stretched(largest: int, plain: bool, tmp_path: Path) -> None:
    """Class counts as maximum: Pillow makes 0 and 255 of 0 and 1, and 255 is ignored."""
    labels = np.minimum(LABELS.astype(int), largest)
    body = (
        " ".join(map(str, labels.ravel())).encode()
        if plain
        else labels.astype(">u2" if largest > 255 else "u1").tobytes()
    )
    (tmp_path / "a.pgm").write_bytes(b"P%d\n# by hand\n4 3 %d\n" % (2 if plain else 5, largest) + body)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.pgm", SPACE), labels)


def test_a_label_of_several_pictures_is_refused(tmp_path: Path) -> None:
    first, second = Image.fromarray(LABELS), Image.fromarray(np.zeros_like(LABELS))
    for name, words in (("a.tif", "2 pages"), ("a.gif", "an animation"), ("a.png", "an animation")):
        path = saved(tmp_path, first, name, save_all=True, append_images=[second])
        with pytest.raises(LabelError, match=rf"{name}' holds {words}, and a label is one picture"):
            read_labels(path, SPACE)


def test_tiffs_whose_values_are_not_what_was_drawn(tmp_path: Path) -> None:
    pixels = np.kron(LABELS, np.ones((16, 16), np.uint8))
    for options, words in (
        ({"compress": "JPEG"}, "compressed as JPEG, which alters values"),
        ({"photometric": "MINISWHITE"}, "stores grey upside down"),
    ):
        with rasterio.open(
            tmp_path / "a.tif",
            "w",
            driver="GTiff",
            height=48,
            width=64,
            count=1,
            dtype="uint8",
            transform=PLACE,
            **options,
        ) as file:
            file.write(pixels, 1)
        with pytest.raises(LabelError, match=words):
            read_labels(tmp_path / "a.tif", SPACE)
