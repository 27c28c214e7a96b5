"""Label pictures and PNGs, written whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pspnet.errors import ImageError, LabelError
from pspnet.files import write_bytes
from pspnet.labels import IGNORE, LabelSpace


def write_label(
    path: str | Path, labels: NDArray[Any], label_space: LabelSpace, *, codes: bool = False, overwrite: bool = True
) -> None:
    """Writes (H, W) labels as an indexed PNG in the classes' colours, whole or not at all.

    Pixels hold 0..K-1 and 255 (ignored, black); with codes=True the source's own codes (grey with 16 bits where one
    exceeds 255, for a palette ends there). Raises LabelError when a label is neither below K nor 255.
    """
    write_bytes(path, encode_label(labels, label_space, codes=codes, name=str(path)), overwrite=overwrite)


def encode_label(labels: NDArray[Any], label_space: LabelSpace, *, codes: bool = False, name: str = "labels") -> bytes:
    """The bytes that `write_label` writes; `name` is what an error calls them."""
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "iu" or labels.size == 0:
        raise LabelError(f"'{name}': labels are (height, width) whole numbers, not {labels.shape} {labels.dtype}")
    wrong = (labels != IGNORE) & ((labels < 0) | (labels >= label_space.num_classes))
    if wrong.any():
        raise LabelError(
            f"'{name}': label {int(labels[wrong].flat[0])} is neither one of the "
            f"{label_space.num_classes} classes nor {IGNORE} (ignore)"
        )
    palette = label_space.palette
    values = labels.astype(np.uint8)
    if codes:
        encoded = label_space.encode(values)
        if int(encoded.max()) > 255:
            return encode_png(encoded, name)
        values = encoded.astype(np.uint8)
        palette = np.zeros((256, 3), np.uint8)
        for code, colour in zip(label_space.codes, label_space.colours, strict=True):
            if code <= 255:
                palette[code] = colour
    image = Image.fromarray(np.ascontiguousarray(values))
    image.putpalette(palette.tobytes())
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=4)
    return stream.getvalue()


def write_png(path: str | Path, image: NDArray[Any], *, overwrite: bool = True) -> None:
    """Writes (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA, uint8 or uint16, as PNG, whole or not at all."""
    write_bytes(path, encode_png(image, str(path)), overwrite=overwrite)


def write_jpeg(path: str | Path, image: NDArray[np.uint8], *, overwrite: bool = True) -> None:
    """Writes (H, W, 3) RGB as JPEG, whole or not at all."""
    write_bytes(path, encode_jpeg(image, name=str(path)), overwrite=overwrite)


def encode_jpeg(image: NDArray[np.uint8], quality: int = 92, name: str = "image") -> bytes:
    """The bytes that `write_jpeg` writes; quality: 1 to 100. Raises ImageError, above 65,500 px of a side say."""
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ImageError(f"'{name}': {image.shape} could not be encoded as JPEG")
    return encoded.tobytes()


def write_grey_tiff(path: str | Path, image: NDArray[np.uint8]) -> None:
    """Writes (H, W) as a grey TIFF (LZW), whole or not at all."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "TIFF", compression="tiff_lzw")
    write_bytes(path, stream.getvalue())


def encode_png(image: NDArray[Any], name: str = "image") -> bytes:
    """The bytes that `write_png` writes; `name` is what an error calls them."""
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if (
        image.dtype not in (np.uint8, np.uint16)
        or image.size == 0
        or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4)))
    ):
        raise ImageError(
            f"'{name}': a PNG holds (H, W), (H, W, 3) or (H, W, 4) of uint8 or uint16, not {image.shape} {image.dtype}"
        )
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR if image.shape[2] == 3 else cv2.COLOR_RGBA2BGRA)
    done, encoded = cv2.imencode(".png", np.ascontiguousarray(image))
    if not done:
        raise ImageError(f"'{name}': OpenCV could not encode {image.shape} {image.dtype} as PNG")
    return encoded.tobytes()
