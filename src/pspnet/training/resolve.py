"""From what was asked to what will run: data opened and checked, and everything derived that was left open."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pspnet.config.data import DataConfig
from pspnet.config.model import ModelConfig
from pspnet.config.train import TrainConfig
from pspnet.data.catalog import available_splits, open_unchecked
from pspnet.data.dataset import Dataset, GivenDataset, as_dataset
from pspnet.data.dataset_bands import unlike_bands
from pspnet.data.doctor import check_opened
from pspnet.data.faults import DataReport
from pspnet.data.statistics import Progress, Statistics, dataset_statistics
from pspnet.data.views import Joined, cached, evenly
from pspnet.errors import ConfigError, DataError
from pspnet.georaster.ground import resolution_m
from pspnet.losses import class_weights_from_shares
from pspnet.machine import usable_cores
from pspnet.predict.conditions import refuse_unlike
from pspnet.predict.engines import compute_dtype, has_bfloat16, pick_device
from pspnet.training.distributed import outside_launch
from pspnet.training.rare_classes import with_help
from pspnet.weights.bundled import find_model
from pspnet.weights.checkpoint import read_header
from pspnet.weights.encoder_weights import imagenet_normalisation

MEASURED_IMAGES = 1000  # pictures, evenly spread, that mean, deviation and class shares are measured on
MAX_WORKERS = 8
CHECKED_SAMPLES = 100  # of a data set that Python gives, evenly spread: drawing or decoding all of one may take hours


@dataclass(frozen=True)
class DataSets:
    """What is trained on and what is validated on; the latter may be missing."""

    train: Dataset
    val: Dataset | None

    @classmethod
    def given(cls, train: GivenDataset, val: GivenDataset | None) -> DataSets:
        """From Python: a user's own classes are completed."""
        return cls(as_dataset(train), None if val is None else as_dataset(val))


def open_data(config: DataConfig, check: bool, progress: Progress | None = None) -> DataSets:
    """Opens the splits that a config names. Raises DataError with every fault of all of them.

    check: decode every file once. Without it only what the listing shows is found. A validation split that is called
    "val" by default and does not exist is left out.
    """
    splits = list(config.train_splits)
    with_val = config.val_split is not None and (
        "val_split" in config.model_fields_set or config.val_split in available_splits(config.format, config.root)
    )
    if with_val and config.val_split is not None:
        splits.append(config.val_split)
    parts = []
    for split in splits:
        options = config.options | (config.val_options if with_val and split == splits[-1] else {})
        parts.append(open_unchecked(config.format, config.root, split, **options))
    if config.root is not None:
        _check(dict(zip(splits, parts, strict=True)), config, check, progress)
    if not with_val and config.val_split is not None:
        warnings.warn(
            f"data: there is no split {config.val_split!r}, so nothing is validated and the last model counts as the best. "
            f"There are: {', '.join(available_splits(config.format, config.root))}. Name one: data.val_split=NAME",
            stacklevel=2,
        )
    for split, part in zip(splits[1:], parts[1:], strict=True):
        difference = unlike_bands(parts[0], part)
        if difference:
            raise ConfigError(f"data: the part {split!r} cannot be used beside {splits[0]!r}: {difference}")
    train = parts[: len(config.train_splits)]
    joined = train[0] if len(train) == 1 else Joined(train)
    return DataSets(cached(joined, config.cache, config.cache_folder), parts[-1] if with_val else None)


def data_of(
    config: TrainConfig, given: DataSets | None, check: bool = True, progress: Progress | None = None
) -> DataSets:
    """The data sets of a run: those that Python gave, a part of them checked, or those that the config names.

    Raises DataError with every fault of all of them. check: False leaves it out; so does `check_data` of the config.
    """
    check = check and config.check_data
    if given is None:
        return open_data(config.data, check, progress)
    if check:
        parts = {"train": given.train} if given.val is None else {"train": given.train, "val": given.val}
        some = {name: evenly(part, CHECKED_SAMPLES) if len(part) else part for name, part in parts.items()}
        report = check_opened("the data sets given", some, {"train": "learn", "val": "score"}, progress)
        report.raise_errors()
        report.warn()
    return given


def _check(parts: Mapping[str, Dataset], config: DataConfig, decode: bool, progress: Progress | None) -> None:
    """Raises DataError with every error of all parts, and warns of the rest. Without decoding, of the listings alone."""
    if decode:
        roles = {split: "learn" if split in config.train_splits else "score" for split in parts}
        report = check_opened(str(config.root), parts, roles, progress)  # type: ignore[arg-type]
    else:
        faults = tuple(fault for part in parts.values() for fault in part.faults)
        report = DataReport(str(config.root), sum(map(len, parts.values())), faults)
    report.raise_errors()
    report.warn()


