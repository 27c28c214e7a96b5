"""The one door to image decoders: an image opened with nothing decoded but its header.

A file's format is told by its first bytes, must be one of `headers.FORMATS`, and only that decoder is asked: Pillow, left
to itself, starts Ghostscript for PostScript that is called .png. Whatever a decoder raises is an ImageError about that one
file.
"""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from pspnet.errors import ImageError
from pspnet.files import path_limits
from pspnet.images.bands import why_no_photograph
from pspnet.images.decoder_costs import check_file
from pspnet.images.headers import read_header

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".gif"),
    *(".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".pnm"),
)
LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif", ".pgm")
MAX_PIXELS = 178_956_970  # twice Pillow's warning limit, where Pillow itself refuses; larger ones are rasters


def read_bytes(path: str | Path) -> bytes:
    """A file's bytes. Raises ImageError naming it."""
    path_limits.check(path)
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise ImageError(f"'{path}' does not exist") from None
    except OSError as error:
        raise ImageError(f"'{path}' cannot be read: {error.strerror or error}") from error


def open_picture(data: bytes, name: str, max_pixels: int) -> tuple[Image.Image, tuple[int, int]]:
    """The image with nothing decoded but its header, and its stored (width, height)."""
    if not data:
        raise ImageError(f"'{name}' is empty (0 bytes); copy it again")
    header = read_header(data, name)
    if header.width * header.height > max_pixels:
        raise ImageError(
            f"'{name}' has {header.width} x {header.height} pixels; at most {max_pixels:,} are read at once. "
            "`pspnet raster` reads larger ones in windows"
        )
    check_file(data, header.format, name)
    bands_said = why_no_photograph(data, header.format)
    if bands_said:
        raise ImageError(
            f"'{name}' is a raster, no photograph: it has {bands_said}. Photographs are grey, RGB or RGBA; "
            "`pspnet raster`, and every layout of training data, read such a file with all its bands"
        )
    try:
        image = _pillow(header.format, data)
    except Exception as error:  # whatever a decoder raises
        raise ImageError(f"'{name}' has a damaged header ({error or type(error).__name__}); copy it again") from error
    check_size(name, (header.width, header.height), image.size)
    return image, image.size


def _pillow(kind: str, data: bytes) -> Image.Image:
    """Pillow's own reader of one format. `Image.open` would warn from half of MAX_PIXELS on, through filters that belong
    to the whole process; MAX_PIXELS was checked by the header."""
    Image.preinit()
    if kind not in Image.OPEN:
        Image.init()
    return Image.OPEN[kind][0](io.BytesIO(data), "")


def check_size(name: str, by_header: tuple[int, int], by_decoder: tuple[int, int]) -> None:
    """Limits were checked with the header's size, so no other one may be decoded. A TIFF may be turned meanwhile."""
    if sorted(by_header) != sorted(by_decoder):
        raise ImageError(
            f"'{name}' says {by_header[0]} x {by_header[1]} pixels in its header, and its decoder finds "
            f"{by_decoder[0]} x {by_decoder[1]}; it is damaged or made to deceive"
        )


def damaged(name: str, size: tuple[int, int], error: BaseException) -> ImageError:
    """The error for a file whose pixels a decoder refused."""
    what = str(error) or type(error).__name__
    return ImageError(f"'{name}' ({size[0]} x {size[1]} by its header) is cut off or damaged: {what}. Copy it again")


def png_header(data: bytes) -> tuple[int, int]:
    """(bits per sample, colour type) of a PNG; (0, -1) for another file."""
    return (data[24], data[25]) if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) > 25 else (0, -1)
