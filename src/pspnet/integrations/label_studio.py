"""Label Studio: a labelling configuration read, and a segmentation as the brush regions of a prediction."""

from __future__ import annotations

import re
import secrets
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pspnet.class_tables import same_names
from pspnet.errors import ConfigError, parsing
from pspnet.integrations.brush_rle import encode_brush
from pspnet.integrations.class_regions import class_regions
from pspnet.predict.segmentation import Segmentation

MOST_XML = 200_000  # characters of a configuration


@dataclass(frozen=True)
class BrushTask:
    """What a configuration asks for. from_name, to_name: of its BrushLabels and Image. key: of the image in a task's data.
    labels: class of the model -> the label's value in the configuration."""

    from_name: str
    to_name: str
    key: str
    labels: Mapping[str, str]


def read_configuration(text: str, classes: Sequence[str]) -> BrushTask:
    """The first BrushLabels of a labelling configuration, its labels matched with a model's classes by name.

    Raises ConfigError where it is no XML, has no BrushLabels over an Image, or names none of the classes.
    """
    if len(text) > MOST_XML or re.search(r"<!(?!--)", text):  # entities of entities would grow beyond all memory
        raise ConfigError(
            f"the labelling configuration is above {MOST_XML:,} characters, or holds declarations (<!...)"
        )
    with parsing("the labelling configuration", ConfigError, "is no XML", "Copy it from the project's settings"):
        root = ElementTree.fromstring(text)
    images = {one.get("name", ""): one.get("value", "") for one in root.iter("Image")}
    for brush in root.iter("BrushLabels"):
        value = images.get(brush.get("toName", ""), "")
        if not value.startswith("$"):
            continue
        given = [label.get("value", "") for label in brush.iter("Label")]
        theirs = dict(zip(same_names(given), given, strict=True))
        labels = {name: theirs[key] for name, key in zip(classes, same_names(classes), strict=True) if key in theirs}
        if not labels:
            raise ConfigError(
                f"none of the labels ({', '.join(given[:20]) or 'none'}) is a class of the model: {', '.join(classes)}"
            )
        return BrushTask(brush.get("name", ""), brush.get("toName", ""), value[1:], labels)
    raise ConfigError(
        'the labelling configuration has no BrushLabels over an Image; add <BrushLabels name="label" toName="image"> with a '
        '<Label value="..."/> for each class, and <Image name="image" value="$image"/>'
    )


def configuration(classes: Sequence[str], colours: Sequence[tuple[int, int, int]]) -> str:
    """A labelling configuration for a model's classes in its colours, to paste into a project's settings."""
    root = ElementTree.Element("View")
    ElementTree.SubElement(root, "Image", name="image", value="$image", zoom="true")
    brush = ElementTree.SubElement(root, "BrushLabels", name="label", toName="image")
    for name, (red, green, blue) in zip(classes, colours, strict=True):
        ElementTree.SubElement(brush, "Label", value=name, background=f"#{red:02x}{green:02x}{blue:02x}")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode")


def prediction(segmentation: Segmentation, task: BrushTask, model_version: str) -> dict[str, Any]:
    """One entry of a prediction's "results": a brush region for each class that the configuration has."""
    height, width = segmentation.labels.shape
    regions, scores = [], []
    for one in class_regions(segmentation):
        if one.name not in task.labels:
            continue
        score = {} if one.confidence is None else {"score": round(one.confidence, 4)}
        scores += list(score.values())
        regions.append(
            {
                "id": secrets.token_hex(5),
                "from_name": task.from_name,
                "to_name": task.to_name,
                "type": "brushlabels",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "value": {"format": "rle", "rle": encode_brush(one.mask), "brushlabels": [task.labels[one.name]]},
                **score,
            }
        )
    mean = round(sum(scores) / len(scores), 4) if scores else 0.0
    return {"model_version": model_version, "score": mean, "result": regions}
