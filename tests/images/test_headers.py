"""Sizes read without a library, for every format, and files that would cost a decoder far more than their pixels."""

import contextlib
import io
import os
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pspnet.errors import ImageError
from pspnet.images import decode_image, opening, read_image
from pspnet.images.decoder_costs import check_file
from pspnet.images.headers import FORMATS, format_of, read_header


def encoded(image: Image.Image, fmt: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, fmt, **options)
    return stream.getvalue()


RGB = Image.fromarray(np.random.default_rng(0).integers(0, 255, (31, 47, 3), dtype=np.uint8))
HONEST = {
    "jpeg": ("JPEG", encoded(RGB, "JPEG")),
    "progressive": ("JPEG", encoded(RGB, "JPEG", progressive=True, comment=b"c" * 60_000)),
    "jpeg with a long profile": ("JPEG", encoded(RGB, "JPEG", icc_profile=b"p" * 300_000)),
    "two pictures": ("JPEG", encoded(RGB, "MPO", save_all=True, append_images=[RGB])),
    "png": ("PNG", encoded(RGB, "PNG")),
    "apng": ("PNG", encoded(RGB, "PNG", save_all=True, append_images=[RGB.rotate(90)] * 3)),
    "tiff": ("TIFF", encoded(RGB, "TIFF")),
    "tiff lzw": ("TIFF", encoded(RGB, "TIFF", compression="tiff_lzw")),
    "big tiff": ("TIFF", encoded(RGB, "TIFF", big_tiff=True)),
    "webp": ("WEBP", encoded(RGB, "WEBP")),
    "webp lossless": ("WEBP", encoded(RGB, "WEBP", lossless=True)),
    "webp extended": ("WEBP", encoded(RGB, "WEBP", icc_profile=b"p" * 99)),
    "gif": ("GIF", encoded(RGB, "GIF")),
    "gif with a comment": ("GIF", encoded(RGB, "GIF", comment=b"c" * 3000)),
    "animated": ("GIF", encoded(RGB, "GIF", save_all=True, append_images=[RGB.rotate(90)])),
    "bmp": ("BMP", encoded(RGB, "BMP")),
    "jpeg 2000": ("JPEG2000", encoded(RGB, "JPEG2000")),
    "jpeg 2000 stream": ("JPEG2000", encoded(RGB, "JPEG2000", no_jp2=True)),
    "ppm": ("PPM", encoded(RGB, "PPM")),
    "pgm with a comment": ("PPM", b"P5\n# a line\n47 31\n255\n" + bytes(47 * 31)),
}


@pytest.mark.parametrize("name", HONEST)
def test_size_and_format_as_the_decoder_finds_them(name: str) -> None:
    kind, data = HONEST[name]
    header = read_header(data, name)
    assert (header.format, header.height, header.width) == (kind, 31, 47)
    check_file(data, kind, name)
    assert decode_image(data, name).shape == (31, 47, 3)
    assert Image.open(io.BytesIO(data)).size == (47, 31)


def test_every_format_has_an_honest_file_here() -> None:
    assert {kind for kind, _ in HONEST.values()} == set(FORMATS)


def gif_of(comment: bytes) -> bytes:
    blocks = b"".join(bytes([len(part)]) + part for part in (comment[i : i + 255] for i in range(0, len(comment), 255)))
    screen = b"GIF89a\x0a\0\x0a\0\0\0\0"
    return screen + b"!\xfe" + blocks + b"\0" + b",\0\0\0\0\x0a\0\x0a\0\0\x02\x02\x4c\x01\0;"


