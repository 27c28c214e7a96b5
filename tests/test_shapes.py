"""The shapes written in the network's annotations are true: checked while it runs, in a process of its own.

jaxtyping checks through an import hook, so the package itself pays nothing for it.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
from jaxtyping import install_import_hook
with install_import_hook("pspnet.nn", "beartype.beartype"):
    import torch
    from pspnet.config import ModelConfig
    from pspnet.nn import PSPNet
    from pspnet.nn.upsampling import upsample_labels
images = torch.rand(2, 3, 41, 59) * 255
for changes in ({}, {"bins": (), "auxiliary": "image"}, {"fusion": "plain", "pool": "max", "input_scale": 0.5},
                {"decoder": "unet", "pyramid": "progressive"}, {"decoder": "fpn", "pointrend": True}):
    model = PSPNet(ModelConfig(encoder="resnet18", encoder_options={"depth": 3}, num_classes=4, **changes))
    model.forward_train(images)
    coarse = model.eval().coarse_logits(images)
    upsample_labels(coarse.detach(), (41, 59), False, confidence=True)
try:
    model(images[0])
except Exception as error:
    assert "images" in str(error), error
    print("done")
"""


@pytest.mark.slow
def test_annotated_shapes_hold() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "done", done.stderr
