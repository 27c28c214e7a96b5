"""PSPNetClassifier: arcgis.learn's class of that name, as a thin skin over train, evaluate and segment_raster.

Long because arcgis.learn's class is: one class, its methods, their many arguments. What is more than a call
stands in the files beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pspnet.arcgis.arguments import BACKBONES, METRICS, learning_rates, loss_settings, metrics_of, refuse
from pspnet.arcgis.data import TrainingData
from pspnet.arcgis.notebook import EpochTable, counted, shown
from pspnet.arcgis.package import describe, load_package, with_pixel_values, write_package
from pspnet.arcgis.pictures import grid_figure, loss_figure
from pspnet.arcgis.report import html_report, package_facts, png_of
from pspnet.config import ModelConfig, RasterConfig, TrainConfig
from pspnet.config.train import EarlyStopConfig, OptimizerConfig, ScheduleConfig
from pspnet.data.dataset import Sample
from pspnet.errors import CheckpointError, ConfigError, require
from pspnet.evaluation import evaluate
from pspnet.files import check_output
from pspnet.metrics import Scores
from pspnet.predict.segmentation import Segmentation
from pspnet.predict.segmenter import Segmenter
from pspnet.raster import RasterReport, segment_raster
from pspnet.training import find_learning_rate, train
from pspnet.training.run_folder import RunFolder


class PSPNetClassifier:
    """A pixel classifier for rasters: train it on exported chips, apply it to whole rasters.

    data: from prepare_data; None for a model that is only used. backbone: see supported_backbones. use_unet: a decoder
    with skip connections (U-Net) instead of a convolution and one resize. pyramid_sizes: cells per side of each pyramid
    level. Esri's guide states (1, 3, 5, 6), the paper (1, 2, 3, 6): where objects vary strongly in size, more and larger
    levels; where they are alike, one or two; 1 and 2 see the whole, 6 to 8 the fine. pointrend: crisp borders.
    class_balancing: rare classes weigh more. focal_loss: hard pixels weigh more. ignore_classes: pixel values that do not
    count. mixup: blends chips in training. dice_loss_fraction: share of the Dice loss, 0..1. monitor: what the best
    model and early stopping go by (available_metrics); of several, the first chooses the best model, and early stopping
    waits until none improves. unet_aux_loss: the auxiliary loss with use_unet, too. keep_dilation: True for
    features at an eighth of the image, False for a thirty-second (faster, coarser). pretrained_path: a model to go on
    from. backbone_weights: "imagenet", "random" or a file. model_options: further fields of pspnet's ModelConfig.
    """

    supported_backbones: ClassVar[list[str]] = list(BACKBONES)
    available_metrics: ClassVar[list[str]] = list(METRICS)

    def __init__(
        self,
        data: TrainingData | None,
        backbone: str = "resnet50",
        use_unet: bool = True,
        pyramid_sizes: Sequence[int] = (1, 3, 5, 6),
        pretrained_path: str | Path | None = None,
        unet_aux_loss: bool = False,
        pointrend: bool = False,
        *,
        class_balancing: bool = False,
        mixup: bool = False,
        focal_loss: bool = False,
        dice_loss_fraction: float = 0.0,
        ignore_classes: Sequence[int] = (),
        monitor: str | Sequence[str] = "miou",
        keep_dilation: bool = True,
        backbone_weights: str = "imagenet",
        model_options: Mapping[str, Any] | None = None,
        **other: Any,
    ) -> None:
        refuse(other)
        if not 0 <= dice_loss_fraction <= 1:
            raise ConfigError(f"dice_loss_fraction = {dice_loss_fraction}: a share, 0 to 1")
        self.data, self.monitor = data, metrics_of(monitor)
        self.mixup = 0.5 if mixup else 0.0
        auxiliary = "pixel" if unet_aux_loss or not use_unet else "none"
        options: dict[str, Any] = (
            {"output_stride": 8 if keep_dilation else 32} if not backbone.startswith("swin") else {}
        )
        self.model_config = ModelConfig.model_validate(
            {
                "encoder": backbone,
                "encoder_weights": backbone_weights,
                "bins": tuple(pyramid_sizes),
                "pointrend": pointrend,
                "decoder": "unet" if use_unet else "bilinear",
                "auxiliary": auxiliary,
                **options,
                **(model_options or {}),
            }
        )
        self.loss = loss_settings(
            class_balancing,
            focal_loss,
            dice_loss_fraction,
            ignore_classes,
            self._data().train.label_space.codes if ignore_classes else (),
        )
        self.frozen = backbone_weights != "random"
        self.start = None if pretrained_path is None else Path(pretrained_path)
        self.runs: list[RunFolder] = []
        self._segmenter: Segmenter | None = None
        self._rate: float | None = None
        if self.start is not None and self.start.suffix.lower() in (".emd", ".dlpk"):
            self._segmenter = load_package(self.start)

    def lr_find(self, allow_plot: bool = True, steps: int = 100) -> float:
        """A learning rate for the encoder, found by a short trial. allow_plot: a picture beside the runs."""
        plot = self._folder("runs") / "learning_rate.png" if allow_plot else None
        config = self._config(epochs=1, lr=None)
        self._rate = find_learning_rate(config, train_data=self._data().train, steps=steps, plot=plot).suggestion
        return self._rate

    def fit(
        self,
        epochs: float = 10,
        lr: float | slice | None = None,
        one_cycle: bool = True,
        early_stopping: bool = False,
        checkpoint: bool = True,
        tensorboard: bool = True,
        monitor: str | Sequence[str] | None = None,
        *,
        training: Mapping[str, Any] | None = None,
        **other: Any,
    ) -> None:
        """Trains for `epochs` from where the model stands. lr: None finds one; slice(a, b): a for the encoder, b for the
        rest. checkpoint: go on with the best model, else with the last. early_stopping: ends when `monitor` no longer
        improves. training: further fields of pspnet's TrainConfig. Each call is a run in a folder of its own.
        Every epoch prints a row: losses, accuracy, mIoU, Dice and what else is monitored.
        """
        refuse(other)
        if not tensorboard:
            raise ConfigError("tensorboard = False: runs always write for TensorBoard; it costs nothing")
        if monitor is not None:
            self.monitor = metrics_of(monitor)
        if lr is None:
            lr = self._rate or self.lr_find(allow_plot=False)
        changes: dict[str, Any] = dict(training or {})
        if early_stopping:
            changes.setdefault("early_stopping", EarlyStopConfig(patience=5))
        config = self._config(epochs, lr, one_cycle).changed(**changes)
        data = self._data()
        table = EpochTable(self.monitor, len(data.train))
        best = train(config, train_data=data.train, val_data=data.valid, callbacks=[table], quiet=True)
        run = RunFolder.open(best.parent)
        self.runs.append(run)
        self.start = run.best_model if checkpoint else run.last_model
        self._segmenter = None

    def freeze(self) -> None:
        """The encoder stays as it is in further training."""
        self.frozen = True

    def unfreeze(self) -> None:
        """The encoder is trained too."""
        self.frozen = False

    def plot_losses(self, show: bool = True) -> Any:
        """A matplotlib figure of the losses of every fit so far. show: also draw it where a notebook is running."""
        if not self.runs:
            raise ConfigError("there is nothing to plot: call fit first")
        figure = loss_figure([run.metrics for run in self.runs])
        return shown(figure) if show else figure

    def show_results(self, rows: int = 5, alpha: float = 0.5) -> Any:
        """A matplotlib figure: validation chips with their labels, and beside them with the model's."""
        data, pictures = self._data(), []
        for index in np.linspace(0, len(data.valid) - 1, min(rows, len(data.valid))).astype(int).tolist():
            sample = data.valid[index]
            pictures += [
                (sample.image, sample.labels, f"{sample.name}: labels"),
                (sample.image, self._predict(sample), "prediction"),
            ]
        return grid_figure(pictures, data.train.label_space, 2, alpha)

    def accuracy(self) -> float:
        """Share of the validation pixels that are right, 0..1."""
        return float(self._scores().pixel_accuracy)

    def mIOU(self, mean: bool = False, show_progress: bool = True) -> float | dict[str, float]:  # noqa: N802  arcgis.learn's
        """Intersection over union of each class on the validation chips, or their mean; 0..1. show_progress: a bar on a
        terminal while they are looked at."""
        scores = self._scores(show_progress)
        return float(scores.mean_iou) if mean else dict(zip(self.segmenter.classes, scores.iou.tolist(), strict=True))

    def per_class_metrics(self, ignore_classes: Sequence[int] = ()) -> Any:
        """A pandas DataFrame: precision, recall and f1 of each class on the validation chips."""
        scores, space = self._scores(), self.segmenter.card.label_space
        counted_classes = [i for i, code in enumerate(space.codes) if code not in set(ignore_classes)]
        values = np.stack([scores.precision, scores.recall, scores.f1])[:, counted_classes]
        return require("pandas", "raster").DataFrame(
            values, ["precision", "recall", "f1"], [space.names[i] for i in counted_classes]
        )

    def predict(self, source: str | Path | NDArray[Any], target: str | Path | None = None, **settings: Any) -> Any:
        """An image or array -> Segmentation; with a target, a whole raster -> a GeoTIFF of class values (RasterReport).

        settings: fields of RasterConfig, such as tile_px or polygons.
        """
        if target is None:
            if settings:
                raise ConfigError(f"{', '.join(settings)}: these settings are for whole rasters; give a target, too")
            result: Segmentation = self.segmenter.segment(source)
            return result
        report: RasterReport = segment_raster(
            with_pixel_values(self.segmenter), str(source), target, RasterConfig(**{"codes": True, **settings})
        )
        return report

    def save(
        self,
        name_or_path: str | Path,
        framework: str = "PyTorch",
        publish: bool = False,
        gis: None = None,
        compute_metrics: bool = True,
        save_optimizer: bool = False,
        save_inference_file: bool = True,
        overwrite: bool = False,
        **other: Any,
    ) -> Path:
        """Writes the model's folder and returns its .emd: NAME.safetensors, .emd, .dlpk, the raster function, metrics.

        name_or_path: a name (below `models` beside the data) or a folder. compute_metrics: score it on the validation
        chips for the package. save_optimizer: also NAME_checkpoint.ckpt, the last fit's state with its optimizer, to go on
        from with `pspnet train --resume`. save_inference_file: the raster function, without which ArcGIS cannot run it.
        Raises OutputError for a package that exists, without overwrite.
        """
        refuse(other)
        if save_optimizer and not self.runs:
            raise ConfigError(
                "save_optimizer = True: this model was not trained here, so there is no optimizer to save"
            )
        if framework != "PyTorch" or publish or gis is not None:
            raise ConfigError(
                "framework, publish and gis: packages are written for PyTorch, to files; upload the .dlpk yourself"
            )
        folder = Path(name_or_path)
        if len(folder.parts) == 1 and self.data is not None:
            folder = self._folder("models") / folder
        check_output(folder / f"{folder.name}.emd", overwrite=overwrite)  # before the scores are counted
        segmenter, facts, files = self.segmenter, dict[str, Any](), dict[str, bytes]()
        tile = self.data.chip_size if self.data is not None else 512
        if compute_metrics and self.data is not None:
            scores = self._scores()
            facts = package_facts(scores, segmenter.classes, self._rate)
            results = png_of(self.show_results(rows=3))
            losses = png_of(self.plot_losses(show=False)) if self.runs else None
            files = {
                "ModelCharacteristics/show_results.png": results,
                **({"ModelCharacteristics/loss_graph.png": losses} if losses else {}),
                "model_metrics.html": html_report(folder.name, segmenter, scores, losses is not None),
            }
        facts["TrainedOn"] = datetime.now(UTC).date().isoformat()
        if save_optimizer:
            files[f"{folder.name}_checkpoint.ckpt"] = self.runs[-1].last_state.read_bytes()
        return write_package(
            folder,
            segmenter,
            tile_px=tile,
            facts=facts,
            files=files,
            with_function=save_inference_file,
            overwrite=overwrite,
        )

    def load(self, name_or_path: str | Path) -> None:
        """Takes the weights of a saved model: a name below `models`, a folder, an .emd, a .dlpk or a checkpoint."""
        path = Path(name_or_path)
        if not path.exists() and self.data is not None:
            path = self._folder("models") / path
        self._segmenter = Segmenter.load(path) if path.suffix == ".safetensors" else load_package(path)
        self.start = None
        self.model_config = self._segmenter.model.config

    @classmethod
    def from_model(cls, emd_path: str | Path, data: TrainingData | None = None) -> PSPNetClassifier:
        """A model from an .emd, a .dlpk or a saved folder. Raises CheckpointError for one that pspnet did not make,
        saying what could be read of it."""
        segmenter = load_package(emd_path)
        config = segmenter.model.config
        model = cls(
            data,
            config.encoder,
            use_unet=config.decoder == "unet",
            pyramid_sizes=config.bins,
            pointrend=config.pointrend,
            backbone_weights="random",
        )
        model.model_config, model._segmenter = config, segmenter
        if data is not None and tuple(data.classes) != segmenter.classes:
            raise ConfigError(
                f"the model's classes are {', '.join(segmenter.classes)}, the data's {', '.join(data.classes)}"
            )
        return model

    @property
    def segmenter(self) -> Segmenter:
        """The model as it stands. Raises CheckpointError before the first fit or load."""
        if self._segmenter is None:
            if self.start is None:
                raise CheckpointError("the model is not trained yet: call fit, or load")
            self._segmenter = Segmenter.load(self.start)
        return self._segmenter

    def describe(self) -> dict[str, Any]:
        """What the .emd would say."""
        return describe(self.segmenter, "", self.data.chip_size if self.data else 512, 0)

    def _config(self, epochs: float, lr: float | slice | None, one_cycle: bool = True) -> TrainConfig:
        data, rates = self._data(), learning_rates(lr)
        batch = min(data.batch_size, len(data.train))
        init = self.start
        packed = init is not None and init.suffix.lower() in (".emd", ".dlpk")
        if packed or (init is None and self._segmenter is not None):
            init = self.segmenter.save(self._folder("runs") / "start.safetensors", overwrite=True)
        model = self.model_config if init is None else self.model_config.changed(encoder_weights="random")
        return TrainConfig(
            run_dir=_new_folder(self._folder("runs")),
            model=model,
            data=data.config,
            augmentation=data.augmentation,
            loss=self.loss,
            rare_classes="off",  # `class_balancing` says it in that workflow
            optimizer=OptimizerConfig(name="adamw", **rates),
            schedule=ScheduleConfig(name="one_cycle" if one_cycle else "constant"),
            epochs=epochs,
            batch_size=batch,
            mixup=self.mixup,
            freeze_encoder=self.frozen,
            init_from=init,
            monitor=self.monitor[0],
            also_monitor=self.monitor[1:],
            val_every=max(1, len(data.train) // batch),
            seed=data.seed,
            check_data=False,  # prepare_data has looked at every chip
        )

    def _data(self) -> TrainingData:
        if self.data is None:
            raise ConfigError("this model has no data: give it prepare_data's result to train or score it")
        return self.data

    def _folder(self, name: str) -> Path:
        folder = self._data().path / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _scores(self, show_progress: bool = False) -> Scores:
        return evaluate(self.segmenter, counted(self._data().valid) if show_progress else self._data().valid)

    def _predict(self, sample: Sample) -> Any:
        return self.segmenter.segment(sample.image, confidence=False).labels


def _new_folder(base: Path) -> Path:
    number = 1
    while (base / f"fit_{number}").exists():
        number += 1
    return base / f"fit_{number}"
