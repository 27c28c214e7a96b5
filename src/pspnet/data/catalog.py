"""Every data set by name. A new one is a file, a class table, a line here and a fake writer in tests/support/fakes.py."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from pspnet.data.archives import PublishedArchive
from pspnet.data.dataset import Dataset
from pspnet.data.export_signs import unread_export
from pspnet.data.faults import errors_of
from pspnet.data.image_files import ImageReading
from pspnet.data.layouts import (
    ade20k,
    arcgis,
    camvid,
    cityscapes,
    coco,
    cvat_xml,
    folder,
    isprs,
    label_studio,
    labelme,
    loveda,
    masks,
    raster,
    voc,
    yolo,
)
from pspnet.data.paired_files import PairedFiles
from pspnet.errors import ConfigError, DataError, did_you_mean, parsing
from pspnet.labels import LabelSpace


def _scenes(split: str = "train", *, count: int = 1000, seed: int = 0, size: int = 256) -> Dataset:
    """Generated scenes: nothing is read."""
    from pspnet.data.scenes import Scenes  # draws with OpenCV: loaded when used

    return Scenes(count=count, seed=seed, size=size, split=split)


@dataclass(frozen=True)
class Layout:
    """How a data set is opened: open(root, split, **options), or open(split, **options) where nothing is read.

    splits: root -> the parts it has; None where nothing is read. source: where a published data set is got.
    submit: (folder, name, labels) -> the file written as the benchmark's server takes it.
    """

    open: Callable[..., Dataset]
    splits: Callable[[Path], tuple[str, ...]] | None
    source: PublishedArchive | None = None
    submit: Callable[[Path, str, NDArray[np.uint8]], Path] | None = None

    def options(self) -> list[str]:
        """Names of the options that the layout takes: its own, and how image files are read."""
        own_options = [p.name for p in inspect.signature(self.open).parameters.values() if p.kind is p.KEYWORD_ONLY]
        return own_options + [name for name in self._reading() if name not in own_options]

    def _reading(self) -> Mapping[str, Any]:
        """The options of every layout of image files, with their types."""
        reads_images = get_type_hints(self.open)["return"] is PairedFiles
        return get_type_hints(ImageReading, include_extras=True) if reads_images else {}

    def opened(self, root: Path, split: str, options: Mapping[str, Any]) -> Dataset:
        """Opens a split with options that were checked."""
        reading = {name: value for name, value in options.items() if name in self._reading()}
        dataset = self.open(root, split, **{name: value for name, value in options.items() if name not in reading})
        return dataset.read_as(ImageReading(**reading)) if reading and isinstance(dataset, PairedFiles) else dataset

    def check(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options in the types that `open` declares. Raises ConfigError naming the option, its value and what it takes."""
        hints = {**get_type_hints(self.open, include_extras=True), **self._reading()}
        checked = {}
        for name, value in options.items():
            types = TypeAdapter(hints[name])
            try:
                checked[name] = types.validate_python(value)
            except ValidationError as error:
                scalar = isinstance(value, (str, int, float)) and not any(
                    get_origin(part) is Literal for part in get_args(hints[name])
                )
                for meant in (str(value), [value]) if scalar else ():
                    with suppress(ValidationError):  # a folder that is called 2021, one band of a list
                        checked[name] = types.validate_python(meant, strict=True)
                        break
                if name in checked:
                    continue
                what = "; ".join(dict.fromkeys(str(fault["msg"]) for fault in error.errors()))
                raise ConfigError(f"option {name} = {value!r}: {what}") from error
        return checked


LAYOUTS: dict[str, Layout] = {
    "scenes": Layout(_scenes, None),
    "folder": Layout(folder.folder, folder.folder_splits),
    "raster": Layout(raster.raster, raster.raster_splits),
    "classified_tiles": Layout(arcgis.classified_tiles, arcgis.classified_tiles_splits),
    "camvid": Layout(camvid.camvid, camvid.camvid_splits, camvid.SOURCE),
    "ade20k": Layout(ade20k.ade20k, ade20k.ade20k_splits, ade20k.SOURCE, ade20k.submit_ade20k),
    "voc": Layout(voc.voc, voc.voc_splits, voc.SOURCE, voc.submit_voc),
    "cityscapes": Layout(
        cityscapes.cityscapes, cityscapes.cityscapes_splits, cityscapes.SOURCE, cityscapes.submit_cityscapes
    ),
    "coco": Layout(coco.coco, coco.coco_splits, coco.SOURCE),
    "coco_stuff": Layout(coco.coco_stuff, coco.coco_stuff_splits, coco.STUFF_SOURCE),
    "labelme": Layout(labelme.labelme, labelme.labelme_splits),
    "label_studio": Layout(label_studio.label_studio, label_studio.label_studio_splits),
    "yolo_polygons": Layout(yolo.yolo_polygons, yolo.yolo_polygons_splits),
    "roboflow_masks": Layout(masks.roboflow_masks, masks.roboflow_masks_splits),
    "cvat_xml": Layout(cvat_xml.cvat_xml, cvat_xml.cvat_xml_splits),
    "cvat_masks": Layout(masks.cvat_masks, masks.cvat_masks_splits),
    "loveda": Layout(loveda.loveda, loveda.loveda_splits, loveda.SOURCE, loveda.submit_loveda),
    "potsdam": Layout(isprs.potsdam, isprs.isprs_splits, isprs.POTSDAM_SOURCE),
    "vaihingen": Layout(isprs.vaihingen, isprs.isprs_splits, isprs.VAIHINGEN_SOURCE),
}


