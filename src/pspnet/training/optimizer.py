"""Parameter groups and the optimiser: which weights learn at which rate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from pspnet.config.train import OptimizerConfig, ScheduleConfig
from pspnet.nn.encoder import Encoder
from pspnet.nn.pspnet import PSPNet
from pspnet.training.schedule import rate_factor

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
        found = {id(parameter): len(features) - 1 for parameter in parameters}
        for stage in range(len(features) - 1, -1, -1) if learning else ():
            gradients = torch.autograd.grad(features[stage].sum(), learning, retain_graph=True, allow_unused=True)
            for parameter, gradient in zip(learning, gradients, strict=True):
                if gradient is not None:
                    found[id(parameter)] = stage
    encoder.train(was_training)
    return found


def build_optimizer(model: PSPNet, config: OptimizerConfig, fused: bool | None = None) -> Optimizer:
    """SGD or AdamW over `parameter_groups`. fused: None: as the config says."""
    groups = parameter_groups(model, config)
    one_kernel = (config.fused if fused is None else fused) and _has_fused(model)
    if config.name == "sgd":
        return SGD(
            groups, lr=config.learning_rate, momentum=config.momentum, nesterov=config.nesterov, fused=one_kernel
        )
    return AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=one_kernel)


def _has_fused(model: PSPNet) -> bool:
    kinds = {parameter.device.type for parameter in model.parameters()}
    return kinds <= {"cpu", "cuda", "mps"} and len(kinds) == 1


def build_scheduler(optimizer: Optimizer, config: ScheduleConfig, steps: int) -> LambdaLR:
    """Multiplies every group's rate with `rate_factor` of the step."""
    return LambdaLR(optimizer, lambda step: rate_factor(config, step, steps))


def set_trainable(module: nn.Module, trainable: bool) -> None:
    """Freezes or unfreezes a part: its weights, and with them its running statistics and dropout."""
    module.requires_grad_(trainable)
    module.train(trainable)
