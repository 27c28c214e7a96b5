"""Ordinary images and label pictures, read and written. Rasters with a place on Earth: `georaster/`."""

from pspnet.images.bands import is_raster
from pspnet.images.label_images import may_be_transparent, read_label, read_label_picture, read_labels
from pspnet.images.opening import IMAGE_SUFFIXES, LABEL_SUFFIXES, MAX_PIXELS
from pspnet.images.reading import (
    decode_image,
    image_mode,
    image_size,
    orientation_of,
    pixels_of_pillow,
    read_image,
    read_palette,
    scale_of,
    stores_deep,
    with_bands,
)
from pspnet.images.writing import (
    encode_jpeg,
    encode_label,
    encode_png,
    write_grey_tiff,
    write_jpeg,
    write_label,
    write_png,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "LABEL_SUFFIXES",
    "MAX_PIXELS",
    "decode_image",
    "encode_jpeg",
    "encode_label",
    "encode_png",
    "image_mode",
    "image_size",
    "is_raster",
    "may_be_transparent",
    "orientation_of",
    "pixels_of_pillow",
    "read_image",
    "read_label",
    "read_label_picture",
    "read_labels",
    "read_palette",
    "scale_of",
    "stores_deep",
    "with_bands",
    "write_grey_tiff",
    "write_jpeg",
    "write_label",
    "write_png",
]
