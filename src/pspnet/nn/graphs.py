"""The network as a graph that other runtimes execute: ONNX and torch.export, for any batch, height and width.

Graphs of models that are run here, not handed on, are kept in a folder of the user's cache, since making one takes
10 to 60 s: see `kept_onnx`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pspnet.errors import ConfigError, require
from pspnet.files import cache_folder, keep_note, new_files, read_note
from pspnet.nn import PSPNet

KEPT_GRAPHS = 6  # a ResNet-50's is 190 MB; the graph that was used longest ago goes first
OUTPUT_NAMES = {"labels": "labels", "photo_labels": "labels", "probabilities": "probabilities"}  # else "logits"
EXAMPLE_PX = (256, 288)  # several windows at each of Swin's stages, so that none of them is taken for a constant


class GraphNetwork(nn.Module):
    """A copy of the network on the processor as others call it: float32 images (B, bands, H, W) in; out go

    "coarse": logits (B, K, h, w) before the last resize; "logits": (B, K, H, W); "labels": (B, H, W) int64.
    "probabilities": (B, K, H, W), of images that were divided by 255, the logits divided by `temperature`. "photo_labels" takes images as files hold them, (B, H, W, bands) uint8, and gives labels (B, H, W) uint8.
    """

    def __init__(
        self,
        model: PSPNet,
        output: Literal["coarse", "logits", "labels", "photo_labels", "probabilities"],
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.model, self.output, self.temperature = _own_copy(model), output, temperature

    def forward(self, images: Tensor) -> Tensor:
        if self.output == "coarse":
            return self.model.coarse_logits(images)
        if self.output == "photo_labels":
            return self.model(images.permute(0, 3, 1, 2).float()).argmax(dim=1).to(torch.uint8)
        if self.output == "probabilities":
            return (self.model(images * 255) / self.temperature).softmax(dim=1)
        logits: Tensor = self.model(images)
        return logits.argmax(dim=1) if self.output == "labels" else logits


def _own_copy(model: PSPNet) -> PSPNet:
    """The caller's network keeps its device, its memory layout and its mode."""
    with torch.device("meta"):
        copy = PSPNet(model.config)
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    copy.load_state_dict(weights, assign=True)
    return copy.eval()


def write_onnx(network: GraphNetwork, example: Tensor, fixed: bool, path: Path, metadata: Mapping[str, str]) -> None:
    """ONNX with these entries in its metadata. example: images (B, bands, H, W). fixed: for that very size only."""
    require("onnxscript", "export")
    with quiet_exporters(), torch.no_grad():
        program = torch.onnx.export(
            network,
            (_batch(example, fixed),),
            dynamo=True,
            dynamic_shapes=_dynamic(fixed, first_side=1 if network.output == "photo_labels" else 2),
            input_names=["images"],
            output_names=[OUTPUT_NAMES.get(network.output, "logits")],
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props.update(metadata)
    program.save(path)


def write_pt2(network: GraphNetwork, example: Tensor, fixed: bool, path: Path, header: str) -> None:
    """An archive of torch.export with `header` beside the program."""
    with quiet_exporters(), torch.no_grad():
        program = torch.export.export(network, (_batch(example, fixed),), dynamic_shapes=_dynamic(fixed), strict=False)
    torch.export.save(program, path, extra_files={"pspnet": header})


def kept_onnx(model: PSPNet) -> Path:
    """The ONNX file of a network's coarse logits, from the cache, or made now and kept there.

    Raises ConfigError for PointRend, whose graph holds for one size only.
    """
    if model.config.pointrend:
        raise ConfigError(
            "a PointRend model runs in PyTorch only (engine = torch or compile): as a graph it would hold for one image size"
        )
    folder = cache_folder()
    path = folder / f"{fingerprint(model)}.onnx"
    note = f"graph-{path.stem}.json"  # of the file: an altered bit of a weight would be a wrong map without a word
    if path.is_file() and read_note(note).get("sha256") == _digest_of(path):
        os.utime(path)  # used now: the others go first
        return path
    with new_files(path) as part:
        example = torch.zeros(1, model.config.in_bands, *EXAMPLE_PX)
        write_onnx(GraphNetwork(model, "coarse"), example, False, part / path.name, {})
        keep_note(note, {"sha256": _digest_of(part / path.name)})
    for old in sorted(folder.glob("*.onnx"), key=lambda file: file.stat().st_mtime)[:-KEPT_GRAPHS]:
        old.unlink(missing_ok=True)
    return path


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(model: PSPNet) -> str:
    """Of the config, every weight, and the release that makes the graph."""
    digest = hashlib.sha256(f"{torch.__version__} {model.config.model_dump_json()}".encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:24]


@contextmanager
def quiet_exporters() -> Iterator[None]:
    """Exporters tell their progress in warnings and on the logs of half a dozen libraries."""
    names = ("torch.onnx", "onnxscript", "onnx_ir", "nncf")
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _batch(example: Tensor, fixed: bool) -> Tensor:
    return example if fixed else torch.cat([example, example])  # a batch of one would be taken for a constant


def _dynamic(fixed: bool, first_side: int = 2) -> dict[str, dict[int, Any]] | None:
    dim = torch.export.Dim.DYNAMIC
    return None if fixed else {"images": {0: dim, first_side: dim, first_side + 1: dim}}
