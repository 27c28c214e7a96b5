"""A model handed on: ONNX, OpenVINO or torch.export, exact at every size, with a parity report before it is kept."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pspnet.errors import ConfigError, ExportError, require
from pspnet.graphs import GraphNetwork, quiet_exporters, write_onnx, write_pt2
from pspnet.segmenter import Segmenter
from pspnet.streaming import as_float
from pspnet.weights.store import header_text

# What each ending can hold. ONNX runtimes have no bfloat16 on processors, and int8 is made by NNCF for OpenVINO.
PRECISIONS = {".onnx": ("fp32",), ".xml": ("fp32", "fp16", "bf16", "int8"), ".pt2": ("fp32",)}
# Least share of equal labels that a parity check accepts, where nobody says otherwise.
BOUNDS = {"fp32": 0.9995, "fp16": 0.995, "bf16": 0.98, "int8": 0.9}
SIZES = ((1.0, 1.0), (0.75, 1.0), (1.0, 0.6))  # of the check's images, in shares of their height and width


@dataclass(frozen=True)
class Parity:
    """The exported model against its source at one size: largest difference of the logits, share of equal labels."""

    height: int
    width: int
    largest_difference: float
    logits_spread: float
    label_agreement: float


@dataclass(frozen=True)
class ExportReport:
    """What an export made and how near it is to its source."""

    path: Path
    precision: str
    engine: str
    size_bytes: int
    parity: tuple[Parity, ...]
    bound: float

    def __str__(self) -> str:
        lines = [f"{self.path} ({self.precision}, {self.size_bytes / 2**20:.1f} MiB) run by {self.engine}"]
        lines += [
            f"  {p.height} x {p.width} px: logits differ by at most {p.largest_difference:.2g} "
            f"(their spread is {p.logits_spread:.3g}), labels equal on {p.label_agreement:.4%}"
            for p in self.parity
        ]
        return "\n".join(lines)


def export(
    segmenter: Segmenter,
    path: str | Path,
    precision: str = "fp32",
    *,
    images: Sequence[NDArray[Any]] | None = None,
    argmax: bool = False,
    bound: float | None = None,
    check: bool = True,
) -> ExportReport:
    """Writes an exported model that takes (B, bands, H, W) float32 images, any B, H and W, in their own range.

    path: .onnx, .xml (OpenVINO, with a .bin beside it) or .pt2 (torch.export). precision: fp32; OpenVINO also fp16,
    bf16, int8. images: (H, W, bands) arrays in the model's own range, for the parity check and, with int8, for
    calibration (required there; 100 to 300 are usual). argmax: the graph ends with labels (B, H, W) int64, for other
    programs. bound: least share of equal labels with the source at each of three sizes.

    A PointRend model is exported for the size of the first image only. Raises ConfigError for a combination that does
    not exist, ExportError when the parity check fails; then nothing is written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    _check_request(segmenter, path, precision, images, argmax)
    samples = [np.asarray(image) for image in images] if images is not None else _made_up(segmenter)
    network = GraphNetwork(segmenter.model, "labels" if argmax else "logits")
    example = torch.from_numpy(as_float(samples[0])[None])
    fixed = segmenter.config.pointrend
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        made = folder / path.name
        header = header_text(segmenter.config, segmenter.card)
        if suffix == ".pt2":
            write_pt2(network, example, fixed, made, header)
        else:
            onnx_file = made.with_suffix(".onnx")
            write_onnx(network, example, fixed, onnx_file, header)
            if suffix == ".xml":
                _write_openvino(onnx_file, made, precision, samples, header)
                onnx_file.unlink()
        bound = BOUNDS[precision] if bound is None else bound
        engine, parity = "not run", tuple[Parity, ...]()
        if check and not argmax:
            engine, parity = _compare(segmenter, made, samples, fixed)
            worst = min(parity, key=lambda p: p.label_agreement)
            if worst.label_agreement < bound:
                raise ExportError(
                    f"'{path}': the {precision} export agrees with its source on {worst.label_agreement:.4%} of the labels "
                    f"at {worst.height} x {worst.width} px; {bound:.4%} was asked. Nothing was written"
                )
        for file in sorted(folder.iterdir(), key=lambda f: f.suffix == suffix):  # the named file appears last
            os.replace(file, path.parent / file.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    size = sum(f.stat().st_size for f in (path, path.with_suffix(".bin")) if f.is_file())
    return ExportReport(path, precision, engine, size, parity, bound)


def _check_request(
    segmenter: Segmenter, path: Path, precision: str, images: Sequence[NDArray[Any]] | None, argmax: bool
) -> None:
    suffix = path.suffix.lower()
    if suffix not in PRECISIONS:
        raise ConfigError(f"'{path}': ending {suffix!r}; .onnx, .xml (OpenVINO) or .pt2 (torch.export)")
    if precision not in PRECISIONS[suffix]:
        raise ConfigError(
            f"precision = {precision!r} with '{path.name}': {suffix} holds {', '.join(PRECISIONS[suffix])}. "
            "OpenVINO (.xml) has fp32, fp16, bf16 and int8"
        )
    if precision == "int8" and not images:
        raise ConfigError(
            "precision = 'int8' needs calibration images: give some hundred of the kind the model will see"
        )
    if images is not None and len(images) == 0:
        raise ConfigError("images is empty; give at least one, or leave it out")
    for image in images or ():
        if image.ndim != 3 or image.shape[2] != segmenter.config.in_bands:
            raise ConfigError(f"an image of shape {image.shape}: the model takes (H, W, {segmenter.config.in_bands})")


def _write_openvino(onnx_file: Path, path: Path, precision: str, images: list[NDArray[Any]], header: str) -> None:
    openvino = require("openvino", "export")
    model = openvino.convert_model(str(onnx_file))
    if precision == "int8":
        nncf = require("nncf", "export")
        logging.getLogger("nncf").setLevel(logging.ERROR)
        data = nncf.Dataset(images, lambda image: as_float(image)[None])
        with quiet_exporters():
            model = nncf.quantize(model, data, subset_size=len(images))
    model.set_rt_info(header, ["pspnet"])
    model.set_rt_info(precision, ["pspnet_precision"])
    openvino.save_model(model, str(path), compress_to_fp16=precision in ("fp16", "bf16"))


def _compare(
    segmenter: Segmenter, path: Path, images: list[NDArray[Any]], fixed: bool
) -> tuple[str, tuple[Parity, ...]]:
    """The written file, opened again, against the source in float32."""
    with _trusted():
        exported = Segmenter.load(path)
    found = []
    model = segmenter.model.cpu().eval()
    for number, (share_h, share_w) in enumerate(SIZES[: 1 if fixed else None]):
        image = images[number % len(images)]
        height, width = max(33, round(image.shape[0] * share_h)), max(33, round(image.shape[1] * share_w))
        if not fixed:
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).reshape(height, width, -1)
        batch = torch.from_numpy(as_float(image)[None])
        with torch.inference_mode():
            wanted = model(batch)
        given = exported.logits(batch)
        found.append(
            Parity(
                image.shape[0],
                image.shape[1],
                float((wanted - given).abs().max()),
                float(wanted.std()),
                float((wanted.argmax(1) == given.argmax(1)).float().mean()),
            )
        )
    return exported.engine.name, tuple(found)


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


@contextmanager
def _trusted() -> Iterator[None]:
    """The file was made a moment ago by this very process."""
    before = os.environ.get("PSPNET_TRUST_PT2")
    os.environ["PSPNET_TRUST_PT2"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PSPNET_TRUST_PT2"]
        else:
            os.environ["PSPNET_TRUST_PT2"] = before
