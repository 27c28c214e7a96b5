"""Ordinary images, read. Rasters with a place on Earth are read elsewhere (rasterio).

Reading is strict: a file that is cut off, altered, too large or no image is an ImageError that names it.
What a file means is decided here, once:

orientation   EXIF orientation is applied: pixels come as a viewer shows them.
order         RGB.
greyscale     repeated three times where three bands are wanted.
alpha         composited on white where three bands or one are wanted: hidden pixels stay hidden. With bands=4 it is
              the fourth band, untouched (near infrared is often stored so).
16 bits       kept where dtype="native"; to 0..255 by the file's own bit depth: its largest value is compared with
              255, 1023, 4095, 16383 and 65535, and the first that is not below it becomes 255. A 12-bit camera's
              file is thus not nearly black. `full_scale` fixes the divisor for a whole series.
float         kept where dtype="native"; else 0..1 is multiplied by 255, 0..255 is taken as it is.
palette, CMYK converted to RGB.  animated: the first frame.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pspnet.errors import ImageError
from pspnet.images.opening import MAX_PIXELS, check_size, damaged, open_picture, png_header, read_bytes

_FULL_SCALES = (255, 1023, 4095, 16383, 65535)


def read_image(
    path: str | Path,
    *,
    bands: Literal[1, 3, 4] | None = 3,
    dtype: Literal["uint8", "native"] = "uint8",
    full_scale: int | None = None,
    exif: bool = True,
    max_pixels: int = MAX_PIXELS,
) -> NDArray[Any]:
    """An image file -> (H, W, bands), RGB order; uint8 0..255, or the file's own type and range with dtype="native".

    bands: 3 (RGB), 1 (luminance), 4 (RGB and alpha, opaque where the file has none), None (as many as the file has:
    1, 3 or 4). full_scale: the 16-bit value that becomes 255; None: by the file's bit depth (see the module).
    exif: apply the orientation; False gives the pixels as stored (a TIFF is turned all the same).
    Raises ImageError naming the file when it is missing, damaged, no image or larger than `max_pixels`.
    """
    return decode_image(
        read_bytes(path), str(path), bands=bands, dtype=dtype, full_scale=full_scale, exif=exif, max_pixels=max_pixels
    )


def decode_image(
    data: bytes,
    name: str,
    *,
    bands: Literal[1, 3, 4] | None = 3,
    dtype: Literal["uint8", "native"] = "uint8",
    full_scale: int | None = None,
    exif: bool = True,
    max_pixels: int = MAX_PIXELS,
) -> NDArray[Any]:
    """As `read_image`, from a file's bytes; `name` is what an error calls it."""
    image, size = open_picture(data, name, max_pixels)
    try:
        image.load()  # the whole file, so that a cut one is noticed
        pixels = _deep_pixels(image, data, name) if _is_deep(image, data) else _pixels(image)
    except ImageError:
        raise
    except Exception as error:  # whatever a decoder raises
        raise damaged(name, size, error) from error
    check_size(name, size, (pixels.shape[1], pixels.shape[0]))
    if exif:
        pixels = _oriented(pixels, _orientation(image))
    if dtype == "uint8":
        pixels = _to_uint8(pixels, name, full_scale)
    return np.ascontiguousarray(pixels if bands is None else with_bands(pixels, bands))


def pixels_of_pillow(
    image: Image.Image,
    *,
    bands: Literal[1, 3, 4] | None = 3,
    dtype: Literal["uint8", "native"] = "uint8",
    full_scale: int | None = None,
) -> NDArray[Any]:
    """An image of Pillow's, from a file or made in Python -> (H, W, bands), as `read_image` reads its file: palettes and
    CMYK become colours, alpha is put on white, EXIF orientation is applied. Raises ImageError."""
    try:
        pixels = _oriented(_pixels(image), _orientation(image))
    except Exception as error:  # whatever a decoder raises: Pillow decodes when the pixels are asked for
        raise damaged("an image of Pillow's", image.size, error) from error
    if dtype == "uint8":
        pixels = _to_uint8(pixels, "an image of Pillow's", full_scale)
    return np.ascontiguousarray(pixels if bands is None else with_bands(pixels, bands))


