"""A model's card compared with what the model meets: the one comparison, whatever meets it.

A model file carries the conditions under which its answers mean something (convention 7): classes, bands by name and number,
the type, scale and range of values, the size of things, the protocol of its scores. An array, a photograph, a raster and a data
set each say some of these. What contradicts is refused where no answer could be right (other bands, other classes, values
stored on another scale), and told where one may be (values out of the trained range, another size or resolution).

Every door comes through here: `Segmenter.read`, `segment_raster`, `evaluate`, `explore`, `adapt`, `calibrate`, `train` with
init_from, the page, the ArcGIS workflow and the gate of int8 exports.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.class_tables import same_names
from pspnet.config.protocol import Protocol, find_protocol
from pspnet.data.dataset import Dataset, Sample
from pspnet.data.faults import DataReport
from pspnet.errors import ConfigError, DataError
from pspnet.georaster.bands import BandInfo, compare_bands
from pspnet.georaster.ground import resolution_m
from pspnet.labels import IGNORE, LabelSpace
from pspnet.predict.scale import FAR, Size, times_trained
from pspnet.weights.checkpoint import ModelCard
from pspnet.weights.protocol_sizes import with_sizes

UNLIKE = 1.5  # ratio of resolutions above which an answer is doubtful
_VALUES = 20_000  # of an array that are looked at, evenly spread


@dataclass(frozen=True)
class Met:
    """What a model meets, as far as it says it: None, "" and () are unknown.

    name: what messages call it. scales, offsets: of the bands that are read. low, high: the 1st and 99th percentile of its
    values. size: (height, width) that it is looked at with. resolution: metres of a pixel's side on the ground.
    """

    name: str
    band_names: tuple[str, ...] = ()
    dtype: str = ""
    scales: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()
    low: float | None = None
    high: float | None = None
    size: Size | None = None
    resolution: float | None = None

    def valued(self, pixels: NDArray[Any]) -> Met:
        """With the type and the range of values, such as (H, W, bands) that a model is given."""
        flat = pixels.reshape(-1)
        if not flat.size:
            return replace(self, dtype=str(pixels.dtype))
        low, high = np.percentile(flat[:: max(1, flat.size // _VALUES)], (1, 99)).tolist()
        return replace(self, dtype=str(pixels.dtype), low=low, high=high)

    def stored(self, info: BandInfo, numbers: tuple[int, ...]) -> Met:
        """With what a raster says of how its bands are stored. numbers: of the bands that are read, from 1."""
        return replace(
            self,
            scales=tuple(info.scales[n - 1] for n in numbers),
            offsets=tuple(info.offsets[n - 1] for n in numbers),
        )


def contradictions(card: ModelCard, met: Met) -> list[str]:
    """Why no answer of the model's could be right: sentences, each with the way out."""
    findings = []
    bands = compare_bands(card.band_names, met.band_names) if met.band_names else ""
    if bands:
        findings.append(f"{bands}. Give the data set's option bands with their numbers in the model's order")
    stored, trained = (met.scales, met.offsets), (card.band_scales, card.band_offsets)
    if _says_something(*stored) and _says_something(*trained) and stored != trained:
        findings.append(
            f"its values are stored with scale {_listed(met.scales)} and offset {_listed(met.offsets)}, those trained on with "
            f"scale {_listed(card.band_scales)} and offset {_listed(card.band_offsets)}. Convert it, or, where only the file's "
            "word is wrong, correct that: gdal_edit -scale S -offset O FILE"
        )
    return findings


def doubts(card: ModelCard, met: Met) -> list[str]:
    """Why an answer of the model's may be wrong: sentences, each with the way out."""
    return [text for text in (_stored_doubt(card, met), _value_doubt(card, met), _resolution_doubt(card, met)) if text]


def tell(card: ModelCard, met: Met, stacklevel: int = 2) -> None:
    """Warns of every doubt."""
    for text in doubts(card, met):
        warnings.warn(f"'{met.name}' {text}" if met.name else f"the image {text}", stacklevel=stacklevel + 1)


