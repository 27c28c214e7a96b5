"""The verb: write the graph, compare it with its source, and only then let it appear under its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pspnet.data.dataset import Dataset, GivenDataset, as_dataset
from pspnet.errors import ConfigError, ExportError
from pspnet.exporting.class_metadata import for_onnx, model_info
from pspnet.exporting.onnx_precision import write_onnx_precision
from pspnet.exporting.parity import SIZES, Parity, Quality, compare, quality_of
from pspnet.exporting.quantising import QualityJudge, write_openvino
from pspnet.exporting.stac import stac_item, stac_path
from pspnet.files import check_output, new_files
from pspnet.nn.graphs import GraphNetwork, write_onnx, write_pt2
from pspnet.predict.segmenter import Segmenter
from pspnet.predict.windows import as_float
from pspnet.weights.checkpoint import header_text
from pspnet.weights.export_digest import add_digest

# What each ending can hold. onnxruntime has no bfloat16 on processors; its int8 is its own, OpenVINO's is NNCF's.
PRECISIONS = {".onnx": ("fp32", "fp16", "int8"), ".xml": ("fp32", "fp16", "bf16", "int8"), ".pt2": ("fp32",)}
# Least share of equal labels that a parity check accepts, where nobody says otherwise.
BOUNDS = {"fp32": 0.9995, "fp16": 0.995, "bf16": 0.98, "int8": 0.9}


@dataclass(frozen=True)
class ExportReport:
    """What an export made and how near it is to its source.

    quality: None where no data set was given. max_drop: the loss of mean IoU that was allowed. calibrated: number of images
    that int8 was calibrated on; parity was measured on others.
    """

    path: Path
    precision: str
    engine: str
    size_bytes: int
    parity: tuple[Parity, ...]
    bound: float
    quality: Quality | None = None
    max_drop: float | None = None
    calibrated: int = 0

    def __str__(self) -> str:
        lines = [f"{self.path} ({self.precision}, {self.size_bytes / 2**20:.1f} MiB) run by {self.engine}"]
        lines += [
            f"  {p.height} x {p.width} px: logits differ by at most {p.largest_difference:.2g} "
            f"(their spread is {p.logits_spread:.3g}), labels equal on {p.label_agreement:.4%}"
            for p in self.parity
        ]
        if self.calibrated:
            lines[0] += f", calibrated on {self.calibrated} images"
        if self.quality is not None:
            lines.append(f"  {_told(self.quality)}")
            if self.max_drop is not None and self.quality.uncertain(self.max_drop):
                lines.append(
                    f"  whether more than the {100 * self.max_drop:.2f} points of max_drop are lost, {self.quality.images} "
                    "images cannot tell: score more of them"
                )
        return "\n".join(lines)


def export(
    segmenter: Segmenter | str | Path,
    path: str | Path,
    precision: str = "fp32",
    *,
    images: Sequence[NDArray[Any]] | None = None,
    argmax: bool = False,
    bound: float | None = None,
    check: bool = True,
    dataset: GivenDataset | None = None,
    max_drop: float | None = None,
    accuracy_aware: bool = False,
    inputs: Sequence[str | Path] = (),
    overwrite: bool = False,
) -> ExportReport:
    """Writes an exported model that takes (B, bands, H, W) float32 images, any B, H and W, in their own range.

    Beside a model of images from above lies a STAC item with the MLM extension, NAME.stac.json.

    Args:
        segmenter: A checkpoint's model: a Segmenter, or what `Segmenter.load` takes.
        path: .onnx, .xml (OpenVINO, with a .bin beside it) or .pt2 (torch.export).
        precision: fp32; .onnx also fp16 and int8, OpenVINO fp16, bf16 and int8.
        images: (H, W, bands) arrays in the model's own range, for the parity check and, with int8, for calibration (required
            there; 100 to 300 are usual): a few of them, evenly spread, are then kept back from the calibration and parity is
            judged on those.
        argmax: The graph ends with labels (B, H, W) int64, for other programs.
        bound: Least share of equal labels with the source at each of three sizes; None: by the precision.
        check: Whether the written file is compared with its source.
        dataset: Labelled images; the report then holds the mean IoU of source and export on them (`data.views.Subset` takes a
            part).
        max_drop: Greatest loss of mean IoU, 0..1 (0.005 is half a point); needs dataset. The export is refused where the whole
            95 % interval of the loss (paired bootstrap over the images) lies above it; where the interval holds it, the report
            says so.
        accuracy_aware: With OpenVINO's int8, layers go back to floating point, the most harmful first, until max_drop is kept;
            it evaluates the data set many times, so some dozens of images are enough.
        inputs: Files that the export must not replace.
        overwrite: Whether it may replace others.

    A PointRend model is exported for the size of the first image only. Raises ConfigError for a combination that does
    not exist, OutputError where the file cannot be written, ExportError when the parity check fails; then nothing is.
    """
    segmenter, path = Segmenter.of(segmenter), Path(path)
    dataset = None if dataset is None else as_dataset(dataset)
    suffix = path.suffix.lower()
    _check_request(segmenter, path, precision, images, argmax)
    _check_quality_request(suffix, precision, argmax, check, dataset, max_drop, accuracy_aware)
    from_above = segmenter.card.ground_resolution is not None and not argmax
    weights = [path.with_suffix(".bin")] if suffix == ".xml" else []
    for file in (path, *weights, *([stac_path(path)] if from_above else [])):  # before minutes of work
        check_output(file, inputs=inputs, overwrite=overwrite)
    samples = [np.asarray(image) for image in images] if images is not None else _made_up(segmenter)
    calibration, judged = _kept_back(samples) if precision == "int8" else ([], samples)
    network = GraphNetwork(segmenter.model, "labels" if argmax else "logits")
    example = torch.from_numpy(as_float(samples[0])[None])
    fixed = segmenter.config.pointrend
    with new_files(path, inputs=inputs, overwrite=overwrite) as folder:
        part = folder / path.name
        header = header_text(segmenter.config, segmenter.card)
        if suffix == ".pt2":
            write_pt2(network, example, fixed, part, header)
        else:
            onnx_file = part.with_suffix(".onnx")
            metadata = for_onnx(segmenter.card, header)
            write_onnx(network, example, fixed, onnx_file, metadata)
            if suffix == ".xml":
                judge = QualityJudge(segmenter, dataset, max_drop) if accuracy_aware and dataset and max_drop else None
                write_openvino(onnx_file, part, precision, calibration, header, judge, model_info(segmenter.card))
                onnx_file.unlink()
            elif precision != "fp32":
                onnx_file = part.rename(part.with_suffix(".fp32.onnx"))
                write_onnx_precision(onnx_file, part, precision, calibration, metadata)
                onnx_file.unlink()
        add_digest(part)  # before anything tells of the file's size
        if from_above:
            parameters = sum(weight.numel() for weight in segmenter.model.parameters())
            item = stac_item(segmenter.card, part, segmenter.config.encoder, parameters)
            stac_path(part).write_text(item, encoding="utf-8")
        bound = BOUNDS[precision] if bound is None else bound
        engine, parity, quality = "not run", tuple[Parity, ...](), None
        if check and not argmax:
            engine, parity = compare(segmenter, part, judged, fixed)
            worst = min(parity, key=lambda p: p.label_agreement)
            if not worst.label_agreement >= bound:
                raise ExportError(
                    f"'{path}': the {precision} export agrees with its source on {worst.label_agreement:.4%} of the labels "
                    f"at {worst.height} x {worst.width} px; {bound:.4%} was asked. Nothing was written"
                )
            quality = None if dataset is None else quality_of(segmenter, part, dataset)
            if quality is not None and quality.loses_more(1.0 if max_drop is None else max_drop):
                asked = "" if max_drop is None else f"; at most {100 * max_drop:.2f} were asked (max_drop)"
                more = precision == "int8" and not accuracy_aware
                raise ExportError(
                    f"'{path}': the {precision} export loses too much: {_told(quality)}{asked}. Nothing was written"
                    + (
                        ". Try more calibration images, --accuracy-aware with an .xml, or another precision"
                        if more
                        else ""
                    )
                )
    size = sum(f.stat().st_size for f in (path, path.with_suffix(".bin")) if f.is_file())
    return ExportReport(path, precision, engine, size, parity, bound, quality, max_drop, len(calibration))


def _check_request(
    segmenter: Segmenter, path: Path, precision: str, images: Sequence[NDArray[Any]] | None, argmax: bool
) -> None:
    suffix = path.suffix.lower()
    if suffix not in PRECISIONS:
        raise ConfigError(f"'{path}': ending {suffix!r}; .onnx, .xml (OpenVINO) or .pt2 (torch.export)")
    if precision not in PRECISIONS[suffix]:
        raise ConfigError(
            f"precision = {precision!r} with '{path.name}': {suffix} holds {', '.join(PRECISIONS[suffix])}; "
            + "; ".join(f"{ending} {', '.join(held)}" for ending, held in PRECISIONS.items() if ending != suffix)
        )
    if precision == "int8" and len(images or ()) < 2:
        raise ConfigError(
            "precision = 'int8' needs calibration images (--images), at least 2: one to calibrate, one to judge by. Give some "
            "hundred of the kind the model will see"
        )
    if images is not None and len(images) == 0:
        raise ConfigError("images is empty; give at least one, or leave it out")
    for image in images or ():
        if image.ndim != 3 or image.shape[2] != segmenter.config.in_bands:
            raise ConfigError(f"an image of shape {image.shape}: the model takes (H, W, {segmenter.config.in_bands})")


def _check_quality_request(
    suffix: str,
    precision: str,
    argmax: bool,
    check: bool,
    dataset: Dataset | None,
    max_drop: float | None,
    accuracy_aware: bool,
) -> None:
    if dataset is None and (max_drop is not None or accuracy_aware):
        raise ConfigError("max_drop and accuracy_aware are measured on labelled images: give a data set (--data)")
    if dataset is not None and (argmax or not check):
        raise ConfigError("a data set is used by the parity check, which labels as output and check = False leave out")
    if accuracy_aware and (suffix != ".xml" or precision != "int8" or not max_drop):
        raise ConfigError(
            f"accuracy_aware with '{suffix}', precision = {precision!r} and max_drop = {max_drop}: it is for int8 in OpenVINO "
            "(.xml), and needs the loss of mean IoU that is allowed, such as max_drop = 0.005 (--max-drop 0.005)"
        )
    if max_drop is not None and not 0 <= max_drop < 1:
        raise ConfigError(f"max_drop = {max_drop:g}: a share of 0 to 1; 0.005 is half a point of mean IoU")


def _told(quality: Quality) -> str:
    """What is lost, in words, and how sure that is."""
    interval = ""
    if quality.low is not None and quality.high is not None:
        interval = f" (95 % interval {100 * quality.low:+.2f} to {100 * quality.high:+.2f})"
    return (
        f"mean IoU on {quality.images} images: {quality.source:.2%} before, {quality.exported:.2%} exported, "
        f"{100 * quality.drop:+.2f} points lost{interval}"
    )


def _kept_back(images: list[NDArray[Any]]) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """(to calibrate, to judge): up to three of at least two images, evenly spread, are never calibrated on."""
    count = min(len(SIZES), max(len(images) // 4, 1))
    judged = {len(images) * (2 * k + 1) // (2 * count) for k in range(count)}
    return [x for i, x in enumerate(images) if i not in judged], [images[i] for i in sorted(judged)]


def _made_up(segmenter: Segmenter) -> list[NDArray[Any]]:
    """Smooth coloured noise in the model's own value range, where nobody gave images."""
    random = np.random.default_rng(0)
    low, high = segmenter.card.value_range
    images = []
    for _ in range(3):
        coarse = random.random((14, 18, segmenter.config.in_bands), np.float32)
        fine = cv2.resize(coarse, (216, 168), interpolation=cv2.INTER_CUBIC).reshape(168, 216, -1)
        images.append((low + (high - low) * fine.clip(0, 1)).astype(np.float32))
    return images
