"""What passes of a network really take: a process of its own under the allocator as it comes (Linux), one thread.

This file is also that process's program.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

PASSES = 3


def measured_bytes(values: dict[str, Any], mode: str, batch: int, side: int, bf16: bool = False) -> int:
    """By how much a process grows. values: of ModelConfig. mode: "segment", or "train" with SGD and momentum."""
    command = [sys.executable, __file__, json.dumps([values, mode, batch, side, bf16])]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return int(run.stdout.splitlines()[-1])


def grown_bytes(values: dict[str, Any], mode: str, batch: int, side: int, bf16: bool) -> int:
    """The same in this process."""
    import torch

    from pspnet.bench.process_memory import MIB, forget_peak, memory_mib
    from pspnet.config.loss import LossConfig
    from pspnet.config.model import ModelConfig
    from pspnet.losses import SegmentationLoss
    from pspnet.nn import PSPNet

    autocast = torch.autocast("cpu", torch.bfloat16, enabled=bf16, cache_enabled=False)  # as we run networks
    warm = torch.nn.Conv2d(3, 8, 3)
    with autocast:
        loss = warm(torch.randn(1, 3, 8, 8)).sum()
    loss.backward()
    torch.optim.SGD(warm.parameters(), lr=0.1, momentum=0.9).step()
    torch.rand(64, 64) @ torch.rand(64, 64)
    forget_peak()  # of the imports
    before = memory_mib("VmRSS")
    model, images = PSPNet(ModelConfig(**values)), torch.rand(batch, 3, side, side)
    if bf16 or mode == "segment":  # as the engine and training have them
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(batch, side, side, dtype=torch.int64)
    criterion = SegmentationLoss(LossConfig(), model.config.num_classes, None)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    for _ in range(PASSES):
        if mode == "segment":
            with torch.no_grad(), autocast:
                model.eval()(images)
            continue
        with autocast:
            outputs = model.forward_train(images)
            loss = criterion(outputs.logits, labels)
            if outputs.auxiliary is not None:
                loss = loss + criterion(outputs.auxiliary, labels)
        loss.backward()
        del outputs, loss
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return round((memory_mib("VmHWM") - before) * MIB)


if __name__ == "__main__":
    print(grown_bytes(*json.loads(sys.argv[1])))
