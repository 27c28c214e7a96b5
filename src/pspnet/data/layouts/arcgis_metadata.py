"""The text files of a Classified Tiles export: what they say, in which of four places it is said."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pspnet.class_tables import normal_name
from pspnet.errors import DataError, parsing
from pspnet.labels import Colour

EMD, ACCUMULATED, STATS, MAP = ("esri_model_definition.emd", "esri_accumulated_stats.json", "stats.txt", "map.txt")
OTHER_MODES = (
    "PASCAL_VOC_rectangles",
    "KITTI_rectangles",
    "RCNN_Masks",
    "Labeled_Tiles",
    "MultiLabeled_Tiles",
    "Export_Tiles",
    "CycleGAN",
    "Imagenet",
)


@dataclass(frozen=True)
class TileMetadata:
    """classes: value -> (name, colour or None), empty where nothing was said. band_means, band_stds: (bands,), or empty.

    space: "MAP_SPACE" or "PIXEL_SPACE", or "". missing: which of the four files are not there.
    """

    classes: Mapping[int, tuple[str, Colour | None]] = field(default_factory=dict)
    band_names: tuple[str, ...] = ()
    band_means: tuple[float, ...] = ()
    band_stds: tuple[float, ...] = ()
    space: str = ""
    missing: tuple[str, ...] = ()


def read_metadata(folder: Path) -> TileMetadata:
    """Everything that an export's text files say. Raises DataError for a damaged file, or another kind of export."""
    emd, accumulated = _json(folder / EMD), _json(folder / ACCUMULATED)
    mode = str(emd.get("MetaDataMode") or accumulated.get("MetaDataMode") or "")
    if mode in OTHER_MODES:
        raise DataError(
            f"'{folder}' was exported as {mode}, which has no label for each pixel. Export it as Classified Tiles"
        )
    with parsing(f"{folder}/{EMD}", DataError, "is damaged", "Delete it: images and labels are enough"):
        classes: dict[int, tuple[str, Colour | None]] = {}
        for entry in emd.get("Classes") or []:
            classes[int(entry["Value"])] = (str(entry["Name"]), _colour(entry.get("Color")))
        if not classes:
            for entry in accumulated.get("Classes") or []:
                classes[int(entry["ClassValue"])] = (str(entry["ClassName"]), None)
        classes = classes or _classes_of_stats(folder / STATS)
        props = emd.get("InputRastersProps") or {}
        names = props.get("BandNames") or []
        stats = emd.get("AllTilesStats") or accumulated.get("AllTilesStats") or []
        return TileMetadata(
            _unlike(classes),
            tuple(map(str, names)),
            tuple(float(band["Mean"]) for band in stats),
            tuple(float(band["StdDev"]) for band in stats),
            str(emd.get("ImageSpaceUsed") or ""),
            tuple(name for name in (MAP, STATS, ACCUMULATED, EMD) if not (folder / name).is_file()),
        )


def find_folder(folder: Path, name: str) -> Path | None:
    """A folder by name in any case: exports travel through Windows."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.lower() == name and path.is_dir():
            return path
    return None


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    with parsing(path, DataError, "is damaged", "Delete it: images and labels are enough"):
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(content, dict):
        raise DataError(f"'{path}' holds no JSON object. Delete it: images and labels are enough")
    return content


def _colour(value: Any) -> Colour | None:
    """[-1, -1, -1] means unset."""
    if not isinstance(value, list) or len(value) < 3 or min(value[:3]) < 0:
        return None
    return int(value[0]), int(value[1]), int(value[2])


def _classes_of_stats(path: Path) -> dict[int, tuple[str, Colour | None]]:
    """Rows `name value images pixels min mean max` under the line `cls name ...`; names may hold blanks."""
    classes: dict[int, tuple[str, Colour | None]] = {}
    if not path.is_file():
        return classes
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    header = next((i for i, line in enumerate(lines) if line.strip().lower().startswith("cls name")), len(lines))
    for line in lines[header + 1 :]:
        row = re.fullmatch(r"\s*(.+?)\s+(\d+)(?:\s+[-+\d.eE]+){5}\s*", line)
        if row:
            classes[int(row[2])] = (row[1], None)
    return classes


def _unlike(classes: Mapping[int, tuple[str, Colour | None]]) -> dict[int, tuple[str, Colour | None]]:
    """Names that occur twice get their value, for each class needs a name of its own."""
    names = [normal_name(name) for name, _ in classes.values()]
    return {
        value: (name if names.count(normal_name(name)) == 1 else f"{name} ({value})", colour)
        for value, (name, colour) in sorted(classes.items())
    }
