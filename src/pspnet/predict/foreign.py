"""An ONNX file of another project as an engine: segmentation_models_pytorch, TorchGeo, or any exporter.

It is used as a model of ours once somebody says what the graph does not: see `pspnet.config.foreign.ForeignModel`. That
stands in a YAML file beside it (unet.onnx, unet.yaml), which every command reads, or is given with the call.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.config.base import read_yaml
from pspnet.config.foreign import ForeignModel
from pspnet.config.model import ModelConfig
from pspnet.errors import CheckpointError, ConfigError
from pspnet.labels import LabelSpace, read_classes
from pspnet.predict.logits import resize
from pspnet.weights.checkpoint import ModelCard

Values = NDArray[np.float32]
TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
CERTAIN = 30.0  # logits between a label and the others: e^-30 is no probability that anybody sees
SUM_TOLERANCE = 0.02  # probabilities of half precision do not sum to exactly 1


class ForeignEngine:
    """Another project's graph: (B, bands, H, W) in the file's own range -> logits (B, K, h, w).

    session: of onnxruntime. fixed_px: (height, width) where the graph takes one size only; smaller windows are padded by
    their edge, larger ones are refused. Raises CheckpointError for a graph that cannot be used so.
    """

    name = "onnxruntime"
    device = "cpu"
    precision = "as exported"

    def __init__(self, session: Any, path: Path, about: ForeignModel, num_classes: int) -> None:
        self.session, self.path, self.about, self.num_classes = session, path, about, num_classes
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1 or inputs[0].type not in TYPES or len(inputs[0].shape) != 4:
            described = "; ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
            raise CheckpointError(
                f"'{path}' takes {described}; only graphs with one input of four axes in floating point can be used"
            )
        self.input, self.dtype = inputs[0].name, TYPES[inputs[0].type]
        self.output = outputs[0].name
        shape = [size if isinstance(size, int) and size > 0 else None for size in inputs[0].shape]
        self.last = self._channels_last(shape)
        count = shape[3 if self.last else 1]
        if count is not None and count != len(about.bands):
            raise CheckpointError(
                f"'{path}' takes {count} bands; bands names {len(about.bands)}: {', '.join(about.bands)}"
            )
        self.single = shape[0] == 1
        height, width = shape[1:3] if self.last else shape[2:4]
        if (height is None) != (width is None):
            raise CheckpointError(
                f"'{path}' takes images of {height or 'any'} x {width or 'any'} px: one side is fixed only"
            )
        self.fixed_px = None if height is None or width is None else (height, width)
        mean, std = about.normalisation
        self._mean, self._std = (np.asarray(v, np.float32)[:, None, None] for v in (mean, std))

    def _channels_last(self, shape: list[int | None]) -> bool:
        if self.about.axes is not None:
            return self.about.axes == "channels_last"
        bands = len(self.about.bands)
        first, last = shape[1] == bands, shape[3] == bands
        if first == last:
            raise CheckpointError(
                f"'{self.path}': its input is {shape} (None: any), which does not tell where the {bands} bands are; say "
                "axes=channels_first or axes=channels_last"
            )
        return last

    def coarse(self, images: Values) -> Values:
        """See the class. Raises CheckpointError where the output is not what `about` says."""
        height, width = images.shape[2:]
        pixels = self._padded((images - self._mean) / self._std).astype(self.dtype)
        if self.last:
            pixels = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
        parts = [pixels[i : i + 1] for i in range(len(pixels))] if self.single else [pixels]
        try:
            output = np.concatenate([self.session.run([self.output], {self.input: part})[0] for part in parts])
        except Exception as error:  # onnxruntime raises a class of its own for each operator's fault
            text = " ".join(str(error).split())[:300]
            raise CheckpointError(
                f"'{self.path}' fails on windows of {pixels.shape} : {text}. Where its sides must be a multiple of 16 or 32, "
                "say multiple_px=32"
            ) from error
        logits = self._logits(output)
        high, wide = self._padded_size(height, width)
        if logits.shape[2:] == (high, wide):
            return np.ascontiguousarray(logits[:, :, :height, :width])
        if self.about.align_corners is None:
            raise CheckpointError(
                f"'{self.path}' gives {logits.shape[3]} x {logits.shape[2]} px for {wide} x {high}: say how that is resized, "
                "align_corners=true or align_corners=false"
            )
        whole = resize(np.ascontiguousarray(logits), (high, wide), self.about.align_corners)
        return np.ascontiguousarray(whole[:, :, :height, :width])

    def _padded_size(self, height: int, width: int) -> tuple[int, int]:
        if self.fixed_px is not None:
            if height > self.fixed_px[0] or width > self.fixed_px[1]:
                raise ConfigError(
                    f"'{self.path}' takes images of {self.fixed_px[1]} x {self.fixed_px[0]} px only, not {width} x {height}: map "
                    f"rasters in such windows (--tile {min(self.fixed_px)}), or export it for any size"
                )
            return self.fixed_px
        step = self.about.multiple_px
        return -(-height // step) * step, -(-width // step) * step

    def _padded(self, images: Values) -> Values:
        below, right = np.subtract(self._padded_size(*images.shape[2:]), images.shape[2:]).tolist()
        return np.pad(images, ((0, 0), (0, 0), (0, below), (0, right)), mode="edge") if below or right else images

    def _logits(self, output: NDArray[Any]) -> Values:
        """The output as logits (B, K, h, w). One plane for two classes is the second one's."""
        about, count = self.about, self.num_classes
        if about.output == "labels":
            return self._from_labels(output)
        if output.ndim == 4 and self.last and output.shape[3] in (count, 1) and output.shape[1] not in (count, 1):
            output = output.transpose(0, 3, 1, 2)
        if output.ndim == 3 and count == 2:
            output = output[:, None]
        planes = output.shape[1] if output.ndim == 4 else -1
        if output.ndim != 4 or planes not in ((1, 2) if count == 2 else (count,)):
            raise CheckpointError(
                f"'{self.path}' gives {output.shape}; {about.output} of {count} classes were expected"
            )
        output = output.astype(np.float32)
        if np.isnan(output).any():
            raise CheckpointError(f"'{self.path}' gives values that are no numbers (NaN) for this image")
        if about.output == "logits":
            return np.concatenate([np.zeros_like(output), output], 1) if planes == 1 else output
        whole = np.concatenate([1 - output, output], 1) if planes == 1 else output
        if whole.min() < -SUM_TOLERANCE or np.abs(whole.sum(1) - 1).max() > SUM_TOLERANCE:
            raise CheckpointError(
                f"'{self.path}' gives values from {whole.min():.3g} to {whole.max():.3g} whose sums over the classes are not 1: "
                "they are no probabilities. Say output=logits"
            )
        return np.log(np.maximum(whole, np.float32(np.exp(-CERTAIN))))

    def _from_labels(self, output: NDArray[Any]) -> Values:
        labels = (
            output[:, 0]
            if output.ndim == 4 and output.shape[1] == 1
            else output[..., 0]
            if output.ndim == 4
            else output
        )
        if (
            labels.ndim != 3
            or labels.shape[-1] < 1
            or (output.ndim == 4 and 1 not in (output.shape[1], output.shape[3]))
        ):
            raise CheckpointError(f"'{self.path}' gives {output.shape}; labels (B, H, W) were expected")
        if labels.min() < 0 or labels.max() >= self.num_classes or (labels != np.floor(labels)).any():
            raise CheckpointError(
                f"'{self.path}' gives the labels {labels.min()} to {labels.max()}; {self.num_classes} classes are named, "
                f"0 to {self.num_classes - 1}"
            )
        return np.float32(CERTAIN) * (labels[:, None] == np.arange(self.num_classes)[None, :, None, None])