def measure(dataset: Dataset) -> Statistics:
    """Statistics of up to MEASURED_IMAGES evenly spread samples. Raises DataError where no pixel is labelled."""
    statistics = dataset_statistics(evenly(dataset, MEASURED_IMAGES))
    if not sum(statistics.class_pixels):
        raise DataError(
            f"no pixel of the {statistics.images} training images looked at has a class: all labels are ignored"
        )
    return statistics


def resolve(config: TrainConfig, data: DataSets, say: Callable[[str], None] = lambda message: None) -> TrainConfig:
    """The config with everything written down that was left open: classes, bands, normalisation, class weights, steps,
    intervals, workers, device, precision. say: called with what was chosen for rare classes, where the config asks for help.
    Raises ConfigError where what was given contradicts the data or the machine.
    """
    if len(data.train) == 0:
        raise DataError("the training split holds no sample; see: pspnet data check")
    return _with_data(on_this_machine(config, len(data.train)), data, say)


def _with_data(config: TrainConfig, data: DataSets, say: Callable[[str], None]) -> TrainConfig:
    dataset, model, weights = data.train, config.model, config.loss.class_weights
    if data.val is not None and data.val.label_space.names != dataset.label_space.names:
        raise ConfigError(
            f"data: training has the classes {', '.join(dataset.label_space.names[:5])} ... and validation "
            f"{', '.join(data.val.label_space.names[:5])} ...; give both the same table"
        )
    difference = "" if data.val is None else unlike_bands(dataset, data.val)
    if difference:
        raise ConfigError(
            f"data: of the validation part, {difference} (the training part). Make both of one kind of images"
        )
    if isinstance(weights, tuple) and len(weights) != dataset.label_space.num_classes:
        raise ConfigError(
            f"loss.class_weights has {len(weights)} numbers, the data set {dataset.label_space.num_classes} classes: "
            f"{', '.join(dataset.label_space.names)}"
        )
    changes: dict[str, Any] = {}
    for name, there in (("num_classes", dataset.label_space.num_classes), ("in_bands", dataset.bands)):
        if name in model.model_fields_set and getattr(model, name) != there:
            raise ConfigError(
                f"model.{name} = {getattr(model, name)}, but the data set has {there}. Leave model.{name} out: it follows "
                "from the data"
            )
        changes[name] = there
    derives_mean = normalises_by_data(model, dataset)
    if config.init_from is not None:
        before, card = read_header(find_model(str(config.init_from), checkpoint=True))
        if before.in_bands == dataset.bands:
            try:
                refuse_unlike(card, dataset, listing=False)
            except ConfigError as error:
                raise ConfigError(f"init_from = {config.init_from}: {error}") from error
        if model.mean is None and model.std is None:
            changes["mean"], changes["std"] = before.normalisation  # what its weights expect
            derives_mean = False
    elif model.encoder_weights == "imagenet" and not derives_mean and model.mean is None and model.std is None:
        changes["mean"], changes["std"] = imagenet_normalisation(model)
    if derives_mean or config.rare_classes != "off" or weights in ("inverse", "tempered"):
        statistics = measure(dataset)
        if config.rare_classes != "off":
            config, message = with_help(config, statistics.class_shares, dataset.label_space.names)
            say(message)
            weights = config.loss.class_weights
        if derives_mean:
            changes["mean"] = tuple(round(value, 4) for value in statistics.mean)
            changes["std"] = tuple(max(round(value, 4), 1e-3) for value in statistics.std)
        if weights in ("inverse", "tempered"):
            derived = class_weights_from_shares(statistics.class_shares, weights)
            assert derived is not None
            weights = tuple(round(value, 6) for value in derived.tolist())
    root = config.data.root
    return config.changed(
        model=model.changed(**changes),
        loss=config.loss.changed(class_weights=weights),
        data=config.data.changed(root=root.absolute()) if root is not None else config.data,
    )  # resumed from anywhere


def normalises_by_data(model: ModelConfig, dataset: GivenDataset) -> bool:
    """Whether mean and deviation come from the data: weights that were made on photographs expect ImageNet's, which are of
    values of 8 bits. Reflectance up to 10000 or fractions of 1 would all be white or black with them."""
    if model.mean is not None or model.std is not None:
        return False
    return model.encoder_weights == "random" or dataset.bands != 3 or not _like_photographs(dataset)


