"""The classes of several Classified Tiles exports as one table: a class is its name, whatever value an export gives it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pspnet.class_tables import normal_name
from pspnet.data.layouts.arcgis_chips import Chip
from pspnet.data.layouts.arcgis_metadata import TileMetadata
from pspnet.errors import LabelError
from pspnet.georaster.grids import open_raster
from pspnet.labels import IGNORE, Colour, LabelSpace

Classes = dict[int, tuple[str, Colour | None]]  # value -> name and colour


def merged_classes(
    metadata: Mapping[Path, TileMetadata], chips: Sequence[Chip], background: str | None
) -> tuple[LabelSpace, dict[Path, LabelSpace]]:
    """(the classes of all exports, each export's own table). Value 0 is ignored unless an export lists it as a class.

    background: a name for value 0, which is then a class; one is made where there is a single class, with a warning.
    Exports that number a class differently are matched by name, with a warning. Raises LabelError where no label holds a
    class.
    """
    classes_of = {folder: _classes_of(folder, part, chips) for folder, part in metadata.items()}
    names = {normal_name(name): name for classes in classes_of.values() for name, _ in classes.values()}
    if not names:
        raise LabelError(f"'{chips[0].folder}': no label holds a class; all are 0")
    lists_zero = any(0 in classes for classes in classes_of.values())
    if background is not None or (len(names) == 1 and not lists_zero):
        if background is None:
            warnings.warn(
                f"the export has one class, {next(iter(names.values()))!r}: value 0 is taken as its background. Ignoring it "
                "would leave nothing to tell apart",
                stacklevel=5,
            )
        for classes in classes_of.values():
            classes[0] = (background or "background", (0, 0, 0))
    whole: dict[str, tuple[int, str, Colour | None]] = {}  # by name: value, name, colour
    other_values: dict[str, dict[str, int]] = {}
    for folder, classes in classes_of.items():
        for value, (name, colour) in sorted(classes.items()):
            first, title, known = whole.setdefault(normal_name(name), (value, name, colour))
            whole[normal_name(name)] = first, title, known or colour
            other_values.setdefault(title, {}).setdefault(folder.name, value)
    differing = {name: values for name, values in other_values.items() if len(set(values.values())) > 1}
    if differing:
        listed = "; ".join(
            f"{name}: " + ", ".join(f"{value} in {folder}" for folder, value in values.items())
            for name, values in list(differing.items())[:5]
        )
        warnings.warn(
            f"the exports number {len(differing)} classes differently ({listed}); they are matched by name. Maps hold the "
            "first export's values",
            stacklevel=5,
        )
    owners: dict[int, dict[str, str]] = {}
    for name, values in other_values.items():
        for folder_name, value in values.items():
            owners.setdefault(value, {}).setdefault(name, folder_name)
    shared = {value: names_of for value, names_of in owners.items() if len(names_of) > 1}
    if shared and not differing:
        listed = "; ".join(
            f"{value} is " + " and ".join(f"{name} in {folder}" for name, folder in names_of.items())
            for value, names_of in list(shared.items())[:5]
        )
        warnings.warn(
            f"one value means several classes: {listed}. They are kept apart by name; maps hold a free value for the later one",
            stacklevel=5,
        )
    space = _space(_numbered(list(whole.values())), any(0 in classes for classes in classes_of.values()))
    titles = {key: title for key, (_, title, _) in whole.items()}
    tables = {
        folder: _space({value: (titles[normal_name(name)], None) for value, (name, _) in classes.items()}, 0 in classes)
        if classes
        else space
        for folder, classes in classes_of.items()
    }
    return space, tables


def _classes_of(folder: Path, metadata: TileMetadata, chips: Sequence[Chip]) -> Classes:
    """What an export says of its classes, else the values in its labels."""
    classes: Classes = dict(metadata.classes)
    if not classes:
        values: set[int] = set()
        for chip in chips:
            if chip.folder == folder:
                with open_raster(str(chip.label)) as dataset:
                    values |= set(np.unique(dataset.read(1)).tolist())
        classes = {value: (f"class_{value}", None) for value in sorted(values - {0})}
    if 0 in classes and classes[0][0].lower() in ("nodata", "no data"):
        del classes[0]
    return classes


def _numbered(rows: Sequence[tuple[int, str, Colour | None]]) -> Classes:
    """Each class with the first export's value; one whose value is taken gets the next that is free."""
    classes: Classes = {}
    for value, name, colour in rows:
        free = value
        while free in classes or free == IGNORE:
            free = max([*classes, value]) + 1 if free == value else free + 1
        classes[free] = (name, colour)
    return classes


def _space(classes: Classes, has_zero: bool) -> LabelSpace:
    values = sorted(classes)
    colours = [colour for colour in (classes[value][1] for value in values) if colour is not None]
    whole = len(colours) == len(values) and len(set(colours)) == len(colours)
    return LabelSpace(
        tuple(classes[value][0] for value in values),
        tuple(colours) if whole else (),
        tuple(values),
        tuple({IGNORE, *([] if has_zero else [0])}),
    )
