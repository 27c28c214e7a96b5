"""Any other network of timm as an encoder."""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg, model_entrypoint
from torch import Tensor, nn

from pspnet.config.encoders import OWN_NAMES
from pspnet.config.model import ModelConfig
from pspnet.errors import ConfigError, did_you_mean
from pspnet.nn.dilation import dilate, strides_at
from pspnet.nn.encoder import Encoder, cut_to, pad_to
from pspnet.nn.same_convolution import exportable

PLAIN_TRANSFORMERS = (
    "vision_transformer",
    "eva",
    "beit",
    "deit",
)  # timm's files of networks with one stride (DINOv2, ...)


class TimmEncoder(Encoder):
    """Any other network of timm that gives a pyramid of features (convnext_tiny, regnety_040, ...).

    Raises ConfigError for a name that timm does not have, for networks that take one image size only or whose features
    are no pyramid (a plain ViT), and for an output stride that dilation cannot give.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        depth = config.encoder_options.depth
        net = _timm_features(config, None)
        finest, total = net.feature_info.reduction()[0], len(net.feature_info.out_indices)
        count = sum(finest * 2**index <= 2**depth for index in range(total))
        if 0 < count < total:
            net = _timm_features(config, tuple(range(count)))
        self.channels: list[int] = list(net.feature_info.channels())
        self.strides = strides_at(config.output_stride, finest, count)
        _check_strides(config, list(net.feature_info.reduction()), self.strides)
        if config.dilation == "uniform" and finest * 2 ** (count - 1) > config.output_stride:
            for index, stage in enumerate(_stages(net, config)):
                if finest * 2**index > config.output_stride:
                    dilate(stage, finest * 2**index // config.output_stride)
        self.channels_last = str(getattr(net, "output_fmt", "NCHW")).endswith("NHWC")
        exportable(net)
        self.body = net
        self.pad_px = 1
        if not self._rounds_up(config.in_bands):
            self.pad_px = finest * 2 ** (count - 1)

    def forward(self, images: Tensor, last_only: bool = False) -> list[Tensor]:
        """Networks that do not round odd maps up see the image zero-padded at right and bottom; features are cut."""
        features = list(self.body(pad_to(images, self.pad_px)))[-1 if last_only else 0 :]
        if self.channels_last:
            features = [x.permute(0, 3, 1, 2) for x in features]
        return features if self.pad_px == 1 else cut_to(images, features, self.strides)

    def _rounds_up(self, bands: int) -> bool:
        """Whether an image of odd size gives features of ceil(size / stride): tried on a tensor without memory."""
        side = 2 * self.strides[-1] + 1
        weights = {name: torch.empty_like(value, device="meta") for name, value in self.state_dict().items()}
        image = torch.empty(1, bands, side, side, device="meta")
        training = self.training
        try:
            features = torch.func.functional_call(self.eval(), weights, image)
        except (RuntimeError, AssertionError, ValueError):  # maps that do not fit each other, or a size refused
            return False
        finally:
            self.train(training)
        return all(x.shape[2] == -(-side // s) for x, s in zip(features, self.strides, strict=True))


def _check_strides(config: ModelConfig, given: list[int], wanted: list[int]) -> None:
    if not wanted or (len(set(given)) == 1 and given != wanted):
        raise _no_pyramid(config, f"they are {given} with encoder_options.depth = {config.encoder_options.depth}")
    if given != wanted:
        raise ConfigError(
            f"output_stride = {config.output_stride} with encoder = {config.encoder}: timm gives strides {given}, so "
            f"this network cannot be dilated to it. Set output_stride to {given[-1]}, or choose another encoder"
        )


def _no_pyramid(config: ModelConfig, strides: str) -> ConfigError:
    return ConfigError(
        f"encoder = {config.encoder}: its features' strides are no pyramid from fine to coarse ({strides}), and output "
        "strides, the auxiliary head and skip connections rest on one. Choose a network with stages, such as "
        "convnext_tiny, or swin_tiny for attention"
    )


def _stages(net: Any, config: ModelConfig) -> list[nn.Module]:
    """The modules behind each feature: those that run after the feature before."""
    info = net.feature_info
    if isinstance(getattr(net, "blocks", None), nn.Sequential):  # the relatives of EfficientNet
        ends = [item["stage"] for item in info.get_dicts()]
        return [net.blocks[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    ends_by_name = [name.replace(".", "_") for name in info.module_name()]  # timm's flattened names
    groups: list[nn.Module] = []
    current: list[nn.Module] = []
    for name, child in net.named_children():
        current.append(child)
        if name in ends_by_name:
            groups.append(nn.Sequential(*current))
            current = []
    if len(groups) != len(ends_by_name):
        raise ConfigError(
            f"dilation = uniform with encoder = {config.encoder}: timm does not tell where its stages begin. "
            f"Set dilation to contracted, or output_stride = {config.output_stride} to 32"
        )
    return groups


def _timm_features(config: ModelConfig, indices: tuple[int, ...] | None) -> Any:
    """timm's features-only form of a network, at the config's output stride, with random weights."""
    if not timm.is_model(config.encoder):
        names = set(OWN_NAMES).union(timm.list_models())
        hint = did_you_mean(config.encoder, names, "timm.list_models() shows its names", most=3)
        raise ConfigError(f"encoder = {config.encoder!r} is neither one of pspnet's own nor a name of timm; {hint}")
    if get_pretrained_cfg(config.encoder).fixed_input_size:
        if model_entrypoint(config.encoder).__module__.rpartition(".")[2] in PLAIN_TRANSFORMERS:
            raise _no_pyramid(config, "as those of every plain vision transformer all have its patch's")
        raise ConfigError(
            f"encoder = {config.encoder}: it takes images of one size only, and scenes have many. Choose a "
            "convolutional network, or swin_tiny, swin_small, swin_base, swin_large, which take any size here"
        )
    wanted: dict[str, Any] = {}
    if config.output_stride != 32:
        wanted["output_stride"] = config.output_stride
    if config.encoder_options.drop_path_rate is not None:
        wanted["drop_path_rate"] = config.encoder_options.drop_path_rate
    if indices is not None:
        wanted["out_indices"] = indices
    try:
        net = timm.create_model(config.encoder, features_only=True, in_chans=config.in_bands, **wanted)
    except (TypeError, AssertionError, RuntimeError, ValueError, NotImplementedError) as error:
        settings = [f"{name} = {value}" for name, value in wanted.items() if name != "out_indices"]
        advice = "Set output_stride to 32" if "output_stride" in wanted else "Choose another encoder"
        if "drop_path_rate" in wanted:
            advice += ", or leave encoder_options.drop_path_rate out"
        raise ConfigError(
            f"{', '.join(settings) or 'features'} with encoder = {config.encoder}: timm cannot build it so "
            f"({' '.join(str(error).split()) or type(error).__name__}). {advice}"
        ) from error
    return net