def image_size(path: str | Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(height, width) as `read_image` would give it, from the header alone. Raises ImageError as it does."""
    image, (width, height) = open_picture(read_bytes(path), str(path), max_pixels)
    return (width, height) if _orientation(image) >= 5 else (height, width)


def orientation_of(path: str | Path) -> int:
    """EXIF orientation 1..8 of a file, as `read_image` applies it; 1: as stored. Raises ImageError."""
    return _orientation(open_picture(read_bytes(path), str(path), MAX_PIXELS)[0])


def image_mode(path: str | Path) -> str:
    """How a file stores its pixels, in Pillow's words: "L", "RGB", "RGBA", "P", "CMYK", "I;16" ... Raises ImageError."""
    return open_picture(read_bytes(path), str(path), MAX_PIXELS)[0].mode


def read_palette(path: str | Path) -> NDArray[np.uint8] | None:
    """(n, 3) RGB colours of a file with a palette, or None where it has none. Raises ImageError."""
    image, _ = open_picture(read_bytes(path), str(path), MAX_PIXELS)
    colours = image.getpalette("RGB") if image.mode == "P" else None
    return None if colours is None else np.array(colours, np.uint8).reshape(-1, 3)


def scale_of(pixels: NDArray[Any]) -> int:
    """What is taken for white in deep pixels by themselves: the first usual depth's largest value not below theirs; of
    floating point 1 or 255."""
    if pixels.dtype.kind == "f":
        return 1 if pixels.max(initial=0) <= 1 else 255
    high = int(pixels.max(initial=0))
    return next(scale for scale in _FULL_SCALES if scale >= min(high, _FULL_SCALES[-1]))


def stores_deep(path: str | Path) -> bool:
    """Whether a file holds numbers of more than 8 bits. Raises ImageError."""
    data = read_bytes(path)
    image = open_picture(data, str(path), MAX_PIXELS)[0]
    return image.mode in ("I", "I;16", "I;16B", "F") or _is_deep(image, data)


def with_bands(pixels: NDArray[Any], bands: int) -> NDArray[Any]:
    """(H, W, 1, 3 or 4) -> (H, W, 1, 3 or 4): grey repeated, alpha composited on white or added opaque."""
    if pixels.shape[2] == bands:
        return pixels
    opaque = np.iinfo(pixels.dtype).max if pixels.dtype.kind in "iu" else 1
    if bands == 4:
        colour = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
        return np.concatenate([colour, np.full_like(colour[..., :1], opaque)], axis=2)
    if pixels.shape[2] == 4:
        colour, alpha = pixels[..., :3].astype(np.float32), pixels[..., 3:].astype(np.float32) / opaque
        over = colour * alpha + opaque * (1 - alpha)
        pixels = (np.round(over) if pixels.dtype.kind in "iu" else over).astype(pixels.dtype)
    if bands == 3:
        return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    if pixels.shape[2] == 1:
        return pixels
    grey = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow and OpenCV
    return (np.round(grey) if pixels.dtype.kind in "iu" else grey).astype(pixels.dtype)[..., None]


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; damaged or absent EXIF is 1, because viewers show such a file as stored.

    Read here, because Pillow's reader warns through Python's process-wide filters, which threads cannot silence.
    """
    exif = image.info.get("exif") if image.format != "TIFF" else None  # Pillow and OpenCV turn a TIFF while reading it
    if not isinstance(exif, bytes):
        return 1
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    try:
        if order is None:
            return 1
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        for entry in range(count):
            tag, _kind, _number, value = struct.unpack_from(order + "HHIH", tiff, start + 2 + 12 * entry)
            if tag == 0x0112:
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:  # the block is cut off
        return 1
    return 1


def _oriented(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Stored pixels -> as seen (EXIF 2.3, tag 274)."""
    if orientation in (2, 4, 5, 7):
        pixels = pixels[:, ::-1]
    turns = {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)  # quarter turns against the clock
    return np.rot90(pixels, turns)


def _pixels(image: Image.Image) -> NDArray[Any]:
    """(H, W, 1 | 3 | 4) in the file's own type."""
    if image.mode in ("1", "L"):
        grey = np.asarray(image.convert("L"))
        return np.asarray(image.convert("RGBA")) if "transparency" in image.info else grey[..., None]
    if image.mode in ("I", "I;16", "I;16B", "F"):
        return np.asarray(image)[..., None]
    transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    return np.asarray(image.convert("RGBA" if transparent else "RGB"))


def _is_deep(image: Image.Image, data: bytes) -> bool:
    """More than 8 bits in several bands: Pillow would drop the lower 8."""
    if image.format == "PNG":
        depth, colour_type = png_header(data)
        return depth == 16 and colour_type != 0
    bits = getattr(image, "tag_v2", {}).get(258, (8,)) if image.format == "TIFF" else (8,)
    return max(bits) > 8 and len(bits) > 1


def _deep_pixels(image: Image.Image, data: bytes, name: str) -> NDArray[Any]:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ImageError(
            f"'{name}' has more than 8 bits in a form that OpenCV cannot read ({image.format} {image.mode})"
        )
    if pixels.ndim == 2:
        return pixels[..., None]
    code = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}[pixels.shape[2]]
    return cv2.cvtColor(pixels, code)


def _to_uint8(pixels: NDArray[Any], name: str, full_scale: int | None) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels
    low, high = float(pixels.min()), float(pixels.max())
    most, usual = (255, "0..1 and 0..255") if pixels.dtype.kind == "f" else (_FULL_SCALES[-1], "0..65535")
    if not (low >= 0 and high <= max(most, full_scale or 0)):  # written so that NaN is refused too
        raise ImageError(
            f"'{name}' holds {low:g} to {high:g} in {pixels.dtype}; {usual} can be scaled to 0..255. Scale it first, or train "
            'a model on its own range (dtype="native")'
        )
    scale = full_scale or scale_of(pixels)
    return np.clip(np.round(pixels * (255.0 / scale)), 0, 255).astype(np.uint8)
