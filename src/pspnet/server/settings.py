"""What a server allows and how it batches. Every limit is checked before the work that it limits."""

from __future__ import annotations

import re
from typing import ClassVar

from pydantic import Field, model_validator

from pspnet.config.base import Settings


class ServerSettings(Settings):
    """Limits, batching and keys of one server."""

    title: ClassVar[str] = "server"

    device: str = Field("auto", description="Where models run: auto, cpu, cuda, cuda:1 ...")
    precision: str = Field("auto", description="auto (bfloat16 where the hardware computes in it), fp32 or bf16.")
    queue: int = Field(64, ge=1, description="Greatest number of requests in work or waiting; more get a 503.")
    queue_megapixels: float = Field(
        64.0, gt=0, description="Greatest sum of their images, in megapixels: bounds the memory of the queue."
    )
    max_batch: int = Field(16, ge=1, description="Greatest number of images computed at once; 1 is one by one.")
    batch_megapixels: float = Field(2.0, gt=0, description="Greatest sum of a batch, in megapixels.")
    batch_wait_ms: float = Field(
        5.0, ge=0, description="How long a batch waits for requests that are being read, in milliseconds."
    )
    bucket_px: int = Field(
        1,
        ge=1,
        description="Images are batched with those whose height and width round up to the same multiple of this; what "
        "is missing repeats the edge. 1: only with images of their own size, and the answer is the segmenter's own.",
    )
    deadline_s: float = Field(30.0, gt=0, description="Longest time from a request's first byte to its answer.")
    drain_s: float = Field(60.0, gt=0, description="Longest time that a shutdown waits for accepted requests.")
    stall_s: float = Field(
        6.0, gt=0, description="Longest time in which a client may neither send nor take a byte that is waited for."
    )
    connections: int = Field(512, ge=1, description="Greatest number of open connections; the idlest make room.")
    queue_mib: float = Field(
        256.0, gt=0, description="Greatest sum of the bodies in memory, in MiB; the idlest senders make room."
    )
    decoders: int = Field(2, ge=1, description="Processes that decode images.")
    max_mib: float = Field(32.0, gt=0, description="Greatest size of a body, in MiB.")
    max_megapixels: float = Field(16.0, gt=0, description="Greatest image, in megapixels, by its header.")
    max_side_px: int = Field(65_535, ge=1, description="Greatest height or width, in pixels, by its header.")
    hosts: tuple[str, ...] = Field(
        (), description="Host names, besides localhost and IP addresses, under which the server may be asked."
    )
    origins: tuple[str, ...] = Field(
        (), description="Origins whose pages may ask from a browser (CORS), such as https://maps.example.org."
    )
    any_host: bool = Field(False, description="Answer every host name and pages of every origin.")
    label_studio: str = Field(
        "",
        description="Address of the Label Studio whose backend this server is, and whose images it fetches; empty: none.",
    )
    label_studio_key: str = Field("", description="A token of that Label Studio, to fetch images with.", repr=False)
    api_keys: tuple[str, ...] = Field((), description="Keys that /v1 asks for; none: open to all.")

    @model_validator(mode="after")
    def _one_image_fits(self) -> ServerSettings:
        if self.max_megapixels > self.queue_megapixels:
            raise ValueError(
                f"max_megapixels = {self.max_megapixels:g} is above queue_megapixels = {self.queue_megapixels:g}: an "
                "image could never enter the queue; raise the queue's or lower the image's"
            )
        if self.max_mib > self.queue_mib:
            raise ValueError(
                f"max_mib = {self.max_mib:g} is above queue_mib = {self.queue_mib:g}: a body could never be read; raise "
                "the queue's or lower the body's"
            )
        if self.label_studio and re.fullmatch(r"https?://[^/?#@\s]+(/[^?#\s]*)?", self.label_studio) is None:
            raise ValueError(f"label_studio = {self.label_studio!r}: an address such as http://localhost:8080")
        for origin in self.origins:
            if re.fullmatch(r"https?://[a-z0-9.-]+(:\d{1,5})?", origin) is None:
                raise ValueError(
                    f"origins: {origin!r} is none; write scheme and host in lower case, such as https://maps.example.org or "
                    "http://localhost:3000, without a path"
                )
        if any(not key.strip() or not key.isascii() for key in self.api_keys):
            raise ValueError("api_keys: a key is empty or has letters beyond ASCII, which no header can carry")
        return self

    @property
    def max_bytes(self) -> int:
        return int(self.max_mib * 2**20)

    @property
    def max_pixels(self) -> int:
        return int(self.max_megapixels * 1e6)
