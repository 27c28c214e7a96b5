"""prepare_data: chips, split and batch size, as arcgis.learn's notebooks ask for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pspnet.arcgis.pictures import grid_figure
from pspnet.config import AugmentConfig, DataConfig
from pspnet.data import open_dataset
from pspnet.data.dataset import Dataset
from pspnet.data.doctor import check_opened
from pspnet.data.statistics import Statistics, dataset_statistics
from pspnet.data.views import Renamed
from pspnet.errors import ConfigError

# arguments of arcgis.learn that have no counterpart here, and why
NOT_SUPPORTED = {
    "collate_fn": "batches are formed by pspnet.train",
    "resize_to": "a model sees pixels at their own size, in training and on rasters; export chips at the cell size you want",
    "imagery_type": "any number of bands of any type works without it; name bands with extract_bands",
    "bands": "bands are chosen by number: extract_bands=[0, 1, 2]",
    "rgb_bands": "bands are chosen by number: extract_bands=[0, 1, 2]",
    "norm_pct": "mean and deviation are measured on the training chips, whatever their type",
    "stratify": "the split is by ground, so that training and validation chips never overlap",
    "downsample_factor": "it belongs to super-resolution",
    "encoding": "it belongs to text models",
}


@dataclass(frozen=True)
class TrainingData:
    """Chips to train on and to validate on. classes: names in the model's order. path: where models and runs go."""

    train: Dataset
    valid: Dataset
    config: DataConfig
    augmentation: AugmentConfig
    batch_size: int
    chip_size: int
    seed: int
    path: Path

    @property
    def classes(self) -> list[str]:
        return list(self.train.label_space.names)

    @property
    def c(self) -> int:
        """Number of classes."""
        return self.train.label_space.num_classes

    def statistics(self) -> Statistics:
        """Bands' mean and deviation, classes' shares; reads every training chip once."""
        return dataset_statistics(self.train)

    def show_batch(self, rows: int = 3, columns: int = 3, alpha: float = 0.5) -> Any:
        """A matplotlib figure: training chips with their labels over them. alpha: the labels' opacity, 0..1."""
        order = np.random.default_rng(self.seed).permutation(len(self.train))[: rows * columns]
        samples = [self.train[int(index)] for index in order]
        shown = [(sample.image, sample.labels, sample.name) for sample in samples]
        return grid_figure(shown, self.train.label_space, columns, alpha)


def prepare_data(
    path: str | Path | Sequence[str | Path],
    class_mapping: Mapping[int, str] | None = None,
    chip_size: int = 224,
    val_split_pct: float = 0.1,
    batch_size: int = 16,
    transforms: AugmentConfig | bool | None = None,
    collate_fn: None = None,
    seed: int = 42,
    dataset_type: str | None = None,
    resize_to: None = None,
    working_dir: str | Path | None = None,
    *,
    extract_bands: Sequence[int] | None = None,
    format: str = "classified_tiles",
    options: Mapping[str, Any] | None = None,
    **other: Any,
) -> TrainingData:
    """Opens exported chips for training.

    path: a Classified Tiles export, or several (their chips are one data set). class_mapping: pixel value -> another name
    for the class. chip_size: side of the random crops in px. val_split_pct: share of the ground held out, 0..1.
    batch_size: 16 here (64 in arcgis.learn, which needs a large GPU). transforms: None for flips, scale, rotation and blur;
    False for none; or an AugmentConfig. seed: of the split and of training. working_dir: where `models` and `runs` go;
    None: beside the chips. extract_bands: band numbers from 0. format, options: another data set of pspnet, such as
    "raster". Raises ConfigError with the reason for an argument of arcgis.learn that has no counterpart.
    """
    _refuse({"collate_fn": collate_fn, "resize_to": resize_to, **other})
    if dataset_type not in (None, "Classified_Tiles"):
        raise ConfigError(f"dataset_type = {dataset_type!r}: a pixel classifier learns from Classified_Tiles")
    if not 0 < val_split_pct < 1:
        raise ConfigError(f"val_split_pct = {val_split_pct}: a share between 0 and 1, such as 0.1")
    folders = [Path(path)] if isinstance(path, (str, Path)) else [Path(one) for one in path]
    if not folders:
        raise ConfigError("path is empty: give the folder of an export")
    settings: dict[str, Any] = {"val_share": val_split_pct, "seed": seed, **(options or {})}
    if len(folders) > 1:
        settings["more"] = [str(folder.absolute()) for folder in folders[1:]]
    if extract_bands is not None:
        settings["bands"] = [band + 1 for band in extract_bands]
    config = DataConfig(format=format, root=folders[0], options=settings)
    train, valid = (open_dataset(format, folders[0], split, **settings) for split in ("train", "val"))
    report = check_opened(str(folders[0]), {"train": train, "val": valid}, {"train": "learn", "val": "score"})
    report.raise_errors()
    report.warn(leave_out=("near_duplicate", "repeated"))  # fields look alike; the split is by ground already
    if class_mapping:
        train, valid = (Renamed(one, class_mapping) for one in (train, valid))
    return TrainingData(
        train,
        valid,
        config,
        _augmentation(transforms, chip_size),
        batch_size,
        chip_size,
        seed,
        Path(working_dir) if working_dir is not None else folders[0],
    )


def _refuse(given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if value is None:
            continue
        if name not in NOT_SUPPORTED:
            raise ConfigError(f"prepare_data has no argument {name!r}")
        raise ConfigError(f"{name} = {value!r} is not supported: {NOT_SUPPORTED[name]}")


def _augmentation(transforms: Any, chip_size: int) -> AugmentConfig:
    if transforms is None or transforms is True:
        return AugmentConfig(crop=(chip_size, chip_size))
    if transforms is False:
        return AugmentConfig.none(chip_size)
    if isinstance(transforms, AugmentConfig):
        return transforms
    raise ConfigError(
        f"transforms = {type(transforms).__name__}: fastai's transforms are not supported; give None, False or a "
        "pspnet.config.AugmentConfig"
    )