def _like_photographs(dataset: GivenDataset) -> bool:
    """Whether values are of 8 bits, whatever type they are stored in, by three samples."""
    for index in sorted({0, len(dataset) // 2, len(dataset) - 1}):
        image = dataset[index].image
        if image.dtype == np.uint8:
            return True
        if not (image.min() >= 0 and 1 < image.max() <= 255):
            return False
    return True


def moved(config: TrainConfig, samples: int) -> TrainConfig:
    """A resolved config, fitted to another machine where the run's devices are not there."""
    devices = config.devices if isinstance(config.devices, int) else 1
    if outside_launch() is None and (config.device != "cuda" or torch.cuda.device_count() >= devices):
        return config
    device = pick_device("auto")
    alike = device.type == config.device and (config.precision == "fp32" or has_bfloat16(device))
    as_before = {} if alike else {"precision": "auto", "channels_last": None}  # a run goes on with the numbers it has
    return on_this_machine(config.changed(device="auto", devices="auto", **as_before), samples)


def on_this_machine(config: TrainConfig, samples: int) -> TrainConfig:
    """The config with device, precision, workers and numbers of steps written down."""
    device = pick_device(config.device)
    launch = outside_launch()
    if launch is not None:
        devices, nodes = launch.devices, launch.nodes
    elif isinstance(config.devices, int):
        devices, nodes = config.devices, config.nodes
    else:
        devices, nodes = (torch.cuda.device_count() if device.type == "cuda" else 1), config.nodes
    if device.type == "cuda" and devices > torch.cuda.device_count():
        raise ConfigError(f"devices = {devices}: this machine has {torch.cuda.device_count()} GPUs")
    if device.type == "mps" and devices > 1:
        raise ConfigError(f"devices = {devices} with device = mps: it is one device; set devices to 1")
    if config.batch_size % (devices * nodes):
        raise ConfigError(
            f"batch_size = {config.batch_size} with {devices * nodes} devices: each needs the same number of pictures. "
            f"Use a multiple of {devices * nodes}"
        )
    if config.precision == "bf16" and not has_bfloat16(device):
        raise ConfigError(
            "precision = bf16: this processor does not compute in bfloat16; it would be emulated, hundreds of times slower. "
            "Use precision = auto or fp32"
        )
    precision = "bf16" if compute_dtype(config.precision, device) == torch.bfloat16 else "fp32"
    workers = config.workers
    if workers is None:
        workers = min(max((usable_cores() - 1) // devices, 0), MAX_WORKERS)  # one core stays with the network
    steps = config.total_steps(samples)
    return config.changed(
        steps=steps,
        epochs=None,
        val_every=config.validation_interval(steps),
        device=device.type,
        devices=devices,
        nodes=nodes,
        precision=precision,
        workers=workers,
        # measured: float32 on a Zen 3 processor is 0 to 8 % slower with it
        channels_last=config.channels_last
        if config.channels_last is not None
        else device.type == "cuda" or precision == "bf16",
    )


def values_of(dataset: Dataset) -> dict[str, Any]:
    """What a model card keeps of the values trained on: their `pixel_type`; their `value_range`, the whole of an 8-bit type,
    else what 20 evenly spread samples hold; and the scale and offset that raster files state for each band."""
    first = dataset[0].image
    low, high = 0.0, 255.0
    if first.dtype != np.uint8:
        some = [dataset[index].image for index in range(0, len(dataset), -(-len(dataset) // 20))]
        low, high = float(min(image.min() for image in some)), float(max(image.max() for image in some))
    values: dict[str, Any] = {"value_range": (low, high), "pixel_type": str(first.dtype)}
    if dataset.full_scale is not None:
        values["full_scale"] = dataset.full_scale
    if dataset.band_info is not None and dataset.band_numbers:
        for name, stated in (("band_scales", dataset.band_info.scales), ("band_offsets", dataset.band_info.offsets)):
            values[name] = tuple(stated[number - 1] for number in dataset.band_numbers)
    return values


def scale_of(dataset: Dataset, data: DataConfig) -> dict[str, Any]:
    """What a model card keeps of the scale that was trained at: `trained_size` of photographs, the median of 20 evenly spread
    samples; or `ground_resolution` of images from above, by their grids or as the config says, 0 where nobody knows it."""
    grid = dataset.grid(0)
    if grid is not None:
        return {"ground_resolution": resolution_m(grid) or 0.0}
    if data.ground_resolution is not None:
        return {"ground_resolution": data.ground_resolution}
    some = [dataset[index].image.shape[:2] for index in range(0, len(dataset), -(-len(dataset) // 20))]
    return {"trained_size": (int(np.median([size[0] for size in some])), int(np.median([size[1] for size in some])))}
