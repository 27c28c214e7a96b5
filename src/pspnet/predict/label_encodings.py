"""Label maps for other programs: COCO's run lengths and polygons, GeoJSON in pixels, YOLO's lines, confidence as a picture.

The service answers in these forms and `pspnet segment` writes them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import require
from pspnet.images import encode_png
from pspnet.labels import IGNORE, LabelSpace
from pspnet.outlines.polygonize import Tracer
from pspnet.outlines.rings import polygons
from pspnet.predict.segmentation import Segmentation


def as_rle(segmentation: Segmentation) -> dict[str, Any]:
    """Each class that occurs as COCO's uncompressed run lengths: down the columns, 0s and 1s in turns, 0s first.

    With confidence: its mean over each class, and the map of it as a grey PNG in base64, 255 = certain.
    """
    height, width = segmentation.labels.shape
    down = segmentation.labels.T.ravel()  # COCO counts along columns
    segments = []
    for index in np.unique(down[down != IGNORE]).tolist():
        inside = down == index
        segment: dict[str, Any] = {
            "index": index,
            "class": segmentation.classes[index],
            "pixels": int(inside.sum()),
            "counts": run_lengths(inside),
        }
        if segmentation.confidence is not None:
            segment["confidence"] = round(float(segmentation.confidence[segmentation.labels == index].mean()), 4)
        segments.append(segment)
    content: dict[str, Any] = {"width": width, "height": height, "segments": segments}
    if segmentation.confidence is not None:
        content["confidence_png"] = base64.b64encode(encode_png(confidence_bytes(segmentation.confidence))).decode()
    return content


def run_lengths(inside: NDArray[np.bool_]) -> list[int]:
    """(N,) bool -> lengths of runs, the first of False (0 where it starts with True)."""
    ends = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], ends, [len(inside)]])).tolist()
    return [0, *lengths] if inside[0] else lengths


def confidence_bytes(confidence: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(H, W) 0..1 -> (H, W) 0..255, for a grey picture."""
    return np.round(np.clip(confidence, 0, 1) * 255).astype(np.uint8)


@dataclass(frozen=True)
class TracedRegion:
    """Connected pixels of one class (4 neighbours). confidence: their mean, 0..1, or None. outline: shapely's polygon with
    holes, corners on the borders of pixels, x right and y down, in px."""

    index: int
    pixels: int
    confidence: float | None
    outline: Any


def regions(labels: NDArray[np.uint8], confidence: NDArray[np.float32] | None = None) -> Iterator[TracedRegion]:
    """The regions of (H, W) labels; neighbours share their borders exactly. Raises MissingExtraError without shapely."""
    shapely = require("shapely", "raster")
    tracer = Tracer()
    levels = np.zeros_like(labels) if confidence is None else confidence_bytes(confidence)
    for areas in (tracer.feed(0, 0, labels, levels, np.ones((len(labels), 1))), tracer.finish()):
        shapes = polygons(areas, lambda x, y: (x.astype(np.float64), y.astype(np.float64)))
        for number, outline in enumerate(shapely.orient_polygons(shapes)):
            pixels = int(areas.pixels[number])
            mean = None if confidence is None else round(float(areas.confidence[number]) / pixels / 255, 4)
            yield TracedRegion(int(areas.label[number]), pixels, mean, outline)


def as_polygons(segmentation: Segmentation) -> dict[str, Any]:
    """Each region as a Feature of a GeoJSON feature collection. Properties: class, index, pixels and, where known, the mean
    confidence."""
    height, width = segmentation.labels.shape
    features = []
    for region in regions(segmentation.labels, segmentation.confidence):
        properties: dict[str, Any] = {
            "class": segmentation.classes[region.index],
            "index": region.index,
            "pixels": region.pixels,
        }
        if region.confidence is not None:
            properties["confidence"] = region.confidence
        rings = [region.outline.exterior, *region.outline.interiors]
        corners = [np.asarray(ring.coords).astype(int).tolist() for ring in rings]
        geometry = {"type": "Polygon", "coordinates": corners}
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    return {"type": "FeatureCollection", "width": width, "height": height, "features": features}


def as_yolo(segmentation: Segmentation) -> str:
    """Each region as a line of YOLO's (Ultralytics): class x1 y1 x2 y2 ..., fractions of width and height."""
    height, width = segmentation.labels.shape
    size = np.array([width, height], np.float64)
    lines = []
    for region in regions(segmentation.labels):
        numbers = " ".join(f"{value:.6g}" for value in (one_ring(region.outline) / size).ravel())
        lines.append(f"{region.index} {numbers}\n")
    return "".join(lines)


def yolo_table(space: LabelSpace) -> str:
    """The names of the classes, as the data.yaml beside YOLO's files has them."""
    names = "".join(f"  {index}: {json.dumps(name, ensure_ascii=False)}\n" for index, name in enumerate(space.names))
    return f"names:\n{names}"


def coco_categories(space: LabelSpace) -> list[dict[str, Any]]:
    """The classes as COCO's categories; their ids count from 1, as COCO's do."""
    return [{"id": index + 1, "name": name, "supercategory": ""} for index, name in enumerate(space.names)]


def as_coco(labels: NDArray[np.uint8], image_id: int, first_id: int) -> list[dict[str, Any]]:
    """Each region of (H, W) labels as one of COCO's annotations: polygon, box and area in px; ids from `first_id` on."""
    annotations = []
    for number, region in enumerate(regions(labels)):
        left, top, right, bottom = (int(value) for value in region.outline.bounds)
        annotations.append(
            {
                "id": first_id + number,
                "image_id": image_id,
                "category_id": region.index + 1,
                "segmentation": [one_ring(region.outline).astype(int).ravel().tolist()],
                "bbox": [left, top, right - left, bottom - top],
                "area": region.pixels,
                "iscrowd": 0,
            }
        )
    return annotations


def one_ring(outline: Any) -> NDArray[np.float64]:
    """A polygon's corners (n, 2) as one ring, for formats without holes: a slit of no width leads to each hole and back.

    x-----------x
    |           |      a slit passes over each pixel row twice, so that the even-odd rule, by which COCO and YOLO
    x--x---x    |      draw, does not see it
    |  |   |    |
    |  x---x    |
    x-----------x
    """
    ring = np.asarray(outline.exterior.coords)[:-1]
    for hole in outline.interiors:
        inner = np.asarray(hole.coords)[:-1]
        distance = np.abs(ring[:, None] - inner[None]).sum(2) if len(ring) * len(inner) < 2**22 else None
        at, start = np.unravel_index(int(distance.argmin()), distance.shape) if distance is not None else (0, 0)
        turned = np.roll(inner, -int(start), axis=0)
        ring = np.concatenate([ring[: at + 1], turned, turned[:1], ring[at:]])
    return ring
