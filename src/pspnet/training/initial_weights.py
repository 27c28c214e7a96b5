"""The network that a run starts from: random, ImageNet's encoder, or another checkpoint fitted to the new classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from pspnet.class_tables import normal_name
from pspnet.config.model import ModelConfig
from pspnet.config.train import TrainConfig
from pspnet.errors import CheckpointError
from pspnet.labels import LabelSpace
from pspnet.nn import PSPNet, weights_follow
from pspnet.weights.bundled import find_model
from pspnet.weights.checkpoint import load_checkpoint
from pspnet.weights.encoder_weights import load_encoder_weights

CLASSIFIERS = ("classifier.", "auxiliary.classifier.", "pointrend.head.predictor.")  # a row for each class


def random_model(config: ModelConfig, seed: int) -> PSPNet:
    """The network with random weights that `seed` fixes; the caller's random numbers are left as they were."""
    with weights_follow(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PSPNet(config)


def first_model(config: TrainConfig, labels: LabelSpace) -> tuple[PSPNet, str]:
    """The network that a run starts from, and a line on where its weights come from.

    Raises ConfigError and CheckpointError where the weights that are asked for cannot be had or do not fit.
    """
    model = random_model(config.model, config.seed)
    if config.init_from is None:
        return model, str(load_encoder_weights(model))
    random = copy_weights(config.init_from, model, labels)
    return model, f"weights from {config.init_from}; left random: {'; '.join(random) or 'nothing'}"


@torch.no_grad()
def copy_weights(path: Path, model: PSPNet, labels: LabelSpace) -> list[str]:
    """Copies a pspnet checkpoint's weights into `model`; returns what keeps its random start: tensors, rows of classes.

    path: of the checkpoint, or the name of a model that comes along. Classes are matched by name (Road is road): a class
    that both know keeps its row of the classifiers, wherever it stands. Another kind of auxiliary head or point network starts
    anew. The normalisation is the new model's. Raises CheckpointError when another tensor differs: then it is another
    network.
    """
    source, card = load_checkpoint(find_model(str(path), checkpoint=True))
    given = source.state_dict()
    known = card.label_space.names
    rows = _matched(labels.names, known)
    fresh = [name for new, name in enumerate(labels.names) if new not in rows]
    left_random: list[str] = []
    for name, target in model.state_dict().items():
        value = given.get(name)
        if name in ("mean", "std"):
            continue
        if value is not None and known == labels.names and value.shape == target.shape:
            target.copy_(value)
        elif value is not None and name.startswith(CLASSIFIERS) and value.shape[1:] == target.shape[1:]:
            for new, old in rows.items():
                target[new] = value[old]
            if fresh and name.endswith("weight"):
                some = ", ".join(fresh[:5]) + (f" and {len(fresh) - 5} more" if len(fresh) > 5 else "")
                left_random.append(f"{name}'s rows of {len(fresh)} of {len(labels.names)} classes ({some})")
        elif name.startswith((*CLASSIFIERS, "auxiliary.", "pointrend.")):
            left_random.append(name)
        elif value is not None and value.shape == target.shape:
            target.copy_(value)
        else:
            there = "nothing" if value is None else str(tuple(value.shape))
            raise CheckpointError(
                f"init_from = '{path}': {name} is {tuple(target.shape)} in the new network and {there} there. Only the "
                f"classes may differ; its model has {_differences(source.config, model.config)}"
            )
    return left_random


def _matched(names: Sequence[str], known: Sequence[str]) -> dict[int, int]:
    """New class -> the known one of the same name; where none is spelled alike, of the same name in other letters."""
    rows = {new: known.index(name) for new, name in enumerate(names) if name in known}
    free = [old for old in range(len(known)) if old not in rows.values()]
    for new, name in enumerate(names):
        alike = [old for old in free if normal_name(known[old]) == normal_name(name)]
        if new not in rows and len(alike) == 1:
            rows[new] = alike[0]
            free.remove(alike[0])
    return rows


def _differences(there: ModelConfig, here: ModelConfig) -> str:
    own_fields = ("num_classes", "encoder_weights", "mean", "std")
    pairs = [
        (name, getattr(there, name), getattr(here, name)) for name in ModelConfig.model_fields if name not in own_fields
    ]
    return ", ".join(f"{name} = {a!r} instead of {b!r}" for name, a, b in pairs if a != b) or "the same settings"
