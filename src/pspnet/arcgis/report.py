"""model_metrics.html: what a saved model's folder says about it."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from html import escape
from typing import Any

from pspnet.metrics import Scores
from pspnet.predict.segmenter import Segmenter


def png_of(figure: Any) -> bytes:
    """A matplotlib figure as a PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=90)
    return stream.getvalue()


def package_facts(scores: Scores, classes: Sequence[str], rate: float | None) -> dict[str, Any]:
    """What an .emd says of the scores on the validation chips, in arcgis.learn's names."""
    metrics = {
        name: {"precision": float(precision), "recall": float(recall), "f1": float(f1)}
        for name, precision, recall, f1 in zip(classes, scores.precision, scores.recall, scores.f1, strict=True)
    }
    return {
        "accuracy": f"{scores.pixel_accuracy:.4e}",
        "mean_iou": float(scores.mean_iou),
        "per_class_metrics": json.dumps(metrics),
        "LearningRate": str(rate),
    }


def html_report(name: str, segmenter: Segmenter, scores: Scores, has_losses: bool) -> bytes:
    """A page with the model's settings, its scores on the validation chips and the pictures beside it."""
    config = segmenter.model.config
    facts = {
        "Backbone": config.encoder,
        "Decoder": config.decoder,
        "Pyramid sizes": ", ".join(map(str, config.bins)),
        "PointRend": "yes" if config.pointrend else "no",
        "Bands": ", ".join(segmenter.card.band_names),
        "Mean IoU": f"{scores.mean_iou:.4f}",
        "Pixel accuracy": f"{scores.pixel_accuracy:.4f}",
    }
    rows = "".join(f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in facts.items())
    classes = "".join(
        f"<tr><th>{escape(title)}</th><td>{scores.precision[i]:.4f}</td><td>{scores.recall[i]:.4f}</td>"
        f"<td>{scores.f1[i]:.4f}</td><td>{scores.iou[i]:.4f}</td></tr>"
        for i, title in enumerate(segmenter.classes)
    )
    pictures = ["show_results.png", *(["loss_graph.png"] if has_losses else [])]
    images = "".join(f'<p><img src="ModelCharacteristics/{picture}" alt="{picture}"></p>' for picture in pictures)
    return (
        f"<!doctype html><meta charset='utf-8'><title>{escape(name)}</title>"
        "<style>body{font:15px sans-serif;max-width:60em;margin:2em auto}th{text-align:left;padding-right:2em}"
        "img{max-width:100%}</style>"
        f"<h1>{escape(name)}</h1><table>{rows}</table><h2>Validation chips, by class</h2>"
        f"<table><tr><th></th><th>precision</th><th>recall</th><th>F1</th><th>IoU</th></tr>{classes}</table>{images}"
    ).encode()
