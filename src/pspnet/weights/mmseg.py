"""Checkpoints of MMSegmentation 0.x and 1.x: {"meta", "state_dict"[, "optimizer", ...]}.

What the weights do not hold: the first block of a dilated stage keeps the dilation before it (`contract_dilation`),
basic blocks dilate their first convolution only, resizing does not align corners (except in the 769 x 769 models), the
features come first in the fusion. `meta` holds classes and palette, and the whole config as text: what it says about
align_corners, contract_dilation and normalisation is read from there.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pspnet.errors import CheckpointError
from pspnet.labels import Colour, LabelSpace
from pspnet.weights.inverted_residuals import mmseg_mobilenet
from pspnet.weights.rename_table import (
    Drop,
    Foreign,
    Plan,
    Rename,
    auxiliary_settings,
    rgb_from_bgr,
    unique_names,
    width_settings,
)
from pspnet.weights.semseg import DEEP_STEM

MARKER = r"decode_head\.conv_seg\."

HEADS: tuple[Rename, ...] = (
    (r"decode_head\.psp_modules\.(\d+)\.1\.conv\.", r"pyramid.branches.\1.conv."),
    (r"decode_head\.psp_modules\.(\d+)\.1\.bn\.", r"pyramid.branches.\1.norm."),
    (r"decode_head\.bottleneck\.conv\.", "pyramid.fusion.conv."),
    (r"decode_head\.bottleneck\.bn\.", "pyramid.fusion.norm."),
    (r"decode_head\.conv_seg\.", "classifier."),
    (r"auxiliary_head\.convs\.0\.conv\.", "auxiliary.reduce.conv."),
    (r"auxiliary_head\.convs\.0\.bn\.", "auxiliary.reduce.norm."),
    (r"auxiliary_head\.conv_seg\.", "auxiliary.classifier."),
)
RESNET: tuple[Rename, ...] = (
    *((rf"backbone\.stem\.{theirs}\.", f"encoder.{ours}.") for theirs, ours in DEEP_STEM),
    (r"backbone\.(conv1|bn1|layer[1-4])\.", r"encoder.\1."),
)
DROPS: tuple[Drop, ...] = (
    (r"auxiliary_head\.\d+\.", "one of several auxiliary heads; they serve training only, and pspnet has one"),
    (r"(decode|auxiliary)_head\.loss_decode\.", "a constant of the loss; losses are not part of the network"),
)
OTHER_HEADS = r"decode_head\.(lateral_convs|fpn_|aspp_modules|image_pool|convs\.|sep_|cls_embed|project|c1_)"


def plan(foreign: Foreign) -> Plan:
    """Encoder, classes, widths and heads from the shapes; conventions from the config text in `meta`, else as usual."""
    if any(re.match(OTHER_HEADS, name) for name in foreign.state):
        raise CheckpointError(
            f"'{foreign.path}' is an mmseg model with another head than PSPHead (UPerNet, DeepLab, FCN ...): its weights "
            "fit no PSPNet"
        )
    meta = foreign.meta.get("meta", {})
    text = _config_text(meta)
    notes: list[str] = []
    tensors = dict(foreign.state)
    if foreign.shape("decode_head.conv_seg.weight")[0] == 1:
        _apply_threshold(tensors, text, notes)
    encoder, renames, channels = _encoder(foreign, text)
    mean, std, bgr, first_conv = _normalisation(text, notes, foreign)
    if bgr:
        tensors[first_conv] = rgb_from_bgr(tensors[first_conv])
    scales = said(text, "pool_scales")
    branches = foreign.count(r"decode_head\.psp_modules\.(\d+)\.")
    bins = tuple(scales) if scales and len(scales) == branches else foreign.bins(branches)
    fused = foreign.shape("decode_head.bottleneck.conv.weight")[0]
    aligned = said(text, "align_corners")
    if aligned is None and "align_corners" not in foreign.settings:
        notes.append(
            "align_corners = false, as mmseg's models do except those trained at 769 x 769 (for them: --set align_corners=true)"
        )
    auxiliary = "auxiliary_head.convs.0.conv.weight"
    config: dict[str, Any] = {
        **encoder,
        "num_classes": foreign.shape("decode_head.conv_seg.weight")[0],
        "in_bands": foreign.shape(first_conv)[1],
        "mean": mean,
        "std": std,
        "output_stride": 8,
        "align_corners": bool(aligned),
        "bins": bins,
        "concat": "input_first",
        "decoder": "bilinear",
        "decoder_channels": fused,
        "dropout": 0.1,
        "pyramid_options": width_settings(_branch_width(foreign, branches), channels, bins),
        **auxiliary_settings(foreign.shape(auxiliary) if auxiliary in foreign.state else None),
    }
    protocol = _protocol(text, notes)
    return Plan(config, tensors, (*renames, *HEADS), DROPS, label_space(meta), protocol, tuple(notes))


def _protocol(text: str, notes: list[str]) -> str:
    """How the config tests: whole images, or in windows (test_cfg mode='slide')."""
    if not re.search(r"['\"]?\bmode['\"]?\s*[=:]\s*['\"]slide['\"]", text):
        return "mmseg-whole"
    window, stride = said(text, "crop_size"), said(text, "stride")
    if window in ((512, 512), (769, 769)) and stride in ((341, 341), (513, 513)):
        notes.append(f"test_cfg mode='slide' (the config's, {window[0]} px every {stride[0]}): protocol mmseg-slide")
    else:
        notes.append(
            f"test_cfg mode='slide' (the config's, crop_size {window or 'not told'}, stride {stride or 'not told'}): protocol "
            "mmseg-slide, with the windows that mmseg's models of this data set usually have; others score a little differently"
        )
    return "mmseg-slide"


def _apply_threshold(tensors: dict[str, Any], text: str, notes: list[str]) -> None:
    """A binary head calls a pixel foreground where sigmoid(z) exceeds a threshold, 0.3 unless the config says another
    (mmseg decode_head.py); here the larger of (0, z) wins, which is 0.5. The bias moves by the difference."""
    written = {float(value) for value in re.findall(r"['\"]?\bthreshold['\"]?\s*[=:]\s*(0?\.\d+)", text)}
    threshold = written.pop() if len(written) == 1 else 0.3
    where = "the config's" if f"{threshold}" in text else "mmseg's default"
    bias = tensors["decode_head.conv_seg.bias"]
    tensors["decode_head.conv_seg.bias"] = bias.float() - math.log(threshold / (1 - threshold))
    notes.append(
        f"threshold {threshold:g} ({where}) on the sigmoid: the last bias is moved so that the same pixels are foreground; "
        "confidence is counted from the threshold on"
    )


def _branch_width(foreign: Foreign, branches: int) -> int:
    return foreign.shape("decode_head.psp_modules.0.1.conv.weight")[0] if branches else 0


def _encoder(foreign: Foreign, text: str) -> tuple[dict[str, Any], tuple[Rename, ...], int]:
    """(config of the encoder, its rename table, channels of its last features)."""
    options: dict[str, Any] = {}
    if "backbone.layer1.0.conv.0.conv.weight" in foreign.state:
        # mmseg dilates the first block of each of MobileNetV2's dilated stages, and no other
        width = foreign.shape("backbone.layer7.0.conv.2.conv.weight")[0]
        options |= {"width_multiplier": width / 320, "dilate_later_blocks": False}
        config = {"encoder": "mobilenetv2", "dilation": "uniform", "encoder_options": options}
        return config, mmseg_mobilenet(r"backbone\."), width
    if "backbone.layer1.0.conv1.weight" not in foreign.state:
        raise CheckpointError(
            f"'{foreign.path}' has another encoder than ResNet or MobileNetV2 "
            f"({', '.join([n for n in foreign.state if n.startswith('backbone.')][:3])} ...), which is not imported"
        )
    layers = foreign.resnet_layers("backbone.")
    stem = "c" if "backbone.stem.0.weight" in foreign.state else ""
    contracted = said(text, "contract_dilation")
    if layers < 50:
        options["dilate_second_conv"] = False  # mmseg's BasicBlock dilates its first convolution only
    elif "style='caffe'" in text:
        options["stride_in_first_conv"] = True
    if (
        "backbone.layer2.0.downsample.2.weight" in foreign.state
    ):  # ResNetV1d: 0 is the pooling, 1 and 2 are conv and norm
        options["average_shortcut"] = True
    config = {
        "encoder": f"resnet{layers}{stem}",
        "dilation": "uniform" if contracted is False else "contracted",
        "encoder_options": options,
    }
    return config, RESNET, 512 if layers < 50 else 2048


def _normalisation(
    text: str, notes: list[str], foreign: Foreign
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None, bool, str]:
    """(mean, std, whether the first convolution expects BGR, that convolution's name). None: ImageNet's."""
    first = next(
        name
        for name in ("backbone.stem.0.weight", "backbone.conv1.weight", "backbone.conv1.conv.weight")
        if name in foreign.state
    )
    mean, std = said(text, "mean"), said(text, "std")
    rgb = said(text, "bgr_to_rgb") if "bgr_to_rgb" in text else said(text, "to_rgb")
    bands = foreign.shape(first)[1]
    if not (isinstance(mean, Sequence) and isinstance(std, Sequence) and len(mean) == len(std) == bands):
        if bands == 3 and "mean" not in foreign.settings:
            notes.append("mean and std: ImageNet's, RGB, 0..255 (the file does not say)")
        return None, None, False, first
    if rgb is False and bands == 3:
        return tuple(map(float, reversed(mean))), tuple(map(float, reversed(std))), True, first
    return tuple(map(float, mean)), tuple(map(float, std)), False, first


def _config_text(meta: Any) -> str:
    """The project's own config as text: meta.config in 0.x, meta.cfg in 1.x; '' where there is none."""
    if not isinstance(meta, Mapping):
        return ""
    texts = [meta.get(name) for name in ("config", "cfg")]
    return next((text for text in texts if isinstance(text, str)), "")


def said(text: str, name: str) -> Any:
    """The value that the config text gives to a name, where it gives one only; None where none or several."""
    written = re.findall(rf"['\"]?\b{name}['\"]?\s*[=:]\s*(True|False|\[[^\]]*\]|\([^)]*\))", text)
    try:
        values = {repr(ast.literal_eval(value)) for value in written}
    except Exception:  # whatever somebody's text makes the parser raise
        return None
    return ast.literal_eval(values.pop()) if len(values) == 1 else None


def label_space(meta: Any) -> LabelSpace | None:
    """Classes and palette of either generation of mmseg; None where the file names none."""
    if not isinstance(meta, Mapping):
        return None
    dataset = meta.get("dataset_meta")
    dataset = dataset if isinstance(dataset, Mapping) else {}
    classes = meta.get("CLASSES") or dataset.get("classes")
    palette = meta.get("PALETTE") or dataset.get("palette")
    if not isinstance(classes, Sequence) or isinstance(classes, str) or not classes:
        return None
    colours: tuple[Colour, ...] = ()
    if isinstance(palette, Sequence) and len(palette) == len(classes) and all(len(c) == 3 for c in palette):
        colours = tuple((int(r), int(g), int(b)) for r, g, b in palette)
    return LabelSpace(unique_names([str(name) for name in classes]), colours)