def _says_something(scales: tuple[float, ...], offsets: tuple[float, ...]) -> bool:
    """1 and 0 are what files say that say nothing."""
    return any(scale != 1 for scale in scales) or any(offset != 0 for offset in offsets)


def _stored_doubt(card: ModelCard, met: Met) -> str:
    said, trained = _says_something(met.scales, met.offsets), _says_something(card.band_scales, card.band_offsets)
    if said == trained or not card.band_scales or not met.scales:
        return ""
    scales, offsets = (met.scales, met.offsets) if said else (card.band_scales, card.band_offsets)
    by_what = f"a scale of {_listed(scales)} and an offset of {_listed(offsets)}"
    whose = (
        f"says {by_what} for its values, the images trained on said none"
        if said
        else (f"says no scale and offset for its values, the images trained on {by_what}")
    )
    return f"{whose}. The stored values are taken as they are; make sure that they mean the same"


def _value_doubt(card: ModelCard, met: Met) -> str:
    low, high = card.value_range
    if met.low is None or met.high is None:
        return ""
    eight, was_eight = met.dtype == "uint8", card.pixel_type == "uint8" if card.pixel_type else high <= 255
    unlike = (
        met.high > high + 0.5 * (high - low)
        or (was_eight and met.low < 0)
        or met.low < low - 0.5 * (high - low)
        or (met.high < low + 0.05 * (high - low) and not (eight and was_eight))
        or (was_eight and met.high > 255)
        or (eight and not was_eight and high > 255)
    )
    trained = f"{card.pixel_type + ' values of ' if card.pixel_type else ''}{low:g} to {high:g}"
    return (
        f"({met.dtype}) holds values from {met.low:g} to {met.high:g}; the model was trained on {trained}. Its map cannot be "
        "trusted; scale it to that range"
        if unlike
        else ""
    )


def _resolution_doubt(card: ModelCard, met: Met) -> str:
    resolution, trained = met.resolution, card.ground_resolution
    if not resolution or not trained or max(resolution / trained, trained / resolution) <= UNLIKE:
        return ""
    return (
        f"has pixels of {resolution:.3g} m; the model was trained on pixels of {trained:.3g} m and knows things by their size in pixels. "
        "Its map cannot be trusted; resample it to what the model knows: resolution = trained (--resolution trained) in "
        "`pspnet raster`"
    )


def size_doubt(card: ModelCard, size_seen: Size) -> str:
    """Why a photograph that is looked at with `size_seen` (height, width) pixels may be labelled wrongly; "" where it is not."""
    trained = card.trained_size
    if trained is None or 1 / FAR < times_trained(size_seen, trained) < FAR:
        return ""
    return (
        f"the image is looked at with {size_seen[1]} x {size_seen[0]} pixels, the model was trained at {trained[1]} x {trained[0]}: "
        "things have another size than it knows"
    )


def refuse_unlike(card: ModelCard, dataset: Dataset, protocol: Protocol | None = None, *, listing: bool = True) -> None:
    """Raises DataError for an empty data set, ConfigError for one that the model's answers cannot be right for; warns where
    they may be wrong, by its first sample, and of what its listing left out. protocol: how its images will be looked at,
    where that is known. listing: False where a check of the data set has told its faults."""
    if listing:
        DataReport(dataset.name, len(dataset), tuple(dataset.faults)).warn()
    if len(dataset) == 0:
        raise DataError("the data set is empty: there is nothing to evaluate; check its folder and split")
    met = Met(dataset.name, dataset.band_names)
    if dataset.band_info is not None and dataset.band_numbers:
        met = met.stored(dataset.band_info, dataset.band_numbers)
    findings = contradictions(card, met)
    if findings:
        raise ConfigError(f"the data set is not what the model was trained for: {'; '.join(findings)}")
    _tell_of_sample(card, met, dataset, protocol)


