"""OpenVINO's model from an ONNX file; int8 by NNCF, with layers given back to floating point where accuracy asks it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet.config.evaluation import EvaluationConfig
from pspnet.data.dataset import GivenDataset
from pspnet.data.views import Subset
from pspnet.evaluation import assess
from pspnet.metrics import PerImage, mean_of_known
from pspnet.nn.graphs import quiet_exporters
from pspnet.predict.exported import CompiledOpenVino
from pspnet.predict.openvino_door import nncf, openvino
from pspnet.predict.segmenter import Segmenter
from pspnet.predict.windows import as_float


def write_openvino(
    onnx_file: Path,
    path: Path,
    precision: str,
    images: list[NDArray[Any]],
    header: str,
    judge: QualityJudge | None,
    info: Mapping[str, str],
) -> None:
    """Writes the .xml and the .bin. images: for calibration. judge: what decides how much of int8 is kept. info: for other
    programs, as the file's `model_info`."""
    module = openvino()
    model = module.convert_model(str(onnx_file))
    if precision == "int8":
        quantiser = nncf()
        logging.getLogger("nncf").setLevel(logging.ERROR)
        data = quantiser.Dataset(images, lambda image: as_float(image)[None])
        with quiet_exporters():
            if judge is None:
                model = quantiser.quantize(model, data, subset_size=len(images))
            else:
                model = quantiser.quantize_with_accuracy_control(
                    model,
                    data,
                    quantiser.Dataset(range(len(judge.dataset))),
                    judge,
                    max_drop=judge.max_drop,
                    subset_size=len(images),
                )
    model.set_rt_info(header, ["pspnet"])
    model.set_rt_info(precision, ["pspnet_precision"])
    for name, value in info.items():
        model.set_rt_info(value, ["model_info", name])
    module.save_model(model, str(path), compress_to_fp16=precision in ("fp16", "bf16"))


class QualityJudge:
    """What NNCF asks: (a compiled model, places of samples) -> mean IoU of all, and of each image by itself."""

    def __init__(self, segmenter: Segmenter, dataset: GivenDataset, max_drop: float) -> None:
        self.segmenter, self.dataset, self.max_drop = segmenter, dataset, max_drop

    def __call__(self, compiled: Any, places: Iterable[int]) -> tuple[float, list[float]]:
        engine = CompiledOpenVino(compiled)
        tried = Segmenter(self.segmenter.config, self.segmenter.card, engine=engine)
        evaluation = assess(tried, Subset(self.dataset, list(places)), EvaluationConfig(resamples=0))
        single = [
            PerImage([name], [row]).total()
            for name, row in zip(evaluation.per_image.names, evaluation.per_image.rows, strict=True)
        ]
        return evaluation.scores.mean_iou, [float(np.nan_to_num(mean_of_known(areas.iou))) for areas in single]
