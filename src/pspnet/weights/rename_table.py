"""What every importer shares: a foreign state dict, a plan for it, and the bookkeeping of both sides of every name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pspnet.config import ModelConfig
from pspnet.config.base import merged
from pspnet.errors import CheckpointError, ConfigError
from pspnet.labels import LabelSpace
from pspnet.nn import PSPNet

Rename = tuple[str, str]  # (regular expression at the start of a foreign name, what replaces the matched part)
Drop = tuple[str, str]  # (regular expression at the start of a foreign name, why it is left out)

RESNET_BLOCKS: dict[
    tuple[bool, tuple[int, ...]], int
] = {  # (bottleneck, blocks of each stage) -> layers (He et al. 2016, table 1; 269: the PSPNet paper)
    (False, (2, 2, 2, 2)): 18,
    (False, (3, 4, 6, 3)): 34,
    (True, (3, 4, 6, 3)): 50,
    (True, (3, 4, 23, 3)): 101,
    (True, (3, 8, 36, 3)): 152,
    (True, (3, 30, 48, 8)): 269,
}


RANDOM = {"normal_", "uniform_", "trunc_normal_", "kaiming_normal_", "kaiming_uniform_", "xavier_uniform_"}


@dataclass(frozen=True)
class Foreign:
    """A checkpoint of another project, unwrapped.

    state: its tensors under its own names, without wrappers' prefixes. meta: what lay beside them. settings: what the
    user adds because no weight can tell it (fields of ModelConfig).
    """

    path: Path
    state: Mapping[str, Tensor]
    meta: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor that must be there. Raises CheckpointError naming it."""
        if name not in self.state:
            raise CheckpointError(
                f"'{self.path}' lacks {name}, which every checkpoint of this source has. "
                f"It has {len(self.state)} tensors: {', '.join(list(self.state)[:5])} ..."
            )
        return tuple(self.state[name].shape)

    def count(self, pattern: str) -> int:
        """How many different numbers the group of `pattern` takes among the names: 'ppm\\.(\\d+)\\.' -> 4."""
        return len({m.group(1) for name in self.state if (m := re.match(pattern, name))})

    def bins(self, branches: int) -> tuple[int, ...]:
        """The pyramid's bins: their number is in the shapes, their sizes are the paper's unless the user says others."""
        if "bins" in self.settings:
            return tuple(self.settings["bins"])
        if branches in (0, 4):
            return (1, 2, 3, 6)[:branches]
        raise ConfigError(
            f"'{self.path}' has {branches} pyramid levels, and weights do not tell their sizes; "
            "say them: --set bins=[1,2,4]"
        )

    def resnet_layers(self, prefix: str) -> int:
        """18, 34, ... from the blocks under `prefix`layer1..4. Raises CheckpointError with what was counted."""
        counted = tuple(self.count(rf"{re.escape(prefix)}layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4))
        bottleneck = f"{prefix}layer1.0.conv3.weight" in self.state
        run = tuple(count for count in counted if count)  # a network cut after its second stage has two
        layers = next(
            (n for (deep, blocks), n in RESNET_BLOCKS.items() if deep == bottleneck and blocks[: len(run)] == run), 0
        )
        if not layers or not run:
            kind = "bottleneck" if bottleneck else "basic"
            raise CheckpointError(
                f"'{self.path}' has {counted} {kind} blocks in layer1..4; known ResNets: "
                + ", ".join(f"{n} {blocks}" for (_, blocks), n in RESNET_BLOCKS.items())
            )
        if bottleneck and self.shape(f"{prefix}layer1.0.conv2.weight")[:2] != (64, 64):
            raise CheckpointError(
                f"'{self.path}' has a ResNeXt, Wide ResNet or other relative (layer1.0.conv2 is "
                f"{self.shape(f'{prefix}layer1.0.conv2.weight')}); only plain ResNets are imported"
            )
        return layers


@dataclass(frozen=True)
class Plan:
    """How one checkpoint becomes ours: the config that its weights do not hold, and where every name goes.

    tensors: the foreign tensors, already permuted where the meaning of channels differs. renames: first match wins.
    drops: names left out knowingly. notes: what a user should know, such as what was assumed.
    """

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    renames: Sequence[Rename]
    drops: Sequence[Drop] = ()
    label_space: LabelSpace | None = None
    protocol: str = "whole"
    notes: tuple[str, ...] = ()
    encoder_only: bool = False  # the head is not in the file and stays random


@dataclass(frozen=True)
class Ledger:
    """Both sides of every name. renamed: foreign -> ours; dropped: (name, reason); filled: (our name, what with)."""

    renamed: Mapping[str, str]
    dropped: tuple[tuple[str, str], ...]
    unmatched: tuple[str, ...]
    filled: tuple[tuple[str, str], ...]


def width_settings(width: int, in_channels: int, bins: Sequence[int]) -> dict[str, Any]:
    """The `branch_channels` that a branch's width asks for: nothing where it is the paper's C / number of bins."""
    return {} if not bins or width * len(bins) == in_channels else {"branch_channels": width}


def auxiliary_settings(weight_shape: tuple[int, ...] | None) -> dict[str, Any]:
    """Config of the auxiliary head from its 3x3 convolution's shape (out, in, 3, 3), or of none."""
    if weight_shape is None:
        return {"auxiliary": "none"}
    out, inside = weight_shape[:2]
    return {"auxiliary": "pixel", "auxiliary_channels": None if out == inside // 4 else out}


def rgb_from_bgr(weight: Tensor) -> Tensor:
    """A first convolution (out, 3, k, k) trained on BGR, for RGB images."""
    return weight.flip(1)


class _NoRandomNumbers(TorchFunctionMode):
    """Leaves out random initialisation: on the meta device its first number would load the whole of torch's compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in RANDOM:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def build(plan: Plan, foreign: Foreign, source: str) -> tuple[PSPNet, Ledger]:
    """The network with the foreign weights, in evaluation mode, and the ledger.

    Raises CheckpointError when one of our names gets no tensor, two, or one of another shape.
    """
    renamed, dropped, unmatched = _sort(plan)
    state = _own_state(plan, renamed, foreign.path)
    settings = merged(plan.config, foreign.settings)
    if settings["num_classes"] == 1:
        settings["num_classes"] = 2
        state = _two_classes(state)
    config = ModelConfig.model_validate(settings)
    if plan.encoder_only:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same file gives the same model
            model = PSPNet(config)
        expected = {name: value for name, value in model.state_dict().items() if name.startswith("encoder.")}
    else:
        with torch.device("meta"), _NoRandomNumbers():  # neither memory nor numbers that are replaced at once
            model = PSPNet(config)
        expected = model.state_dict()
    state, filled = _complete(state, expected, config)
    _check(state, expected, f"'{foreign.path}'", f"a {source} {config.encoder}")
    model.load_state_dict(state, assign=True, strict=not plan.encoder_only)
    return model.float().eval(), Ledger(renamed, dropped, unmatched, filled)


def _sort(plan: Plan) -> tuple[dict[str, str], tuple[tuple[str, str], ...], tuple[str, ...]]:
    drops = [(re.compile(pattern), reason) for pattern, reason in plan.drops]
    renames = [(re.compile(pattern), to) for pattern, to in plan.renames]
    renamed: dict[str, str] = {}
    dropped: list[tuple[str, str]] = []
    unmatched: list[str] = []
    for name in plan.tensors:
        reason = next((why for pattern, why in drops if pattern.match(name)), None)
        match = next(((head, to) for pattern, to in renames if (head := pattern.match(name))), None)
        if reason is not None:
            dropped.append((name, reason))
        elif match is not None:
            head, to = match
            renamed[name] = head.expand(to) + name[head.end() :]
        else:
            unmatched.append(name)
    return renamed, tuple(dropped), tuple(unmatched)


def _own_state(plan: Plan, renamed: Mapping[str, str], path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for name, ours in renamed.items():
        if ours in state:
            first = next(n for n, o in renamed.items() if o == ours)
            raise CheckpointError(f"'{path}' names {ours} twice: {first} and {name}")
        value = plan.tensors[name]
        # copied: a tensor of the file may be mapped from it, in half precision, or part of a larger storage
        state[ours] = value.to(torch.float32 if value.is_floating_point() else value.dtype, copy=True).contiguous()
    return state


def _two_classes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """One output trained with a sigmoid becomes two: softmax over (0, z) gives sigmoid(z) for the second class."""
    return {
        name: torch.cat([torch.zeros_like(value), value]) if re.match(r"(auxiliary\.)?classifier\.", name) else value
        for name, value in state.items()
    }


def _complete(
    state: dict[str, Tensor], expected: Mapping[str, Tensor], config: ModelConfig
) -> tuple[dict[str, Tensor], tuple[tuple[str, str], ...]]:
    """Adds what no project writes down: normalisation, and batch counters of files older than PyTorch 0.4.1."""
    mean, std = config.normalisation
    normalisation = {"mean": torch.tensor(mean), "std": torch.tensor(std)}
    filled: list[tuple[str, str]] = []
    for name in expected.keys() - state.keys():
        if name in normalisation:
            state[name] = normalisation[name]
        elif name.endswith("num_batches_tracked"):
            state[name] = torch.zeros((), dtype=torch.long)
            filled.append((name, "0: the file has no batch counters"))
    return state, tuple(sorted(filled))


def _check(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: str, what: str) -> None:
    missing = [name for name in expected if name not in state]
    surplus = [name for name in state if name not in expected]
    wrong = [
        f"{name} is {tuple(state[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in expected
        if name in state and state[name].shape != expected[name].shape
    ]
    for fault, names in (("lacks", missing), ("has more than", surplus), ("has other shapes than", wrong)):
        if names:
            raise CheckpointError(f"{path} {fault} {what} PSPNet ({len(names)} of {len(expected)}): {listed(names)}")


def listed(names: Iterable[str], most: int = 6) -> str:
    """'a, b, c and 4 more'."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Class names as a LabelSpace wants them: a repeated one gets a number, 'screen', 'screen (2)'."""
    counts: dict[str, int] = {}
    result = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        result.append(name if counts[name] == 1 else f"{name} ({counts[name]})")
    return tuple(result)
