"""Label pictures, read: what the pixels of a file stand for in a class table. The one reader, for photographs and rasters.

A label is a value, not a colour to look at, so nothing of what makes a photograph pleasant is done to it: no turning by
EXIF, no opacity on white, no stretching of 16 bits, no conversion of palettes. What a file may hold is told from the file:

codes      grey values of 1 to 32 bits, a palette's indices, or one value three times (as OpenCV saves a grey mask)
           as stored: what decoders stretch to 0..255 (2 and 4 bits, PGM of another maximum) is brought back
colours    RGB, a palette's colours, or grey values as grey
opacity    a pixel that nobody painted (alpha 0) has no label: IGNORE. One that is half transparent is antialiased: refused.
           Where a palette's entry, a grey value or a colour is called transparent (tRNS, GIF), likewise; but as a code it
           is a value like others: what the class table lists counts

Refused, for nobody can know what is meant: several pages, compression that alters values, grey that is stored upside down.
A palette that shows a code in the colour of another class contradicts the class table, and is refused: some programs sort
a picture's palette by how often a colour occurs, so that each file numbers its classes anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pspnet.errors import ImageError, LabelError
from pspnet.images.opening import MAX_PIXELS, damaged, open_picture, png_header, read_bytes
from pspnet.images.pages import further_pictures_in
from pspnet.labels import IGNORE, LabelSpace

Holds = Literal["codes", "colours"]
HOLDS: tuple[Holds, ...] = ("codes", "colours")
_LOSSY = ("JPEG", "MPO", "WEBP", "JPEG2000")
_BITS, _COMPRESSION, _PHOTOMETRIC = 258, 259, 262  # TIFF's tags
_LOSSY_TIFF = {6: "JPEG", 7: "JPEG", 33_003: "JPEG 2000", 33_005: "JPEG 2000", 34_712: "JPEG 2000", 50_001: "WebP"}
_PGM = re.compile(rb"P[25](?:(?:\s|#[^\r\n]*[\r\n])+\d+){2}(?:\s|#[^\r\n]*[\r\n])+(\d+)\s")


@dataclass(frozen=True)
class LabelPicture:
    """A label file as stored. values: (H, W) codes, or (H, W, 3) RGB. alpha: (H, W) 0..255, None where all is opaque.
    palette: (n, 3) RGB of the indices in `values`, None where it has none. by_value: the alpha is one that the file gives
    to some of its values."""

    values: NDArray[Any]
    alpha: NDArray[np.uint8] | None = None
    palette: NDArray[np.uint8] | None = None
    by_value: bool = False


def read_labels(path: str | Path, label_space: LabelSpace, holds: Holds = "codes") -> NDArray[np.uint8]:
    """A label file -> (H, W) 0..K-1 and IGNORE. holds: what its pixels are, the table's codes or its colours.

    Raises ImageError for a damaged file, LabelError naming file, value and what to do.
    """
    return labels_of(read_label_picture(path), label_space, holds, str(path))


def labels_of(picture: LabelPicture, label_space: LabelSpace, holds: Holds, source: str) -> NDArray[np.uint8]:
    """As `read_labels`, of a picture that was read elsewhere (a raster's window); `source` is what an error calls it."""
    alpha = picture.alpha
    if alpha is not None and not picture.by_value and ((alpha > 0) & (alpha < 255)).any():
        raise LabelError(
            f"'{source}' has half transparent pixels: it was drawn with antialiasing, which mixes values. Draw with a hard "
            "brush, or save it without an alpha channel"
        )
    values = picture.values
    known: Callable[[NDArray[Any], str], NDArray[np.uint8]] = label_space.decode
    if holds == "colours":
        values, known = _colours(picture, source), label_space.decode_colours
    else:
        values = codes_of(picture, source, label_space)
    if alpha is None:
        return known(values, source)
    painted = alpha > 0
    if picture.by_value and holds == "codes":
        painted |= np.isin(values, (*label_space.codes, *label_space.aliases))
    labels = np.full(alpha.shape, IGNORE, np.uint8)
    labels[painted] = known(values[painted][None], source)[0]  # what lies under transparent pixels means nothing
    return labels


def read_label(path: str | Path) -> NDArray[Any]:
    """A label file's values as stored, no class table asked: (H, W) codes, or (H, W, 3) RGB. Raises as `read_labels`."""
    values = read_label_picture(path).values
    return values.astype(np.uint8) if values.dtype == np.bool_ else values


def read_label_picture(path: str | Path, max_pixels: int = MAX_PIXELS) -> LabelPicture:
    """A label file as stored. Raises ImageError for a damaged one, LabelError for a format or kind that alters values."""
    data = read_bytes(path)
    image, size = open_picture(data, str(path), max_pixels)
    if image.format in _LOSSY:
        raise LabelError(f"'{path}' is {image.format}, which alters values when it is written; store labels as PNG")
    depth, colour_type = png_header(data)
    _refuse_unclear(image, further_pictures_in(data), str(path))
    if colour_type in (2, 4, 6) and depth == 16:
        raise LabelError(
            f"'{path}' has 16 bits in each of several channels; a label is one code, or a colour of 8 bits for each channel"
        )
    try:
        image.load()
        if image.mode in ("RGB", "RGBA", "LA", "PA"):
            bands = np.asarray(image if image.mode in ("RGB", "RGBA", "LA") else image.convert("RGBA"))
            alpha = bands[..., -1] if image.mode != "RGB" else None
            values = bands[..., 0] if image.mode == "LA" else bands[..., :3]
            if alpha is None:
                alpha, by_value = _transparent_values(image, values)
                return LabelPicture(np.ascontiguousarray(values), alpha, by_value=by_value)
            return LabelPicture(np.ascontiguousarray(values), None if (alpha == 255).all() else alpha.copy())
        if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B", "F"):
            raise LabelError(
                f"'{path}' is stored as {image.mode}, whose colours change when converted; save it as RGB PNG"
            )
        codes = np.asarray(image)
    except (LabelError, ImageError):
        raise
    except Exception as error:  # whatever a decoder raises
        raise damaged(str(path), size, error) from error
    palette = image.getpalette("RGB") if image.mode == "P" else None
    if image.mode == "F":
        codes = whole_numbers(codes, str(path))
    if image.mode in ("L", "I"):
        codes = _unstretched(codes, _largest_stored(image, data))
    alpha, by_value = _transparent_values(image, codes)
    colours = None if palette is None else np.array(palette, np.uint8).reshape(-1, 3)
    return LabelPicture(np.ascontiguousarray(codes), alpha, colours, by_value)


def _transparent_values(image: Image.Image, values: NDArray[Any]) -> tuple[NDArray[np.uint8] | None, bool]:
    """(alpha, True) where the file calls some of its values transparent (PNG's tRNS, GIF) and pixels hold them."""
    said = image.info.get("transparency")
    if said is None:
        return None, False
    if isinstance(said, bytes):  # an alpha for each entry of a palette; the rest is opaque
        hidden = np.isin(values, np.flatnonzero(np.frombuffer(said[:256], np.uint8) == 0))
    else:
        hidden = (values == np.array(said)).all(axis=-1) if isinstance(said, tuple) else values == said
    return (np.where(hidden, 0, 255).astype(np.uint8), True) if hidden.any() else (None, False)


def may_be_transparent(path: str | Path) -> bool:
    """Whether a label file has opacity, or values that it calls transparent. Raises ImageError."""
    image, _ = open_picture(read_bytes(path), str(path), MAX_PIXELS)
    return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info


def _refuse_unclear(image: Image.Image, further: str, path: str) -> None:
    """Raises LabelError for a file of which nobody can know what its pixels stand for."""
    if further:
        raise LabelError(f"'{path}' holds {further}, and a label is one picture; save the one that is meant as PNG")
    tags = getattr(image, "tag_v2", None) or {}
    if tags.get(_COMPRESSION) in _LOSSY_TIFF:
        how = _LOSSY_TIFF[tags[_COMPRESSION]]
        raise LabelError(
            f"'{path}' is compressed as {how}, which alters values; store labels without loss (DEFLATE, LZW, PNG)"
        )
    if tags.get(_PHOTOMETRIC) == 0:
        raise LabelError(
            f"'{path}' stores grey upside down (0 is white, MinIsWhite), so that its codes and what a viewer shows differ; save "
            "it as PNG"
        )


def _largest_stored(image: Image.Image, data: bytes) -> int:
    """The value that a file's own bits or header call the brightest, where Pillow stretches it; 0 where it does not."""
    depth, colour_type = png_header(data)
    if colour_type == 0 and depth in (2, 4):
        return 2**depth - 1
    if image.format == "TIFF":
        bits = image.tag_v2.get(_BITS, (8,))[0]  # type: ignore[attr-defined]
        return 2**bits - 1 if bits in (2, 4) else 0
    if image.format == "PPM":
        words = _PGM.match(data[:4096])
        return int(words[1]) if words else 0
    return 0


def _unstretched(codes: NDArray[Any], largest: int) -> NDArray[Any]:
    """Codes 0..largest that a decoder has stretched to 0..255, or to 0..65535 where they need more than 8 bits."""
    full = 255 if largest < 256 else 65_535
    if not largest or largest == full:
        return codes
    return np.round(codes.astype(np.float64) * (largest / full)).astype(codes.dtype)


def whole_numbers(values: NDArray[Any], source: str) -> NDArray[Any]:
    """Numbers with a decimal point that are whole, as whole numbers. Raises LabelError for others."""
    if not np.isfinite(values).all():
        raise LabelError(
            f"'{source}' holds NaN or infinity in {1 - np.isfinite(values).mean():.1%} of its pixels, and does not call it 'no "
            "data'; give them a code that the class table ignores"
        )
    if (values != np.round(values)).any():
        raise LabelError(
            f"'{source}' holds fractions; a label map holds one whole number per pixel. Of probabilities, write the class that is "
            "the most probable"
        )
    return values.astype(np.int64)


def codes_of(picture: LabelPicture, source: str, label_space: LabelSpace | None = None) -> NDArray[Any]:
    """(H, W) codes of a picture; label_space: its palette is compared with. Raises LabelError for a picture of colours."""
    values = picture.values
    if values.ndim == 2:
        if picture.palette is not None and label_space is not None:
            _compare_palette(values, picture.palette, label_space, source)
        return values
    shown = values if picture.alpha is None else values[picture.alpha > 0]
    if (shown == shown[..., :1]).all():
        return values[..., 0]  # one value three times: a grey mask
    colours = np.unique(shown.reshape(-1, 3), axis=0)
    known = () if label_space is None else (*label_space.colours, *label_space.ignored_colours)
    named = sum(tuple(colour) in known for colour in colours.tolist())
    raise LabelError(
        f"'{source}' is a colour image ({len(colours)} colours in 3 bands, such as {tuple(colours[-1].tolist())}, {named} of them "
        'in the class table); codes are expected, one for each pixel. Use decode="colours" with a class table that has its colours'
    )


def _compare_palette(values: NDArray[Any], palette: NDArray[np.uint8], label_space: LabelSpace, source: str) -> None:
    """Refuses a palette that gives a code in the picture the colour of another class. Other colours mean nothing."""
    owner = {colour: index for index, colour in enumerate(label_space.colours)}
    index_of = {code: index for index, code in enumerate(label_space.codes)}
    for code in np.flatnonzero(np.bincount(values.ravel(), minlength=1)).tolist():
        colour = tuple(palette[code].tolist()) if code < len(palette) else None
        other = None if colour is None else owner.get(colour)
        index = index_of.get(code)
        if other is not None and index is not None and colour != label_space.colours[index]:
            raise LabelError(
                f"'{source}' shows code {code} in the colour of {label_space.names[other]!r}, but the class table calls it "
                f'{label_space.names[index]!r}. If the program that wrote it sorts palettes, use decode="colours"; else put '
                "the table's codes right"
            )


def _colours(picture: LabelPicture, source: str) -> NDArray[np.uint8]:
    values = picture.values
    if values.ndim == 3:
        return values.astype(np.uint8)
    if picture.palette is not None:
        return picture.palette[values]
    if values.dtype == np.bool_:  # a picture of 1 bit is black and white
        values = values.astype(np.uint8) * 255
    if values.dtype != np.uint8:
        raise LabelError(f"'{source}' holds {values.dtype} codes, no colours. Use decode=\"codes\"")
    return np.repeat(values[..., None], 3, axis=2)
