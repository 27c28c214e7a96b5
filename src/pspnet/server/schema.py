"""What the answers look like, for OpenAPI: shapes with examples that a test compares with real answers."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Shown(BaseModel):
    model_config = ConfigDict(protected_namespaces=())


class ClassInfo(_Shown):
    index: int = Field(description="The pixel value of this class in a label PNG.")
    name: str
    colour: str = Field(description="#rrggbb, the colour in the label PNG's palette and in overlays.")


class ServedModel(_Shown):
    """A model of this server."""

    name: str
    classes: list[ClassInfo]
    ignore: int = Field(description="The pixel value where nothing is said.")
    bands: list[str]
    value_range: list[float] = Field(description="Lowest and highest value of the images it was trained on.")
    protocol: str = Field(description="The evaluation protocol that its scores were measured with.")
    temperature: float = Field(description="Divides the logits before softmax: calibration of the confidence.")
    trained_size: list[int] | None = Field(
        description="Height and width in pixels of the photographs trained on; others are brought to it."
    )
    ground_resolution: float | None = Field(
        description="Metres of a pixel's side in the images from above trained on; 0 where it is unknown."
    )
    engine: str
    encoder: str
    scores: dict[str, Any] | None = Field(description="Measured when it was trained; fractions of 1.")
    provenance: dict[str, Any] = Field(description="Data, recipe, commit, hardware: as far as the file says.")


class ModelList(_Shown):
    models: list[str] = Field(description="Names; the first is used where none is named.")


class State(_Shown):
    status: Literal["ok", "ready"]


class Refusal(_Shown):
    """Problem details, RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str


class Segment(_Shown):
    """One class: COCO's uncompressed run lengths, down the columns, 0s first."""

    model_config = ConfigDict(populate_by_name=True)

    index: int
    class_: str = Field(alias="class")
    pixels: int
    counts: list[int]
    confidence: float | None = None


class RunLengths(_Shown):
    width: int
    height: int
    segments: list[Segment]
    confidence_png: str | None = Field(None, description="Grey PNG in base64, 255 = certain; with confidence=true.")


class Polygon(_Shown):
    type: Literal["Polygon"]
    coordinates: list[list[tuple[int, int]]] = Field(description="Outline, then holes; pixels, x right and y down.")


class Feature(_Shown):
    type: Literal["Feature"]
    properties: dict[str, Any]
    geometry: Polygon


class FeatureCollection(_Shown):
    type: Literal["FeatureCollection"]
    width: int
    height: int
    features: list[Feature]


RLE_EXAMPLE = {
    "width": 4,
    "height": 2,
    "segments": [
        {"index": 0, "class": "sky", "pixels": 4, "counts": [0, 1, 1, 1, 1, 1, 1, 1, 1], "confidence": 0.97},
        {"index": 3, "class": "water", "pixels": 4, "counts": [1, 1, 1, 1, 1, 1, 1, 1], "confidence": 0.91},
    ],
}
POLYGON_EXAMPLE = {
    "type": "FeatureCollection",
    "width": 4,
    "height": 2,
    "features": [
        {
            "type": "Feature",
            "properties": {"class": "sky", "index": 0, "pixels": 4},
            "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [4, 0], [4, 1], [0, 1], [0, 0]]]},
        }
    ],
}
REFUSAL_EXAMPLE = {
    "type": "urn:pspnet:problem:full",
    "title": "The server has as much to do as it can hold",
    "status": 503,
    "detail": "64 requests are in work, the most that is taken",
    "request_id": "5f3a0c1d2e4b6789",
}

_BINARY = {"schema": {"type": "string", "format": "binary"}}
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The image's file: JPEG, PNG, WebP, TIFF, BMP or GIF (its first frame), as it is or in a form.",
        "content": {
            "image/jpeg": _BINARY,
            "image/png": _BINARY,
            "application/octet-stream": _BINARY,
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"image": _BINARY["schema"]}, "required": ["image"]}
            },
        },
    }
}


def _refusal(*kinds: str) -> dict[str, Any]:
    return {
        "model": Refusal,
        "description": "; ".join(kinds),
        "content": {"application/problem+json": {"example": REFUSAL_EXAMPLE}},
    }


REFUSALS: dict[int | str, dict[str, Any]] = {
    400: _refusal("empty body", "damaged form"),
    401: _refusal("no API key, or a wrong one"),
    404: _refusal("no such model"),
    406: _refusal("no answer has the type asked for"),
    408: _refusal("the body did not arrive in time"),
    413: _refusal("too many bytes or pixels"),
    415: _refusal("no image of a type that is read"),
    422: _refusal("a damaged image", "a wrong parameter"),
    503: _refusal("full or not ready; Retry-After says when to come again"),
    504: _refusal("the deadline passed"),
}
SEGMENT_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The parsed image, in the form asked for.",
        "headers": {
            "x-model": {"description": "Name of the model.", "schema": {"type": "string"}},
            "x-batch-size": {"description": "Images computed together.", "schema": {"type": "integer"}},
            "x-mean-confidence": {
                "description": "Mean over the pixels with a label, where confidence was asked for.",
                "schema": {"type": "number"},
            },
        },
        "content": {
            "image/png": {"schema": {"type": "string", "format": "binary"}},
            "application/json": {"schema": {"$ref": "#/components/schemas/RunLengths"}, "example": RLE_EXAMPLE},
            "application/geo+json": {
                "schema": {"$ref": "#/components/schemas/FeatureCollection"},
                "example": POLYGON_EXAMPLE,
            },
        },
    },
    **REFUSALS,
}
