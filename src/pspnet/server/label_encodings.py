"""Label maps as JSON: run lengths as COCO writes them, and polygons as a GeoJSON feature collection in pixels."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.errors import require
from pspnet.images import encode_png
from pspnet.labels import IGNORE
from pspnet.predict.segmentation import Segmentation


def as_rle(found: Segmentation) -> dict[str, Any]:
    """Each class that occurs as COCO's uncompressed run lengths: down the columns, 0s and 1s in turns, 0s first.

    With confidence: its mean over each class, and the map of it as a grey PNG in base64, 255 = certain.
    """
    height, width = found.labels.shape
    down = found.labels.T.ravel()  # COCO counts along columns
    segments = []
    for index in np.unique(down[down != IGNORE]).tolist():
        inside = down == index
        segment: dict[str, Any] = {
            "index": index,
            "class": found.classes[index],
            "pixels": int(inside.sum()),
            "counts": run_lengths(inside),
        }
        if found.confidence is not None:
            segment["confidence"] = round(float(found.confidence[found.labels == index].mean()), 4)
        segments.append(segment)
    content: dict[str, Any] = {"width": width, "height": height, "segments": segments}
    if found.confidence is not None:
        content["confidence_png"] = base64.b64encode(encode_png(confidence_bytes(found.confidence))).decode()
    return content


def run_lengths(inside: NDArray[np.bool_]) -> list[int]:
    """(N,) bool -> lengths of runs, the first of False (0 where it starts with True)."""
    ends = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], ends, [len(inside)]])).tolist()
    return [0, *lengths] if inside[0] else lengths


def confidence_bytes(confidence: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(H, W) 0..1 -> (H, W) 0..255, for a grey PNG."""
    return np.round(np.clip(confidence, 0, 1) * 255).astype(np.uint8)


def as_polygons(found: Segmentation) -> dict[str, Any]:
    """Each region (4 neighbours) as a Feature: a polygon with holes, corners on pixel borders, x right and y down.

    Neighbours share their borders exactly. Properties: class, index, pixels and, where known, the mean confidence.
    """
    tracing, rings_of = require("pspnet.raster.polygonize", "serve"), require("pspnet.raster.rings", "serve")
    shapely = require("shapely", "serve")
    height, width = found.labels.shape
    tracer = tracing.Tracer()
    sure = np.zeros_like(found.labels) if found.confidence is None else confidence_bytes(found.confidence)
    fed = [tracer.feed(0, 0, found.labels, sure, np.ones((height, 1))), tracer.finish()]
    features = []
    for areas in fed:
        shapes = rings_of.polygons(areas, lambda x, y: (x.astype(np.float64), y.astype(np.float64)))
        for place, shape in enumerate(shapely.orient_polygons(shapes)):
            index = int(areas.label[place])
            properties: dict[str, Any] = {
                "class": found.classes[index],
                "index": index,
                "pixels": int(areas.pixels[place]),
            }
            if found.confidence is not None:
                properties["confidence"] = round(float(areas.confidence[place] / areas.pixels[place]) / 255, 4)
            rings = [shape.exterior, *shape.interiors]
            corners = [np.asarray(ring.coords).astype(int).tolist() for ring in rings]
            geometry = {"type": "Polygon", "coordinates": corners}
            features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    return {"type": "FeatureCollection", "width": width, "height": height, "features": features}
