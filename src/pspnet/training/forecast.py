"""What a run will take, before it starts: memory and time, from its network run once without memory."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass

import torch

from pspnet.config.train import TrainConfig
from pspnet.inspection import Cost, forward_cost, measure_machine, training_cost
from pspnet.machine import free_memory_bytes
from pspnet.nn.pspnet import PSPNet
from pspnet.predict.windows import WHOLE_PIXELS
from pspnet.terminal import duration
from pspnet.training.activation_checkpointing import checkpoint_blocks
from pspnet.training.resolve import DataSets


@dataclass(frozen=True)
class Forecast:
    """memory_bytes: that the process (or the GPU) takes for the run. free_bytes: what is left now; 0 where unknown.
    step_s, total_s: seconds of an update and of the run, without waiting for data. rough: measured on a busy machine."""

    memory_bytes: int
    free_bytes: int
    step_s: float
    total_s: float
    rough: bool

    @property
    def fits(self) -> bool:
        return not self.free_bytes or self.memory_bytes <= self.free_bytes

    def __str__(self) -> str:
        free = f" ({self.free_bytes / 2**30:.1f} GiB free)" if self.free_bytes else ""
        rough = "; rough, since the machine is busy" if self.rough else ""
        return (
            f"estimated: {self.memory_bytes / 2**30:.1f} GiB of memory{free}, {self.step_s:.2g} s a step, "
            f"{duration(self.total_s)} in all{rough}"
        )


def forecast(config: TrainConfig, data: DataSets) -> Forecast:
    """Of a resolved config: its network, crop, batch on each device, precision, optimiser, EMA, frozen parts, validation."""
    assert config.steps is not None
    assert config.val_every is not None
    assert isinstance(config.devices, int)
    device = torch.device(config.device)
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    with torch.device("meta"):
        network = PSPNet(config.model).to(dtype)
    if config.freeze_encoder and config.unfreeze_step is None:
        network.encoder.requires_grad_(False)
    values = {"sgd": 1.0 if config.optimizer.momentum else 0.0, "adamw": 2.0}[config.optimizer.name]
    height, width = config.augmentation.crop or data.train[0].image.shape[:2]
    validation = None if data.val is None else _validation(network, data.val[0].image.shape)
    if config.activation_checkpointing:
        checkpoint_blocks(network.encoder)
    scale = max([config.model.input_scale, *(scale for scale, _ in config.progressive_resizing)])
    batch = config.batch_size // (config.devices * config.nodes)
    step = training_cost(network, batch, height, width, values + (config.ema is not None), scale)
    machine = measure_machine(config.device, dtype=dtype)
    step_s = step.seconds(machine) * config.accumulate
    total_s = step_s * config.steps
    memory = step.memory_bytes
    if validation is not None and data.val is not None:
        count = min(len(data.val), config.val_limit or len(data.val))
        total_s += validation.seconds(machine) * count * -(-config.steps // config.val_every)
        memory = max(memory, validation.memory_bytes + int(4 * values * sum(p.numel() for p in network.parameters())))
    free = torch.cuda.mem_get_info()[0] if device.type == "cuda" else free_memory_bytes()
    return Forecast(memory, free, step_s, total_s, machine.rough)


def _validation(network: PSPNet, shape: tuple[int, ...]) -> Cost:
    """Of one image as it is validated: as a whole up to 2 megapixels, beyond in windows, which take less."""
    height, width = shape[:2]
    if height * width > WHOLE_PIXELS:
        height, width = int(WHOLE_PIXELS / width) or 1, min(width, WHOLE_PIXELS)
    return forward_cost(network, height, width)


def tell_forecast(config: TrainConfig, data: DataSets) -> None:
    """Prints the forecast to standard error, and warns where memory will not do."""
    expected = forecast(config, data)
    print(expected, file=sys.stderr)
    if not expected.fits:
        warnings.warn(
            f"memory will probably not do: {expected.memory_bytes / 2**30:.1f} GiB are needed, {expected.free_bytes / 2**30:.1f} are "
            f"free. Lower batch_size ({config.batch_size}) and raise accumulate by as much, set activation_checkpointing to "
            "true, or take a smaller augmentation.crop",
            stacklevel=2,
        )