def tiff(entries: list[tuple[int, int, int, int]], room: int = 0) -> bytes:
    """A grey TIFF of 8 x 8 px, all zeros, with these entries behind the usual ones."""
    usual = [(256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
    usual += [(277, 3, 1, 1), (278, 3, 1, 8), (279, 4, 1, 64)]
    listed = b"".join(struct.pack("<HHII", *entry) for entry in usual + entries)
    body = bytes(64 + room)
    return (
        b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", len(usual + entries)) + listed + bytes(4)
    )


def segment(marker: int, body: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def jpeg_of_scans(count: int) -> bytes:
    frame = segment(0xC2, struct.pack(">BHHB", 8, 64, 64, 1) + b"\x01\x11\0")
    return (
        b"\xff\xd8"
        + frame
        + segment(0xDA, b"\x01\x01\0\0\0\0")
        + (segment(0xDA, b"\x01\x01\0\x01\x3f\0") + b"\0") * count
    )


def png_of(chunks: list[tuple[bytes, bytes]], before: bool = True) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    extra = b"".join(chunk(*one) for one in chunks)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(20)))
    inside = extra + pixels if before else pixels + extra
    return b"\x89PNG\r\n\x1a\n" + header + inside + chunk(b"IEND", b"")


FRAME = segment(0xC0, struct.pack(">BHHB", 8, 64, 64, 1) + b"\x01\x11\0")
HOSTILE = {
    "gif, 4 MiB of comment": gif_of(b"c" * 2**22),
    "gif, blocks without end": b"GIF89a\x0a\0\x0a\0\0\0\0!\xff" + b"\x01a" * 2**22,
    "gif, empty extensions": b"GIF89a\x0a\0\x0a\0\0\0\0" + b"!\xfe\0" * 2**20,
    "tiff, tags that share a MiB": tiff([(40000 + k, 1, 2**20, 8) for k in range(600)], room=2**20),
    "tiff, 6,000 tags": tiff([(40000 + k, 1, 1, 8) for k in range(6000)]),
    "tiff, its width twice": tiff([(256, 4, 1, 4000)]),
    "tiff, every tag twice": tiff([(256, 3, 1, 9), (257, 3, 1, 9)]),
    "tiff, a width of two values": tiff([])[:8]
    + tiff([])[8:].replace(struct.pack("<HHI", 256, 3, 1), struct.pack("<HHI", 256, 3, 2)),
    "tiff, an exif directory that is none": tiff([(0x8769, 4, 1, 0)]),
    "jpeg, 12,000 scans": jpeg_of_scans(12_000),
    "jpeg, two sizes": b"\xff\xd8" + FRAME + FRAME + segment(0xDA, b"\x01\x01\0\0\0\0"),
    "jpeg, a MiB of exif": b"\xff\xd8"
    + segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 17
    + FRAME
    + segment(0xDA, b"\x01\x01\0\0\0\0"),
    "jpeg, segments without end": b"\xff\xd8" + segment(0xFE, b"") * 2**20,
    "jpeg, 0xFF without end": b"\xff\xd8\xff" + b"\xff" * 2**24,
    "png, a million chunks": png_of([(b"prIv", b"")] * 10**6),
    "png, a million chunks behind its pixels": png_of([(b"prIv", b"")] * 10**6, before=False),
    "png, two headers": png_of([(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 0, 0, 0, 0))]),
    "postscript called png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 30\nshowpage\n",
    "a pdf": b"%PDF-1.7\n",
    "fli behind BM": b"BM\0\0\x11\xaf\1\0\x40\x01\xc8\0\x08\0\3\0" + bytes(200),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_costs_a_decoder_much_is_refused_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_pillow", lambda *_, **__: pytest.fail("a library was asked"))
    began = time.process_time()
    with pytest.raises(ImageError, match=r"'x\.img'"):
        decode_image(HOSTILE[name], "x.img")
    assert time.process_time() - began < 0.25


def test_a_long_film_behind_a_phones_jpeg_is_not_searched() -> None:
    film = np.random.default_rng(1).integers(0, 256, 2**21, dtype=np.uint8).tobytes() + b"\xff\xda" * 500
    assert decode_image(encoded(RGB, "JPEG") + film, "motion.jpg").shape == (31, 47, 3)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(sorted(HONEST)), fraction=st.floats(0, 0.999), value=st.integers(0, 255), cut=st.floats(0, 1)
)
def test_a_damaged_header_gives_a_size_or_an_image_error(name: str, fraction: float, value: int, cut: float) -> None:
    data = bytearray(HONEST[name][1])
    data[int(fraction * min(len(data), 300))] = value
    with contextlib.suppress(ImageError):  # and nothing else
        header = read_header(bytes(data[: int(cut * len(data))]), "x")
        check_file(bytes(data), header.format, "x")


@pytest.mark.parametrize(
    "error", [RuntimeError("a decoder's own"), RecursionError(), MemoryError(), ZeroDivisionError()]
)
def test_whatever_a_decoder_raises_is_about_this_file(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(HONEST["png"][1])

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Image.Image, "load", fail)
    with pytest.raises(ImageError, match=r"a\.png"):
        read_image(path)


def test_a_decoder_that_finds_another_size_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_pillow", lambda *_, **__: Image.new("RGB", (48, 31)))
    with pytest.raises(ImageError, match=r"47 x 31.*48 x 31"):
        decode_image(HONEST["png"][1], "x.png")


def test_no_program_is_started_for_postscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {mark}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "a.png").write_bytes(HOSTILE["postscript called png"])
    with pytest.raises(ImageError, match="no image that can be read"):
        read_image(tmp_path / "a.png")
    assert not mark.exists()


def test_formats_are_told_by_their_first_bytes() -> None:
    assert [format_of(data) for _, data in HONEST.values()] == [kind for kind, _ in HONEST.values()]
    assert format_of(b"") is None
