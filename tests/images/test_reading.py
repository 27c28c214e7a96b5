"""Images as their owners expect them, and damaged files refused by name."""

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pspnet.errors import ImageError, LabelError, OutputError
from pspnet.files import write_bytes
from pspnet.images import decode_image, image_size, read_image, read_label, write_label, write_png
from pspnet.labels import LabelSpace

SPACE = LabelSpace(
    ("sky", "road", "boat"), ((1, 2, 3), (200, 100, 50), (9, 255, 9)), codes=(7, 3, 300), ignored_codes=(0, 255)
)


def photo(height: int = 20, width: int = 30) -> np.ndarray:
    """Smooth colours, different in every direction and band."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 250 // width, y * 250 // height, (x + y) * 250 // (height + width)], -1).astype(np.uint8)


def encoded(image: np.ndarray | Image.Image, fmt: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, fmt, **options)
    return stream.getvalue()


def test_an_image_is_rgb_and_as_stored(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(photo()))
    read = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(read, photo())
    assert read.dtype == np.uint8
    assert read.flags["C_CONTIGUOUS"]
    assert image_size(tmp_path / "a.png") == (20, 30)


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_shows_what_a_viewer_shows(tmp_path: Path, fmt: str, orientation: int) -> None:
    pixels = photo()
    # the stored pixels are those that the orientation's own definition turns into `seen` (EXIF 2.3, tag 274)
    stored = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, 1),
        7: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(pixels, 3),
    }[orientation]
    image = Image.fromarray(np.ascontiguousarray(stored))
    exif = image.getexif()
    exif[0x0112] = orientation
    options = {"quality": 98} if fmt in ("JPEG", "WEBP") else {}
    path = tmp_path / "a.img"
    path.write_bytes(encoded(image, fmt, exif=exif, **options))
    difference = np.abs(read_image(path).astype(int) - pixels)
    assert difference.max() <= (0 if fmt in ("PNG", "TIFF") else 14)
    assert image_size(path) == pixels.shape[:2]


def test_damaged_exif_is_no_orientation() -> None:
    cut = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12\0\x03"
    for exif in (b"Exif\0\0MM\0*\0\0", b"Exif\0\0XX", cut, b"MM\0*\xff\xff\xff\xff"):
        np.testing.assert_array_equal(decode_image(encoded(photo(), exif=exif), "a.png"), photo())


def test_greyscale_alpha_and_bands() -> None:
    grey = photo()[..., 0]
    as_rgb = decode_image(encoded(grey), "grey.png")
    np.testing.assert_array_equal(as_rgb, np.repeat(grey[..., None], 3, 2))
    assert decode_image(encoded(grey), "grey.png", bands=None).shape == (20, 30, 1)
    rgba = np.dstack([photo(), np.full((20, 30), 255, np.uint8)])
    rgba[0, :, 3] = 0  # hidden: white, whatever colour lies below
    rgba[1, 0] = (100, 0, 200, 51)  # a fifth of the colour, four fifths of white
    read = decode_image(encoded(rgba), "rgba.png")
    assert (read[0] == 255).all()
    assert read[1, 0].tolist() == [224, 204, 244]
    np.testing.assert_array_equal(read[2:], photo()[2:])
    np.testing.assert_array_equal(decode_image(encoded(rgba), "rgba.png", bands=4), rgba)
    opaque = np.dstack([photo(), np.full((20, 30), 255, np.uint8)])
    np.testing.assert_array_equal(decode_image(encoded(photo()), "rgb.png", bands=4), opaque)
    luminance = decode_image(encoded(photo()), "rgb.png", bands=1)
    assert np.abs(luminance[..., 0].astype(int) - np.asarray(Image.fromarray(photo()).convert("L"))).max() <= 1


def test_palette_cmyk_bilevel_and_animation() -> None:
    palette = Image.fromarray(photo()).quantize(16)
    np.testing.assert_array_equal(decode_image(encoded(palette), "p.png"), np.asarray(palette.convert("RGB")))
    cmyk = Image.fromarray(photo()).convert("CMYK")
    assert np.abs(decode_image(encoded(cmyk, "JPEG", quality=98), "c.jpg").astype(int) - photo()).max() <= 25
    bilevel = Image.fromarray(photo()[..., 0] > 100)
    assert set(np.unique(decode_image(encoded(bilevel), "b.png"))) == {0, 255}
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    gif = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(gif, "a.gif")[0, 0].tolist() == [255, 0, 0]
    see_through = Image.new("P", (4, 4), 0)
    see_through.putpalette([10, 20, 30])
    assert decode_image(encoded(see_through, transparency=0), "t.png")[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("grey", [True, False])
def test_sixteen_bit_files_fill_the_range_of_their_bit_depth(tmp_path: Path, bits: int, grey: bool) -> None:
    values = photo()[..., 0] if grey else photo()
    full = np.clip(np.round(values.astype(float) * (2**bits - 1) / 255), 0, 2**bits - 1).astype(np.uint16)
    write_png(tmp_path / "deep.png", full)
    expected = values[..., None] if grey else values
    assert np.abs(read_image(tmp_path / "deep.png", bands=None).astype(int) - expected).max() <= 1
    native = read_image(tmp_path / "deep.png", bands=None, dtype="native")
    assert native.dtype == np.uint16
    np.testing.assert_array_equal(native, full[..., None] if grey else full)
    fixed = read_image(tmp_path / "deep.png", bands=None, full_scale=65535)
    np.testing.assert_array_equal(fixed, np.round(native / 257).astype(np.uint8))


def test_deep_tiff_and_floats(tmp_path: Path) -> None:
    deep = photo().astype(np.uint16) * 257
    assert cv2.imwrite(str(tmp_path / "deep.tif"), deep[..., ::-1])
    np.testing.assert_array_equal(read_image(tmp_path / "deep.tif", dtype="native"), deep)
    np.testing.assert_array_equal(read_image(tmp_path / "deep.tif"), photo())
    for scale, factor in ((1.0, 1), (1 / 255, 1)):
        fraction = Image.fromarray(photo()[..., 0].astype(np.float32) * scale)
        read = decode_image(encoded(fraction, "TIFF"), "f.tif", bands=1)
        np.testing.assert_array_equal(read[..., 0], photo()[..., 0] * factor)
    with pytest.raises(ImageError, match=r"f\.tif.*-1 to 3"):
        decode_image(encoded(Image.fromarray(np.array([[-1.0, 3.0]], np.float32)), "TIFF"), "f.tif")
    with pytest.raises(ImageError, match="nan"):
        decode_image(encoded(Image.fromarray(np.array([[0.0, np.nan]], np.float32)), "TIFF"), "f.tif")


def test_what_is_no_image_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"nowhere\.png' does not exist"):
        read_image(tmp_path / "nowhere.png")
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path)
    for name, content in (("empty.png", b""), ("text.jpg", b"this is no image at all")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=name):
            read_image(tmp_path / name)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_a_cut_file_is_refused(fmt: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8)
    data = encoded(noise, fmt)
    for share in (0.02, 0.5, 0.9):
        with pytest.raises(ImageError, match=r"cut\.img"):
            decode_image(data[: int(len(data) * share)], "cut.img")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    fmt=st.sampled_from(["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"]),
    fraction=st.floats(0, 0.999),
    value=st.integers(0, 255),
    cut=st.integers(0, 40),
)
def test_a_damaged_file_gives_pixels_or_an_image_error(fmt: str, fraction: float, value: int, cut: int) -> None:
    data = bytearray(encoded(photo(), fmt))
    data[int(fraction * len(data))] = value
    try:
        image = decode_image(bytes(data[: len(data) - cut]), "x", max_pixels=10_000_000)
    except ImageError:
        return
    assert image.shape[2] == 3


def png(header: bytes, rows: bytes) -> bytes:
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims width x height pixels."""
    return png(struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0), b"\0" * 100)


