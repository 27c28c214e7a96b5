"""Parameter groups, the optimiser and the schedule: which weights learn at which rate, and when.

Rates are functions of the step, without a state: a resumed run cannot drift from an uninterrupted one.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from pspnet.config.train import OptimizerConfig, ScheduleConfig
from pspnet.nn.encoder import Encoder
from pspnet.nn.pspnet import PSPNet

PROBE_PX = 64  # side of the picture that finds out which features a weight reaches; divisible by 32


def parameter_groups(model: PSPNet, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Every parameter once: the encoder (one group, or one per stage) and the head, each split by weight decay.

    A group has `name`, `params`, `lr` and `weight_decay`. The head, everything after the encoder, learns
    `head_lr_factor` times as fast. Norms and biases are the parameters with one dimension.
    """
    decays_all = config.decay_norms if config.decay_norms is not None else config.name == "sgd"
    in_encoder = {id(parameter) for parameter in model.encoder.parameters()}
    stage_of: dict[int, int] = {}
    stages = 1
    if config.layer_decay is not None:
        stage_of = encoder_stages(model.encoder, model.config.in_bands)
        stages = 1 + max(stage_of.values())
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    for parameter in model.parameters():
        if id(parameter) in in_encoder:
            stage = stage_of.get(id(parameter), 0)
            name = "encoder" if config.layer_decay is None else f"encoder stage {stage}"
            rate = config.learning_rate * (config.layer_decay or 1.0) ** (stages - 1 - stage)
        else:
            name, rate = "head", config.learning_rate * config.head_lr_factor
        decays = decays_all or parameter.ndim > 1
        decay = config.weight_decay if decays else 0.0
        group = groups.setdefault((name, decays), {"name": name, "params": [], "lr": rate, "weight_decay": decay})
        group["params"].append(parameter)
    return list(groups.values())


def encoder_stages(encoder: Encoder, bands: int) -> dict[int, int]:
    """id of each parameter -> index of the first feature that depends on it, found with gradients: it holds for any
    encoder, whatever its modules are called. A parameter that reaches no feature counts to the last."""
    parameters = list(encoder.parameters())
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    device = parameters[0].device
    was_training = encoder.training
    encoder.eval()  # a probe must not move running statistics
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        features: list[Tensor] = encoder(torch.randn(1, bands, PROBE_PX, PROBE_PX, device=device))
        stage_of = {id(parameter): len(features) - 1 for parameter in parameters}
        for stage in range(len(features) - 1, -1, -1) if learning else ():
            gradients = torch.autograd.grad(features[stage].sum(), learning, retain_graph=True, allow_unused=True)
            for parameter, gradient in zip(learning, gradients, strict=True):
                if gradient is not None:
                    stage_of[id(parameter)] = stage
    encoder.train(was_training)
    return stage_of


def build_optimizer(model: PSPNet, config: OptimizerConfig) -> Optimizer:
    """SGD or AdamW over `parameter_groups`; each group keeps its base rate as `initial_lr`."""
    groups = [group | {"initial_lr": group["lr"]} for group in parameter_groups(model, config)]
    fused = config.fused and _has_fused(model)
    if config.name == "sgd":
        return SGD(groups, lr=config.learning_rate, momentum=config.momentum, nesterov=config.nesterov, fused=fused)
    return AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=fused)


def _has_fused(model: PSPNet) -> bool:
    kinds = {parameter.device.type for parameter in model.parameters()}
    return kinds <= {"cpu", "cuda", "mps"} and len(kinds) == 1


def rate_factor(config: ScheduleConfig, step: int, steps: int) -> float:
    """The number that every group's base rate is multiplied with at optimiser step `step`, 0 <= step < steps.

    poly: (1 - step / steps) ** power, the paper's and semseg's (sec. 5.1), without a floor unless `final_factor` sets one.
    cosine: half a cosine from 1 to final_factor (Loshchilov & Hutter 2017). constant: 1.
    one_cycle: half a cosine up to 1 over `peak_share` of the run and one down (Smith 2018), from 1/25 and to 1e-5, the
    values of fastai and so of arcgis.learn.
    warm-up: the first `warmup_steps` steps of poly, cosine and constant are also multiplied with a line that ends at 1.
    """
    done = min(step / steps, 1.0)
    if config.name == "one_cycle":
        peak = max(config.peak_share, 1 / steps)
        if done < peak:
            return _cosine(1 / 25, 1.0, done / peak)
        return _cosine(1.0, 1e-5, (done - peak) / max(1.0 - peak, 1e-12))
    if config.name == "poly":
        factor = (1.0 - done) ** config.power
        factor = config.final_factor + (1.0 - config.final_factor) * factor
    elif config.name == "cosine":
        factor = _cosine(1.0, config.final_factor, done)
    else:
        factor = 1.0
    if step < config.warmup_steps:
        factor *= (step + 1) / (config.warmup_steps + 1)
    return factor


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1.0 + math.cos(math.pi * share)) / 2.0


def set_trainable(module: nn.Module, trainable: bool) -> None:
    """Freezes or unfreezes a part: its weights, and with them its running statistics and dropout."""
    module.requires_grad_(trainable)
    module.train(trainable)
