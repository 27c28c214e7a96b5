"""Baseline beside PSPNet: image, truth and both predictions, where they differ most."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pspnet.ablation.grid import GridTable, protocols_of
from pspnet.ablation.runs import AblationCell, cell_of
from pspnet.ablation.scores import baseline_and_pspnet
from pspnet.config.ablation import AblationConfig
from pspnet.data.dataset import Dataset
from pspnet.display import image_for_display
from pspnet.evaluation import compare_models
from pspnet.evaluation.report import read_per_image
from pspnet.evaluation.run import predict_one, predictor_of
from pspnet.images import write_png
from pspnet.labels import IGNORE, LabelSpace
from pspnet.predict.segmenter import Segmenter

_HEIGHT, _GAP, _HEAD = 192, 6, 26


def side_by_side(
    config: AblationConfig, tables: list[GridTable], cells: list[AblationCell], val_data: Dataset
) -> Path | None:
    """Writes pictures.png: the images whose mean IoU rose most from baseline to PSPNet, and, as the last row, the one
    that fell most. First seed. Returns None where the tables do not hold both networks."""
    pair = baseline_and_pspnet(tables)
    if pair is None:
        return None
    runs = [cell_of(config, cells, row, config.recipe.seed) for row in pair]
    counts = [read_per_image(run.folder / "scores_single.json") for run in runs]
    changes = compare_models(counts[0], counts[1]).images if len(counts[0].names) > 1 else [(counts[0].names[0], 0.0)]
    best = [name for name, _ in changes[::-1][: max(config.pictures - 1, 1)]]
    names = list(dict.fromkeys([*best, changes[0][0]]))[: config.pictures]
    index_of = {name: index for index, name in enumerate(counts[0].names)}
    single, _ = protocols_of(config)
    predictors = [predictor_of(Segmenter.load(run.folder / "best.safetensors", device="cpu"), 1) for run in runs]
    rows = []
    for name in names:
        sample = val_data[index_of[name]]
        assert sample.labels is not None
        predictions = [predict_one(predictor, sample.image, single, False)[0] for predictor in predictors]
        panels = [
            image_for_display(sample.image),
            *(_coloured(v, val_data.label_space) for v in (sample.labels, *predictions)),
        ]
        rows.append(_joined([_fitted(panel) for panel in panels]))
    width = max(row.shape[1] for row in rows)
    sheet = [_heads(rows[0].shape[1], width)]
    for row in rows:
        sheet += [np.pad(row, ((0, _GAP), (0, width - row.shape[1]), (0, 0)), constant_values=255)]
    path = config.out / "pictures.png"
    write_png(path, np.vstack(sheet))
    return path


def _coloured(labels: NDArray[np.uint8], space: LabelSpace) -> NDArray[np.uint8]:
    return np.where((labels == IGNORE)[..., None], 236, space.palette[labels]).astype(np.uint8)


def _fitted(panel: NDArray[np.uint8]) -> NDArray[np.uint8]:
    width = round(panel.shape[1] * _HEIGHT / panel.shape[0])
    return cv2.resize(panel, (width, _HEIGHT), interpolation=cv2.INTER_AREA)


def _joined(panels: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return np.hstack([np.pad(p, ((0, 0), (0, _GAP), (0, 0)), constant_values=255) for p in panels])


def _heads(row_width: int, width: int) -> NDArray[np.uint8]:
    head = np.full((_HEAD, width, 3), 255, np.uint8)
    for column, text in enumerate(("image", "truth", "baseline", "PSPNet")):
        cv2.putText(
            head, text, (4 + column * row_width // 4, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (40, 46, 56), 1, cv2.LINE_AA
        )
    return head
