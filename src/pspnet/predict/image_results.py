"""What an image's results are: their names, what they hold, and how they are written, the labels last.

NAME.png (labels), NAME_overlay.jpg, NAME_confidence.tif, NAME_probabilities.npz, NAME.geojson or NAME.txt (YOLO); and what
all images of a run share: coco.json, or YOLO's data.yaml.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pspnet.errors import ConfigError, PspnetError, require
from pspnet.files import new_file, write_text
from pspnet.images import read_label, write_grey_tiff, write_jpeg
from pspnet.labels import LabelSpace
from pspnet.predict.label_encodings import as_coco, as_polygons, as_yolo, coco_categories, confidence_bytes, yolo_table
from pspnet.predict.scale import Wish
from pspnet.predict.segmenter import Segmenter

OVERLAY = "_overlay.jpg"
CONFIDENCE = "_confidence.tif"
PROBABILITIES = "_probabilities.npz"
Polygons = Literal["geojson", "coco", "yolo"]
POLYGONS: dict[str, str] = {"geojson": ".geojson", "yolo": ".txt"}  # one file for each image; COCO's is one for all
COCO, YOLO_NAMES = "coco.json", "data.yaml"
ENDINGS = (OVERLAY, CONFIDENCE, PROBABILITIES, *POLYGONS.values())  # what lies beside NAME.png, endings of one result


@dataclass(frozen=True)
class ImageFile:
    """One input and the name, relative to the output folder and without ending, that its results get."""

    path: Path
    name: str

    @property
    def folders(self) -> set[Path]:
        """Where it lies, and the folder that its name counts from: the one that was given, or its own."""
        above = Path(self.name).parts[:-1]
        parent = self.path.parent
        return {parent, parent.parents[len(above) - 1] if above and parent.parts[-len(above) :] == above else parent}


@dataclass(frozen=True)
class ImageOptions:
    """How an image is looked at, and what is written beside its labels.

    opacity: of the overlay's colours, 0 to 1. protocol, size: see `Segmenter.segment`. confidence: NAME_confidence.tif, grey,
    255 = certain. probabilities: NAME_probabilities.npz, see `Segmentation.save`. polygons: NAME.geojson, NAME.txt (YOLO) with
    data.yaml, or coco.json for all images, as `pspnet.predict.label_encodings` says.
    """

    overlay: bool = True
    opacity: float = 0.55
    protocol: str | None = None
    size: Wish | None = None
    confidence: bool = False
    probabilities: bool = False
    polygons: Polygons | None = None

    def __post_init__(self) -> None:
        if self.polygons not in (None, "coco", *POLYGONS):
            raise ConfigError(f"polygons = {self.polygons}: geojson, coco or yolo")
        if self.polygons is not None:
            require("shapely", "raster")

    def endings(self) -> list[str]:
        """Of the files that each image gets; that of the labels first."""
        chosen = {OVERLAY: self.overlay, CONFIDENCE: self.confidence, PROBABILITIES: self.probabilities}
        chosen |= {ending: self.polygons == kind for kind, ending in POLYGONS.items()}
        return [".png", *(ending for ending, wanted in chosen.items() if wanted)]

    def shared_files(self) -> list[str]:
        """Of the files that all images share."""
        return {"coco": [COCO], "yolo": [YOLO_NAMES]}.get(self.polygons or "", [])


def label_name(name: str) -> str:
    """The label file that a file of a result belongs to."""
    ending = next((ending for ending in ENDINGS if name.endswith(ending)), None)
    return name if ending is None else name.removesuffix(ending) + ".png"


def segment_file(segmenter: Segmenter, file: ImageFile, out: Path, options: ImageOptions) -> dict[str, Any] | str:
    """Writes one file's results, the labels last: what `Segmentation.to_dict` says of it, or why there are none."""
    try:
        result = segmenter.segment(
            file.path,
            protocol=options.protocol,
            size=options.size,
            name=file.name,
            confidence=options.confidence or options.polygons == "geojson",  # each outline has its own
            probabilities=options.probabilities,
        )
        if options.overlay:
            write_jpeg(out / f"{file.name}{OVERLAY}", result.overlay(options.opacity))
        if options.confidence and result.confidence is not None:
            write_grey_tiff(out / f"{file.name}{CONFIDENCE}", confidence_bytes(result.confidence))
        if options.probabilities:
            result.save(out / f"{file.name}{PROBABILITIES}", overwrite=True)
        if options.polygons == "geojson":
            write_text(out / f"{file.name}.geojson", json.dumps(as_polygons(result), separators=(",", ":")))
        if options.polygons == "yolo":
            write_text(out / f"{file.name}.txt", as_yolo(result))
        result.save(out / f"{file.name}.png", overwrite=True)  # `run_files` has looked at each before
        return result.to_dict()
    except PspnetError as error:
        return str(error)
    except Exception as error:  # whatever a decoder or a runtime raises is this file's, and the rest goes on
        return f"{type(error).__name__}: {error}"


def write_shared(files: Sequence[ImageFile], out: Path, options: ImageOptions, space: LabelSpace) -> None:
    """The files that all images share. COCO's is written from the label PNGs, image by image, those of earlier runs too."""
    if options.polygons == "yolo":
        write_text(out / YOLO_NAMES, yolo_table(space))
    if options.polygons != "coco":
        return
    with new_file(out / COCO) as part, part.open("w", encoding="utf-8") as stream:
        stream.write('{"categories": ' + json.dumps(coco_categories(space)) + ',\n"annotations": [')
        top = os.path.commonpath([file.path.absolute().parent for file in files])
        images: list[dict[str, Any]] = []
        count = 0
        for file in files:
            if not (out / f"{file.name}.png").is_file():
                continue  # a failure, which the report names
            labels = read_label(out / f"{file.name}.png")
            size = {"height": labels.shape[0], "width": labels.shape[1]}
            images.append({"id": len(images) + 1, "file_name": os.path.relpath(file.path, top), **size})
            annotations = as_coco(labels, len(images), count + 1)
            for annotation in annotations:
                stream.write(",\n" * (count > 0) + json.dumps(annotation, separators=(",", ":")))
                count += 1
        stream.write('],\n"images": ' + json.dumps(images) + "}\n")