def test_a_decompression_bomb_is_not_unpacked() -> None:
    with pytest.raises(ImageError, match=r"bomb.*raster"):
        decode_image(bomb(60_000, 60_000), "bomb")
    with pytest.raises(ImageError, match="at most 1,000 are read"):
        decode_image(bomb(200, 200), "bomb", max_pixels=1000)


def test_labels_come_as_stored(tmp_path: Path) -> None:
    codes = (np.arange(60).reshape(6, 10) % 4).astype(np.uint8)
    path = tmp_path / "label.png"
    palette = Image.fromarray(codes).convert("P")
    palette.putpalette([200, 0, 0] * 4)
    cases = {
        "palette": encoded(palette),
        "grey": encoded(codes),
        "tiff": encoded(codes, "TIFF"),
        "deep": encoded(codes.astype(np.uint16)),
        "long": encoded(codes.astype(np.int32), "TIFF"),
        "float": encoded(codes.astype(np.float32), "TIFF"),
    }
    for name, data in cases.items():
        path.write_bytes(data)
        read = read_label(path)
        assert read.dtype.kind in "iu", name
        np.testing.assert_array_equal(read, codes, err_msg=name)
    path.write_bytes(encoded(codes.astype(np.uint16) * 1000))
    np.testing.assert_array_equal(read_label(path), codes.astype(int) * 1000)
    path.write_bytes(encoded(Image.fromarray(codes > 1)))
    np.testing.assert_array_equal(read_label(path), codes > 1)


