"""The README of a model on a hub: YAML front matter that the hub's search reads, then what the model is and how it is used."""

from __future__ import annotations

from typing import Any

import yaml

from pspnet.config.model import ModelConfig
from pspnet.weights.checkpoint import ModelCard

# our scores -> the hub's names of metrics
METRICS = {"mean_iou": "mean_iou", "pixel_accuracy": "accuracy", "mean_accuracy": "mean_accuracy"}


def front_matter(config: ModelConfig, card: ModelCard, license: str | None, license_link: str | None) -> dict[str, Any]:
    """What the hub's search reads. license: an identifier of the hub's list (apache-2.0, cc0-1.0 ...), "other" with a link."""
    above = card.ground_resolution is not None
    tags = ["semantic-segmentation", "scene-parsing", "pspnet", *(["remote-sensing"] if above else []), config.encoder]
    return {
        **({"license": license} if license else {}),
        **({"license_name": "see-link", "license_link": license_link} if license == "other" and license_link else {}),
        "library_name": "pspnet",
        "pipeline_tag": "image-segmentation",
        "tags": tags,
        "metrics": ["mean_iou", "accuracy"],
        **_results(card),
    }


def _results(card: ModelCard) -> dict[str, Any]:
    """The scores of the run as the hub's model-index; nothing where the card has none."""
    scores = card.provenance.get("scores")
    known = {
        name: scores[name]
        for name in METRICS
        if isinstance(scores, dict) and isinstance(scores.get(name), (int, float))
    }
    if not known:
        return {}
    data = str(card.provenance.get("data", "unknown"))
    metrics = [{"type": METRICS[name], "value": round(float(value), 4), "name": name} for name, value in known.items()]
    result = {
        "task": {"type": "image-segmentation", "name": f"Semantic segmentation (protocol {card.protocol})"},
        "dataset": {"type": data, "name": data, "split": "val"},
        "metrics": metrics,
    }
    return {"model-index": [{"name": "pspnet", "results": [result]}]}


def readme(
    config: ModelConfig, card: ModelCard, *, title: str, license: str | None = None, license_link: str | None = None
) -> str:
    """The whole file. title: the repository's name, such as someone/streets."""
    head = yaml.safe_dump(front_matter(config, card, license, license_link), sort_keys=False, allow_unicode=True)
    low, high = card.value_range
    size = card.trained_size
    scale = f"photographs of about {size[1]} x {size[0]} px" if size else "not recorded"
    if card.ground_resolution is not None:
        scale = (
            f"{card.ground_resolution:g} m a pixel"
            if card.ground_resolution
            else "from above; metres a pixel not known"
        )
    rows = {
        "Network": f"PSPNet, encoder {config.encoder}, decoder {config.decoder}",
        "Classes": ", ".join(card.label_space.names),
        "Input": f"{', '.join(card.band_names)}; values {low:g} to {high:g}",
        "Scale": scale,
        "Protocol": card.protocol,
        "Data": card.provenance.get("data", "not recorded"),
        "Terms": license or "none stated: ask who published it before you use it",
    }
    table = "\n".join(f"| {name} | {' '.join(str(value).split())} |" for name, value in rows.items())
    return (
        f"---\n{head}---\n\n# {title}\n\nSemantic segmentation: a class for every pixel.\n\n| | |\n| --- | --- |\n{table}\n\n"
        f'```python\nimport pspnet\n\nmodel = pspnet.Segmenter.from_pretrained("{title}")\n'
        'model.segment("image.jpg").save_overlay("overlay.png")\n```\n'
    )