def about_beside(path: Path) -> ForeignModel | None:
    """What the YAML file beside an ONNX file says of it; None where there is none. Raises ConfigError naming the file."""
    about_file = path.with_suffix(".yaml")
    if not about_file.is_file():
        return None
    try:
        return ForeignModel.model_validate(read_yaml(about_file))
    except ConfigError as error:
        raise (
            error if str(about_file) in str(error) else ConfigError(f"'{about_file}': {error}", error.faults)
        ) from error


def open_foreign(session: Any, path: Path, about: ForeignModel) -> tuple[ForeignEngine, ModelConfig, ModelCard]:
    """The graph as an engine, with the config and the card that `about` makes. Raises CheckpointError and ConfigError."""
    classes = about.classes
    space = read_classes(classes) if isinstance(classes, str) else LabelSpace(classes)
    if isinstance(classes, str):
        space = space.by_code()
    engine = ForeignEngine(session, path, about, space.num_classes)
    mean, std = about.normalisation
    config = ModelConfig(
        encoder="of another project",
        num_classes=space.num_classes,
        in_bands=len(about.bands),
        mean=mean,
        std=std,
        align_corners=bool(about.align_corners),
        auxiliary="none",
    )
    card = ModelCard(
        space,
        about.bands,
        about.trained_range,
        provenance={"made by": "another project", "about": about.model_dump(mode="json", exclude_none=True)},
        ground_resolution=about.ground_resolution,
    )
    return engine, config, card
