"""Bodies to images. What a body may cost is checked before it is paid: bytes while they come, pixels by the header.

A body's type is told by its first bytes, because clients often send none or a wrong one (curl's --data-binary says it
were a form). Width and height are read by our own bounded readers (`pspnet.images.headers`), never by a library.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Literal, cast

from numpy.typing import NDArray
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartParser
from starlette.requests import ClientDisconnect, Request

from pspnet.errors import ImageError
from pspnet.images.headers import format_of, read_header
from pspnet.predict.segmenter import Segmenter
from pspnet.server.admission import Body
from pspnet.server.decoding import DecoderPool
from pspnet.server.problems import Problem
from pspnet.server.settings import ServerSettings

# what the service takes of the formats that files may have; photographs travel in no other
TAKEN = frozenset(("JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP"))
FORMATS = "JPEG, PNG, WebP, TIFF, BMP or GIF"
# what senders say when they do not know, or mean bytes; the first bytes then decide
_UNTOLD = ("", "application/octet-stream", "application/x-www-form-urlencoded", "binary/octet-stream")


@dataclass(frozen=True)
class Upload:
    """A body that may be decoded: its bytes, and the height and width that its header claims."""

    data: bytes
    height: int
    width: int

    @property
    def pixels(self) -> int:
        return self.height * self.width


async def read_body(request: Request, settings: ServerSettings, body: Body) -> bytes:
    """The image's bytes: the body itself, or the file of a multipart form. body: takes account of them. Raises Problem."""
    coding = request.headers.get("content-encoding", "identity").lower()
    if coding != "identity":
        raise Problem("unsupported_type", f"content-encoding {coding!r}: send the image's file as it is")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _UNTOLD and not kind.startswith("image/") and kind != "multipart/form-data":
        raise Problem("unsupported_type", f"content-type {kind!r}: send {FORMATS}, or multipart/form-data with a file")
    data = await _read_limited(request, settings, body)
    return await _file_of_form(request.headers, data) if kind == "multipart/form-data" else data


async def read_json(request: Request, settings: ServerSettings, body: Body) -> bytes:
    """A body of JSON, bounded as an image's is. Raises Problem."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Problem("unsupported_type", f"content-type {kind!r}: send application/json")
    return await _read_limited(request, settings, body)


def check(data: bytes, settings: ServerSettings) -> Upload:
    """Type and extent by the first bytes. Raises Problem; decodes nothing."""
    if not data:
        raise Problem("bad_request", "the body is empty; send an image's bytes, such as: curl --data-binary @photo.jpg")
    if format_of(data) not in TAKEN:
        raise Problem("unsupported_type", f"the body is none of {FORMATS}: its first bytes are of no such file")
    try:
        header = read_header(data, "image")
    except ImageError as error:
        raise Problem("bad_image", _without_bytes(error)) from error
    _check_extent(header.height, header.width, settings)
    return Upload(data, header.height, header.width)


async def decode(upload: Upload, segmenter: Segmenter, decoders: DecoderPool, seconds: float) -> NDArray[Any]:
    """(H, W, bands) as the file has them, 8 bits or its own range as the model knows it.

    Raises Problem where the file is damaged, or costs more than its size may.
    """
    bands = cast(Literal[1, 3, 4], segmenter.config.in_bands)
    dtype: Literal["uint8", "native"] = "uint8" if segmenter.card.value_range[1] <= 255 else "native"
    size = (upload.height, upload.width)
    try:
        return await decoders.decode(upload.data, size, bands, dtype, seconds, segmenter.card.full_scale)
    except ImageError as error:
        raise Problem("bad_image", _without_bytes(error)) from error


def as_known(pixels: NDArray[Any], segmenter: Segmenter) -> NDArray[Any]:
    """(H, W, bands) in the range that the model knows. Raises Problem."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # values out of the trained range: told to a person, not to a log
            return segmenter.read(pixels)
    except ImageError as error:
        raise Problem("bad_image", _without_bytes(error)) from error


async def _read_limited(request: Request, settings: ServerSettings, body: Body) -> bytes:
    stated_length = request.headers.get("content-length", "")
    allowed = settings.max_bytes
    if stated_length.isdigit() and (len(stated_length) > 18 or int(stated_length) > allowed):
        raise Problem("too_large", f"the body has {int(stated_length[:18]):,} bytes; at most {allowed:,} are taken")
    data = bytearray()
    parts = request.stream()
    try:
        while True:
            try:
                async with asyncio.timeout(settings.stall_s):
                    part = await anext(parts, None)
            except TimeoutError:
                raise Problem("slow_body", f"no byte came for {settings.stall_s:g} s") from None
            if part is None:
                break
            data += part
            body.grow(len(part))
            if len(data) > allowed:
                raise Problem("too_large", f"the body has more than {allowed:,} bytes, the most that is taken")
    except ClientDisconnect:
        raise Problem("gone", "the connection closed before the body was complete") from None
    except asyncio.CancelledError:
        if not body.ended:
            raise
        body.task.uncancel()
        raise Problem("slow_body", "others needed the memory, and this body came the slowest; send it again") from None
    body.complete()
    return bytes(data)


async def _file_of_form(headers: Headers, data: bytes) -> bytes:
    async def whole() -> AsyncGenerator[bytes, None]:
        yield data
        yield b""

    parser = MultiPartParser(headers, whole(), max_files=1, max_fields=16, max_part_size=4096)
    parser.spool_max_size = len(data) + 1  # the body is in memory already; nothing of it goes to a disk
    try:
        form = await parser.parse()
    except Exception as error:  # whatever the parser raises
        reason = getattr(error, "message", "") or "its parts cannot be told apart"
        raise Problem("bad_request", f"the form is damaged: {reason}") from error
    files = [value for value in form.values() if isinstance(value, UploadFile)]
    if not files:
        raise Problem("bad_request", "the form has no file; send one, such as: curl -F image=@photo.jpg")
    content = await files[0].read()
    await form.close()
    return content


def _check_extent(height: int, width: int, settings: ServerSettings) -> None:
    if height < 1 or width < 1:
        raise Problem("bad_image", f"the image has {width} x {height} pixels: nothing to see")
    if max(height, width) > settings.max_side_px or height * width > settings.max_pixels:
        raise Problem(
            "too_large",
            f"the image has {width:,} x {height:,} pixels; allowed are {settings.max_megapixels:g} million in all and "
            f"{settings.max_side_px:,} a side. Send it smaller; for rasters there is `pspnet raster`",
        )


def _without_bytes(error: ImageError) -> str:
    """The message, without the file's first bytes that it may quote."""
    return str(error).partition("; it begins with")[0].replace("'image' ", "the image ", 1)
