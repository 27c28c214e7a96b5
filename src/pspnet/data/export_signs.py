"""Which program wrote a folder, by the files that only it writes: the format that reads it, or the way out where none does."""

from __future__ import annotations

from pathlib import Path

_READ = (  # (format, a file that tells it)
    ("roboflow_masks", "*/_classes.csv"),
    ("cvat_masks", "labelmap.txt"),
    ("coco", "*/_annotations.coco.json"),
    ("coco", "annotations/instances_*.json"),
    ("coco", "result.json"),
    ("yolo_polygons", "data.yaml"),
    ("classified_tiles", "esri_model_definition.emd"),
    ("label_studio", "project-*-at-*.json"),
    ("cvat_xml", "annotations.xml"),
)
_AS_COCO = "export it as COCO (format coco)"
_UNREAD = (  # (whose, files that tell it, what to do)
    (
        "Supervisely's",
        ("ann/*.json", "*/ann/*.json"),
        "run its app 'Export as masks' (format folder), or 'Export to COCO'",
    ),
    (
        "V7 Darwin's",
        ("releases/*/annotations", "**/*.darwin.json"),
        f"{_AS_COCO}, or as semantic masks (format folder)",
    ),
    ("the VGG Image Annotator's", ("via_*.json", "*/via_*.json", "via_*.csv"), _AS_COCO),
    ("Labelbox's", ("*.ndjson",), f"download its masks (format folder), or {_AS_COCO} with labelbox.data"),
    (
        "SuperAnnotate's",
        ("*___pixel.json", "*___objects.json", "**/*___objects.json"),
        f"{_AS_COCO} with superannotate-sdk",
    ),
    (
        "Datumaro's",
        ("annotations/default.json", "annotations/train.json"),
        "write it as COCO: datum convert -f coco_instances",
    ),
    ("COCO's panoptic", ("annotations/panoptic_*.json",), "give the instances file, or label PNGs (format folder)"),
    ("Mapillary Vistas'", ("config_v*.json",), "write one code a pixel (v2.0/labels with its palette, format folder)"),
    ("MATLAB's", ("*.mat", "*/*.mat"), "write the labels as PNG: imwrite(uint8(L), 'a.png') (format folder)"),
    (
        "Hugging Face's",
        ("*.parquet", "*/*.parquet", "*/*.arrow"),
        "save its pictures and label maps as files (format folder)",
    ),
    ("TensorFlow's", ("*.tfrecord*", "*/*.tfrecord*"), "save its pictures and label maps as files (format folder)"),
    (
        "a detection data set's",
        ("Annotations/*.xml", "*/_annotations.createml.json", "*/_annotations.csv", "annotations/*.xml"),
        "it holds boxes, which teach no segmentation; export outlines or masks",
    ),
)


def looks_like(root: Path) -> tuple[str, str] | None:
    """(format, what tells it) of a folder that a layout reads, by the files that only its tool writes."""
    for format, pattern in _READ:
        match = next(root.glob(pattern), None)
        if match is not None:
            return format, f"'{match.relative_to(root).as_posix()}'"
    return None


def unread_export(root: Path) -> str:
    """Whose export a folder is and what to do, where no layout reads it; "" for others."""
    if not root.is_dir():
        return ""
    for whose, patterns, mend in _UNREAD:
        match = next((path for pattern in patterns for path in root.glob(pattern)), None)
        if match is not None:
            return f"'{match.relative_to(root).as_posix()}' is in {whose} own format, which is not read: {mend}"
    return ""