def _tell_of_sample(card: ModelCard, met: Met, dataset: Dataset, protocol: Protocol | None) -> None:
    try:
        sample: Sample = dataset[0]
        grid = dataset.grid(0)
    except DataError:  # told by the work itself, with its place
        return
    met = met.valued(sample.image)
    if grid is not None:
        met = replace(met, resolution=resolution_m(grid))
    tell(card, met, stacklevel=4)
    doubt = ""
    if protocol is not None and protocol.resize == "none" and grid is None:
        doubt = size_doubt(card, sample.image.shape[:2])
    if doubt:
        warnings.warn(f"{met.name}: {doubt}. Give images of that size, or a protocol that resizes", stacklevel=4)


def protocol_of(card: ModelCard, chosen: str | Protocol | None = None) -> Protocol:
    """The protocol that was asked for, else the card's, with the sizes of the data set that the card's classes are of.

    Cards of older versions name a family ("semseg-ss") whatever the data set was; that is told. Raises ConfigError.
    """
    if chosen:
        return find_protocol(chosen)
    name = with_sizes(card.protocol, card.label_space) if "@" not in card.protocol else card.protocol
    if name != card.protocol:
        warnings.warn(
            f"the card names the protocol {card.protocol} and no data set; its classes are those of {name.partition('@')[2]}, "
            f"so {name} is taken. Give protocol = {card.protocol} for the sizes of ADE20K",
            stacklevel=3,
        )
    return find_protocol(name)


def class_translation(model: LabelSpace, data: LabelSpace) -> NDArray[np.uint8] | None:
    """(256,) table from the model's class indices to the data set's, by name; None where both agree.

    Names are compared as `same_names` does: "bed " is "bed", "television receiver" is "television". Classes that nobody
    named stand for the pixel codes that the model was trained with, in their order; a warning says so. Raises ConfigError
    when the names are not the same ones: a score would compare different things.
    """
    if model.names == data.names:
        return None
    if model.is_numbered and model.num_classes == data.num_classes:
        ordered = data.by_code().names
        warnings.warn(
            f"the model's classes have no names: class_0 is taken to be {ordered[0]!r}, the data set's lowest code, and so on "
            "in the order of its codes. Name them when importing: pspnet import ... --classes TABLE",
            stacklevel=2,
        )
        indices = [data.index(name) for name in ordered]
    else:
        ours, theirs = same_names(model.names), same_names(data.names)
        if sorted(ours) != sorted(theirs):
            raise ConfigError(_unlike(model, data, ours, theirs))
        indices = [theirs.index(name) for name in ours]
    if indices == list(range(model.num_classes)):
        return None
    table = np.full(256, IGNORE, np.uint8)
    table[: model.num_classes] = indices
    return table


def label_translation(model: LabelSpace, data: LabelSpace) -> NDArray[np.uint8] | None:
    """The other way: (256,) table from a data set's class indices to the model's; None where both agree. Raises likewise."""
    there = class_translation(model, data)
    if there is None:
        return None
    table = np.full(256, IGNORE, np.uint8)
    table[there[: model.num_classes]] = np.arange(model.num_classes)
    return table


def _unlike(model: LabelSpace, data: LabelSpace, ours: list[str], theirs: list[str]) -> str:
    only_model = [name for name, key in zip(model.names, ours, strict=True) if key not in theirs]
    only_data = [name for name, key in zip(data.names, theirs, strict=True) if key not in ours]
    return (
        f"the model knows {model.num_classes} classes, the data set {data.num_classes}, and their names differ. "
        f"Only the model has: {_few(only_model)}; only the data set has: {_few(only_data)}. "
        "Use the data set that the model was trained for, or a class table that names the classes alike"
    )


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") if names else "none"


def _listed(values: tuple[float, ...]) -> str:
    """One value where all are equal, else all."""
    return ", ".join(f"{value:g}" for value in (values[:1] if len(set(values)) == 1 else values))
