"""Evaluation protocols as data: everything besides the weights that decides a published number.

"Single scale" means five different things in five projects. Each named protocol here states every convention;
`pspnet.predict.protocols` is the one engine that carries them all out.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pspnet.config.base import Settings
from pspnet.errors import ConfigError

Side = Annotated[int, Field(ge=1)]

PAPER_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


class Protocol(Settings):
    """How an image is resized, cut, mirrored, predicted and averaged. Frozen; `changed(...)` gives a variant."""

    title = "protocol"

    name: str = Field("custom", description="What reports call it.")
    source: str = Field("", description="Whose convention it is.")
    resize: Literal["none", "long_side", "fit"] = Field(
        "none",
        description="Size at scale 1: the image's own; its long side set to base_px; or the largest of its "
        "shape whose long and short side fit in base_px.",
    )
    base_px: tuple[Side, ...] = Field(
        (), description="Pixels that scale 1 stands for: (long,) for long_side, (long, short) for fit."
    )
    extra_px: int = Field(0, ge=0, description="Pixels added to the long side after scaling (the Caffe code adds 1).")
    rounding: Literal["half_even", "half_up"] = Field("half_even", description="How a side's length is rounded.")
    scales: tuple[Annotated[float, Field(gt=0)], ...] = Field((1.0,), min_length=1, description="Test scales.")
    pixels: Literal["float", "image"] = Field(
        "float", description="Values after resizing: floating-point, or rounded back to the image's own type."
    )
    image_interpolation: Literal["half_pixel", "antialias"] = Field(
        "half_pixel",
        description="Resizing of images: bilinear at half-pixel centres, or the same with antialiasing "
        "when shrinking (MATLAB's imresize).",
    )
    window_px: tuple[Side, Side] | None = Field(
        None, description="Height and width of the windows that the network sees; none: the whole image at once."
    )
    stride_px: tuple[Side, Side] | None = Field(
        None, description="Pixels from one window to the next; the last one is moved back to end at the border."
    )
    fall_off: Literal["flat", "linear", "cosine"] = Field(
        "flat", description="Weight of a window's pixels: equal, or falling towards its edge over the overlap."
    )
    padding: Literal["none", "centre", "end"] = Field(
        "none",
        description="Where an image smaller than the window is filled up with the mean colour: half on each "
        "side, all at the bottom and right, or not at all.",
    )
    mirror: Literal["none", "window", "image"] = Field(
        "none", description="Whether a mirrored copy is predicted too: of each window, or of the whole image."
    )
    mirror_average: Literal["probabilities", "logits_sum"] = Field(
        "probabilities",
        description="How a window and its mirror image are joined; the Caffe code adds logits before softmax.",
    )
    average: Literal["probabilities", "logits"] = Field(
        "probabilities", description="What is averaged over windows. Over scales it is always probabilities."
    )
    map_interpolation: Literal["half_pixel", "model", "antialias"] = Field(
        "half_pixel",
        description="Resizing of predictions to the image's size; 'model' follows the network's own align_corners.",
    )

    @model_validator(mode="after")
    def _no_contradictions(self) -> Protocol:
        wanted = {"none": 0, "long_side": 1, "fit": 2}[self.resize]
        if len(self.base_px) != wanted:
            raise ConfigError(f"base_px = {self.base_px} with resize = {self.resize}: give {wanted} numbers")
        if self.stride_px is not None:
            if self.window_px is None:
                raise ConfigError(f"stride_px = {self.stride_px} without window_px: give the windows' size too")
            if any(s > w for s, w in zip(self.stride_px, self.window_px, strict=True)):
                raise ConfigError(f"stride_px = {self.stride_px} with window_px = {self.window_px}: that leaves gaps")
        if self.padding != "none" and self.window_px is None:
            raise ConfigError(f"padding = {self.padding} without window_px: there is no size to fill up to")
        if self.mirror_average == "logits_sum" and (self.mirror != "window" or self.average != "probabilities"):
            raise ConfigError("mirror_average = logits_sum needs mirror = window and average = probabilities")
        return self

    def size(self, height: int, width: int, scale: float) -> tuple[int, int]:
        """(height, width) in pixels that an image is resized to at a test scale."""
        if self.resize == "none":
            return self._round(height * scale), self._round(width * scale)
        if self.resize == "fit":
            long, short = (int(side * scale) for side in self.base_px)
            factor = min(long / max(height, width), short / min(height, width))
            return self._round(height * factor), self._round(width * factor)
        long = self._round(scale * self.base_px[0]) + self.extra_px
        if height > width:
            return long, self._round(long / height * width)
        return self._round(long / width * height), long

    def _round(self, value: float) -> int:
        return max(1, round(value) if self.rounding == "half_even" else int(value + 0.5))

    def describe(self) -> str:
        """Every convention, one a line."""
        lines = [f"{self.name} ({self.source})" if self.source else self.name]
        return "\n".join(lines + [f"  {title:17s}{text}" for title, text in self._conventions()])

    def _averages(self) -> str:
        over = [f"{self.average} over windows"] if self.window_px is not None else []
        if len(self.scales) > 1 or self.mirror == "image":
            over.append("probabilities over scales and mirror images")
        return ", ".join(over) or "nothing: one prediction"

    def _conventions(self) -> list[tuple[str, str]]:
        sides = " and ".join(map(str, self.base_px))
        base = {
            "none": "the image's own",
            "long_side": f"long side {sides} px, short side in proportion",
            "fit": f"as large as fits {sides} px (long and short side)",
        }[self.resize]
        more = f", {self.extra_px} px more on the long side" if self.extra_px else ""
        rounding = {"half_even": "halves to the even number", "half_up": "halves up"}[self.rounding]
        kinds = {
            "half_pixel": "bilinear, half-pixel centres, no antialiasing",
            "model": "bilinear, as the network's own align_corners",
            "antialias": "bilinear, antialiased when shrinking (MATLAB's imresize)",
        }
        values = {"float": "values stay fractions", "image": "values rounded to the image's own type"}[self.pixels]
        windows = "none: the whole image at once"
        if self.window_px is not None:
            stride = self.stride_px or self.window_px
            weights = {
                "flat": "equal weights",
                "linear": "weights fall linearly towards the edge",
                "cosine": "weights fall as a cosine towards the edge",
            }[self.fall_off]
            windows = (
                f"{self.window_px[0]} x {self.window_px[1]} px every {stride[0]} x {stride[1]} px, the last moved "
                f"back to the border; {weights}"
            )
        padding = {
            "none": "none: a smaller image is one smaller window",
            "centre": "smaller images up to the window with the mean colour, half on each side",
            "end": "smaller images up to the window with the mean colour, at the bottom and right",
        }[self.padding]
        join = {"probabilities": "probabilities averaged", "logits_sum": "logits added before softmax"}
        mirror = {
            "none": "no",
            "window": f"each window too, {join[self.mirror_average]}",
            "image": "the whole image too, probabilities averaged",
        }[self.mirror]
        return [
            ("size at scale 1", base + more + ("" if self.resize == "none" else f"; {rounding}")),
            ("scales", ", ".join(f"{scale:g}" for scale in self.scales)),
            ("image resizing", f"{kinds[self.image_interpolation]}; {values}"),
            ("windows", windows),
            ("padding", padding),
            ("mirrored", mirror),
            ("averaged", self._averages()),
            ("map resizing", kinds[self.map_interpolation]),
        ]


_SEMSEG = Protocol(
    name="semseg-ss",
    source="hszhao/semseg tool/test.py; its 'single scale' includes the mirror image",
    resize="long_side",
    base_px=(512,),
    window_px=(473, 473),
    stride_px=(316, 316),
    padding="centre",
    mirror="window",
)
_CAFFE = _SEMSEG.changed(
    name="caffe-ss",
    source="hszhao/PSPNet evaluation/*.m, the paper's own numbers",
    extra_px=1,
    rounding="half_up",
    pixels="image",
    image_interpolation="antialias",
    map_interpolation="antialias",
    padding="end",
    mirror_average="logits_sum",
)
_MMSEG = Protocol(
    name="mmseg-whole",
    source="MMSegmentation, test_cfg mode='whole'",
    resize="fit",
    base_px=(2048, 512),
    rounding="half_up",
    pixels="image",
    average="logits",
    map_interpolation="model",
)

PROTOCOLS: dict[str, Protocol] = {
    "whole": Protocol(name="whole", source="pspnet: the whole image at its own size, once", average="logits"),
    "slide": Protocol(
        name="slide",
        source="pspnet: overlapping windows at the image's own size, blended",
        window_px=(512, 512),
        stride_px=(384, 384),
        fall_off="cosine",
    ),
    "semseg-ss": _SEMSEG,
    "semseg-ms": _SEMSEG.changed(
        name="semseg-ms", source="hszhao/semseg tool/test.py, multi-scale", scales=PAPER_SCALES
    ),
    "mmseg-whole": _MMSEG,
    "mmseg-slide": _MMSEG.changed(
        name="mmseg-slide", source="MMSegmentation, test_cfg mode='slide'", window_px=(512, 512), stride_px=(341, 341)
    ),
    "mmseg-ms": _MMSEG.changed(
        name="mmseg-ms",
        source="MMSegmentation 0.x aug_test, as in its model zoo: the ratios multiply the test scale, "
        "probabilities are averaged (1.x's TTA multiplies the image's own size instead)",
        scales=PAPER_SCALES,
        mirror="image",
    ),
    "mmseg-slide-ms": _MMSEG.changed(
        name="mmseg-slide-ms",
        source="MMSegmentation 0.x aug_test with test_cfg mode='slide'",
        window_px=(512, 512),
        stride_px=(341, 341),
        scales=PAPER_SCALES,
        mirror="image",
    ),
    "caffe-ss": _CAFFE,
    "caffe-ms": _CAFFE.changed(
        name="caffe-ms", source="hszhao/PSPNet evaluation/*.m, multi-scale", scales=PAPER_SCALES
    ),
}

# What a data set changes: published settings only, by protocol family.
_LARGE: dict[str, object] = {"base_px": (2048,), "window_px": (713, 713), "stride_px": (476, 476)}
_SLIDE_769: dict[str, object] = {"base_px": (2049, 1025), "window_px": (769, 769), "stride_px": (513, 513)}
VARIANTS: dict[str, dict[str, dict[str, object]]] = {
    "ade20k": {},
    "voc": {},
    "cityscapes": {
        **dict.fromkeys(("semseg-ss", "semseg-ms", "caffe-ss", "caffe-ms"), _LARGE),
        "mmseg-whole": {"base_px": (2048, 1024)},
        "mmseg-ms": {"base_px": (2048, 1024)},
        "mmseg-slide": _SLIDE_769,
        "mmseg-slide-ms": _SLIDE_769,
    },
    "loveda": {"mmseg-whole": {"base_px": (1024, 1024)}, "mmseg-ms": {"base_px": (1024, 1024)}},
    "potsdam": {"mmseg-whole": {"base_px": (512, 512)}, "mmseg-ms": {"base_px": (512, 512)}},
    "vaihingen": {"mmseg-whole": {"base_px": (512, 512)}, "mmseg-ms": {"base_px": (512, 512)}},
}


def find_protocol(protocol: str | Protocol, variant: str = "") -> Protocol:
    """A protocol by name, such as "semseg-ms", with a data set's sizes: "semseg-ms@cityscapes", or `variant`.

    Without a variant, the sizes are those of ADE20K and VOC (512, crop 473). A Protocol is returned as it is. Raises
    ConfigError with the names there are.
    """
    if isinstance(protocol, Protocol):
        return protocol
    name, _, chosen = protocol.partition("@")
    if name not in PROTOCOLS:
        known = ", ".join(PROTOCOLS)
        raise ConfigError(f"protocol = {protocol!r}: there are {known}; NAME@DATASET takes a data set's sizes")
    if chosen and chosen not in VARIANTS:
        raise ConfigError(f"protocol = {protocol!r}: sizes are known for {', '.join(VARIANTS)}")
    changes = VARIANTS.get(chosen or variant, {}).get(name, {})
    return PROTOCOLS[name].changed(**changes) if changes else PROTOCOLS[name]