def classes_and_bands(data: Mapping[str, Any]) -> tuple[int, int] | None:
    """(classes, bands) of a recipe's `data`: of its folder where that is there, else what its format always has.

    None where nothing tells them. Raises what `open_unchecked` raises for a folder that is there.
    """
    format, root = str(data.get("format", "folder")), data.get("root")
    if layout_of(format).splits is None or (root is not None and Path(root).exists()):
        split = next(iter(data.get("train_splits", ["train"])))
        dataset = open_unchecked(format, root, split, **data.get("options", {}))
        return dataset.label_space.num_classes, dataset.bands
    with suppress(ConfigError):
        return LabelSpace.named({"potsdam": "isprs", "vaihingen": "isprs"}.get(format, format)).num_classes, 3
    return None


def open_dataset(format: str, root: str | Path | None = None, split: str = "train", **options: Any) -> Dataset:
    """Opens a split of a data set, and checks that every image has its labels.

    Args:
        format: A layout's name: camvid, folder, ade20k, scenes ...
        root: Its folder; None for generated scenes.
        split: Part of the data set: train, val, test.
        options: The layout's own settings.

    Raises ConfigError for an unknown format or option, DataError that holds every fault of the listing. Files are
    decoded when read; `check_dataset` decodes them all.
    """
    dataset = open_unchecked(format, root, split, **options)
    errors = [fault for fault in dataset.faults if fault.severity == "error"]
    if errors:
        raise errors_of(dataset.name, errors)
    return dataset


def open_unchecked(format: str, root: str | Path | None = None, split: str = "train", **options: Any) -> Dataset:
    """As `open_dataset`, but the faults of the listing are left in `.faults`."""
    layout = layout_of(format)
    unknown = sorted(set(options) - set(layout.options()))
    if unknown:
        hint = did_you_mean(unknown[0], layout.options(), f"it has: {', '.join(layout.options()) or 'none'}")
        raise ConfigError(f"{unknown[0]} is no option of the format {format!r}; {hint}")
    options = layout.check(options)
    if layout.splits is None:
        if root is not None:
            raise ConfigError(
                f"root = '{root}' with format = {format}: it is generated, not read; leave the folder out"
            )
        return layout.open(split, **options)
    if root is None:
        raise ConfigError(f"format = {format}: give the folder of the data set")
    try:
        with parsing(root, DataError, f"cannot be opened as {format}", "Look at its files, or name another format"):
            return layout.opened(Path(root), split, options)
    except (ConfigError, DataError) as error:
        other = unread_export(Path(root))
        if other:
            raise type(error)(f"{error}. {other}") from error
        raise


def available_splits(format: str, root: str | Path | None = None) -> tuple[str, ...]:
    """The splits that a data set has. Raises ConfigError for an unknown format, DataError where there is no folder."""
    layout = layout_of(format)
    if layout.splits is None:
        return ("train", "val")
    if root is None:
        raise ConfigError(f"format = {format}: give the folder of the data set")
    with parsing(root, DataError, f"cannot be opened as {format}", "Look at its files, or name another format"):
        return layout.splits(Path(root))


def write_submission(format: str, folder: str | Path, name: str, labels: NDArray[np.uint8]) -> Path:
    """Writes a prediction (labels 0..K-1 of the data set's own classes) as its benchmark's server takes it.

    name: the sample's. Returns the file. Raises ConfigError for a data set without a submission format.
    """
    layout = layout_of(format)
    if layout.submit is None:
        known = ", ".join(key for key, value in LAYOUTS.items() if value.submit)
        raise ConfigError(f"format = {format}: no submission format is known; there is one for {known}")
    return layout.submit(Path(folder), name, labels)


def layout_of(format: str) -> Layout:
    """The layout called `format`. Raises ConfigError that lists all."""
    if format not in LAYOUTS:
        hint = did_you_mean(format, LAYOUTS).capitalize()
        raise ConfigError(f"format = {format!r} is not known. {hint} There are: {', '.join(LAYOUTS)}")
    return LAYOUTS[format]
