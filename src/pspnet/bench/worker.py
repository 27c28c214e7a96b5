"""One model in one engine, as a process that is measured in turns: `python -m pspnet.bench.worker JSON`.

The work is one call of `Segmenter.labels`: from images in memory to labels at their size.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from pspnet.bench.interleaved import serve


def prepare(
    model: str,
    engine: str,
    precision: str,
    height: int,
    width: int,
    batch: int,
    threads: int,
    device: str,
    classes: int,
) -> tuple[Callable[[], Any], dict[str, Any]]:
    """The work, and what the table says of it."""
    import torch

    torch.set_num_threads(threads)
    segmenter = open_model(model, engine, precision, device, classes)
    random = torch.Generator().manual_seed(0)
    images = torch.rand((batch, segmenter.config.in_bands, height, width), generator=random) * 255

    def work() -> None:
        segmenter.labels(images)
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    return work, {"engine": segmenter.engine.name, "flops": flops_of(segmenter.config, height, width) * batch}


def open_model(model: str, engine: str | None, precision: str, device: str, classes: int) -> Any:
    """A checkpoint, an exported model, a bundled one; or, for the name of an encoder, a PSPNet with random weights."""
    import torch

    from pspnet.config.model import ModelConfig
    from pspnet.nn import PSPNet
    from pspnet.predict.exported import is_exported
    from pspnet.predict.segmenter import Segmenter
    from pspnet.weights.bundled import bundled_models

    if is_exported(model):
        return Segmenter.load(model)
    if "." in model or "/" in model or model in bundled_models():
        return Segmenter.load(model, device=device, precision=precision, engine=engine)
    torch.manual_seed(0)
    network = PSPNet(ModelConfig(encoder=model, num_classes=classes))
    return Segmenter(network, device=device, precision=precision, engine=engine)


def flops_of(config: Any, height: int, width: int) -> int:
    """Operations of one image in the network as it is computed, the folded fusion where it is on."""
    import torch

    from pspnet.inspection import CallLedger
    from pspnet.nn import PSPNet

    with torch.device("meta"):
        network = PSPNet(config).eval()
    with torch.no_grad(), CallLedger() as ledger:
        network(torch.empty(1, config.in_bands, height, width, device="meta"))
    return sum(call.flops for call in ledger.calls)


if __name__ == "__main__":
    serve(lambda: prepare(**json.loads(sys.argv[1])))