def grey_png(codes: np.ndarray, bits: int) -> bytes:
    """A grey PNG with fewer than 8 bits per pixel, which neither Pillow nor OpenCV writes."""
    rows = b""
    for row in codes:
        text = "".join(f"{v:0{bits}b}" for v in row)
        text += "0" * (-len(text) % 8)
        rows += b"\0" + bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))
    return png(struct.pack(">IIBBBBB", codes.shape[1], codes.shape[0], bits, 0, 0, 0, 0), rows)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_codes_of_narrow_grey_png_are_not_stretched(tmp_path: Path, bits: int) -> None:
    codes = (np.arange(45).reshape(5, 9) % 2**bits).astype(np.uint8)
    (tmp_path / "narrow.png").write_bytes(grey_png(codes, bits))
    np.testing.assert_array_equal(read_label(tmp_path / "narrow.png"), codes)


def test_labels_that_cannot_be_trusted_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "label.jpg"
    path.write_bytes(encoded(photo()[..., 0], "JPEG"))
    with pytest.raises(LabelError, match=r"label\.jpg' is JPEG.*PNG"):
        read_label(path)
    path.write_bytes(encoded(np.full((2, 2), 0.5, np.float32), "TIFF"))
    with pytest.raises(LabelError, match="fractions"):
        read_label(path)
    path.write_bytes(encoded(photo()))
    assert read_label(path).shape == (20, 30, 3)
    with pytest.raises(LabelError, match='decode="colours"'):
        SPACE.decode(read_label(path), str(path))


def test_labels_are_written_in_their_colours(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 2], [255, 1, 0]], np.uint8)
    write_label(tmp_path / "new" / "a.png", labels, SPACE)
    np.testing.assert_array_equal(read_label(tmp_path / "new" / "a.png"), labels)
    image = Image.open(tmp_path / "new" / "a.png")
    assert image.mode == "P"
    shown = np.asarray(image.convert("RGB"))
    assert shown[0].tolist() == [[1, 2, 3], [200, 100, 50], [9, 255, 9]]
    assert shown[1, 0].tolist() == [0, 0, 0]
    write_label(tmp_path / "codes.png", labels, SPACE, codes=True)
    np.testing.assert_array_equal(SPACE.decode(read_label(tmp_path / "codes.png"), "codes.png"), labels)
    small = LabelSpace(("a", "b"), ((1, 2, 3), (4, 5, 6)), codes=(26, 33))
    write_label(tmp_path / "small.png", labels % 2, small, codes=True)
    assert set(np.unique(read_label(tmp_path / "small.png"))) == {26, 33}
    assert np.asarray(Image.open(tmp_path / "small.png").convert("RGB"))[0, 0].tolist() == [1, 2, 3]
    for wrong in (np.full((2, 2), 3), np.full((2, 2), -1), np.zeros((2, 2, 3), int), np.zeros((2, 2))):
        with pytest.raises(LabelError, match=r"w\.png"):
            write_label(tmp_path / "w.png", wrong, SPACE)


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1), (5, 4, 3), (5, 4, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_round_trip(tmp_path: Path, shape: tuple[int, ...], dtype: type) -> None:
    image = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, shape, endpoint=True).astype(dtype)
    image.flat[0] = np.iinfo(dtype).max
    write_png(tmp_path / "a.png", image)
    back = read_image(tmp_path / "a.png", bands=None, dtype="native")
    np.testing.assert_array_equal(back, image.reshape(back.shape))


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.png"
    target.write_bytes(b"before")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OutputError, match=r"a\.png' cannot be written: the disk is full"):
        write_bytes(target, b"after")
    assert target.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(ImageError, match="float64"):
        write_png(target, np.zeros((2, 2)))
